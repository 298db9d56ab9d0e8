"""The TypeScript client in Node, with a real gateway: clients/typescript/test/scenarios.ts."""

import re
from pathlib import Path

import pytest

from support.typescript import CLIENT, bundle, node, stage_of_core, stage_of_streams, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def scenarios() -> list[str]:
    source = (CLIENT / "test" / "scenarios.ts").read_text("utf-8")
    return re.findall(r'^  "(.+)": async \(stage\) => \{$', source, re.MULTILINE)


async def test_scenarios_in_node(tmp_path: Path) -> None:
    suite = bundle(CLIENT / "test" / "gateway.test.ts", tmp_path / "gateway.test.mjs", "--platform=node")
    async with stage_of_streams() as streams, stage_of_core(tmp_path) as core:
        code, output = await node(
            suite,
            "--test-reporter=tap",
            STAGE_STREAMS=streams.control_url,
            STAGE_CORE=core.control_url,
        )
    assert code == 0, output
    passed = re.findall(r"^\s*ok \d+ - (?:streams|core): (.+)$", output, re.MULTILINE)
    assert passed == scenarios(), output
