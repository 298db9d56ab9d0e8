"""One recovery, from the material to the prize: says what it finds and does, and ends with an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from coordinator.contract.network import Network
from coordinator.contract.observed import Outcome
from coordinator.contract.tx import Transaction
from coordinator.domain.wallet.address import address_from_script
from coordinator.domain.wallet.errors import WalletError
from coordinator.ports.chain import Chain, ChainError, ChainUnavailable
from coordinator.ports.oracle import Oracle, OracleError
from coordinator.recover import report
from coordinator.recover.claim import Claim, attested, expired, find_player, make_claim
from coordinator.recover.errors import Exit, RecoverError
from coordinator.recover.material import PlayerSecrets, PublicContract
from coordinator.recover.survey import Kind, Step, Survey, check_funding, outcome_on_chain, survey

_TARGET_BLOCKS = 6

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What the player asked for.

    Attributes:
        network: For addresses.
        destination: Script that the prize goes to.
        fee_rate_sats_per_vb: Of the win transaction; None for the chain's estimate.
        attestation: 32 bytes; None where it is not known (yet).
        event_id: The event to ask the oracle for.
        expiry: Take the share of an event that expired.
        broadcast: Send what is valid; needs a chain and a destination.
        wait: Stay until the prize is in a block.
        poll_seconds: How often to look.
    """

    network: Network = Network.MAINNET
    destination: bytes | None = None
    fee_rate_sats_per_vb: float | None = None
    attestation: bytes | None = None
    event_id: str | None = None
    expiry: bool = False
    broadcast: bool = False
    wait: bool = False
    poll_seconds: float = 30


class Recovery:
    """A recovery. It keeps nothing: whatever is done it finds in the chain, so that it can be repeated.

    Args:
        contract: The public contract.
        secrets: The player's.
        options: What to do.
        chain: Where to look and to send; without it transactions are only built.
        oracle: Whom to ask for the attestation.
    """

    def __init__(
        self,
        contract: PublicContract,
        secrets: PlayerSecrets,
        options: Options,
        chain: Chain | None = None,
        oracle: Oracle | None = None,
    ) -> None:
        self._contract = contract
        self._secrets = secrets
        self._options = options
        self._chain = chain
        self._oracle = oracle
        self._said: set[str] = set()
        self._replaced: set[str] = set()

    async def run(self) -> Exit:
        """Do it.

        Raises:
            RecoverError: It ends without success; says why.
            ChainError: The chain did not answer, or the node refused a transaction.
            OracleError: The oracle did not answer.
        """
        contract, dlc = self._contract, self._contract.dlc
        print(report.contract_summary(dlc))
        player = find_player(dlc, self._secrets)
        print(f"You are player {player} (they are numbered from 0).")
        problem = await asyncio.to_thread(contract.check_signatures)
        if problem is None:
            print(f"All {dlc.job_count:,} signatures of the contract are valid.")
        else:
            print(f"WARNING: not all signatures are valid: {problem}. Yours are checked again below.")
        chain = self._chain
        if chain is not None:
            await self._persist(lambda: check_funding(chain, dlc))
            print("The chain has the contract's funding output.")
        while True:
            outcome = await self._outcome()
            if outcome is None:
                print(report.no_outcome(dlc))
                return Exit.UNFINISHED
            print(report.outcome_summary(dlc, outcome, player))
            claim = make_claim(contract, self._secrets, player, outcome)
            print(f"You won {claim.prize_sats:,} sats.", flush=True)
            if chain is None:
                self._print_untimed(claim)
                return Exit.OK
            ended = await self._follow(chain, claim)
            if ended is not None:
                return ended

    async def _persist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the chain; while waiting, an outage is waited out."""
        while True:
            try:
                return await ask()
            except ChainUnavailable as error:
                if not self._options.wait:
                    raise
                self._say(f"The chain's server does not answer ({error}). Trying again.")
                await asyncio.sleep(self._options.poll_seconds)

    # The outcome

    async def _outcome(self) -> Outcome | None:
        """How the event ended: what the chain has counts, then what the player brings, then the oracle."""
        contract, chain = self._contract, self._chain
        given = self._given_outcome()
        while True:
            if chain is not None:
                known = await self._persist(lambda: outcome_on_chain(chain, contract))
                if known is not None:
                    if given is not None and known.key != given.key:
                        print(f"The chain has the transaction of another outcome: {known.key}. It counts.")
                    return known
            if given is not None:
                return given
            outcome = await self._asked_outcome()
            if outcome is not None or not self._options.wait:
                return outcome
            self._say(report.no_outcome(contract.dlc))
            await asyncio.sleep(self._options.poll_seconds)

    def _given_outcome(self) -> Outcome | None:
        dlc = self._contract.dlc
        if self._options.expiry:
            return expired(dlc)
        attestation = self._options.attestation or self._contract.attestation
        return None if attestation is None else attested(dlc, attestation)

    async def _asked_outcome(self) -> Outcome | None:
        if self._oracle is None or self._options.event_id is None:
            return None
        try:
            event = await self._oracle.get_event(self._options.event_id)
        except OracleError as error:
            if not self._options.wait:
                raise
            self._say(f"The oracle: {error}")
            return None
        return None if event.attestation is None else attested(self._contract.dlc, event.attestation)

    # The transactions

    def _print_untimed(self, claim: Claim) -> None:
        for kind in Kind:
            print(f"\n{self._title(kind, claim)}: {report.untimed(kind, claim.dlc, claim.outcome)}")
            self._print_raw(kind, claim, self._options.fee_rate_sats_per_vb or _contract_fee_rate(claim))

    async def _follow(self, chain: Chain, claim: Claim) -> Exit | None:
        """Look, send what is valid, wait; until the prize is there or nothing more can be done now.

        Returns:
            How it ended; None when the chain has the transaction of another outcome.
        """
        seen = await self._persist(partial(survey, chain, claim))
        if not seen.diverted:
            self._print_transactions(seen, await self._win_fee_rate(chain, claim))
        while True:
            if seen.diverted:
                return None
            claim = self._follow_split(claim, seen)
            if seen.taken is not None:
                raise RecoverError(Exit.TAKEN, seen.taken)
            if seen.finished:
                print(await self._arrival(chain, claim, seen.current))
                return Exit.OK
            if not self._options.broadcast:
                return Exit.OK
            if await self._send(chain, claim, seen):
                seen = await self._persist(partial(survey, chain, claim))
                self._say_state(seen)
                continue
            if not self._options.wait:
                print("Not finished. Run the same command again later; it finds what is done.")
                return Exit.UNFINISHED
            await asyncio.sleep(self._options.poll_seconds)
            seen = await self._persist(partial(survey, chain, claim))
            self._say_state(seen)

    def _follow_split(self, claim: Claim, seen: Survey) -> Claim:
        if seen.claim.split_key != claim.split_key:
            print(
                f"A winner sent the split transaction of another ranking, {seen.claim.split_key}. "
                f"It pays you {seen.claim.prize_sats:,} instead of {claim.prize_sats:,} sats."
            )
        return seen.claim

    async def _send(self, chain: Chain, claim: Claim, seen: Survey) -> bool:
        """Send the current transaction if it is time. Returns whether something was sent."""
        step = seen.current
        if not step.ready or step.confirmed:
            return False
        if step.txid is not None and (step.kind is not Kind.WIN or not self._may_replace(step.txid)):
            return False
        raw = {Kind.OUTCOME: claim.outcome_raw, Kind.SPLIT: claim.split_raw}.get(step.kind)
        if raw is None:
            assert self._options.destination is not None
            raw = claim.win_raw(self._options.destination, await self._win_fee_rate(chain, claim))
        name = report.step_name(step.kind, claim.outcome)
        try:
            txid = await chain.broadcast(raw)
        except ChainError as error:
            if step.txid is not None:
                print(f"The {name} that waits stays as it is: {error}")
            elif self._options.wait:
                self._say(f"The {name} was not taken: {error}. Trying again.")
            else:
                raise
            return False
        if txid == step.txid:
            return False
        print(f"Sent the {name}: {txid}")
        return True

    def _may_replace(self, txid: str) -> bool:
        """Whether to try, once, to replace a waiting win transaction: only at a fee rate asked for."""
        if self._options.fee_rate_sats_per_vb is None or txid in self._replaced:
            return False
        self._replaced.add(txid)
        return True

    async def _arrival(self, chain: Chain, claim: Claim, step: Step) -> str:
        assert step.txid is not None
        raw = await chain.transaction(step.txid)
        if raw is None:
            raise ChainError(f"the server lost transaction {step.txid}")
        output = Transaction.parse(raw).outputs[0]
        try:
            where = address_from_script(output.script_pubkey, self._options.network)
        except WalletError:
            where = output.script_pubkey.hex()
        return f"\nDone: {output.value_sats:,} sats went to {where} in block {step.height}."

    async def _win_fee_rate(self, chain: Chain, claim: Claim) -> float:
        if self._options.fee_rate_sats_per_vb is not None:
            return self._options.fee_rate_sats_per_vb
        rates = await self._persist(chain.fee_rates)
        fitting = [rate for target, rate in sorted(rates.items()) if target <= _TARGET_BLOCKS]
        rate = fitting[-1] if fitting else min(rates.values(), default=_contract_fee_rate(claim))
        return max(1.0, rate)

    # Talking

    def _print_transactions(self, seen: Survey, rate: float) -> None:
        claim = seen.claim
        states = {step.kind: report.step_state(step, seen.tip) for step in seen.steps}
        for kind in Kind:
            state = states.get(kind) or report.untimed(kind, claim.dlc, claim.outcome)
            print(f"\n{self._title(kind, claim)}: {state}")
            self._print_raw(kind, claim, rate)
        print()
        self._say_state(seen, quiet=True)

    def _print_raw(self, kind: Kind, claim: Claim, rate: float) -> None:
        destination = self._options.destination
        if kind is not Kind.WIN:
            print((claim.outcome_raw if kind is Kind.OUTCOME else claim.split_raw).hex())
        elif destination is None:
            print("(give --destination ADDRESS to get this one)")
        else:
            print(claim.win_raw(destination, rate).hex())

    def _title(self, kind: Kind, claim: Claim) -> str:
        name = report.step_name(kind, claim.outcome)
        txid = {Kind.OUTCOME: claim.outcome_txid, Kind.SPLIT: claim.split_txid}.get(kind)
        return f"{kind.value}. {name}" + (f" {txid}" if txid else "")

    def _say_state(self, seen: Survey, *, quiet: bool = False) -> None:
        """Say where things stand, where that is new (the count of blocks to go apart)."""
        for step in seen.steps:
            mark = f"{step.kind} {step.txid} {step.height} {step.ready}"
            if mark in self._said:
                continue
            self._said.add(mark)
            if not quiet:
                name = report.step_name(step.kind, seen.claim.outcome)
                print(f"Block {seen.tip.height}: {name}: {report.step_state(step, seen.tip)}", flush=True)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print(text, flush=True)


def _contract_fee_rate(claim: Claim) -> float:
    """The contract's own fee rate, in sat/vB: for want of an estimate."""
    return max(1.0, claim.dlc.parameters.fee_rate / 250)
