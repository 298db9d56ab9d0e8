"""Bitcoin Core's consensus engine (libbitcoinkernel through `pbk`), and the only module that knows `pbk`.

The engine stores blocks and the UTXO set in a data directory, decides which chain is best, reorganises, and
verifies scripts. Hashes here are hex in display order; blocks and transactions are their consensus encoding.
"""

from collections.abc import Sequence
from pathlib import Path

import pbk
from pbk.capi import bindings
from pbk.script import PrecomputedTransactionData

# Without a log connection the kernel keeps up to a megabyte of log lines in memory, for nobody to read.
bindings.btck_logging_disable()


class EngineError(Exception):
    """The engine cannot open its data directory: another process uses it, or it is damaged."""


class BlockRejected(Exception):
    """The block breaks a consensus rule; `reason` is the kernel's class of failure, such as `CONSENSUS`."""

    reason: str

    def __init__(self, reason: str) -> None:
        super().__init__(f"block rejected: {reason}")
        self.reason = reason


class ConsensusEngine:
    """A regtest chainstate on disk. Not shared between processes: the kernel locks the directory."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._invalid: dict[str, str] = {}
        data_dir.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        callbacks = pbk.ValidationInterfaceCallbacks(block_checked=self._on_block_checked)
        try:
            self._chainman = pbk.load_chainman(self._data_dir, pbk.ChainType.REGTEST, callbacks)
        except RuntimeError as error:
            raise EngineError(f"cannot open the chain in {self._data_dir}: in use, or damaged") from error
        self._chain = self._chainman.get_active_chain()

    def close(self) -> None:
        """Write everything to disk and let go of the directory."""
        # The chain is a view into the manager, and the manager is destroyed when its last reference goes; the
        # context manager protocol destroys it now.
        with self._chainman:
            del self._chain

    def flush(self) -> None:
        """Write everything to disk. The kernel's interface has no call for it, but closing does it."""
        self.close()
        self._open()

    def _on_block_checked(self, _: object, block: pbk.Block, state: pbk.BlockValidationState) -> None:
        if state.validation_mode != pbk.ValidationMode.VALID:
            self._invalid[str(block.block_hash)] = state.block_validation_result.name

    @property
    def height(self) -> int:
        """Height of the best chain's tip; 0 is the genesis block."""
        return self._chain.height

    def hash_at(self, height: int) -> str | None:
        """Hash of the best chain's block at a height, None above the tip."""
        if not 0 <= height <= self._chain.height:
            return None
        return str(self._chain.block_tree_entries[height].block_hash)

    def _entry(self, block_hash: str) -> pbk.BlockTreeEntry | None:
        try:
            return self._chainman.block_tree_entries[pbk.BlockHash(bytes.fromhex(block_hash)[::-1])]
        except (KeyError, ValueError):
            return None

    def height_of(self, block_hash: str) -> int | None:
        """Height of any known block, stale ones included; None when unknown."""
        entry = self._entry(block_hash)
        return entry.height if entry is not None else None

    def block(self, block_hash: str) -> bytes | None:
        """A stored block, stale ones included; None when unknown."""
        entry = self._entry(block_hash)
        return bytes(self._chainman.blocks[entry]) if entry is not None else None

    def submit(self, block: bytes) -> str:
        """Validate and store a block; the best chain moves if it has the most work. Returns its hash.

        Submitting a known block changes nothing.

        Raises:
            BlockRejected: not a block, or one that breaks a rule that can be checked now (on a side branch,
                rules that need the UTXO set are checked once that branch has the most work).
        """
        try:
            parsed = pbk.Block(block)
        except RuntimeError as error:
            raise BlockRejected("undecodable") from error
        block_hash = str(parsed.block_hash)
        try:
            self._chainman.process_block(parsed)
        except pbk.ProcessBlockException as error:
            raise BlockRejected(self._invalid.get(block_hash, "INVALID_HEADER")) from error
        if block_hash in self._invalid:
            raise BlockRejected(self._invalid[block_hash])
        return block_hash

    def why_invalid(self, block_hash: str) -> str | None:
        """The kernel's class of failure for a block found invalid since the engine was opened."""
        return self._invalid.get(block_hash)


def decodes(transaction: bytes) -> bool:
    """Whether the bytes are exactly one transaction in consensus encoding, as the kernel reads it."""
    try:
        return bytes(pbk.Transaction(transaction)) == transaction
    except RuntimeError:
        return False


def failing_input(transaction: bytes, spent_outputs: Sequence[tuple[int, bytes]]) -> int | None:
    """Run every input's scripts under all consensus rules, taproot included.

    Args:
        transaction: the spending transaction.
        spent_outputs: value in sats and script of the output that each input spends, in input order.

    Returns:
        The index of the first input that may not spend its output, or None when all may.
    """
    spender = pbk.Transaction(transaction)
    outputs = [pbk.TransactionOutput(pbk.ScriptPubkey(script), value) for value, script in spent_outputs]
    precomputed = PrecomputedTransactionData(spender, outputs)
    for index, output in enumerate(outputs):
        try:
            valid = output.script_pubkey.verify(
                output.amount, spender, precomputed, index, pbk.ScriptVerificationFlags.ALL
            )
        except pbk.ScriptVerifyException:
            valid = False
        if not valid:
            return index
    return None
