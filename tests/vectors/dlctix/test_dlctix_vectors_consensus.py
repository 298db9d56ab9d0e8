"""Every signed transaction of the vectors meets Bitcoin Core's own script interpreter.

dlctix made them; its generator checks signatures and leaf commitments, but not hash locks and timelocks. They
are checked here, so that an engine that gives the same bytes is known to give valid ones.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pbk = pytest.importorskip("pbk", reason="libbitcoinkernel is not installed")
from pbk.script import PrecomputedTransactionData  # noqa: E402

VECTORS = Path(__file__).parent / "vectors"
SETS = sorted(path.stem for path in VECTORS.glob("n*.json"))


@cache
def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return loaded


def valid(raw: str, spent: dict[str, Any]) -> bool:
    """Whether every input of the transaction satisfies the output it spends."""
    transaction = pbk.Transaction(bytes.fromhex(raw))
    outputs = [spent[outpoint(transaction_input)] for transaction_input in transaction.inputs]
    data = PrecomputedTransactionData(transaction, outputs)
    flags = pbk.ScriptVerificationFlags.ALL
    try:
        return all(
            output.script_pubkey.verify(output.amount, transaction, data, index, flags)
            for index, output in enumerate(outputs)
        )
    except pbk.ScriptVerifyException:
        return False


def outpoint(transaction_input: Any) -> str:
    return f"{transaction_input.out_point.txid}:{transaction_input.out_point.index}"


def outputs_of(raw: str) -> dict[str, Any]:
    transaction = pbk.Transaction(bytes.fromhex(raw))
    return {f"{transaction.txid}:{index}": output for index, output in enumerate(transaction.outputs)}


def funding_of(vector: dict[str, Any]) -> dict[str, Any]:
    script = pbk.ScriptPubkey(bytes.fromhex(vector["funding"]["script_pubkey"]))
    output = pbk.TransactionOutput(script, vector["funding"]["value_sats"])
    return {vector["funding_outpoint"]: output}


def transactions(vector: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Label, raw transaction and the outputs it may spend."""
    funding = funding_of(vector)
    yield "funding close", vector["funding_close"]["tx"], funding
    for outcome, spends in vector["spends"].items():
        yield outcome, spends["tx"], funding
        outcome_outputs = outputs_of(spends["tx"])
        yield f"{outcome} reclaim", spends["reclaim"]["tx"], outcome_outputs
        yield f"{outcome} close", spends["close"]["tx"], outcome_outputs
        split_outputs: dict[str, Any] = {}
        for win, ways in spends["wins"].items():
            yield f"{win} split", ways["split_tx"], outcome_outputs
            split_outputs |= outputs_of(ways["split_tx"])
            for way in ("win", "sellback", "reclaim", "close"):
                yield f"{win} {way}", ways[way]["tx"], split_outputs
        yield f"{outcome} sweep", spends["sweep"]["tx"], split_outputs


@pytest.mark.parametrize("name", SETS)
def test_every_spend_is_valid(name: str) -> None:
    checked = 0
    for label, raw, spent in transactions(load(name)):
        assert valid(raw, spent), label
        checked += 1
    assert checked >= 20


@pytest.mark.parametrize("name", SETS)
def test_a_wrong_hash_preimage_or_value_is_refused(name: str) -> None:
    vector = load(name)
    spends = vector["spends"]["att0"]
    preimage_of = {
        "win": vector["secrets"]["ticket_preimages"],
        "sellback": vector["secrets"]["payout_preimages"],
    }
    for win, ways in spends["wins"].items():
        spent = outputs_of(ways["split_tx"])
        for way, preimages in preimage_of.items():
            preimage = preimages[int(win.rpartition(":p")[2])]
            raw = ways[way]["tx"]
            assert raw.count(preimage) == 1
            assert not valid(raw.replace(preimage, "00" * 32), spent)
    richer = {
        key: pbk.TransactionOutput(output.script_pubkey, output.amount + 1)
        for key, output in funding_of(vector).items()
    }
    assert not valid(spends["tx"], richer)
