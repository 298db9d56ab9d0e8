"""What a player brings: the public contract, two secrets and, if there is one, the attestation.

The contract is the file that `coordinator.contract.storage` writes, or the JSON answer of
``GET /api/v1/competitions/{id}/contract?include_signatures=true``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.errors import ContractError, InvalidSignature
from coordinator.contract.parameters import ContractParameters
from coordinator.contract.storage import load_unverified
from coordinator.contract.utxo import OutPoint
from coordinator.recover.errors import RecoverError, refused


@dataclass(frozen=True, slots=True)
class PublicContract:
    """A contract with its signatures.

    Attributes:
        dlc: The contract; its parameters keep every rule.
        signatures: As they came; `check_signatures` verifies them.
        attestation: The attestation that came with it, 32 bytes, or None.
    """

    dlc: TicketedDLC
    signatures: ContractSignatures
    attestation: bytes | None

    def check_signatures(self) -> str | None:
        """Verify every signature. Returns what is wrong with the first that is not right, or None.

        One bad signature of thousands need not concern the player: those that it uses are checked again when
        its transactions are built.
        """
        try:
            self.dlc.verify_signatures(self.signatures)
        except InvalidSignature as error:
            return str(error)
        return None


@dataclass(frozen=True, slots=True)
class PlayerSecrets:
    """What only the player has: its ephemeral private key and its ticket's preimage, 32 bytes each."""

    key: bytes = field(repr=False)
    ticket_preimage: bytes = field(repr=False)


def parse_contract(data: bytes) -> PublicContract:
    """Read a contract in either form.

    Raises:
        RecoverError: It is damaged, breaks a rule, or has no signatures.
    """
    try:
        if data[:4] == b"CDLC":
            dlc, signatures = load_unverified(data)
            attestation = None
        else:
            dlc, signatures, attestation = _from_answer(data)
    except ContractError as error:
        raise refused(f"the contract cannot be used: {error}") from None
    if signatures is None or not signatures.outcome:
        raise refused(
            "the contract was saved without its signatures: nothing can be taken with it. "
            "(The API gives them with ?include_signatures=true, once the contract is signed.)"
        )
    return PublicContract(dlc, signatures, attestation)


def _from_answer(data: bytes) -> tuple[TicketedDLC, ContractSignatures, bytes | None]:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise refused("the contract is neither a contract file nor JSON") from None
    if not isinstance(answer, dict) or not answer.get("parameters_json"):
        raise refused("the JSON is not a contract: it has no parameters_json")
    outpoint = OutPoint.parse(_text(answer, "funding_outpoint"))
    parameters = ContractParameters.from_json(_text(answer, "parameters_json"))
    signatures = ContractSignatures()
    listed = answer.get("signatures") or []
    if not isinstance(listed, list):
        raise refused("the contract's signatures must be a list")
    for item in listed:
        key = _text(item, "key")
        into = signatures.split if ":" in key else signatures.outcome
        into[key] = parse_hex(_text(item, "signature"), f"signature {key:.40}")
    attestation = answer.get("attestation") or None
    return (
        TicketedDLC(parameters, (outpoint.txid, outpoint.vout)),
        signatures,
        None if attestation is None else parse_scalar_hex(attestation, "attestation"),
    )


def _text(item: Any, name: str) -> str:
    value = item.get(name) if isinstance(item, Mapping) else None
    if not isinstance(value, str):
        raise refused(f"the contract's {name} must be text")
    return value


def parse_hex(text: object, what: str) -> bytes:
    """
    Raises:
        RecoverError: Not hex. The text itself may be secret and is not repeated.
    """
    try:
        return bytes.fromhex(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise refused(f"the {what} must be hex") from None


def parse_scalar_hex(text: object, what: str) -> bytes:
    """32 bytes from hex.

    Raises:
        RecoverError: Not that.
    """
    try:
        value = parse_hex(text.strip() if isinstance(text, str) else text, what)
    except RecoverError:
        value = b""
    if len(value) != 32:
        raise refused(f"the {what} must be 32 bytes in hex (64 digits)")
    return value
