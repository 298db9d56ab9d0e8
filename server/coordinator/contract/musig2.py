"""MuSig2 multi-signatures (BIP327), written after the BIP's algorithms and named as they are.

Encodings: public keys 33 bytes, public and aggregate nonces 66, partial signatures and tweaks 32,
signatures 64. A `Session` may carry an adaptor point T: the challenge and the sign of the nonces then use
``R + T``, while the nonce coefficient ``b`` is what it would be without (`coordinator.contract.adaptor`
has the rest of the adaptor protocol).
"""

import hmac
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn, Self

from coincurve import PublicKey

from coordinator.contract.errors import (
    InvalidContribution,
    InvalidPoint,
    InvalidScalar,
    NonceReuse,
    SigningError,
)
from coordinator.contract.schnorr import challenge
from coordinator.contract.secp import (
    GENERATOR,
    INFINITY,
    N,
    add,
    has_even_y,
    mul,
    mul_base,
    negate,
    parse_point,
    parse_scalar,
    parse_secret,
    scalar_bytes,
    tagged_hash,
)


def key_sort(pubkeys: Sequence[bytes]) -> list[bytes]:
    """Public keys in lexicographic order of their encodings, duplicates kept (BIP327 ``KeySort``)."""
    return sorted(pubkeys)


@dataclass(frozen=True, slots=True)
class KeyAggContext:
    """An aggregate key and the tweaks applied to it (BIP327 "KeyAgg Context").

    Attributes:
        pubkeys: The signers' keys, in the order they were aggregated.
        point: The aggregate key Q, 33 bytes.
        gacc: Accumulated sign, 1 or -1.
        tacc: Accumulated tweak.
    """

    pubkeys: tuple[bytes, ...]
    point: bytes
    gacc: int = 1
    tacc: int = 0

    @property
    def xonly(self) -> bytes:
        """The aggregate key as an x-only key (BIP327 ``GetXonlyPubkey``)."""
        return self.point[1:]

    def tweaked(self, tweak: bytes, *, xonly: bool) -> Self:
        """The context after a plain or an x-only tweak (BIP327 ``ApplyTweak``).

        Raises:
            SigningError: The tweak is not less than the group order, or gives the point at infinity.
        """
        try:
            t = parse_scalar(tweak)
        except InvalidScalar:
            raise SigningError("The tweak must be less than n.", field="tweak") from None
        flip = xonly and not has_even_y(self.point)
        point = add(negate(self.point) if flip else self.point, mul_base(t))
        if point == INFINITY:
            raise SigningError("The result of tweaking cannot be infinity.", field="tweak")
        g = -1 if flip else 1
        return type(self)(self.pubkeys, point, g * self.gacc, (t + g * self.tacc) % N)

    def coefficient(self, pubkey: bytes) -> int:
        """The key's aggregation coefficient (BIP327 ``GetSessionKeyAggCoeff``).

        Raises:
            SigningError: The key is not one of the signers'.
        """
        if pubkey not in self.pubkeys:
            raise SigningError("The signer's pubkey must be included in the list of pubkeys.", field="pubkey")
        return _member_coefficient(self.pubkeys, pubkey)


@lru_cache(maxsize=8192)
def _member_coefficient(pubkeys: tuple[bytes, ...], pubkey: bytes) -> int:
    # A group signs again and again, and the hash of its keys is the larger part of a partial signature.
    return _coefficient(key_list_hash(pubkeys), pubkey, _second_key(pubkeys))


def key_agg(pubkeys: Sequence[bytes]) -> KeyAggContext:
    """Aggregate public keys in the order given (BIP327 ``KeyAgg``).

    Raises:
        InvalidContribution: A key is not a valid public key; names the signer.
        SigningError: No keys, or they cancel out.
    """
    if not pubkeys:
        raise SigningError("no public keys to aggregate")
    second = _second_key(pubkeys)
    list_hash = key_list_hash(pubkeys)
    terms = []
    for signer, pubkey in enumerate(pubkeys):
        try:
            point = parse_point(pubkey)
        except InvalidPoint:
            raise InvalidContribution(signer, "pubkey") from None
        coefficient = _coefficient(list_hash, pubkey, second)
        terms.append(point if coefficient == 1 else point.multiply(coefficient.to_bytes(32, "big")))
    try:
        aggregate = terms[0].combine(terms[1:]).format() if len(terms) > 1 else terms[0].format()
    except ValueError:
        raise SigningError("the public keys cancel out") from None
    return KeyAggContext(tuple(pubkeys), aggregate)


def key_list_hash(pubkeys: Sequence[bytes]) -> bytes:
    """BIP327 ``HashKeys``."""
    return tagged_hash("KeyAgg list", *pubkeys)


def _second_key(pubkeys: Sequence[bytes]) -> bytes:
    """BIP327 ``GetSecondKey``."""
    return next((key for key in pubkeys if key != pubkeys[0]), INFINITY)


def _coefficient(list_hash: bytes, pubkey: bytes, second: bytes) -> int:
    """BIP327 ``KeyAggCoeffInternal``."""
    if pubkey == second:
        return 1
    return int.from_bytes(tagged_hash("KeyAgg coefficient", list_hash, pubkey), "big") % N


def aggregate_secret(context: KeyAggContext, secrets_by_key: dict[bytes, bytes]) -> bytes:
    """The secret key of an aggregate key, tweaks included, where one party came to know every secret.

    Args:
        context: The group, with its tweaks applied.
        secrets_by_key: Secret keys by the public key they belong to.

    Raises:
        SigningError: A signer's secret key is missing or belongs to another key.
    """
    total = 0
    for pubkey, count in Counter(context.pubkeys).items():
        if pubkey not in secrets_by_key:
            raise SigningError(f"the secret key of {pubkey.hex()} is missing", field="secret_keys")
        secret = parse_secret(secrets_by_key[pubkey])
        if mul_base(secret) != pubkey:
            raise SigningError(f"the secret key given for {pubkey.hex()} is another's", field="secret_keys")
        total += count * context.coefficient(pubkey) * secret
    secret = (context.gacc * total + context.tacc) % N
    if mul_base(secret) != context.point:  # cannot happen; a wrong key here would sign away nothing but time
        raise SigningError("the aggregate secret key does not match the aggregate key")
    return scalar_bytes(secret)


class SigningKey:
    """A secret key with the public key that belongs to it, computed once: whoever signs often needs both."""

    __slots__ = ("_secret", "pubkey")

    def __init__(self, secret: bytes) -> None:
        """
        Raises:
            InvalidScalar: Not a secret key.
        """
        self._secret = parse_secret(secret)
        self.pubkey = mul_base(self._secret)

    def __repr__(self) -> str:
        return f"<SigningKey of {self.pubkey.hex()}>"


class SecNonce:
    """A secret nonce, ``k1 || k2 || pk``, that signs once.

    Signing takes the scalars out of the object and erases them; there is no way to read them, copy the
    object or pickle it. (Python may have made copies of the bytes it was built from; nothing in this
    package keeps one.)
    """

    __slots__ = ("_data", "pubkey")

    def __init__(self, data: bytes) -> None:
        """
        Raises:
            SigningError: Not 97 bytes.
        """
        if len(data) != 97:
            raise SigningError("a secret nonce has 97 bytes", field="secnonce")
        self._data = bytearray(data[:64])
        self.pubkey = bytes(data[64:])

    def _take(self) -> tuple[int, int]:
        if not self._data:
            raise NonceReuse("this secret nonce has already signed", field="secnonce")
        k1 = int.from_bytes(self._data[:32], "big")
        k2 = int.from_bytes(self._data[32:], "big")
        self._data[:] = bytes(64)
        self._data = bytearray()
        if not 0 < k1 < N:
            raise SigningError("first secnonce value is out of range.", field="secnonce")
        if not 0 < k2 < N:
            raise SigningError("second secnonce value is out of range.", field="secnonce")
        return k1, k2

    @property
    def used(self) -> bool:
        return not self._data

    def __repr__(self) -> str:
        return f"<SecNonce of {self.pubkey.hex()}, {'used' if self.used else 'unused'}>"

    def _refuse(self, *_: Any) -> NoReturn:
        raise NonceReuse("a secret nonce cannot be copied", field="secnonce")

    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = _refuse


def nonce_gen(
    pubkey: bytes,
    *,
    secret: bytes | None = None,
    aggregate_key: bytes | None = None,
    message: bytes | None = None,
    extra: bytes | None = None,
    rand: bytes | None = None,
) -> tuple[SecNonce, bytes]:
    """Make a nonce pair (BIP327 ``NonceGen``). Every optional input makes it harder to misuse.

    Args:
        pubkey: The signer's public key.
        secret: The signer's secret key.
        aggregate_key: The x-only aggregate key.
        message: What will be signed.
        extra: Anything else to bind the nonce to.
        rand: 32 fresh random bytes; only tests give them.

    Returns:
        The secret nonce and the 66-byte public nonce.

    Raises:
        SigningError: An input has the wrong length.
    """
    rand = secrets.token_bytes(32) if rand is None else rand
    return _secnonce(*_nonce_gen(rand, pubkey, secret, aggregate_key, message, extra), pubkey)


def _nonce_gen(
    rand: bytes,
    pubkey: bytes,
    secret: bytes | None,
    aggregate_key: bytes | None,
    message: bytes | None,
    extra: bytes | None,
) -> tuple[int, int]:
    if len(rand) != 32 or (secret is not None and len(secret) != 32):
        raise SigningError("randomness and secret key have 32 bytes")
    if aggregate_key is not None and len(aggregate_key) != 32:
        raise SigningError("an x-only aggregate key has 32 bytes", field="aggregate_key")
    if secret is not None:
        rand = _xor(secret, tagged_hash("MuSig/aux", rand))
    key_x = aggregate_key or b""
    prefixed = b"\x00" if message is None else b"\x01" + len(message).to_bytes(8, "big") + message
    extra = extra or b""

    def nonce(i: int) -> int:
        digest = tagged_hash(
            "MuSig/nonce",
            rand,
            bytes((len(pubkey),)),
            pubkey,
            bytes((len(key_x),)),
            key_x,
            prefixed,
            len(extra).to_bytes(4, "big"),
            extra,
            bytes((i,)),
        )
        return int.from_bytes(digest, "big") % N

    return nonce(0), nonce(1)


def _secnonce(k1: int, k2: int, pubkey: bytes) -> tuple[SecNonce, bytes]:
    if not k1 or not k2:  # happens with negligible probability only
        raise SigningError("nonce is zero")
    return SecNonce(scalar_bytes(k1) + scalar_bytes(k2) + pubkey), mul_base(k1) + mul_base(k2)


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(32, "big")


def nonce_agg(pubnonces: Sequence[bytes]) -> bytes:
    """Aggregate public nonces (BIP327 ``NonceAgg``).

    Returns:
        The 66-byte aggregate nonce.

    Raises:
        InvalidContribution: A nonce is malformed; names the signer.
    """
    first, second = [], []
    for signer, pubnonce in enumerate(pubnonces):
        try:
            first.append(parse_point(pubnonce[:33]))
            second.append(parse_point(pubnonce[33:]))
        except InvalidPoint:
            raise InvalidContribution(signer, "pubnonce") from None
    return _sum(first) + _sum(second)


def _sum(points: list[PublicKey]) -> bytes:
    if not points:
        return INFINITY
    try:
        return PublicKey.combine_keys(points).format()
    except ValueError:
        return INFINITY


@dataclass(frozen=True, slots=True)
class Session:
    """What a group signs and with which nonces (BIP327 "Session Context" and ``GetSessionValues``).

    Args:
        aggnonce: Aggregate nonce, 66 bytes.
        context: The group's key with its tweaks.
        message: The message, of any length.
        adaptor_point: T, or None for a plain signature.

    Attributes:
        b: Nonce coefficient.
        nonce: The aggregate nonce point R without T.
        final_nonce: R + T, whose x coordinate the final signature carries.
        e: Challenge.

    Raises:
        InvalidContribution: The aggregate nonce is malformed.
        InvalidPoint: The adaptor point is malformed.
        SigningError: R + T is infinity.
    """

    aggnonce: bytes
    context: KeyAggContext
    message: bytes
    adaptor_point: bytes | None = None
    b: int = field(init=False)
    nonce: bytes = field(init=False)
    final_nonce: bytes = field(init=False)
    e: int = field(init=False)

    def __post_init__(self) -> None:
        key_x = self.context.xonly
        b = int.from_bytes(tagged_hash("MuSig/noncecoef", self.aggnonce, key_x, self.message), "big") % N
        if len(self.aggnonce) != 66:
            raise InvalidContribution(None, "aggnonce")
        try:
            terms = _nonce_terms(self.aggnonce, b)
        except InvalidPoint:
            raise InvalidContribution(None, "aggnonce") from None
        nonce = _sum(terms)
        if nonce == INFINITY:
            nonce = GENERATOR
            terms = [parse_point(GENERATOR)]
        final = nonce if self.adaptor_point is None else _sum([*terms, parse_point(self.adaptor_point)])
        if final == INFINITY:
            raise SigningError("nonce and adaptor point cancel out")
        values = {"b": b, "nonce": nonce, "final_nonce": final}
        values["e"] = challenge(final[1:], key_x, self.message)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def key_sign(self) -> int:
        """BIP327's g: 1 where the aggregate key has an even y, else -1."""
        return 1 if has_even_y(self.context.point) else -1


def _nonce_terms(aggnonce: bytes, b: int) -> list[PublicKey]:
    """The points whose sum is ``R1 + b*R2``; a half that is infinity has none."""
    first, second = aggnonce[:33], aggnonce[33:]
    terms = [] if first == INFINITY else [parse_point(first)]
    if second != INFINITY and b:
        terms.append(parse_point(second).multiply(scalar_bytes(b)))
    return terms


def sign(secnonce: SecNonce, secret: bytes | SigningKey, session: Session) -> bytes:
    """Make a partial signature and consume the secret nonce (BIP327 ``Sign``).

    Args:
        secnonce: The nonce.
        secret: The secret key, 32 bytes, or as a `SigningKey`.
        session: What is signed.

    Raises:
        NonceReuse: The nonce has signed before.
        InvalidScalar: Not a secret key.
        SigningError: The nonce was made for another key, the key is not in the group, or the nonce is out
            of range.
    """
    # The nonce is spent whatever happens next: a caller that retries must make a new one.
    k1, k2 = secnonce._take()
    if not has_even_y(session.final_nonce):
        k1, k2 = N - k1, N - k2
    key = secret if isinstance(secret, SigningKey) else SigningKey(secret)
    if not hmac.compare_digest(key.pubkey, secnonce.pubkey):
        raise SigningError("The secret nonce belongs to another public key.", field="secnonce")
    a = session.context.coefficient(key.pubkey)
    d = session.key_sign * session.context.gacc * key._secret
    return scalar_bytes(k1 + session.b * k2 + session.e * a * d)


def partial_sig_verify(psig: bytes, pubnonce: bytes, pubkey: bytes, session: Session) -> bool:
    """Whether a partial signature is valid for a signer's nonce and key (BIP327 ``PartialSigVerify``).

    Raises:
        InvalidPoint: The nonce or the key is malformed.
        SigningError: The key is not in the group.
    """
    try:
        s = parse_scalar(psig)
    except InvalidScalar:
        return False
    if len(pubnonce) != 66:
        raise InvalidPoint("a public nonce has 66 bytes", field="pubnonce")
    parse_point(pubnonce[:33])
    parse_point(pubnonce[33:])  # infinity would pass `add` and `mul`, but is no public nonce
    nonce = add(pubnonce[:33], mul(pubnonce[33:], session.b))
    if not has_even_y(session.final_nonce):
        nonce = negate(nonce)
    a = session.context.coefficient(pubkey)
    g = session.key_sign * session.context.gacc
    return mul_base(s) == add(nonce, mul(pubkey, session.e * a * g))


def partial_sig_sum(psigs: Sequence[bytes], session: Session) -> int:
    """The aggregate's scalar s, or s' where the session has an adaptor point.

    Raises:
        InvalidContribution: A partial signature is not a scalar; names the signer.
    """
    s = session.e * session.key_sign * session.context.tacc
    for signer, psig in enumerate(psigs):
        try:
            s += parse_scalar(psig)
        except InvalidScalar:
            raise InvalidContribution(signer, "psig") from None
    return s % N


def partial_sig_agg(psigs: Sequence[bytes], session: Session) -> bytes:
    """Aggregate partial signatures to a 64-byte BIP340 signature (BIP327 ``PartialSigAgg``).

    The result is only valid if every partial signature is: verify it, or them.

    Raises:
        InvalidContribution: A partial signature is not a scalar; names the signer.
        SigningError: The session has an adaptor point; use `adaptor.aggregate`.
    """
    if session.adaptor_point is not None:
        raise SigningError("a session with an adaptor point aggregates to an adaptor signature")
    return session.final_nonce[1:] + scalar_bytes(partial_sig_sum(psigs, session))


def deterministic_sign(
    secret: bytes,
    aggothernonce: bytes,
    pubkeys: Sequence[bytes],
    tweaks: Sequence[tuple[bytes, bool]],
    message: bytes,
    rand: bytes | None = None,
) -> tuple[bytes, bytes]:
    """Sign as the last signer, without state (BIP327 ``DeterministicSign``).

    Args:
        secret: The signer's secret key.
        aggothernonce: Aggregate of every other signer's public nonce, 66 bytes.
        pubkeys: Every signer's key.
        tweaks: (tweak, is x-only) in order.
        message: The message.
        rand: 32 random bytes, optional.

    Returns:
        The signer's public nonce (66 bytes) and partial signature (32 bytes).

    Raises:
        InvalidContribution: A key, or ``aggothernonce``, is malformed.
        SigningError: A tweak is invalid or the signer is not in the group.
    """
    context = key_agg(pubkeys)
    for tweak, xonly in tweaks:
        context = context.tweaked(tweak, xonly=xonly)
    seed = secret if rand is None else _xor(secret, tagged_hash("MuSig/aux", rand))
    length = len(message).to_bytes(8, "big")
    k1, k2 = (
        int.from_bytes(
            tagged_hash(
                "MuSig/deterministic/nonce", seed, aggothernonce, context.xonly, length, message, bytes((i,))
            ),
            "big",
        )
        % N
        for i in range(2)
    )
    secnonce, pubnonce = _secnonce(k1, k2, mul_base(parse_secret(secret)))
    try:
        aggnonce = nonce_agg([pubnonce, aggothernonce])
    except InvalidContribution:
        raise InvalidContribution(None, "aggothernonce") from None
    return pubnonce, sign(secnonce, secret, Session(aggnonce, context, message))
