"""BOLT 11 payment requests: encode (and sign) and decode (and check) them.

https://github.com/lightning/bolts/blob/master/11-payment-encoding.md. The data part is handled in the 5-bit
words that the format is defined in. Amounts are in millisatoshis, times in seconds since the epoch.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from coincurve import PrivateKey, PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_compact, signature_normalize
from embit import bech32

DEFAULT_EXPIRY_SECONDS = 3600
DEFAULT_MIN_FINAL_CLTV_BLOCKS = 18
MAX_DESCRIPTION_BYTES = 639
"""What fits in the 1023 words that a tagged field can hold."""

MSATS_PER_BITCOIN = 100_000_000_000
_TENTH_MSATS_PER_UNIT = {"m": 10**9, "u": 10**6, "n": 10**3, "p": 1}

_SIGNATURE_WORDS = 104
_CHECKSUM_WORDS = 6
_TIMESTAMP_WORDS = 7

_PAYMENT_HASH, _ROUTE, _FEATURES, _EXPIRY, _FALLBACK = 1, 3, 5, 6, 9
_DESCRIPTION, _SECRET, _PAYEE, _DESCRIPTION_HASH, _MIN_FINAL_CLTV = 13, 16, 19, 23, 24

VAR_ONION_REQUIRED, PAYMENT_SECRET_REQUIRED, BASIC_MPP_OPTIONAL = 8, 14, 17
_UNDERSTOOD_EVEN_FEATURES = frozenset({8, 14, 16})  # var_onion_optin, payment_secret, basic_mpp (BOLT 9)

_HRP = re.compile(r"ln(?P<network>bcrt|bc|tbs|tb)(?:(?P<amount>[1-9][0-9]*)(?P<unit>[munp]?))?")


class Bolt11Error(ValueError):
    """The string is not a valid payment request."""


@dataclass(frozen=True, slots=True)
class RouteHop:
    """One hop of a hint for reaching a payee through a channel that is not public."""

    pubkey: bytes
    short_channel_id: int
    fee_base_msats: int
    fee_proportional_millionths: int
    cltv_expiry_delta_blocks: int


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """What a payment request says.

    `network` is the BIP 173 prefix (bc, tb, tbs, bcrt); `amount_msats` is None when the payer chooses;
    `payee` is the 33-byte node key that signed; `features` are the numbers of the bits that are set. Either
    `description` or `description_hash` is set.
    """

    network: str
    amount_msats: int | None
    created_at: int
    payment_hash: bytes
    payee: bytes
    description: str | None = None
    description_hash: bytes | None = None
    expiry_seconds: int = DEFAULT_EXPIRY_SECONDS
    min_final_cltv_blocks: int = DEFAULT_MIN_FINAL_CLTV_BLOCKS
    payment_secret: bytes | None = None
    features: frozenset[int] = frozenset()
    routes: tuple[tuple[RouteHop, ...], ...] = ()
    fallbacks: tuple[tuple[int, bytes], ...] = ()

    @property
    def expires_at(self) -> int:
        """When the payee stops accepting payment."""
        return self.created_at + self.expiry_seconds


def encode(
    node_key: PrivateKey,
    *,
    network: str,
    payment_hash: bytes,
    created_at: int,
    amount_msats: int | None = None,
    description: str | None = None,
    description_hash: bytes | None = None,
    expiry_seconds: int | None = None,
    min_final_cltv_blocks: int | None = None,
    payment_secret: bytes | None = None,
    features: Iterable[int] = (),
) -> str:
    """The payment request, signed by the payee's node key.

    Raises:
        Bolt11Error: a value cannot be expressed, or not exactly one of the two descriptions is given.
    """
    if (description is None) == (description_hash is None):
        raise Bolt11Error("exactly one of description and description_hash is needed")
    hrp = f"ln{network}{_amount_to_hrp(amount_msats)}"
    if not _HRP.fullmatch(hrp):
        raise Bolt11Error("unknown network or amount")
    if not 0 <= created_at < 1 << 35:
        raise Bolt11Error("the timestamp does not fit in 35 bits")

    words = _int_to_words(created_at, _TIMESTAMP_WORDS)
    words += _field(_PAYMENT_HASH, _exactly_32(payment_hash))
    if description is not None:
        words += _field(_DESCRIPTION, description.encode())
    if description_hash is not None:
        words += _field(_DESCRIPTION_HASH, _exactly_32(description_hash))
    if expiry_seconds is not None:
        words += _field(_EXPIRY, _int_to_words(expiry_seconds))
    if min_final_cltv_blocks is not None:
        words += _field(_MIN_FINAL_CLTV, _int_to_words(min_final_cltv_blocks))
    if payment_secret is not None:
        words += _field(_SECRET, _exactly_32(payment_secret))
    if feature_bits := sum(1 << bit for bit in set(features)):
        words += _field(_FEATURES, _int_to_words(feature_bits))

    # A recoverable signature is r || s || recovery id, which is just what the format appends.
    words += _bytes_to_words(node_key.sign_recoverable(_digest(hrp, words), hasher=None))
    return str(bech32.bech32_encode(bech32.Encoding.BECH32, hrp, words))  # type: ignore[no-untyped-call]


def decode(payment_request: str) -> PaymentRequest:
    """What the payment request says, its checksum and signature checked.

    Raises:
        Bolt11Error: it is malformed, or demands a feature that is not understood.
    """
    hrp, words = _bech32_words(payment_request)
    match = _HRP.fullmatch(hrp)
    if match is None:
        raise Bolt11Error("unknown prefix or amount")
    if len(words) < _TIMESTAMP_WORDS + _SIGNATURE_WORDS:
        raise Bolt11Error("too short")
    signed, signature = words[:-_SIGNATURE_WORDS], _words_to_bytes(words[-_SIGNATURE_WORDS:])

    fields: dict[int, list[list[int]]] = {}
    rest = signed[_TIMESTAMP_WORDS:]
    while rest:
        if len(rest) < 3 or len(rest) < 3 + (length := rest[1] << 5 | rest[2]):
            raise Bolt11Error("a tagged field is cut off")
        fields.setdefault(rest[0], []).append(rest[3 : 3 + length])
        rest = rest[3 + length :]

    features = _features(fields)
    if unknown := sorted(b for b in features if b % 2 == 0 and b not in _UNDERSTOOD_EVEN_FEATURES):
        raise Bolt11Error(f"unknown required features: {unknown}")
    payment_hash = _first_of_length(fields, _PAYMENT_HASH, 52)
    if payment_hash is None:
        raise Bolt11Error("no payment hash")
    description = fields[_DESCRIPTION][0] if _DESCRIPTION in fields else None
    return PaymentRequest(
        network=match["network"],
        amount_msats=_amount_from_hrp(match["amount"], match["unit"]),
        created_at=_words_to_int(signed[:_TIMESTAMP_WORDS]),
        payment_hash=payment_hash,
        payee=_payee(_first_of_length(fields, _PAYEE, 53), signature, _digest(hrp, signed)),
        description=None if description is None else _text(description),
        description_hash=_first_of_length(fields, _DESCRIPTION_HASH, 52),
        expiry_seconds=_first_int(fields, _EXPIRY, DEFAULT_EXPIRY_SECONDS),
        min_final_cltv_blocks=_first_int(fields, _MIN_FINAL_CLTV, DEFAULT_MIN_FINAL_CLTV_BLOCKS),
        payment_secret=_first_of_length(fields, _SECRET, 52),
        features=features,
        routes=tuple(_route(data) for data in fields.get(_ROUTE, [])),
        fallbacks=tuple(
            # 17 and 18 are pay to public key hash and script hash; what is above is reserved and skipped.
            (data[0], _words_to_bytes(data[1:]))
            for data in fields.get(_FALLBACK, [])
            if data and data[0] <= 18
        ),
    )


def _bech32_words(text: str) -> tuple[str, list[int]]:
    """Human-readable part and words; unlike BIP 173 the length is not limited."""
    if text != text.lower() and text != text.upper():
        raise Bolt11Error("mixed case")
    hrp, separator, data = text.lower().rpartition("1")
    if not separator or not hrp or len(data) < _CHECKSUM_WORDS:
        raise Bolt11Error("invalid bech32 string")
    words = [bech32.CHARSET.find(character) for character in data]
    if -1 in words or not hrp.isascii():
        raise Bolt11Error("invalid character in bech32 string")
    checksum = bech32.bech32_verify_checksum(hrp, words)  # type: ignore[no-untyped-call]
    if checksum != bech32.Encoding.BECH32:
        raise Bolt11Error("invalid checksum")
    return hrp, words[:-_CHECKSUM_WORDS]


def _amount_to_hrp(amount_msats: int | None) -> str:
    if amount_msats is None:
        return ""
    if amount_msats <= 0:
        raise Bolt11Error("the amount must be positive")
    if amount_msats % MSATS_PER_BITCOIN == 0:
        return str(amount_msats // MSATS_PER_BITCOIN)
    tenth_msats = amount_msats * 10
    unit, size = next((u, s) for u, s in _TENTH_MSATS_PER_UNIT.items() if tenth_msats % s == 0)
    return f"{tenth_msats // size}{unit}"


def _amount_from_hrp(amount: str | None, unit: str | None) -> int | None:
    if amount is None:
        return None
    if len(amount) > 20:
        raise Bolt11Error("the amount is too large")
    if not unit:
        return int(amount) * MSATS_PER_BITCOIN
    amount_msats, remainder = divmod(int(amount) * _TENTH_MSATS_PER_UNIT[unit], 10)
    if remainder:
        raise Bolt11Error("the amount has a fraction of a millisatoshi")
    return amount_msats


def _digest(hrp: str, words: Sequence[int]) -> bytes:
    """What is signed: hash of the prefix and the words, zero bits filling up the last byte."""
    return sha256(hrp.encode() + _words_to_bytes(words, pad=True)).digest()


def _payee(named: bytes | None, signature: bytes, digest: bytes) -> bytes:
    try:
        if named is None:
            return PublicKey.from_signature_and_message(signature, digest, hasher=None).format()
        # libsecp256k1 verifies low-S signatures only, while BOLT 11 allows both.
        _, normalized = signature_normalize(deserialize_compact(signature[:64]))
        if PublicKey(named).verify(cdata_to_der(normalized), digest, hasher=None):
            return named
    except Exception as error:  # coincurve raises bare Exception for what libsecp256k1 refuses
        raise Bolt11Error("invalid signature") from error
    raise Bolt11Error("invalid signature")


def _features(fields: dict[int, list[list[int]]]) -> frozenset[int]:
    bits = _words_to_int(fields[_FEATURES][0]) if _FEATURES in fields else 0
    return frozenset(bit for bit in range(bits.bit_length()) if bits >> bit & 1)


def _route(words: list[int]) -> tuple[RouteHop, ...]:
    data = _words_to_bytes(words)
    if len(data) % 51:
        raise Bolt11Error("a route hint is cut off")
    return tuple(
        RouteHop(
            pubkey=hop[:33],
            short_channel_id=int.from_bytes(hop[33:41], "big"),
            fee_base_msats=int.from_bytes(hop[41:45], "big"),
            fee_proportional_millionths=int.from_bytes(hop[45:49], "big"),
            cltv_expiry_delta_blocks=int.from_bytes(hop[49:], "big"),
        )
        for hop in (data[i : i + 51] for i in range(0, len(data), 51))
    )


def _text(words: list[int]) -> str:
    try:
        return _words_to_bytes(words).decode()
    except UnicodeDecodeError:
        raise Bolt11Error("the description is not UTF-8") from None


def _first_of_length(fields: dict[int, list[list[int]]], tag: int, length: int) -> bytes | None:
    """The first field with this tag; those of another length are of a future format, to be skipped."""
    return next((_words_to_bytes(data) for data in fields.get(tag, []) if len(data) == length), None)


def _first_int(fields: dict[int, list[list[int]]], tag: int, default: int) -> int:
    if tag not in fields:
        return default
    value = _words_to_int(fields[tag][0])
    if value >= 1 << 63:
        raise Bolt11Error("a number is too large")
    return value


def _field(tag: int, data: bytes | list[int]) -> list[int]:
    words = _bytes_to_words(data) if isinstance(data, bytes) else data
    if len(words) > 1023:
        raise Bolt11Error("a field is too long")
    return [tag, len(words) >> 5, len(words) & 31, *words]


def _exactly_32(data: bytes) -> bytes:
    if len(data) != 32:
        raise Bolt11Error(f"32 bytes are needed, not {len(data)}")
    return data


def _int_to_words(value: int, length: int | None = None) -> list[int]:
    if value < 0:
        raise Bolt11Error("a number is negative")
    size = length or max(1, -(-value.bit_length() // 5))
    return [value >> 5 * i & 31 for i in reversed(range(size))]


def _words_to_int(words: Sequence[int]) -> int:
    value = 0
    for word in words:
        value = value << 5 | word
    return value


def _bytes_to_words(data: bytes) -> list[int]:
    padding = -len(data) * 8 % 5
    size = (len(data) * 8 + padding) // 5
    return _int_to_words(int.from_bytes(data, "big") << padding, size) if size else []


def _words_to_bytes(words: Sequence[int], *, pad: bool = False) -> bytes:
    """The whole bytes in the words; the bits left over are dropped, or filled up with zeros to a byte."""
    bits, value = len(words) * 5, _words_to_int(words)
    if pad:
        return (value << -bits % 8).to_bytes((bits + 7) // 8, "big")
    return (value >> bits % 8).to_bytes(bits // 8, "big")
