"""The way out of an escrow: a player's payment was settled, and no contract was funded (docs/escrow.md)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.contract.errors import ContractError
from coordinator.contract.escrow import (
    ESCROW_CLAWBACK_BLOCKS,
    LEAST_RELEASE_BLOCKS,
    MOST_RELEASE_BLOCKS,
    Escrow,
    clawback_transaction,
)
from coordinator.contract.funding import EscrowBatch, EscrowCoin, TicketEscrow
from coordinator.contract.secp import public_key, sha256
from coordinator.contract.tx import Transaction
from coordinator.ports.chain import Chain, ChainError, ChainUnavailable, TransactionRejected
from coordinator.recover.errors import Exit, RecoverError, refused
from coordinator.recover.material import PlayerSecrets, parse_hex

_TARGET_BLOCKS = 6
_FALLBACK_SATS_PER_VB = 5.0


@dataclass(frozen=True, slots=True)
class ClawbackOptions:
    """What the player asked for; see `recovery.Options`."""

    destination: bytes
    fee_rate_sats_per_vb: float | None = None
    broadcast: bool = False
    wait: bool = False
    poll_seconds: float = 30


@dataclass(frozen=True, slots=True)
class OwnEscrow:
    """The player's escrow, and how many confirmations of it the coordinator's release waits for."""

    coin: EscrowCoin
    release_blocks: int


def own_escrow(data: bytes, secrets: PlayerSecrets) -> OwnEscrow:
    """The player's escrow, found and rebuilt with its own secrets.

    Args:
        data: The JSON answer of ``GET /api/v1/competitions/{id}/contract``, saved when the release was signed
            or later; signatures are not needed.

    Raises:
        RecoverError: It is no such answer, the secrets are of no player in it, or the escrow transaction does
            not pay the escrow that follows from them.
    """
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise refused("the contract is not JSON as the API gives it") from None
    if not isinstance(answer, Mapping) or not answer.get("escrow_transaction_hex"):
        raise refused("the JSON has no escrow transaction: it was saved too early, or is no contract")
    transaction = parse_hex(answer["escrow_transaction_hex"], "escrow transaction")
    ticket_hash = sha256(secrets.ticket_preimage)
    mine = _player(answer, ticket_hash)
    try:
        escrow = Escrow(
            parse_hex(mine.get("escrow_coordinator_pubkey"), "coordinator's key"),
            public_key(secrets.key),
            ticket_hash,
        )
        vout, value_sats = int(mine.get("escrow_vout") or 0), int(mine.get("escrow_value_sats") or 0)
        ticket = TicketEscrow(str(mine.get("ticket_id")), escrow, value_sats)
        return OwnEscrow(EscrowBatch.find(transaction, vout, ticket), _release_blocks(answer))
    except (ContractError, ValueError, TypeError) as error:
        raise refused(f"this is not the escrow of your key and your ticket: {error}") from None


def _release_blocks(answer: Mapping[str, Any]) -> int:
    """As the contract says. Older ones do not, and what no release may have cannot be meant: the least then,
    which hurries the player more than it need.
    """
    blocks = answer.get("release_blocks")
    if isinstance(blocks, int) and LEAST_RELEASE_BLOCKS <= blocks <= MOST_RELEASE_BLOCKS:
        return blocks
    return LEAST_RELEASE_BLOCKS


def _player(answer: Mapping[str, Any], ticket_hash: bytes) -> Mapping[str, Any]:
    players = answer.get("players")
    for player in players if isinstance(players, list) else []:
        if isinstance(player, Mapping) and player.get("ticket_hash") == ticket_hash.hex():
            return player
    raise refused("the ticket preimage belongs to no player of this contract")


class Clawback:
    """One clawback. It keeps nothing and can be repeated: what is done it finds in the chain."""

    def __init__(
        self, escrow: OwnEscrow, secrets: PlayerSecrets, options: ClawbackOptions, chain: Chain
    ) -> None:
        self._coin = escrow.coin
        self._release_blocks = escrow.release_blocks
        self._secrets = secrets
        self._options = options
        self._chain = chain
        self._said = ""

    async def run(self) -> Exit:
        """Do it.

        Raises:
            RecoverError: It ends without success; says why.
            ChainError: The chain did not answer, or the node refused the transaction.
        """
        print(f"Your escrow is {self._coin.outpoint} with {self._coin.value_sats:,} sats.")
        while True:
            try:
                ended = await self._look()
            except ChainUnavailable as error:
                if not self._options.wait:
                    raise
                self._say(f"The chain's server does not answer ({error}). Trying again.")
                ended = None
            if ended is not None:
                return ended
            if not self._options.wait:
                print("Not finished. Run the same command again later; it finds what is done.")
                return Exit.UNFINISHED
            await asyncio.sleep(self._options.poll_seconds)

    async def _look(self) -> Exit | None:
        """Look, and send if it is time. Returns how it ended, None while it has not."""
        chain, outpoint = self._chain, self._coin.outpoint
        status = await chain.transaction_status(outpoint.txid)
        if status is None:
            self._say("The chain does not know the escrow transaction: there is nothing to claw back (yet).")
            return None
        if status.block_height is None:
            self._say("The escrow transaction is in no block yet.")
            return None
        spent = await chain.outspend(outpoint.txid, outpoint.vout)
        if spent is not None:
            return await self._spent(spent.txid, spent.vin, spent.block_height)
        raw = await self._transaction()
        first = status.block_height + ESCROW_CLAWBACK_BLOCKS
        release = status.block_height + self._release_blocks
        missing = first - (await chain.tip()).height - 1
        if not self._said:
            print(
                f"The clawback is valid from block {first} on; from block {release} on the coordinator can"
                f" take the escrow back. It is:\n{raw.hex()}"
            )
        if not self._options.broadcast:
            self._said = self._said or "printed"
            return Exit.OK
        if missing > 0:
            self._say(f"It has to wait until block {first}.")
            return None
        try:
            txid = await chain.broadcast(raw)
        except TransactionRejected as rejection:
            raise ChainError(f"the clawback was not taken: {rejection.reason}") from rejection
        self._say(f"Sent the clawback: {txid}")
        return None

    async def _spent(self, txid: str, vin: int, block_height: int | None) -> Exit | None:
        raw = await self._chain.transaction(txid)
        if raw is None:
            raise ChainUnavailable(f"the server does not give transaction {txid}")
        transaction = Transaction.parse(raw)
        # Nothing but the clawback shows the preimage.
        if self._secrets.ticket_preimage not in transaction.inputs[vin].witness:
            raise RecoverError(
                Exit.TAKEN,
                f"the escrow was spent by {txid} with your signature: into the contract, if this is its"
                " funding transaction (recover the prize from that), else back to the coordinator",
            )
        if block_height is None:
            self._say(f"The clawback {txid} waits for a block.")
            return None
        output = transaction.outputs[0]
        print(f"Done: {output.value_sats:,} sats are yours in block {block_height}, transaction {txid}.")
        return Exit.OK

    async def _transaction(self) -> bytes:
        rate = self._options.fee_rate_sats_per_vb
        if rate is None:
            rates = await self._chain.fee_rates()
            fitting = [r for target, r in sorted(rates.items()) if target <= _TARGET_BLOCKS]
            rate = max(1.0, fitting[-1] if fitting else min(rates.values(), default=_FALLBACK_SATS_PER_VB))
        coin = self._coin
        try:
            return clawback_transaction(
                coin.outpoint,
                coin.value_sats,
                coin.escrow,
                self._options.destination,
                rate,
                self._secrets.key,
                self._secrets.ticket_preimage,
            )
        except ContractError as error:
            raise refused(f"the clawback cannot be made: {error}") from None

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            print(text, flush=True)
