"""Vectors made by the Rust crate dlctix (tests/vectors/dlctix)."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.parameters import ContractParameters

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "dlctix" / "vectors"
SETS = sorted(path.stem for path in FOLDER.glob("n*.json"))


@cache
def vectors(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def outpoint(text: str) -> tuple[str, int]:
    txid, _, vout = text.partition(":")
    return txid, int(vout)


@cache
def contract(name: str) -> TicketedDLC:
    data = vectors(name)
    return TicketedDLC(ContractParameters.from_json(data["params"]), outpoint(data["funding_outpoint"]))


def signatures(data: Any) -> ContractSignatures:
    """dlctix's `ContractSignatures` as ours."""
    given = data["signatures"]
    outcome = {f"att{i}": bytes.fromhex(sig) for i, sig in given["outcome_tx_signatures"].items()}
    if given["expiry_tx_signature"] is not None:
        outcome["exp"] = bytes.fromhex(given["expiry_tx_signature"])
    return ContractSignatures(
        outcome, {key: bytes.fromhex(sig) for key, sig in given["split_tx_signatures"].items()}
    )
