"""How long a contract takes, by number of entries and places. `python bench/bench_contract.py --help`.

Signing with many signers is measured by bench_keymeld.py.

Every size runs in a process of its own, so that its peak memory is its own. Written to bench/results/ with
facts about the machine. With `BENCH_DLCTIX=1` in the environment the Rust crate dlctix (tests/vectors/dlctix,
built by cargo) does the same contracts in turn with this engine, and the ratios are printed.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

from measuring import RESULTS, ROOT, SIZES, machine, markdown, write_report

RUNS = 3
"""Of each measurement the least counts: other processes take their share of the cores."""

# What `dlctix-vectors bench` has: the two engines get contracts that differ in their keys only.
TERMS = {"funding_value": 10_000_000, "delta": 144, "fee_rate": 2_500}

DLCTIX = ROOT / "tests" / "vectors" / "dlctix"
# Ours, and the crate's field for the same work.
COMPARED = (
    ("locking_points_seconds", "locking_points_seconds"),
    ("build_and_sighash_seconds", "build_and_sighash_seconds"),
    ("verify_alone_seconds", "verify_seconds"),
    ("verify_pooled_seconds", "verify_seconds"),
    ("build_peak_rss_mib", "build_peak_rss_mib"),
)


def warm() -> None:
    import coordinator.contract.dlc  # noqa: F401


def peak_mib(who: int = resource.RUSAGE_SELF) -> float:
    return round(resource.getrusage(who).ru_maxrss / 1024, 1)


def measure(entries: int, places: int, workers: int) -> dict[str, Any]:
    """One size, in this process."""
    from coordinator.contract.attestation import locking_points, outcome_message
    from coordinator.contract.dlc import TicketedDLC
    from coordinator.contract.parameters import ContractParameters
    from coordinator.contract.rankings import rankings
    from coordinator.contract.secp import lift_x, parse_xonly, public_key
    from coordinator.contract.storage import OracleCommitment, dump, load
    from support.contract import FUNDING_OUTPOINT, competition, sign_with_aggregate_keys

    result: dict[str, Any] = {"entries": entries, "places": places}

    def timed(name: str, start: float) -> None:
        seconds = round(perf_counter() - start, 6)
        result[f"{name}_seconds"] = min(seconds, result.get(f"{name}_seconds", seconds))

    def forget_keys() -> None:
        lift_x.cache_clear()
        parse_xonly.cache_clear()

    contract = competition(entries, places, **TERMS)
    oracle, nonce = public_key(contract.oracle_secret), public_key(contract.oracle_nonce)
    for _ in range(RUNS):
        start = perf_counter()
        points = locking_points(oracle, nonce, map(outcome_message, rankings(entries, places)))
        timed("locking_points", start)
    assert points == contract.parameters.event.points

    text = contract.parameters.to_json()
    start = perf_counter()
    parameters = ContractParameters.from_json(text)
    timed("parameters_from_json", start)

    for _ in range(RUNS):
        forget_keys()
        start = perf_counter()
        dlc = TicketedDLC(parameters, FUNDING_OUTPOINT)
        for _ in dlc.signing_jobs():
            pass
        timed("build_and_sighash", start)
    result["outcomes"], result["signatures"] = dlc.outcome_count, dlc.job_count
    result["build_peak_rss_mib"] = peak_mib()

    signatures = sign_with_aggregate_keys(contract)
    dlc = TicketedDLC(parameters, FUNDING_OUTPOINT)
    for _ in dlc.signing_jobs():  # signatures arrive long after the contract was built
        pass
    for _ in range(RUNS):
        forget_keys()
        start = perf_counter()
        dlc.verify_signatures(signatures)
        timed("verify_alone", start)

    with ProcessPoolExecutor(workers) as pool:
        for future in [pool.submit(warm) for _ in range(workers)]:
            future.result()
        for _ in range(RUNS):
            start = perf_counter()
            dlc.verify_signatures(signatures, pool)
            timed("verify_pooled", start)
        start = perf_counter()
        TicketedDLC(parameters, FUNDING_OUTPOINT).verify_signatures(signatures, pool)
        timed("build_and_verify_pooled", start)
        data = dump(dlc, signatures, OracleCommitment(oracle, nonce))
        start = perf_counter()
        load(data, pool)
        timed("load_pooled", start)
    result["stored_bytes"] = len(data)
    result["stored_bytes_per_outcome"] = round(len(data) / dlc.outcome_count, 1)
    signature_bytes = sum(map(len, (*signatures.outcome.values(), *signatures.split.values())))
    result["signature_bytes_per_outcome"] = round(signature_bytes / dlc.outcome_count, 1)
    result["peak_rss_mib"] = peak_mib()
    result["worker_peak_rss_mib"] = peak_mib(resource.RUSAGE_CHILDREN)
    return result


def build_dlctix() -> Path:
    """The crate's timing program; exits with cargo's words if it cannot be built."""
    cargo = shutil.which("cargo") or str(Path.home() / ".cargo" / "bin" / "cargo")
    try:
        built = subprocess.run([cargo, "build", "--release", "--quiet"], cwd=DLCTIX, check=False)
    except FileNotFoundError:
        sys.exit("BENCH_DLCTIX=1 needs cargo (https://rustup.rs)")
    if built.returncode:
        sys.exit(built.returncode)
    return DLCTIX / "target" / "release" / "dlctix-vectors"


def measure_dlctix(program: Path, entries: int, places: int) -> dict[str, Any]:
    """The crate's time for one size: the least of the runs."""
    command = [str(program), "bench", str(entries), str(places)]
    runs = [json.loads(subprocess.check_output(command)) for _ in range(RUNS)]
    return runs[0] | {name: min(run[name] for run in runs) for name in runs[0] if name.endswith("_seconds")}


def ratios(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """How many times more the crate takes, by what is measured."""
    assert ours["outcomes"] == theirs["outcomes"]
    return {
        name: round(theirs[other] / ours[name], 2) for name, other in COMPARED if ours[name] and theirs[other]
    }


def table(report: dict[str, Any]) -> str:
    """The results as docs/performance.md shows them."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "entries x places": lambda row: f"{row['entries']} x {row['places']}",
        "outcomes": lambda row: f"{row['outcomes']:,}",
        "signatures": lambda row: f"{row['signatures']:,}",
        "locking points": lambda row: _against(row, "locking_points_seconds"),
        "all scripts and sighashes": lambda row: _against(row, "build_and_sighash_seconds"),
        "verify all, one core": lambda row: _against(row, "verify_alone_seconds"),
        f"verify all, pool of {report['workers']}": lambda row: _against(row, "verify_pooled_seconds"),
        f"load and verify, pool of {report['workers']}": lambda row: f"{row['load_pooled_seconds']:.3f}",
        "peak MiB, built": lambda row: _against(row, "build_peak_rss_mib", "{:.0f}"),
        "stored bytes an outcome": lambda row: (
            f"{row['stored_bytes_per_outcome']} ({row['signature_bytes_per_outcome']} signatures)"
        ),
    }
    return markdown(columns, report["results"])


def _against(row: dict[str, Any], name: str, form: str = "{:.3f}") -> str:
    """Our number and, where it was measured, the crate's with the ratio."""
    ours = form.format(row[name])
    if "dlctix" not in row:
        return ours
    theirs, ratio = form.format(row["dlctix"][dict(COMPARED)[name]]), row["dlctix_to_ours"].get(name)
    return f"{ours} / {theirs} ({ratio:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", nargs=2, type=int, metavar=("ENTRIES", "PLACES"), help="only this size")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=RESULTS / "contract.json")
    parser.add_argument("--table", action="store_true", help="print the last results in Markdown; no run")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.size, arguments.workers)))
        return
    if arguments.table:
        print(table(json.loads(arguments.output.read_text())))
        return
    dlctix = build_dlctix() if os.environ.get("BENCH_DLCTIX") == "1" else None
    facts = machine()
    results = []
    for entries, places in [tuple(arguments.size)] if arguments.size else SIZES:
        command = [sys.executable, __file__, "--measure", "--workers", str(arguments.workers)]
        command += ["--size", str(entries), str(places)]
        results.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        if dlctix is not None:
            theirs = measure_dlctix(dlctix, entries, places)
            results[-1] |= {"dlctix": theirs, "dlctix_to_ours": ratios(results[-1], theirs)}
        print(json.dumps(results[-1]), flush=True)
    write_report(arguments.output, facts, workers=arguments.workers, results=results)


if __name__ == "__main__":
    main()
