"""A contract at rest: parameters, funding outpoint and signatures; everything else is rebuilt from them.

    magic "CDLC" | version u16 | flags u8 | funding outpoint (36) | parameters | signatures | SHA256 (32)

Integers are little-endian. Signatures follow one another in the order of `TicketedDLC.signing_jobs`, 65 bytes
for adaptor signatures and 64 for others, so that no key of theirs is stored. A ranking competition's payouts
are stored as its number of places, and its locking points, where the oracle's announcement is known, as the
oracle's key and the event's nonce point; others row by row, 33 bytes a point.

Signatures are what remains, and they cannot be compressed: of an aggregated signature (R, s) R is a sum of
fresh random nonces and s follows from secrets, so that both look random to whoever stores them. An outcome
with w winners costs 65 + 64*w bytes. (Half aggregation, which keeps every R and one s for all, proves that
there were signatures and gives none of them back: no transaction could be broadcast.)
"""

import struct
from collections.abc import Iterable, Sized
from concurrent.futures import Executor
from dataclasses import dataclass

from coordinator.contract import rankings
from coordinator.contract.attestation import locking_points, outcome_message
from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.errors import ContractError, CorruptContract, InvalidParameters
from coordinator.contract.parameters import ContractParameters, EventLock, Player, competition_payouts
from coordinator.contract.payouts import EXPIRY_INDEX, OutcomePayouts
from coordinator.contract.points import PointList
from coordinator.contract.secp import sha256
from coordinator.contract.tx import outpoint_bytes

VERSION = 1

_MAGIC = b"CDLC"
_HEADER = struct.Struct("<4sHB")
_SIGNED, _ANNOUNCED = 1, 2
_TERMS = struct.Struct("<QQH")
_ROW, _PAYOUT = struct.Struct("<qI"), struct.Struct("<IQ")
_MAX_ANNOUNCED_OUTCOMES = 2_000_000
"""More are not computed from a commitment: a small file must not take hours."""

_EXPLICIT = 0
"""In place of the number of places: the payouts are stored row by row."""


@dataclass(frozen=True, slots=True)
class OracleCommitment:
    """What an oracle announced for a ranking competition: all locking points follow from it.

    Attributes:
        oracle_key: The oracle's public key, 33 bytes or x-only.
        nonce_point: The event's nonce, 33 bytes or x-only.
    """

    oracle_key: bytes
    nonce_point: bytes

    def locking_points(self, entries: int, places: int) -> PointList:
        """The locking points of every ranking, in order.

        Raises:
            InvalidParameters: There is no such competition.
            InvalidPoint: Key or nonce is not a point.
        """
        messages = map(outcome_message, rankings.rankings(entries, places))
        return locking_points(self.oracle_key, self.nonce_point, messages)


def dump(
    dlc: TicketedDLC, signatures: ContractSignatures | None, oracle: OracleCommitment | None = None
) -> bytes:
    """Serialise a contract.

    Args:
        dlc: The contract.
        signatures: All of its signatures, or None before it is signed.
        oracle: Stored in place of the locking points, 33 bytes an outcome less; loading computes them again.

    Raises:
        CorruptContract: A signature is missing or has the wrong length. (They are not verified here.)
        InvalidParameters: The locking points are not those of this oracle.
        InvalidPoint: The oracle's key or nonce is not a point.
    """
    flags = (0 if signatures is None else _SIGNED) | (0 if oracle is None else _ANNOUNCED)
    parts = [
        _HEADER.pack(_MAGIC, VERSION, flags),
        outpoint_bytes(dlc.funding_outpoint),
        _dump_parameters(dlc.parameters, oracle),
    ]
    if signatures is not None:
        parts += _dump_signatures(dlc, signatures)
    data = b"".join(parts)
    return data + sha256(data)


def load(data: bytes, executor: Executor | None = None) -> tuple[TicketedDLC, ContractSignatures | None]:
    """Rebuild a contract and verify every signature.

    Args:
        data: What `dump` returned.
        executor: A process pool to verify in.

    Raises:
        CorruptContract: Damaged, of an unknown version, or malformed.
        ContractError: The parameters break a rule, or a signature does not verify.
    """
    dlc, signatures = load_unverified(data)
    if signatures is not None:
        dlc.verify_signatures(signatures, executor)
    return dlc, signatures


def load_unverified(data: bytes) -> tuple[TicketedDLC, ContractSignatures | None]:
    """Rebuild a contract; its signatures are as they were stored.

    Raises:
        CorruptContract: Damaged, of an unknown version, or malformed.
        ContractError: The parameters break a rule.
    """
    flags = _checked_flags(data)
    reader = _Reader(memoryview(data)[_HEADER.size : -32])
    outpoint = reader.take(32)[::-1].hex(), int.from_bytes(reader.take(4), "little")
    dlc = TicketedDLC(_load_parameters(reader, announced=bool(flags & _ANNOUNCED)), outpoint)
    signatures = None
    if flags & _SIGNED:
        signatures = ContractSignatures()
        for job in dlc.signing_jobs():
            into = signatures.split if ":" in job.key else signatures.outcome
            into[job.key] = reader.take(64 if job.adaptor_point is None else 65)
    reader.end()
    return dlc, signatures


def load_outcome(data: bytes, dlc: TicketedDLC, outcome: str) -> ContractSignatures:
    """One outcome's signatures and those of its win conditions, each verified; the others are not looked at.

    Args:
        data: What `dump` returned for this contract with its signatures.
        dlc: The contract, rebuilt.
        outcome: Which outcome.

    Raises:
        CorruptContract: Damaged, of an unknown version, without signatures, or another contract's.
        InvalidSignature: One does not verify.
        UnknownOutcome: The contract has no such outcome.
    """
    flags = _checked_flags(data)
    payouts = dlc.parameters.payouts
    total = _signature_bytes(dlc, len(payouts))
    start = len(data) - 32 - total
    if not flags & _SIGNED or start < _HEADER.size + 36:
        raise CorruptContract("has not all signatures")
    if data[_HEADER.size : _HEADER.size + 36] != outpoint_bytes(dlc.funding_outpoint):
        raise CorruptContract("is another contract")
    row = payouts.row_of(outcome)
    reader = _Reader(memoryview(data)[start + _signature_bytes(dlc, row) : -32])
    signatures = ContractSignatures()
    for job in dlc.signing_jobs(row, row + 1):
        into = signatures.split if ":" in job.key else signatures.outcome
        into[job.key] = reader.take(64 if job.adaptor_point is None else 65)
        dlc.verify_signature(job.key, into[job.key])
    return signatures


def _signature_bytes(dlc: TicketedDLC, rows: int) -> int:
    """Length of the first outcomes' signatures."""
    payouts = dlc.parameters.payouts
    plain = 1 if payouts.has_expiry and rows == len(payouts) else 0
    return 65 * rows - plain + 64 * payouts.win_conditions_before(rows)


def _checked_flags(data: bytes) -> int:
    if data[:4] != _MAGIC:
        raise CorruptContract("not a stored contract")
    if len(data) < _HEADER.size + 32 or sha256(data[:-32]) != data[-32:]:
        raise CorruptContract("the checksum does not match")
    _, version, flags = _HEADER.unpack_from(data)
    if version != VERSION or flags & ~(_SIGNED | _ANNOUNCED):
        raise CorruptContract(f"version {version} with flags {flags} is not known")
    return int(flags)


def _dump_parameters(parameters: ContractParameters, oracle: OracleCommitment | None) -> bytes:
    event, payouts = parameters.event, parameters.payouts
    places = _places(parameters)
    if oracle is None:
        points = [_count(event.points), event.points.packed]
    else:
        entries = len(parameters.players)
        if places == _EXPLICIT or oracle.locking_points(entries, places) != event.points:
            raise InvalidParameters("are not the ones that follow from this oracle", field="locking_points")
        points = [oracle.oracle_key[-32:], oracle.nonce_point[-32:]]
    parts = [
        parameters.market_maker,
        _count(parameters.players),
        *(player.pubkey + player.ticket_hash + player.payout_hash for player in parameters.players),
        *points,
        b"\x00" if event.expiry is None else b"\x01" + event.expiry.to_bytes(4, "little"),
        _TERMS.pack(parameters.fee_rate, parameters.funding_value, parameters.relative_locktime_block_delta),
        bytes((places,)),
    ]
    if places == _EXPLICIT:
        parts.append(_count(payouts))
        for row in range(len(payouts)):
            pairs = list(zip(payouts.players_at(row), payouts.weights_at(row), strict=True))
            parts.append(_ROW.pack(payouts.index_at(row), len(pairs)))
            parts += (_PAYOUT.pack(*pair) for pair in pairs)
    return b"".join(parts)


def _load_parameters(reader: "_Reader", *, announced: bool) -> ContractParameters:
    market_maker = reader.take(33)
    players = tuple(Player(reader.take(33), reader.take(32), reader.take(32)) for _ in range(reader.count()))
    if announced:
        oracle = OracleCommitment(reader.take(32), reader.take(32))
    else:
        points = PointList.from_packed(reader.take(33 * reader.count()))
    expiry = int.from_bytes(reader.take(4), "little") if reader.take(1) == b"\x01" else None
    fee_rate, funding_value, delta = _TERMS.unpack(reader.take(_TERMS.size))
    places = reader.take(1)[0]
    if places != _EXPLICIT:
        outcomes = rankings.count(len(players), places)
        # Before that many outcomes are made.
        if not announced and outcomes != len(points):
            raise CorruptContract("locking points do not fit the competition")
        if announced and outcomes > _MAX_ANNOUNCED_OUTCOMES:
            raise CorruptContract(f"{outcomes} outcomes are too many")
        payouts = competition_payouts(len(players), places, expires=expiry is not None)
    else:
        payouts = OutcomePayouts.from_rows([_load_row(reader) for _ in range(reader.count())])
    if announced:
        if places == _EXPLICIT:
            raise CorruptContract("only a ranking competition's locking points are computed")
        points = oracle.locking_points(len(players), places)
    event = EventLock(points, expiry)
    return ContractParameters(market_maker, players, event, payouts, fee_rate, funding_value, delta)


def _load_row(reader: "_Reader") -> tuple[int, list[tuple[int, int]]]:
    index, count = _ROW.unpack(reader.take(_ROW.size))
    if index < EXPIRY_INDEX:
        raise CorruptContract("malformed payouts")
    return index, [_PAYOUT.unpack(reader.take(_PAYOUT.size)) for _ in range(count)]


def _places(parameters: ContractParameters) -> int:
    """Number of places if these are a ranking competition's payouts, else `_EXPLICIT`."""
    places, entries = len(parameters.payouts.players_at(0)), len(parameters.players)
    try:
        if rankings.count(entries, places) != len(parameters.event.points):
            return _EXPLICIT
    except ContractError:
        return _EXPLICIT
    expected = competition_payouts(entries, places, expires=parameters.event.expiry is not None)
    return places if parameters.payouts == expected else _EXPLICIT


def _dump_signatures(dlc: TicketedDLC, signatures: ContractSignatures) -> Iterable[bytes]:
    for job in dlc.signing_jobs():
        signature = signatures.get(job.key)
        if signature is None or len(signature) != (64 if job.adaptor_point is None else 65):
            raise CorruptContract("is missing or has the wrong length", field=job.key)
        yield signature


def _count(items: Sized) -> bytes:
    return len(items).to_bytes(4, "little")


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.position = 0

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise CorruptContract("truncated")
        piece = bytes(self.data[self.position : end])
        self.position = end
        return piece

    def count(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def end(self) -> None:
        if self.position != len(self.data):
            raise CorruptContract("has bytes too many")
