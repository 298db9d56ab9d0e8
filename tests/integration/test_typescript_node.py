"""The TypeScript client in Node, with a real gateway: clients/typescript/test/scenarios.ts."""

import re
from pathlib import Path

import pytest

from support.typescript import (
    CLIENT,
    bundle,
    check_types,
    example_at,
    examples,
    life,
    node,
    stage_of_core,
    stage_of_streams,
    why_not,
)
from support.web import LivingCore

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


SAYS = {
    "Reading": "Windy weekend 0 of 4",
    "Watching": "competition.cancelled",
    "Errors": "not there: no competition",
}


def test_examples_fit_the_types(tmp_path: Path) -> None:
    assert set(examples()) == {*SAYS, "Keys"}
    check_types([example_at(tmp_path, heading, "http://127.0.0.1:1") for heading in examples()])


async def test_examples_run_in_node(tmp_path: Path) -> None:
    core = LivingCore()
    async with life(core), stage_of_streams(core=core) as stage:
        for heading, said in SAYS.items():
            script = bundle(
                example_at(tmp_path, heading, stage.url), tmp_path / f"{heading}.mjs", "--platform=node"
            )
            code, output = await node(script)
            assert code == 0, output
            assert said in output
