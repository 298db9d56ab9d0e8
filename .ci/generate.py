"""Generates code from proto/: the server's stubs, LND's, and the Python client's messages.

`--check` generates beside the project and says what differs from what is committed.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
API = sorted((ROOT / "proto/coordinator/v1").glob("*.proto"))
LND = sorted((ROOT / "proto/coordinator/lnd").glob("*.proto"))
# Folders that hold nothing but generated files, and one __init__.py that says so.
GENERATED = ("server/coordinator/v1", "server/coordinator/lnd", "clients/python/coordinator_client/proto")
# The same API with its comments, for the gateway's OpenAPI document.
DESCRIBED = "gateway/coordinator_gateway/api.binpb"
KEPT = ("server/coordinator/v1/__init__.py", "server/coordinator/lnd/__init__.py")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        stale = [path for generated in GENERATED for path in differences(fresh / generated, generated)]
        if not same(fresh / DESCRIBED, ROOT / DESCRIBED):
            stale.append(DESCRIBED)
        if check:
            for path in stale:
                print(f"{path} is not what proto/ says; run `make generate` and commit", file=sys.stderr)
            return 1 if stale else 0
        for path in stale:
            (ROOT / path).unlink(missing_ok=True)
            if (fresh / path).exists():
                (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fresh / path, ROOT / path)
            print(path)
    return 0


def generate(into: Path) -> None:
    """Lays every generated file under `into`, at its place in the project."""
    server, client = into / "server", into / "clients/python/coordinator_client/proto"
    server.mkdir(parents=True)
    client.mkdir(parents=True)
    protoc(
        [*API, *LND],
        f"--python_out={server}",
        f"--grpc_python_out={server}",
        f"--mypy_out=quiet:{server}",
        f"--mypy_grpc_out=quiet:{server}",
    )
    protoc(API, f"--python_betterproto_out={client}")
    (into / DESCRIBED).parent.mkdir(parents=True)
    protoc(API, "--include_source_info", f"--descriptor_set_out={into / DESCRIBED}")
    for path in KEPT:
        shutil.copyfile(ROOT / path, into / path)


def protoc(protos: list[Path], *outputs: str) -> None:
    import google.api.annotations_pb2 as annotations

    packages = Path(str(annotations.__file__)).parents[2]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"-I{packages}", *outputs]
    # protoc looks for its plugins on the PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [*command, *map(str, protos)], env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(done.stderr)


def differences(fresh: Path, committed: str) -> list[str]:
    """Paths that exist on one side only, or differ."""
    names = {
        path.relative_to(folder)
        for folder in (fresh, ROOT / committed)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    return [
        str(Path(committed) / name)
        for name in sorted(names)
        if not same(fresh / name, ROOT / committed / name)
    ]


def same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and filecmp.cmp(one, other, shallow=False)


if __name__ == "__main__":
    sys.exit(main())
