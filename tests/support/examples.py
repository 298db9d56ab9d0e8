"""The documentation's examples: found by their fences, and run against a world on ports of its own."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordinator.api.server import build_server
from support.gateway import free_port, gateway_to
from support.world import World, running_world

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "clients" / "python" / "README.md"])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_GATEWAY_TOKEN = "a-gateway-token-for-tests"


@dataclass(frozen=True)
class Example:
    """A fenced block. `name` is its document, its heading and, from the second one there on, its number."""

    name: str
    language: str
    text: str


def examples() -> Iterator[Example]:
    """Every fenced block of the documentation."""
    for document in DOCUMENTS:
        text = document.read_text()
        fences = list(_FENCE.finditer(text))
        counts: dict[tuple[str, str], int] = {}
        for fence in fences:
            # What looks like a heading in a block is a comment there.
            headings = [
                found[1]
                for found in _HEADING.finditer(text[: fence.start()])
                if not any(other.start() < found.start() < other.end() for other in fences)
            ]
            heading = headings[-1] if headings else ""
            number = counts[heading, fence[1]] = counts.get((heading, fence[1]), 0) + 1
            name = f"{document.relative_to(ROOT)}: {heading}" + (f" ({number})" if number > 1 else "")
            yield Example(name, fence[1], fence[2])


class Enough(Exception):
    """Ends an example that would go on for ever."""


@dataclass
class Printed:
    """`print` of an example. Ends it after a line that has `until` in it."""

    until: str = ""
    lines: list[str] = field(default_factory=list)

    def __call__(self, *values: Any) -> None:
        self.lines.append(" ".join(str(value) for value in values))
        if self.until and self.until in self.lines[-1]:
            raise Enough


@dataclass
class Documented:
    """A world with a core and a gateway, which stand where the documentation's addresses are."""

    world: World
    core_address: str
    gateway_url: str

    def here(self, text: str) -> str:
        """The text with this world's addresses."""
        chain = self.world.chain.base_url.removeprefix("http://")
        for name in ("localhost", "127.0.0.1"):
            text = text.replace(f"{name}:8080", self.gateway_url.removeprefix("http://"))
            text = text.replace(f"{name}:50051", self.core_address)
            text = text.replace(f"{name}:3002", chain)
        return text

    async def run(
        self, example: Example, printed: Printed | None = None, names: Mapping[str, Any] | None = None
    ) -> list[str]:
        """What the example prints. It may await at its top, or be a script with a loop of its own."""
        printed = printed or Printed()
        scope = {"__name__": "__main__", "print": printed, **(names or {})}
        code = compile(
            self.here(example.text),
            example.name,
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        try:
            async with asyncio.timeout(90):
                if code.co_flags & inspect.CO_COROUTINE:
                    await eval(code, scope)
                else:
                    await asyncio.to_thread(exec, code, scope)
        except Enough:
            pass
        return printed.lines


@dataclass(frozen=True)
class Curl:
    """A curl command line, as far as the documentation uses it."""

    method: str
    url: str
    headers: dict[str, str]
    body: str | None

    @classmethod
    def parse(cls, line: str) -> Curl:
        """Raises ValueError where an option is not known here."""
        words = iter(shlex.split(line, comments=True)[1:])
        method, url, headers, body = "", "", dict[str, str](), None
        for word in words:
            if re.fullmatch(r"-[sN]+", word):
                continue
            if word == "-X":
                method = next(words)
            elif word == "-H":
                name, _, value = next(words).partition(":")
                headers[name] = value.strip()
            elif word == "-d":
                body = next(words)
            elif word.startswith("-") or url:
                raise ValueError(f"{word!r} in {line!r}")
            else:
                url = word if "://" in word else f"http://{word}"
        return cls(method or ("GET" if body is None else "POST"), url, headers, body)


@asynccontextmanager
async def documented(folder: Path) -> AsyncIterator[Documented]:
    """A running world as `make run` would give it."""
    core_port = free_port()
    address = f"127.0.0.1:{core_port}"
    async with running_world(folder, grpc_port=core_port, grpc_authorities=address) as world:
        server, _ = build_server(world.core, world.contracts, heartbeat_seconds=0.5)
        await server.start()
        try:
            async with gateway_to(address, token=_GATEWAY_TOKEN) as gateway:
                yield Documented(world, address, gateway.url)
        finally:
            await server.stop(1)
