"""What a player won under an outcome, and the transactions that bring it home."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from coordinator.contract.dlc import TicketedDLC
from coordinator.contract.errors import ContractError
from coordinator.contract.observed import Outcome
from coordinator.contract.payouts import EXPIRY, win_key
from coordinator.contract.secp import public_key, sha256
from coordinator.contract.spends import (
    expiry_transaction,
    outcome_transaction,
    spend,
    split_transaction,
    win_input,
)
from coordinator.contract.tx import Transaction
from coordinator.recover.errors import Exit, RecoverError, refused
from coordinator.recover.material import PlayerSecrets, PublicContract


def attested(dlc: TicketedDLC, attestation: bytes) -> Outcome:
    """The outcome that an attestation belongs to.

    Raises:
        RecoverError: It opens no locking point of the contract.
    """
    try:
        key = dlc.outcome_for_attestation(attestation)
    except ContractError:
        key = None
    if key is None:
        raise refused("the attestation belongs to no outcome of this contract")
    return Outcome(key, attestation)


def expired(dlc: TicketedDLC) -> Outcome:
    """The expiry.

    Raises:
        RecoverError: The contract has none.
    """
    if EXPIRY not in dlc.parameters.payouts:
        raise refused("this contract does not expire")
    return Outcome(EXPIRY)


def find_player(dlc: TicketedDLC, secrets: PlayerSecrets) -> int:
    """The player with this key and this ticket.

    Raises:
        RecoverError: There is none; says which of the two does not fit.
    """
    try:
        pubkey = public_key(secrets.key)
    except ContractError:
        raise refused("the private key is not a private key") from None
    ticket_hash = sha256(secrets.ticket_preimage)
    players = list(enumerate(dlc.parameters.players))
    by_key = [index for index, player in players if player.pubkey == pubkey]
    by_ticket = [index for index, player in players if player.ticket_hash == ticket_hash]
    both = [index for index in by_key if index in by_ticket]
    if both:
        return both[0]
    if by_key and by_ticket:
        raise refused("the private key and the ticket preimage belong to different players")
    if by_key:
        raise refused("the ticket preimage is not the one of this key's ticket")
    if by_ticket:
        raise refused("the private key is not the one of this ticket's entry")
    raise refused("neither the private key nor the ticket preimage belongs to this contract")


@dataclass(frozen=True)
class Claim:
    """A winner's claim under an outcome, its signatures verified.

    Attributes:
        dlc: The contract.
        outcome: How the event ended.
        player: Index of the winner.
        outcome_raw: The outcome (or expiry) transaction, ready to send.
        split_raw: The split transaction, ready to send.
        split_key: The outcome whose split transaction it is: `outcome`'s, unless another one is in the chain.
    """

    dlc: TicketedDLC
    outcome: Outcome
    player: int
    outcome_raw: bytes
    split_raw: bytes
    split_key: str
    _secrets: PlayerSecrets = field(repr=False)

    @property
    def prize_sats(self) -> int:
        """What the player's split output holds; the fee of taking it comes off."""
        return self.dlc.payouts(self.split_key)[self.player]

    @property
    def split_vout(self) -> int:
        return self.dlc.position(self.split_key, self.player)

    @cached_property
    def outcome_txid(self) -> str:
        return Transaction.parse(self.outcome_raw).txid

    @cached_property
    def split_txid(self) -> str:
        return Transaction.parse(self.split_raw).txid

    def after_split(self, key: str, split_raw: bytes) -> Self:
        """The claim once the split transaction of another ranking of the same winners was used."""
        return replace(self, split_key=key, split_raw=split_raw)

    def win_raw(self, destination: bytes, fee_rate_sat_vb: float) -> bytes:
        """The transaction that takes the prize to a destination script.

        Raises:
            RecoverError: The destination or the fee is not reasonable.
        """
        won = win_input(
            self.dlc, self.split_key, self.player, self._secrets.key, self._secrets.ticket_preimage
        )
        try:
            return spend([won], destination, fee_rate_sat_vb)
        except ContractError as error:
            raise refused(f"the prize cannot be sent like this: {error}") from None


def make_claim(contract: PublicContract, secrets: PlayerSecrets, player: int, outcome: Outcome) -> Claim:
    """Build and verify a player's transactions under an outcome.

    Raises:
        RecoverError: The player won nothing (`Exit.LOST`), or a signature that it needs is missing or wrong.
    """
    dlc, key, signatures = contract.dlc, outcome.key, contract.signatures
    if player not in dlc.winners(key):
        raise RecoverError(Exit.LOST, "you did not win: none of this contract's money is yours")
    outcome_signature, split_signature = signatures.get(key), signatures.get(win_key(key, player))
    if outcome_signature is None or split_signature is None:
        raise refused(f"the contract's signatures for {win_key(key, player)} are missing")
    try:
        if outcome.attestation is None:
            outcome_raw = expiry_transaction(dlc, outcome_signature)
        else:
            outcome_raw = outcome_transaction(dlc, key, outcome_signature, outcome.attestation)
        split_raw = split_transaction(dlc, key, player, split_signature, secrets.ticket_preimage)
    except ContractError as error:
        raise refused(f"the contract cannot be used: {error}") from None
    return Claim(dlc, outcome, player, outcome_raw, split_raw, key, secrets)
