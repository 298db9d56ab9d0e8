"""The manual of `coordinator admin`: its commands are ones that there are, and all of them are in it."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from coordinator.admin.run import COMMANDS
from coordinator.cli import build_parser

MANUAL = (Path(__file__).resolve().parents[2] / "docs" / "admin.md").read_text()
# Indented blocks; a backslash continues a line.
BLOCKS = "\n".join(line[4:] for line in MANUAL.splitlines() if line.startswith("    ")).replace("\\\n", " ")
# Up to what is the shell's.
LINES = [found[0].strip() for found in re.finditer(r"coordinator admin [^|>#)\n]*", BLOCKS)]


@pytest.mark.parametrize("line", LINES)
def test_commands_are_accepted(line: str) -> None:
    parsed = build_parser().parse_args(shlex.split(line)[1:])
    assert isinstance(parsed, argparse.Namespace)
    assert parsed.admin_command in COMMANDS or parsed.admin_command == "completion"


def test_there_are_examples() -> None:
    assert len(LINES) >= 7


def test_every_command_is_described() -> None:
    table = MANUAL.partition("## Commands")[2].partition("## Options")[0]
    described = set(
        re.findall(r"`([a-z ]+)`", "\n".join(row.split("|")[1] for row in table.splitlines() if "|" in row))
    )
    assert described == {*COMMANDS, "completion"}
