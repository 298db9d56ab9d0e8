"""Devnet's miner and faucet: one P2WPKH key that earns the coinbases and pays whoever asks."""

import hashlib
import math
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from coincurve import PrivateKey
from embit.hashes import hash160

from .blocks import COINBASE_MATURITY_BLOCKS
from .index import ChainIndex
from .mempool import Mempool
from .scripts import script_hash, script_to_address
from .transactions import (
    Outpoint,
    Transaction,
    TxInput,
    TxOutput,
    serialize_outpoint,
    serialize_output,
    sha256d,
    with_length,
)

_SIGHASH_ALL = 1
_SEQUENCE_REPLACEABLE = 0xFFFFFFFD
_SIGNATURE_WITNESS = (bytes(72), bytes(33))  # the largest that a low-S signature and a key take
_DUST_SATS = 294
_MAX_CHAINED = 24
_WORTH_SPENDING_SATS = 100_000  # late coinbases of regtest are worth nothing


class InsufficientFunds(Exception):
    """The devnet wallet has not enough spendable coins."""


class DevnetWallet:
    """Keys derived from a seed file in the data directory; coins as the chain and the mempool know them."""

    def __init__(self, seed_path: Path, index: ChainIndex, mempool: Mempool) -> None:
        seed = _load_seed(seed_path)
        self._key = PrivateKey(hashlib.sha256(b"coordinator devnet wallet" + seed).digest())
        self._public_key = self._key.public_key.format()
        key_hash = bytes(hash160(self._public_key))
        self._script_code = b"\x76\xa9\x14" + key_hash + b"\x88\xac"
        self._index = index
        self._mempool = mempool
        self.script = b"\x00\x14" + key_hash
        address = script_to_address(self.script)
        assert address is not None
        self.address = address

    def payment(self, outputs: Iterable[TxOutput], sat_per_vb: float) -> Transaction:
        """A signed transaction to the outputs, change back to the wallet; not broadcast.

        Raises:
            InsufficientFunds: the spendable coins do not cover the outputs and the fee.
        """
        outputs = tuple(outputs)
        target = sum(output.value_sats for output in outputs)
        chosen: list[tuple[Outpoint, int]] = []
        for coin in self._spendable():
            chosen.append(coin)
            total = sum(value for _, value in chosen)
            with_change = (*outputs, TxOutput(0, self.script))
            change = total - target - self._fee(len(chosen), with_change, sat_per_vb)
            if change >= _DUST_SATS:
                return self._sign(chosen, (*outputs, TxOutput(change, self.script)))
            if total - target >= self._fee(len(chosen), outputs, sat_per_vb):
                return self._sign(chosen, outputs)
        raise InsufficientFunds(f"the devnet wallet cannot pay {target} sats and the fee")

    def _spendable(self) -> Iterator[tuple[Outpoint, int]]:
        """Mature, unspent coins, oldest first; unconfirmed change only after every confirmed coin."""
        history = self._index.history(script_hash(self.script))
        for outpoint in history.unspent if history is not None else ():
            coin = self._index.coin(outpoint)
            if coin is None or coin.height is None or self._mempool.spender(outpoint) is not None:
                continue
            if coin.is_coinbase and self._index.height + 1 - coin.height < COINBASE_MATURITY_BLOCKS:
                continue
            if coin.output.value_sats >= _WORTH_SPENDING_SATS:
                yield outpoint, coin.output.value_sats
        for entry in self._mempool:
            if len(self._mempool.ancestors(entry.tx.txid)) + 1 >= _MAX_CHAINED:
                continue
            for vout, output in enumerate(entry.tx.outputs):
                outpoint = Outpoint(entry.tx.txid, vout)
                if (
                    output.script == self.script
                    and output.value_sats >= _WORTH_SPENDING_SATS
                    and self._mempool.spender(outpoint) is None
                ):
                    yield outpoint, output.value_sats

    def _fee(self, inputs: int, outputs: tuple[TxOutput, ...], sat_per_vb: float) -> int:
        placeholder = TxInput(Outpoint("00" * 32, 0), b"", _SEQUENCE_REPLACEABLE, _SIGNATURE_WITNESS)
        return math.ceil(Transaction(2, (placeholder,) * inputs, outputs, 0).vsize * sat_per_vb)

    def _sign(self, coins: list[tuple[Outpoint, int]], outputs: tuple[TxOutput, ...]) -> Transaction:
        unsigned = [TxInput(outpoint, b"", _SEQUENCE_REPLACEABLE) for outpoint, _ in coins]
        inputs = tuple(
            TxInput(
                txin.outpoint,
                b"",
                txin.sequence,
                (
                    self._key.sign(self._digest(unsigned, outputs, position, value), hasher=None)
                    + bytes([_SIGHASH_ALL]),
                    self._public_key,
                ),
            )
            for position, (txin, (_, value)) in enumerate(zip(unsigned, coins, strict=True))
        )
        return Transaction(2, inputs, outputs, 0)

    def _digest(
        self, inputs: list[TxInput], outputs: tuple[TxOutput, ...], position: int, value_sats: int
    ) -> bytes:
        """The message that input `position` signs, with SIGHASH_ALL (BIP143)."""
        signed = inputs[position]
        return sha256d(
            (2).to_bytes(4, "little")
            + sha256d(b"".join(serialize_outpoint(txin.outpoint) for txin in inputs))
            + sha256d(b"".join(txin.sequence.to_bytes(4, "little") for txin in inputs))
            + serialize_outpoint(signed.outpoint)
            + with_length(self._script_code)
            + value_sats.to_bytes(8, "little")
            + signed.sequence.to_bytes(4, "little")
            + sha256d(b"".join(serialize_output(output) for output in outputs))
            + bytes(4)
            + _SIGHASH_ALL.to_bytes(4, "little")
        )


def _load_seed(path: Path) -> bytes:
    """Read the seed, or make one; written under another name first, so a kill leaves no half of it."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        partial.replace(path)
    return path.read_bytes()
