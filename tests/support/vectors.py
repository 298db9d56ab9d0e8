"""Published test vectors, read from where the machine keeps them (never copied into the project)."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def vectors_folder() -> Path:
    return (ROOT / os.environ.get("COORDINATOR_VECTORS", "../shared/vectors")).resolve()


def load(name: str) -> Any:
    """A vector file, parsed (JSON, or CSV as a list of dicts); skips the test where it is absent."""
    path = vectors_folder() / name
    if not path.exists():
        pytest.skip(f"no vectors at {path} (set COORDINATOR_VECTORS)")
    if path.suffix == ".csv":
        with path.open(newline="") as lines:
            return list(csv.DictReader(lines))
    return json.loads(path.read_text())
