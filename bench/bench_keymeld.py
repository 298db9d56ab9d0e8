"""How long the keys and signatures of a contract take, by number of entries and places.

A core's own steps from `contract_created` to `funding_ready` over a database of its own, against devnet's
keymeld over HTTP, which runs with its enclaves in processes of their own: keygen, signing, verification of
every signature, storing. Meanwhile a ticker shows how late the core's event loop is, and another one in an
idle process how late the machine alone makes one. Every size runs in a process of its own. Written to
bench/results/.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from measuring import (
    RESULTS,
    SIZES,
    children_processor_seconds,
    loop_lateness,
    machine,
    machine_lateness,
    markdown,
    processor_seconds_of_group,
    write_report,
)

QUICK_SIZES = SIZES[:3]
RESULT = RESULTS / "keymeld.json"
PROCESSOR_SECONDS = ("core_processor_seconds", "worker_processor_seconds", "keymeld_processor_seconds")


async def measure(entries: int, places: int) -> dict[str, Any]:
    """One size, in this process."""
    from coordinator.app import keep_what_is_loaded
    from coordinator.domain.states import AwaitingKeygen, AwaitingSigning, ContractCreated, FundingReady
    from coordinator.store.competitions import CompetitionRecord
    from coordinator.store.contract_store import load_packed
    from coordinator.wiring import wired_core
    from support.contracting import contracted_competition, contracting_settings
    from support.keymeld import process

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with process(folder / "keymeld") as keymeld:
            settings = contracting_settings(folder, keymeld.url)
            children = children_processor_seconds()
            async with wired_core(settings) as wired:
                status = await contracted_competition(wired.core, keymeld.url, entries, places)
                competition_id = status.facts.competition_id
                at: dict[str, float] = {}
                load = wired.core.competitions.load

                async def timed(competition_id: str) -> CompetitionRecord:
                    record = await load(competition_id)
                    at.setdefault(record.status.name, perf_counter())
                    if isinstance(record.status, FundingReady):
                        raise asyncio.CancelledError  # what follows needs players and a chain
                    return record

                wired.core.competitions.load = timed  # type: ignore[method-assign]
                keep_what_is_loaded()
                used = time.process_time()
                async with machine_lateness() as idle, loop_lateness() as late:
                    await asyncio.sleep(0.2)
                    with contextlib.suppress(asyncio.CancelledError):
                        await wired.runner.drive(competition_id)
                record = await load(competition_id)
                if not isinstance(record.status, FundingReady):
                    sys.exit(
                        f"{record.status.name}: {record.last_error or getattr(record.status, 'reason', '')}"
                    )
                stored_at = at[FundingReady.name]
                dlc = await wired.contracts.of(record.status)
                packed = await load_packed(competition_id)
                assert packed is not None
                result = {
                    "entries": entries,
                    "places": places,
                    "outcomes": dlc.outcome_count,
                    "signatures": dlc.job_count,
                    "keygen_sessions": len(status.facts.keygen_session_ids),
                    "keygen_seconds": round(at[AwaitingSigning.name] - at[AwaitingKeygen.name], 3),
                    "signing_seconds": round(stored_at - at[AwaitingSigning.name], 3),
                    "total_seconds": round(stored_at - at[ContractCreated.name], 3),
                    "milliseconds_a_signature": round(
                        (stored_at - at[AwaitingSigning.name]) * 1000 / dlc.job_count, 3
                    ),
                    "core_loop_late": late.milliseconds(),
                    "idle_process_late": idle,
                    "core_processor_seconds": round(time.process_time() - used, 2),
                    "keymeld_processor_seconds": round(processor_seconds_of_group(keymeld.pid), 2),
                    "core_peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                }
        result["worker_processor_seconds"] = round(children_processor_seconds() - children, 2)
    return result


def table(report: dict[str, Any]) -> str:
    """The results as docs/performance.md shows them."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "entries x places": lambda row: f"{row['entries']} x {row['places']}",
        "signatures": lambda row: f"{row['signatures']:,}",
        "keygen sessions": lambda row: str(row["keygen_sessions"]),
        "keygen, s": lambda row: f"{row['keygen_seconds']:.2f}",
        "signing, s": lambda row: f"{row['signing_seconds']:.2f}",
        "all, s": lambda row: f"{row['total_seconds']:.2f}",
        "processor time, s": lambda row: f"{sum(row[name] for name in PROCESSOR_SECONDS):.0f}",
        "ms a signature": lambda row: f"{row['milliseconds_a_signature']:.2f}",
        "core's loop late, max / p99, ms": lambda row: _late(row["core_loop_late"]),
        "of which the core computed, max, ms": lambda row: f"{row['core_loop_late']['own_max_ms']:.1f}",
        "an idle process late, max / p99, ms": lambda row: _late(row["idle_process_late"]),
        "core's peak MiB": lambda row: f"{row['core_peak_rss_mib']:.0f}",
    }
    return markdown(columns, report["results"])


def _late(row: dict[str, float]) -> str:
    return f"{row['max_ms']:.1f} / {row['p99_ms']:.1f}"


def run(sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Every size in a process of its own."""
    results = []
    for entries, places in sizes:
        command = [sys.executable, __file__, "--measure", "--size", str(entries), str(places)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        results.append(json.loads(done.stdout))
        print(json.dumps(results[-1]), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", nargs=2, type=int, metavar=("ENTRIES", "PLACES"), help="only this size")
    parser.add_argument("--quick", action="store_true", help="only the sizes that take seconds")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--table", action="store_true", help="print the last results in Markdown; no run")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(asyncio.run(measure(*arguments.size))))
        return
    if arguments.table:
        print(table(json.loads(arguments.output.read_text())))
        return
    facts = machine()
    sizes = [tuple(arguments.size)] if arguments.size else QUICK_SIZES if arguments.quick else SIZES
    results = run(sizes)
    whole = len(sizes) == len(SIZES)
    if whole or arguments.output != RESULT:
        write_report(arguments.output, facts, results=results)
    print(table({"results": results}))


if __name__ == "__main__":
    main()
