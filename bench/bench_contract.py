"""How long a contract takes, by number of entries and places. `python bench/bench_contract.py --help`.

Every size runs in a process of its own, so that its peak memory is its own. Written to bench/results/ with
facts about the machine.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

SIZES = ((3, 2), (5, 3), (10, 3), (20, 3), (25, 3))


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
    from coordinator.contract.storage import dump, load
    from support.contract import FUNDING_OUTPOINT, competition, sign_with_aggregate_keys

    result: dict[str, Any] = {"entries": entries, "places": places}

    def timed(name: str, start: float) -> None:
        seconds = round(perf_counter() - start, 4)
        result[f"{name}_seconds"] = min(seconds, result.get(f"{name}_seconds", seconds))

    def forget_keys() -> None:
        lift_x.cache_clear()
        parse_xonly.cache_clear()

    contract = competition(entries, places, funding_value=10_000_000)
    oracle, nonce = public_key(contract.oracle_secret), public_key(contract.oracle_nonce)
    start = perf_counter()
    points = locking_points(oracle, nonce, map(outcome_message, rankings(entries, places)))
    timed("locking_points", start)
    assert points == contract.parameters.event.points

    text = contract.parameters.to_json()
    start = perf_counter()
    parameters = ContractParameters.from_json(text)
    timed("parameters_from_json", start)

    for _ in range(3):
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
    forget_keys()
    start = perf_counter()
    dlc.verify_signatures(signatures)
    timed("verify_alone", start)

    with ProcessPoolExecutor(workers) as pool:
        for future in [pool.submit(warm) for _ in range(workers)]:
            future.result()
        for _ in range(3):  # the least of three: other processes take their share of the cores
            start = perf_counter()
            dlc.verify_signatures(signatures, pool)
            timed("verify_pooled", start)
        start = perf_counter()
        TicketedDLC(parameters, FUNDING_OUTPOINT).verify_signatures(signatures, pool)
        timed("build_and_verify_pooled", start)
        data = dump(dlc, signatures)
        start = perf_counter()
        load(data, pool)
        timed("load_pooled", start)
    result["stored_bytes_per_outcome"] = round(len(data) / dlc.outcome_count, 1)
    result["peak_rss_mib"] = peak_mib()
    result["worker_peak_rss_mib"] = peak_mib(resource.RUSAGE_CHILDREN)
    return result


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    ).stdout.strip()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", nargs=2, type=int, metavar=("ENTRIES", "PLACES"), help="only this size")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "contract.json")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.size, arguments.workers)))
        return
    facts = machine()
    results = []
    for entries, places in [tuple(arguments.size)] if arguments.size else SIZES:
        command = [sys.executable, __file__, "--measure", "--workers", str(arguments.workers)]
        command += ["--size", str(entries), str(places)]
        results.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        print(json.dumps(results[-1]))
    report = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": facts}
    report |= {"workers": arguments.workers, "results": results}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
