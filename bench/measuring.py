"""What the benchmarks share: sizes, facts about the machine, the report, how late an event loop is."""

import asyncio
import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
# The tests' competitions and devnet services are used, too.
sys.path.insert(0, str(ROOT / "tests"))

SIZES = ((3, 2), (5, 3), (10, 3), (20, 3), (25, 3))
"""Entries and places that win."""

TICK_SECONDS = 0.005


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
        "load_average_before": round(os.getloadavg()[0], 2),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit,
    }


def write_report(path: Path, facts: dict[str, Any], **content: Any) -> None:
    """Writes results with the facts of `machine`, taken before them."""
    facts["load_average_after"] = round(os.getloadavg()[0], 2)
    report = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": facts, **content}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def markdown(columns: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """A table; `columns` are headings with a function of the row."""
    lines = [list(columns), ["---:"] * len(columns)]
    lines += [[cell(row) for cell in columns.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def children_processor_seconds() -> float:
    """What ended child processes computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def processor_seconds_of_group(group: int) -> float:
    """What the running processes of a process group computed so far."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Lateness:
    """How much later than asked a ticker woke."""

    def __init__(self) -> None:
        self._seconds = array("d")
        self._own_seconds = 0.0

    def add(self, seconds: float, processor_seconds: float) -> None:
        """One tick: lateness, and what this process (all of its threads) computed meanwhile."""
        self._seconds.append(max(0.0, seconds))
        self._own_seconds = max(self._own_seconds, min(seconds, processor_seconds))

    def milliseconds(self) -> dict[str, float]:
        """The worst, the 99th percentile, and the worst that this process can be the cause of: on a busy
        machine, the rest of a delay is others' turn on the processor.
        """
        ordered = sorted(self._seconds) or [0.0]
        return {
            "max_ms": round(ordered[-1] * 1000, 1),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 1),
            "own_max_ms": round(self._own_seconds * 1000, 1),
        }


@asynccontextmanager
async def loop_lateness() -> AsyncIterator[Lateness]:
    """How late this event loop is meanwhile: what else it has to do, and what keeps it from the processor."""
    late = Lateness()

    async def tick() -> None:
        while True:
            start, used = perf_counter(), process_time()
            await asyncio.sleep(TICK_SECONDS)
            late.add(perf_counter() - start - TICK_SECONDS, process_time() - used)

    ticking = asyncio.create_task(tick())
    try:
        yield late
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking


_IDLE_TICKER = f"""
import json, sys, threading, time
sys.path.insert(0, {str(ROOT / "bench")!r})
from measuring import Lateness
late, end = Lateness(), threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
while not end.is_set():
    start, used = time.perf_counter(), time.process_time()
    time.sleep({TICK_SECONDS})
    late.add(time.perf_counter() - start - {TICK_SECONDS}, time.process_time() - used)
print(json.dumps(late.milliseconds()))
"""


@asynccontextmanager
async def machine_lateness() -> AsyncIterator[dict[str, float]]:
    """The same of a process that does nothing else: as late as the machine alone makes one. Filled at the
    end.
    """
    found: dict[str, float] = {}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _IDLE_TICKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield found
    finally:
        output, _ = await process.communicate(b"")
        found |= json.loads(output)
