"""Transactions: serialisation (BIP144), weights (BIP141) and taproot signature hashes (BIP341, BIP342)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from coordinator.contract.errors import InvalidParameters, InvalidTransaction
from coordinator.contract.secp import hash256, sha256, tag_midstate
from coordinator.contract.sizes import MAX_MONEY_SATS, virtual_size
from coordinator.contract.utxo import OutPoint, Output

SIGHASH_DEFAULT = 0x00
SIGHASH_ALL = 0x01
SIGHASH_NONE = 0x02
SIGHASH_SINGLE = 0x03
SIGHASH_ANYONECANPAY = 0x80


def compact_size_bytes(count: int) -> bytes:
    """A CompactSize integer."""
    if count < 0xFD:
        return bytes((count,))
    if count <= 0xFFFF:
        return b"\xfd" + count.to_bytes(2, "little")
    return b"\xfe" + count.to_bytes(4, "little")


def with_size(data: bytes) -> bytes:
    """Data behind its length as CompactSize."""
    return compact_size_bytes(len(data)) + data


def outpoint_bytes(outpoint: OutPoint) -> bytes:
    """36 bytes: txid in internal order, output index."""
    return bytes.fromhex(outpoint.txid)[::-1] + outpoint.vout.to_bytes(4, "little")


def output_bytes(value_sats: int, script_pubkey: bytes) -> bytes:
    """A serialised output."""
    return value_sats.to_bytes(8, "little") + with_size(script_pubkey)


@dataclass(frozen=True, slots=True)
class Input:
    """A transaction input; `witness` is its stack, bottom first."""

    outpoint: OutPoint
    sequence: int
    witness: tuple[bytes, ...] = ()
    script_sig: bytes = b""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    lock_time: int = 0
    version: int = 2

    @property
    def txid(self) -> str:
        """In the usual, byte-reversed hex."""
        return hash256(self.serialize(include_witness=False))[::-1].hex()

    @property
    def weight(self) -> int:
        """Weight units (BIP141)."""
        return 3 * len(self.serialize(include_witness=False)) + len(self.serialize())

    @property
    def vsize(self) -> int:
        """Virtual bytes."""
        return virtual_size(self.weight)

    def with_witness(self, index: int, witness: Sequence[bytes]) -> Self:
        """The transaction with one input's witness set."""
        changed = replace(self.inputs[index], witness=tuple(witness))
        return replace(self, inputs=(*self.inputs[:index], changed, *self.inputs[index + 1 :]))

    def serialize(self, *, include_witness: bool = True) -> bytes:
        """Bytes as they are relayed (BIP144), or without witnesses, as the txid is made of."""
        segwit = include_witness and any(txin.witness for txin in self.inputs)
        parts = [self.version.to_bytes(4, "little", signed=True), b"\x00\x01" if segwit else b""]
        parts.append(compact_size_bytes(len(self.inputs)))
        for txin in self.inputs:
            parts += outpoint_bytes(txin.outpoint), with_size(txin.script_sig)
            parts.append(txin.sequence.to_bytes(4, "little"))
        parts.append(compact_size_bytes(len(self.outputs)))
        parts += (output_bytes(out.value_sats, out.script_pubkey) for out in self.outputs)
        if segwit:
            for txin in self.inputs:
                parts.append(compact_size_bytes(len(txin.witness)))
                parts += map(with_size, txin.witness)
        parts.append(self.lock_time.to_bytes(4, "little"))
        return b"".join(parts)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From serialised bytes, with or without witnesses.

        Raises:
            InvalidTransaction: Truncated, over-long or otherwise malformed.
        """
        reader = _Reader(data)
        version = int.from_bytes(reader.take(4), "little", signed=True)
        segwit = data[4:6] == b"\x00\x01"
        if segwit:
            reader.take(2)
        try:
            inputs = [reader.input() for _ in range(reader.compact_size())]
            outputs = tuple(reader.output() for _ in range(reader.compact_size()))
        except InvalidParameters as error:
            raise InvalidTransaction(str(error)) from None
        if segwit:
            stacks = [tuple(reader.sized() for _ in range(reader.compact_size())) for _ in inputs]
            if not any(stacks):
                raise InvalidTransaction("superfluous witness record")
            inputs = [replace(txin, witness=stack) for txin, stack in zip(inputs, stacks, strict=True)]
        lock_time = reader.number(4)
        if reader.position != len(data):
            raise InvalidTransaction("bytes after the end of the transaction")
        return cls(tuple(inputs), outputs, lock_time, version)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise InvalidTransaction("truncated transaction")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")

    def compact_size(self) -> int:
        first = self.number(1)
        if first < 0xFD:
            return first
        length = {0xFD: 2, 0xFE: 4, 0xFF: 8}[first]
        count = self.number(length)
        if count < (0xFD if length == 2 else 1 << (4 * length)):
            raise InvalidTransaction("count is not minimally encoded")
        if count > len(self.data):  # before anything is allocated for it
            raise InvalidTransaction("truncated transaction")
        return count

    def sized(self) -> bytes:
        return self.take(self.compact_size())

    def input(self) -> Input:
        txid = self.take(32)[::-1].hex()
        outpoint = OutPoint(txid, self.number(4))
        script_sig = self.sized()
        return Input(outpoint, self.number(4), (), script_sig)

    def output(self) -> Output:
        value_sats = self.number(8)
        if value_sats > MAX_MONEY_SATS:
            raise InvalidTransaction("an output of more than there is")
        return Output(self.sized(), value_sats)


def sighash_state() -> "hashlib._Hash":
    """SHA256 after the ``TapSighash`` tag and the epoch byte; update with `taproot_message` and digest."""
    state = tag_midstate("TapSighash").copy()
    state.update(b"\x00")
    return state


class SighashCache:
    """Taproot signature hashes of one transaction (BIP341 "Common signature message").

    What all inputs share is hashed once.

    Args:
        transaction: The transaction; witnesses do not matter.
        prevouts: The outputs that all inputs spend, in order.

    Raises:
        InvalidTransaction: There are not as many prevouts as inputs.
    """

    def __init__(self, transaction: Transaction, prevouts: Sequence[Output]) -> None:
        if len(prevouts) != len(transaction.inputs):
            raise InvalidTransaction("a taproot signature commits to every spent output: one an input")
        self.transaction = transaction
        self.prevouts = tuple(prevouts)
        inputs = transaction.inputs
        self._outpoints = [outpoint_bytes(txin.outpoint) for txin in inputs]
        self._sequences = [txin.sequence.to_bytes(4, "little") for txin in inputs]
        self._inputs_hashes = b"".join(
            (
                sha256(b"".join(self._outpoints)),
                sha256(b"".join(out.value_sats.to_bytes(8, "little") for out in prevouts)),
                sha256(b"".join(with_size(out.script_pubkey) for out in prevouts)),
                sha256(b"".join(self._sequences)),
            )
        )
        self._outputs = [output_bytes(out.value_sats, out.script_pubkey) for out in transaction.outputs]
        self._outputs_hash = sha256(b"".join(self._outputs))

    def key_path(self, index: int, hash_type: int = SIGHASH_DEFAULT) -> bytes:
        """What a key-path signature of an input signs, 32 bytes."""
        return self._hash(index, hash_type, None)

    def script_path(self, index: int, leaf_hash: bytes, hash_type: int = SIGHASH_DEFAULT) -> bytes:
        """What an ``OP_CHECKSIG`` in a tapscript leaf (without ``OP_CODESEPARATOR``) signs, 32 bytes."""
        return self._hash(index, hash_type, leaf_hash)

    def _hash(self, index: int, hash_type: int, leaf_hash: bytes | None) -> bytes:
        if hash_type & 0x7F > SIGHASH_SINGLE or hash_type == SIGHASH_ANYONECANPAY:
            raise InvalidTransaction(f"no such signature hash type: {hash_type:#x}")
        output_type = SIGHASH_ALL if hash_type == SIGHASH_DEFAULT else hash_type & 3
        tx = self.transaction
        parts = [
            bytes((hash_type,)),
            tx.version.to_bytes(4, "little", signed=True),
            tx.lock_time.to_bytes(4, "little"),
        ]
        if not hash_type & SIGHASH_ANYONECANPAY:
            parts.append(self._inputs_hashes)
        if output_type == SIGHASH_ALL:
            parts.append(self._outputs_hash)
        parts.append(b"\x00" if leaf_hash is None else b"\x02")
        if hash_type & SIGHASH_ANYONECANPAY:
            spent = self.prevouts[index]
            parts += self._outpoints[index], output_bytes(spent.value_sats, spent.script_pubkey)
            parts.append(self._sequences[index])
        else:
            parts.append(index.to_bytes(4, "little"))
        if output_type == SIGHASH_SINGLE:
            if index >= len(self._outputs):
                raise InvalidTransaction("SIGHASH_SINGLE without an output of the same index")
            parts.append(sha256(self._outputs[index]))
        if leaf_hash is not None:
            parts += leaf_hash, b"\x00\xff\xff\xff\xff"
        state = sighash_state()
        state.update(b"".join(parts))
        return state.digest()
