import { test } from "node:test";
import { core, play, streams } from "./scenarios.ts";

// Where the control server of a stage is; without one there is no gateway to try it with.
const places = { streams: process.env["STAGE_STREAMS"], core: process.env["STAGE_CORE"] };

for (const [part, scenarios] of Object.entries({ streams, core })) {
  const control = places[part as keyof typeof places];
  for (const [name, scenario] of Object.entries(scenarios)) {
    const skip = control ? false : "pytest tests/integration/test_typescript_node.py has a gateway for it";
    test(`${part}: ${name}`, { skip }, () => play(scenario, control ?? ""));
  }
}
