"""`pip install ./clients/python` gives a working client: built, and run where nothing else is installed."""

import asyncio
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from google.rpc import error_details_pb2
from packaging.requirements import Requirement

from support.client import ScriptedCore, scripted, status

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "clients" / "python"
PROJECT = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
UV = Path(sys.executable).parent / "uv"

EVERYTHING = """
import hashlib, importlib, importlib.util, pkgutil, sys, time
import coordinator.contract, coordinator_client

for package in (coordinator_client, coordinator.contract):
    assert "site-packages" in package.__file__, package.__file__
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)

from coordinator_client.nostr import NostrKey, nip98
from coordinator_client.player import PlayerSecrets
from coordinator_client.retry import service_config

for absent in ("coordinator.core", "coordinator.v1", "coordinator_gateway", "google", "grpc", "tortoise"):
    try:
        found = importlib.util.find_spec(absent)
    except ModuleNotFoundError:
        found = None
    assert found is None, absent

key, url, body = NostrKey.generate(), "https://play.example.org/api/v1/users/register", b"{}"
header = nip98.authorization(key, url, "POST", body)
sha256 = hashlib.sha256(body).digest()
event = nip98.verify(header, url=url, method="POST", body_sha256=sha256, now=int(time.time()))
assert event.pubkey == key.public_hex
assert PlayerSecrets.from_json(PlayerSecrets.generate().to_json())
assert "retryPolicy" in service_config()
print("works")
"""

REFUSED = """
import asyncio, sys
from coordinator_client.errors import ApiError
from coordinator_client.grpc import GrpcClient
from coordinator_client.nostr import NostrKey
from coordinator_client.proto.coordinator.v1 import GetBalanceRequest

async def main():
    async with GrpcClient(sys.argv[1], NostrKey.generate()) as core:
        try:
            await core.wallet.get_balance(GetBalanceRequest())
        except ApiError as error:
            print(error.code, error.reason, error.field_errors[0].field, error.retry_after_seconds)

asyncio.run(main())
"""


def test_its_version_is_the_projects() -> None:
    assert PROJECT["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the client's wheel, what it says it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("package")
    # The sdist first: the wheel must also come out of it, where the core's folder is not at hand.
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    run([*build, "-t", "sdist"], cwd=FOLDER)
    [sdist] = folder.glob("*.tar.gz")
    run(["tar", "xzf", str(sdist)], cwd=folder)
    run([*build, "-t", "wheel"], cwd=folder / sdist.name.removesuffix(".tar.gz"))
    from_sdist = contents(folder)
    run([*build, "-t", "wheel"], cwd=FOLDER)
    assert contents(folder) == from_sdist
    [wheel] = folder.glob("*.whl")
    run([str(UV), "venv", "--offline", "--python", sys.executable, str(folder / "venv")])
    python = folder / "venv" / "bin" / "python"
    run([str(UV), "pip", "install", "--offline", "--no-deps", "--python", str(python), str(wheel)])
    [packages] = (folder / "venv" / "lib").glob("python3*/site-packages")
    for needed in closure(PROJECT["dependencies"]):
        for entry in top_level(needed):
            (packages / entry.name).symlink_to(entry)
    return python


def run(command: list[str], cwd: Path | None = None) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def contents(folder: Path) -> set[str]:
    """Names in the wheel."""
    [wheel] = folder.glob("*.whl")
    listed = run([sys.executable, "-m", "zipfile", "-l", str(wheel)])
    return {line.split()[0] for line in listed.splitlines()[1:]}


def closure(requirements: list[str]) -> list[Distribution]:
    """The installed packages that satisfy requirements, and theirs."""
    found: dict[str, Distribution] = {}
    left = [Requirement(text) for text in requirements]
    while left:
        requirement = left.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(name)
        assert requirement.specifier.contains(found[name].version, prereleases=True), requirement
        left += [Requirement(text) for text in found[name].requires or ()]
    return list(found.values())


def top_level(package: Distribution) -> Iterator[Path]:
    """The files and folders of a package in site-packages."""
    for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        yield Path(str(package.locate_file(name)))


def test_everything_imports_and_signs(python: Path) -> None:
    assert run([str(python), "-I", "-c", EVERYTHING]) == "works\n"


async def test_errors_have_their_details_without_googles_packages(python: Path) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="terms.name", description="is empty")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds = 17
    info = error_details_pb2.ErrorInfo(reason="TOO_MANY", domain="coordinator.v1")
    core = ScriptedCore(status("RESOURCE_EXHAUSTED", "no", info, bad, retry))
    async with scripted(core) as port:
        told = await asyncio.to_thread(run, [str(python), "-I", "-c", REFUSED, f"127.0.0.1:{port}"])
    assert told == "RESOURCE_EXHAUSTED TOO_MANY terms.name 17.0\n"
