"""What a transaction that was seen in the chain says of a contract: how it ended, and which split counts."""

from dataclasses import dataclass

from coordinator.contract import adaptor
from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.errors import ContractError, InvalidAttestation, InvalidSignature
from coordinator.contract.payouts import EXPIRY
from coordinator.contract.tx import Transaction


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the event ended: an outcome key and, unless it expired, the secret that attests to it."""

    key: str
    attestation: bytes | None = None

    @property
    def expired(self) -> bool:
        return self.key == EXPIRY


def outcome_of_spend(
    dlc: TicketedDLC, signatures: ContractSignatures, spender: Transaction
) -> Outcome | None:
    """Which outcome a transaction that spends the funding output stands for; None if it is none of them.

    Outcomes with the same winners have the same transaction. They are told apart by its signature: it was
    completed with the attestation, which it therefore gives away.
    """
    txid = spender.txid
    witness = spender.inputs[0].witness
    for key in dlc.outcomes():
        if dlc.outcome_outpoint(key).txid != txid:
            continue
        if key == EXPIRY:
            return Outcome(key)
        point, signature = dlc.adaptor_point(key), signatures.get(key)
        if point is None or signature is None or len(witness) != 1:
            continue
        try:
            return Outcome(key, adaptor.extract(signature, witness[0], point))
        except (InvalidSignature, InvalidAttestation, ContractError):
            continue
    return None


def ranking_of_split(dlc: TicketedDLC, outcome: str, txid: str) -> str | None:
    """The outcome whose split transaction this is, of those that share an outcome transaction, or None.

    Rankings of the same winners differ in their split transactions only, and these are signed without the
    attestation: a winner can send the split of another ranking than the attested one.
    """
    winners = dlc.winners(outcome)
    outpoint = dlc.outcome_outpoint(outcome)
    for key in dlc.outcomes():
        same_transaction = dlc.winners(key) == winners and dlc.outcome_outpoint(key) == outpoint
        if same_transaction and dlc.split_tx(key).txid == txid:
            return key
    return None
