import { core, play, streams } from "./scenarios.ts";

// For the page that tests/browser/test_typescript_browser.py opens; its server is the stage's control server.
const scenarios = { streams, core };
type Part = keyof typeof scenarios;

Object.assign(globalThis, {
  scenarioNames: (part: Part) => Object.keys(scenarios[part]),
  playScenario: async (part: Part, name: string) => {
    const scenario = scenarios[part][name];
    if (!scenario) throw new TypeError(`no scenario ${name}`);
    await play(scenario, globalThis.location.origin);
  },
});
