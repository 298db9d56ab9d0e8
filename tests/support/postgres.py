"""A PostgreSQL server of a test's own, where its programs are installed (Debian: package postgresql)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.gateway import free_port

_ON_PATH = [Path(found).parent for found in [shutil.which("initdb")] if found]
_PACKAGED = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
PROGRAMS = next((path for path in [*_PACKAGED, *_ON_PATH] if (path / "pg_ctl").exists()), None)

# PostgreSQL does not run as root; Debian's package comes with a user for it.
_AS_USER = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def _run(*command: str) -> None:
    subprocess.run([*_AS_USER, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")


@contextmanager
def running_postgres() -> Iterator[str]:
    """A fresh server on a free port of the loopback; yields the URL of an empty database."""
    assert PROGRAMS is not None
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="coordinator-postgres-"))
    if _AS_USER:
        shutil.chown(folder, "postgres")
    data, control = str(folder / "data"), str(PROGRAMS / "pg_ctl")
    try:
        _run(str(PROGRAMS / "initdb"), "-D", data, "-U", "postgres", "-A", "trust")
        options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        _run(control, "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            yield f"postgres://postgres@127.0.0.1:{port}/postgres"
        finally:
            _run(control, "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
