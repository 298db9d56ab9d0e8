"""What a command prints: tables and facts for people, JSON for programs.

Results go to standard output. Notes, progress and errors go to standard error, so that a pipe only gets
results.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TextIO

_CODES: Final = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}


@dataclass(frozen=True, slots=True)
class Styled:
    """Text with a colour, for terminals that have them."""

    text: str
    style: str


Cell = str | Styled


class Output:
    """Where results and notes go, and how."""

    def __init__(
        self,
        as_json: bool,
        *,
        out: TextIO | None = None,
        err: TextIO | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._environment = os.environ if environment is None else environment
        self._status = ""

    # --- results

    def document(self, value: Any) -> None:
        """The one JSON document of a command."""
        print(json.dumps(value, ensure_ascii=False, indent=2), file=self._out, flush=True)

    def json_line(self, value: Any) -> None:
        """One line of a stream of JSON."""
        print(json.dumps(value, ensure_ascii=False, separators=(",", ":")), file=self._out, flush=True)

    def line(self, *cells: Cell) -> None:
        """One line of text."""
        self.clear_status()
        print("".join(self._paint(cell, self._out) for cell in cells), file=self._out, flush=True)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]], right: str = "") -> None:
        """Aligned columns; a header that `right` names (space separated) has its column to the right."""
        cells = [[_plain(cell) for cell in row] for row in rows]
        widths = [
            max(_width(header), *(_width(row[i]) for row in cells)) if cells else _width(header)
            for i, header in enumerate(headers)
        ]
        to_the_right = [header in right.split() for header in headers]
        shown: list[Sequence[Cell]] = [[Styled(header, "bold") for header in headers], *rows]
        for row in shown:
            parts = []
            for i, cell in enumerate(row):
                gap = " " * (widths[i] - _width(_plain(cell)))
                text = self._paint(cell, self._out)
                last = i == len(headers) - 1
                parts.append(gap + text if to_the_right[i] else text if last else text + gap)
            print("  ".join(parts).rstrip(), file=self._out)
        self._out.flush()

    def facts(self, facts: Sequence[tuple[str, Cell]]) -> None:
        """Name and value in two columns."""
        width = max((_width(name) for name, _ in facts), default=0)
        for name, value in facts:
            label = self._paint(Styled(name, "dim"), self._out) + " " * (width - _width(name))
            print(f"{label}  {self._paint(value, self._out)}".rstrip(), file=self._out)
        self._out.flush()

    def heading(self, text: str) -> None:
        """Above a table that is not the only thing shown."""
        print(f"\n{self._paint(Styled(text, 'bold'), self._out)}", file=self._out)

    # --- beside the results

    def note(self, text: str) -> None:
        """Something to know that is no result."""
        self.clear_status()
        print(clean(text), file=self._err, flush=True)

    def error(self, text: str) -> None:
        """What ended the command; may have several lines."""
        self.clear_status()
        first, _, rest = text.partition("\n")
        label = self._paint(Styled("error:", "red"), self._err)
        print(f"{label} {first}" + (f"\n{rest}" if rest else ""), file=self._err, flush=True)

    def error_json(self, value: Any) -> None:
        """The same for programs."""
        print(json.dumps(value, ensure_ascii=False), file=self._err, flush=True)

    def status(self, text: str) -> None:
        """One line at the bottom that the next one replaces; only where somebody looks at it."""
        if self.as_json or not self._err.isatty() or self._environment.get("TERM") == "dumb":
            return
        columns = shutil.get_terminal_size().columns
        self._status = _cut(clean(text), columns - 1)
        self._err.write(f"\r\x1b[K{self._paint(Styled(self._status, 'dim'), self._err)}")
        self._err.flush()

    def clear_status(self) -> None:
        """Takes the status line away."""
        if self._status:
            self._status = ""
            self._err.write("\r\x1b[K")
            self._err.flush()

    def _paint(self, cell: Cell, stream: TextIO) -> str:
        if isinstance(cell, str):
            return clean(cell)
        text = clean(cell.text)
        if not text or not self._has_colours(stream) or not cell.style:
            return text
        return f"\x1b[{_CODES[cell.style]}m{text}\x1b[0m"

    def _has_colours(self, stream: TextIO) -> bool:
        env = self._environment
        # https://no-color.org: when present and not empty.
        return stream.isatty() and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


def clean(text: str) -> str:
    """The text with what could steer a terminal made visible: names and reasons come from others."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def sats(amount: int) -> str:
    """An amount with thousands separators."""
    return f"{amount:,}"


def _plain(cell: Cell) -> str:
    return clean(cell if isinstance(cell, str) else cell.text)


def _width(text: str) -> int:
    """Columns on a terminal (Unicode Standard Annex 11)."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _cut(text: str, columns: int) -> str:
    if _width(text) <= columns:
        return text
    kept = ""
    for c in text:
        if _width(kept + c) > columns - 1:
            break
        kept += c
    return kept + "…"
