"""Who calls: NIP-98 events and session tokens, from direct clients and through the gateway.

A direct client signs `u` = `grpc://<authority>/<package.Service/Method>`, method POST, and as payload the
SHA256 of the serialised request, byte for byte as it is sent. The gateway authenticates itself by a shared
token and tells the facts of the HTTP request that its client signed; without it nobody's word on HTTP counts.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from coordinator.api.access import TOKEN_HOLDER, Access, Who
from coordinator.api.call import Caller
from coordinator.api.metadata import CallMetadata
from coordinator.core import Core
from coordinator.domain.errors import PermissionDenied, Unauthenticated
from coordinator.operations.users import accept_auth_event, session_owner
from coordinator_client.nostr import Nip98Error, Nip98Event, Nip98Reason
from coordinator_client.nostr.nip98 import verify

# How long an accepted event is remembered after its date: longer than any clock lets it pass (60 s).
REMEMBER_SECONDS: Final = 180


class Authenticator:
    """Finds out who calls, and whether the caller may."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def caller(
        self, method: str, access: Access, metadata: CallMetadata, request_bytes: bytes
    ) -> Caller:
        """The caller of a method.

        Args:
            method: `/package.Service/Method`.
            access: the method's row of the table.
            metadata: of the call.
            request_bytes: the serialised request as it arrived.

        Raises:
            Unauthenticated: what is presented is not valid, or nothing is presented and something is needed.
            PermissionDenied: the caller is known and no admin.
        """
        through_gateway = self._is_gateway(metadata)
        scheme, _, credentials = metadata.get("authorization").strip().partition(" ")
        token = metadata.get("x-session-token")
        if scheme.lower() == "bearer":
            token = token or credentials.strip()
        caller = Caller()
        if metadata.has("authorization") and scheme.lower() != "bearer":
            # A signature says more than a session that happens to come along as a cookie.
            event = await self._signed(method, metadata, request_bytes, through_gateway)
            caller = self._known(event.pubkey)
        if access is TOKEN_HOLDER:
            if not token:
                raise Unauthenticated("there is no session token to end", reason="AUTH_REQUIRED")
            return Caller(session_token=token)
        if token and not caller.pubkey:
            caller = self._known(await session_owner(self._core, token), token)
        _check_allowed(access, caller)
        return caller

    def _known(self, pubkey: str, token: str = "") -> Caller:
        return Caller(pubkey, pubkey in self._core.settings.admin_pubkeys, token)

    def _is_gateway(self, metadata: CallMetadata) -> bool:
        if not metadata.has("x-coordinator-gateway"):
            return False
        given = metadata.get("x-coordinator-gateway").encode()
        if not hmac.compare_digest(given, self._core.settings.gateway_token.encode()):
            raise Unauthenticated("this is not the gateway's token", reason="AUTH_WRONG_GATEWAY_TOKEN")
        return True

    async def _signed(
        self, method: str, metadata: CallMetadata, request_bytes: bytes, through_gateway: bool
    ) -> Nip98Event:
        """The verified event, accepted here for the first time."""
        header = metadata.get("authorization")
        now = self._core.clock.now()
        try:
            if through_gateway:
                event = _verify_http(header, metadata, now)
            else:
                event = self._verify_grpc(header, method, request_bytes, now)
        except Nip98Error as error:
            raise Unauthenticated(str(error), reason=f"AUTH_{error.reason.upper()}") from None
        # Only now: an event that does not verify must not use up the id of one that does.
        await accept_auth_event(self._core, event.id, event.created_at + REMEMBER_SECONDS)
        return event

    def _verify_grpc(self, header: str, method: str, request_bytes: bytes, now: int) -> Nip98Event:
        wrong_url = Nip98Error(Nip98Reason.WRONG_URL, "this server has no gRPC authority configured")
        for authority in self._core.settings.grpc_authorities:
            try:
                return verify(
                    header,
                    url=f"grpc://{authority}{method}",
                    method="POST",
                    body_sha256=hashlib.sha256(request_bytes).digest(),
                    now=now,
                )
            except Nip98Error as error:
                if error.reason is not Nip98Reason.WRONG_URL:
                    raise
                wrong_url = error
        raise wrong_url


def _verify_http(header: str, metadata: CallMetadata, now: int) -> Nip98Event:
    url, method, body = (metadata.get(f"x-http-{fact}") for fact in ("url", "method", "body-sha256"))
    try:
        body_sha256 = bytes.fromhex(body) if body else None
    except ValueError:
        body_sha256 = b""
    if not url or not method or (body_sha256 is not None and len(body_sha256) != 32):
        raise Unauthenticated("the gateway does not tell what was signed", reason="AUTH_MISSING_HTTP_FACTS")
    return verify(header, url=url, method=method, body_sha256=body_sha256, now=now)


def _check_allowed(access: Access, caller: Caller) -> None:
    if access.who is Who.ANYBODY:
        return
    caller.required()
    if access.who is Who.ADMIN and not caller.is_admin:
        raise PermissionDenied("only an admin may do this", reason="NOT_ADMIN")
    if caller.session_token and not access.session:
        raise Unauthenticated(
            "a session is not enough for this: sign the request (NIP-98)", reason="AUTH_SIGNATURE_REQUIRED"
        )
