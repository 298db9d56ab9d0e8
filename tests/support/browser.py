"""What browser tests have in common: the built app, a Chromium, and a connection that can be cut."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
WEB_DIR = Path(__file__).parents[2] / "web" / "dist"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Texts with less contrast to what is behind them than WCAG 2.1 (1.4.3) asks for.
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const both = [parse(getComputedStyle(element).color), ground(element)].map(light);
    const [a, b] = both.sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${element.textContent.trim()}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


def why_not() -> str:
    """Why there can be no browser test here; empty if there can."""
    if not Path(CHROMIUM).exists():
        return "there is no Chromium on this machine"
    if not (WEB_DIR / "index.html").exists():
        return "the web app is not built: make web"
    return ""


async def sequences(page: Page) -> list[int]:
    """Sequences of the events that the page shows, oldest first."""
    shown = await page.locator("[data-sequence]").evaluate_all(
        "items => items.map(item => Number(item.dataset.sequence))"
    )
    return list(reversed(shown))


class Wire:
    """A TCP relay to a server: lets through, cuts (in the middle of anything), or lets nobody in."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.down = False
        self.connections = 0
        # Event streams that are open.
        self.streams = 0
        # Bytes that each event stream may still bring before it is cut; None: as many as there are.
        self.stream_bytes: list[int] = []

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Breaks every connection there is."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            if self.down:
                return
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            except OSError:
                return
            tasks = [
                asyncio.create_task(self._relay(reader, far_writer, counted=False)),
                asyncio.create_task(self._relay(far_reader, writer, counted=True)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            far_writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        left: int | None = None
        streams = 0
        try:
            while chunk := await reader.read(65536):
                if counted and b"content-type: text/event-stream" in chunk:
                    # A connection has one at most: it is closed with it.
                    streams = 1
                    self.streams += 1
                    left = self.stream_bytes.pop(0) if self.stream_bytes else None
                if left is not None:
                    chunk, left = chunk[:left], left - len(chunk)
                writer.write(chunk)
                await writer.drain()
                if left is not None and left <= 0:
                    return
        except ConnectionError:
            pass
        finally:
            self.streams -= streams


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A relay to the server at this port."""
    made = Wire(port)
    made._server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    try:
        yield made
    finally:
        made._server.close()
        made.cut()
