"""Asking an LNURL-pay service for an invoice (LUD-06, LUD-16), without trusting it.

Whoever names a destination makes the coordinator send requests: only to public addresses, looked up once and
then connected to (so that a name cannot be turned to another address in between), few, short and small.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import socket
import ssl
from typing import Any, Final
from urllib.parse import SplitResult, urljoin

import httpx

from coordinator.domain.lnurl import Destination, InvalidDestination, checked_url
from coordinator.ports.payees import PayeeRefused, PayeeUnavailable
from coordinator_client import bolt11

TIMEOUT_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_REDIRECTS: Final = 3
MAX_REASON_CHARACTERS: Final = 200
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class LnurlPayees:
    """Implements `coordinator.ports.payees.Payees`.

    Args:
        private_hosts: also ask addresses that are not public: for a devnet, on this machine.
        timeout_seconds: for one invoice, all requests together.
        trusted: who may certify hosts; None: whom everybody trusts.
    """

    def __init__(
        self,
        *,
        private_hosts: bool = False,
        timeout_seconds: float = TIMEOUT_SECONDS,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        self._private_hosts = private_hosts
        self._timeout_seconds = timeout_seconds
        self._client = httpx.AsyncClient(
            timeout=timeout_seconds,
            verify=trusted or True,
            # No proxies or credentials from the environment.
            trust_env=False,
            # A connection is for the name that its certificate was checked for; a pool knows addresses only.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def invoice(self, destination: Destination, amount_msats: int) -> str:
        """See `Payees.invoice`."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._invoice(destination, amount_msats)
        except (TimeoutError, httpx.TransportError, OSError) as error:
            raise PayeeUnavailable("the destination does not answer") from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise PayeeRefused("the destination's host is malformed") from error

    async def _invoice(self, destination: Destination, amount_msats: int) -> str:
        terms = await self._get(_checked(destination.url))
        callback, metadata = _text(terms, "callback"), _text(terms, "metadata")
        if terms.get("tag") != "payRequest":
            raise PayeeRefused("the destination does not take payments (no payRequest)")
        least, most = _amount(terms, "minSendable"), _amount(terms, "maxSendable")
        if not least <= amount_msats <= most:
            raise PayeeRefused(
                f"the destination takes {least // 1000} to {most // 1000} sats, not {amount_msats // 1000}"
            )
        url = _checked(callback)
        query = f"{url.query}&amount={amount_msats}" if url.query else f"amount={amount_msats}"
        answer = await self._get(url._replace(query=query))
        payment_request = _text(answer, "pr")
        _check_invoice(payment_request, metadata, amount_msats)
        return payment_request

    async def _get(self, url: SplitResult) -> dict[str, Any]:
        for _ in range(MAX_REDIRECTS + 1):
            response, body = await self._fetch(url)
            if response.status_code not in _REDIRECTS:
                return _object(response, body)
            try:
                target = urljoin(url.geturl(), response.headers.get("location", ""))
            except ValueError:
                raise PayeeRefused("the destination redirects to nowhere") from None
            following = _checked(target)
            if following.scheme != url.scheme:
                raise PayeeRefused("the destination redirects to another scheme")
            url = following
        raise PayeeRefused("the destination redirects too often")

    async def _fetch(self, url: SplitResult) -> tuple[httpx.Response, bytes]:
        host = url.hostname or ""
        address = await self._address(host, url.port or (443 if url.scheme == "https" else 80))
        request = self._client.build_request(
            "GET",
            httpx.URL(url.geturl()).copy_with(host=address),
            headers={"Host": url.netloc, "Accept": "application/json", "Accept-Encoding": "identity"},
            # The certificate must still be the name's.
            extensions={"sni_hostname": host},
        )
        response = await self._client.send(request, stream=True)
        try:
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise PayeeRefused("the destination's answer is too long")
        finally:
            await response.aclose()
        return response, body

    async def _address(self, host: str, port: int) -> str:
        """An address of a host, if every address of it may be asked."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        if not addresses:
            raise PayeeUnavailable("the destination's host has no address")
        if not self._private_hosts and not all(_is_public(address) for address in addresses):
            raise PayeeRefused("the destination's host is not on the public network")
        return str(addresses[0])


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is not None and not _is_public(inner):
            return False
        # NAT64 (RFC 6052) leads to an IPv4 address of the gateway's choice.
        if address in ipaddress.IPv6Network("64:ff9b::/96"):
            return False
    return address.is_global and not address.is_multicast


def _checked(url: str) -> SplitResult:
    try:
        return checked_url(url)
    except InvalidDestination as error:
        raise PayeeRefused(f"the destination leads where it must not: {error}") from None


def _object(response: httpx.Response, body: bytes) -> dict[str, Any]:
    if response.status_code >= 500 or response.status_code == 429:
        raise PayeeUnavailable(f"the destination answers HTTP {response.status_code}")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict) and str(answer.get("status", "")).upper() == "ERROR":
        raise PayeeRefused(f"the destination refuses: {_shown(answer.get('reason'))}")
    if response.status_code == 404:
        raise PayeeRefused("the destination knows no such name (HTTP 404)")
    if not response.is_success:
        raise PayeeRefused(f"the destination answers HTTP {response.status_code}")
    if not isinstance(answer, dict):
        raise PayeeRefused("the destination's answer is not what LNURL-pay says")
    return answer


def _shown(reason: object) -> str:
    """What a stranger says, fit to be shown."""
    text = "".join(c for c in str(reason)[:MAX_REASON_CHARACTERS] if c.isprintable())
    return text or "no reason given"


def _text(answer: dict[str, Any], field: str) -> str:
    value = answer.get(field)
    if not isinstance(value, str) or not value:
        raise PayeeRefused(f"the destination's answer lacks {field}")
    return value


def _amount(answer: dict[str, Any], field: str) -> int:
    value = answer.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        raise PayeeRefused(f"the destination's answer has no valid {field}")
    return value


def _check_invoice(payment_request: str, metadata: str, amount_msats: int) -> None:
    try:
        invoice = bolt11.decode(payment_request)
    except bolt11.Bolt11Error as error:
        raise PayeeRefused(f"the destination's invoice cannot be read: {error}") from error
    if invoice.amount_msats != amount_msats:
        raise PayeeRefused("the destination's invoice is of another amount")
    if invoice.description_hash != hashlib.sha256(metadata.encode()).digest():
        raise PayeeRefused("the destination's invoice does not commit to the destination")
