"""The TypeScript client's generated part is what the protos say now."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "clients" / "typescript" / "scripts" / "generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("typescript_generate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_file_is_fresh(generate: ModuleType) -> None:
    assert generate.main(["--check"]) == 0, "run python clients/typescript/scripts/generate.py"


def test_stale_file_is_noticed(generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "TARGET", tmp_path / "generated.ts")
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    generate.TARGET.write_text(generate.TARGET.read_text() + "\n")
    assert generate.main(["--check"]) == 1
