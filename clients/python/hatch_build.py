"""Puts `coordinator.contract` into what is built: from the core's folder, or from the sdist that has it."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ContractHook(BuildHookInterface[Any]):
    """Found by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before each build."""
        here = Path(self.root)
        in_sdist = here / "coordinator" / "contract"
        source = in_sdist if in_sdist.is_dir() else here.parents[1] / "server" / "coordinator" / "contract"
        build_data["force_include"][str(source)] = "coordinator/contract"
