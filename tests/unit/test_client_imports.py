"""What the Python client rests on: of the core the pure contract package alone, and what it says it needs."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "python" / "coordinator_client"
CONTRACT = ROOT / "server" / "coordinator" / "contract"


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, imported module) of every import statement, also those inside of functions."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((str(path.relative_to(ROOT)), alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield str(path.relative_to(ROOT)), str(node.module)


@pytest.mark.parametrize("folder", [CLIENT, CONTRACT], ids=["client", "contract"])
def test_only_the_contract_package_of_the_core_is_used(folder: Path) -> None:
    own = [(file, name) for file, name in imports(folder) if name.split(".")[0].startswith("coordinator")]
    assert len(own) > 20
    allowed = ["coordinator.contract", *(["coordinator_client"] if folder == CLIENT else [])]
    wrong = [
        (file, name)
        for file, name in own
        if not any(name == package or name.startswith(f"{package}.") for package in allowed)
    ]
    assert wrong == []


def test_every_import_has_its_requirement_and_every_requirement_is_imported() -> None:
    names = {name.split(".")[0] for folder in (CLIENT, CONTRACT) for _, name in imports(folder)}
    others = names - sys.stdlib_module_names - {"coordinator", "coordinator_client"}
    project = tomllib.loads((CLIENT.parent / "pyproject.toml").read_text())["project"]
    needed = {Requirement(text).name for text in project["dependencies"]}
    assert {packages_distributions()[name][0] for name in others} == needed
