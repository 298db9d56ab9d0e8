"""Makes `.venv` from nothing but Python 3.11+: an environment, the locked uv in it, and by uv all the rest.

Standard library only. Repeating it is harmless. `--group NAME` adds a dependency group, e.g. `node`.
"""

import argparse
import hashlib
import io
import os
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
import tomllib
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
UV = BIN / ("uv.exe" if os.name == "nt" else "uv")
# py-bitcoinkernel has wheels for these only; see pyproject.toml.
OLDEST, NEWEST = (3, 11), (3, 13)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--group", action="append", default=[], help="a further dependency group")
    groups = parser.parse_args().group
    if not (PYTHON.exists() and runs(str(PYTHON), "-c", "pass")):
        make_environment()
    package = locked_uv()
    if not (UV.exists() and output(str(UV), "--version").split()[1:2] == [package["version"]]):
        install_uv(package)
    command = [str(UV), "sync", "--frozen", "--inexact", "--python", str(PYTHON)]
    for group in groups:
        command += ["--group", group]
    subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(VENV), "UV_PYTHON_DOWNLOADS": "never"},
        check=True,
    )


def make_environment() -> None:
    """`python -m venv`, without pip where Debian has split ensurepip off."""
    python = suitable_python()
    if runs(python, "-m", "venv", "--clear", str(VENV)):
        return
    subprocess.run([python, "-m", "venv", "--clear", "--without-pip", str(VENV)], check=True)


def suitable_python() -> str:
    """This Python, or another on the PATH that the locked packages have wheels for."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    sys.exit(
        f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} is needed,"
        f" this is {platform.python_version()}; name one by `make PYTHON=python3.12 ...`"
    )


def locked_uv() -> dict[str, Any]:
    """uv's entry in uv.lock: version, and its wheels with their hashes."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    return next(package for package in lock["package"] if package["name"] == "uv")


def install_uv(package: dict[str, Any]) -> None:
    """By pip where there is one (it knows mirrors and proxies), else straight from the locked address."""
    requirement = f"uv=={package['version']}"
    if runs(str(PYTHON), "-m", "pip", "--version"):
        command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
        if subprocess.run(command).returncode == 0:
            return
    wheel = fitting_wheel(package["wheels"])
    print(f"downloading {wheel['url']}", flush=True)
    with urllib.request.urlopen(wheel["url"], timeout=120) as response:  # noqa: S310 (address from uv.lock)
        data = response.read()
    if "sha256:" + hashlib.sha256(data).hexdigest() != wheel["hash"]:
        sys.exit(f"{wheel['url']} is not what uv.lock says it is")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = next(name for name in archive.namelist() if name.endswith(f".data/scripts/{UV.name}"))
        # Beside its place first: an unfinished file must not look like uv.
        fresh = UV.with_suffix(".new")
        fresh.write_bytes(archive.read(member))
    fresh.chmod(fresh.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    fresh.replace(UV)


def fitting_wheel(wheels: list[dict[str, Any]]) -> dict[str, Any]:
    """The wheel for this machine. uv's wheels hold a program, so only the platform tag counts."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if sys.platform == "darwin":
        wanted = ("macosx", "arm64" if machine == "aarch64" else machine)
    elif os.name == "nt":
        wanted = ("win", "amd64" if machine == "x86_64" else "arm64")
    else:
        musl = "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or "")
        wanted = ("musllinux" if musl else "manylinux", machine)
    for wheel in wheels:
        tag = wheel["url"].rsplit("-", 1)[1]
        if all(part in tag for part in wanted):
            return wheel
    sys.exit(f"uv.lock has no wheel of uv for {' '.join(wanted)}; install uv {sys.version} by hand into {UV}")


def runs(*command: str) -> bool:
    """Whether a command succeeds; its words are not wanted."""
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def output(*command: str) -> str:
    """What a command prints; nothing if it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        return ""


if __name__ == "__main__":
    main()
