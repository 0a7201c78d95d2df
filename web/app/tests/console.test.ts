/** The pure parts of the console: numbers as words, places in a picture, which version is what, and acts. */

import { expect, test } from "vitest";
import type { Policy, Release } from "../src/api/loop";
import { open, promote, quarantine, rollBack } from "../src/console/acts";
import { eValue, number, percent, short, span as duration } from "../src/console/format";
import { between, line, linear, span, ticks } from "../src/console/plots/scale";
import { ancestry, figures, live, openOf, pair } from "../src/console/policies";

test("numbers are written with the digits that matter", () => {
  expect([percent(0.5734), percent(0.5734, 0), percent(1)]).toEqual(["57.3 %", "57 %", "100.0 %"]);
  expect([0.01234, 12.345, 1234.5, 1449].map(number)).toEqual(["0.0123", "12.3", "1,235", "1,449"]);
  expect([0, 12.4, 90, 7200, 3 * 86400].map(duration)).toEqual(["0 s", "12 s", "2 min", "2 h", "3 days"]);
  expect([short(7), short("assistant@v7"), short("thumb")]).toEqual(["v7", "v7", "thumb"]);
});

test("an e-value is written by its logarithm", () => {
  expect([0, Math.log10(20), -2, 3, 15.5].map(eValue)).toEqual(["1", "20", "0.01", "1000", "3·10¹⁵"]);
});

test("a scale maps the ends of its domain to the ends of its range, and what lies outside to the nearer one", () => {
  const up = linear([0, 10], [100, 0]);
  expect([0, 5, 10, -3, 12].map(up)).toEqual([100, 50, 0, 100, 0]);
  expect(linear([3, 3], [0, 10])(3)).toBe(5);
  expect([span([3, 1, 2]), span([])]).toEqual([
    [1, 3],
    [0, 1],
  ]);
});

test("ticks are round numbers inside of the span", () => {
  expect(ticks([0, 140], 4)).toEqual([0, 50, 100]);
  expect(ticks([0, 1], 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
  expect(ticks([-2, 2.1], 5)).toEqual([-2, -1, 0, 1, 2]);
  expect(ticks([4, 4])).toEqual([4]);
});

test("lines and bands are drawn from left to right", () => {
  expect(
    line([
      [0, 1],
      [2.25, 3],
    ]),
  ).toBe("M0.0 1.0L2.3 3.0");
  expect(
    between(
      [
        [0, 1],
        [1, 1],
      ],
      [
        [0, 2],
        [1, 2],
      ],
    ),
  ).toBe("M0.0 1.0L1.0 1.0L1.0 2.0L0.0 2.0Z");
  expect([line([]), between([], [])]).toEqual(["", ""]);
});

const policy = (version: number, parent: number | null, state: Policy["state"], win?: number): Policy => ({
  version,
  parent,
  state,
  method: "dpo",
  run: null,
  created: 0,
  gate: win === undefined ? null : { verdict: "pass", live_version: 0, metrics: { win_rate: win }, summary: "" },
});
const FAMILY = [
  policy(0, null, "retired"),
  policy(1, 0, "previous", 0.6),
  policy(2, 1, "rejected", 0.4),
  policy(3, 1, "live", 0.7),
  policy(4, 3, "canary", 0.65),
];
const release = (version: number, state: Release["state"]) =>
  ({ id: `rel_${version}`, version, against: 3, state }) as Release;

test("the way to a version leaves out who is nobody's parent", () => {
  expect(live(FAMILY)?.version).toBe(3);
  expect(ancestry(FAMILY, 3).map(({ version }) => version)).toEqual([0, 1, 3]);
  expect(figures(ancestry(FAMILY, 3), "win_rate")).toEqual([
    [1, 0.6],
    [3, 0.7],
  ]);
  expect(ancestry(FAMILY, 9)).toEqual([]);
});

test("beside each other stand the arms of the open release, else the live version and its parent", () => {
  const open = [release(3, "promoted"), release(4, "canary")];
  expect([openOf(open)?.version, openOf(open.slice(0, 1))]).toEqual([4, undefined]);
  expect(pair(FAMILY, open)).toEqual([3, 4]);
  expect(pair(FAMILY, [])).toEqual([1, 3]);
  expect(pair([], [])).toEqual([0, 0]);
});

test("an act says what will happen and goes where the API takes it", () => {
  const [zero, , , three, four] = FAMILY as [Policy, Policy, Policy, Policy, Policy];
  expect(promote(zero, 3, release(4, "canary"))).toMatchObject({
    path: "v1/policies/0/promote",
    body: { force: true },
  });
  expect(promote(zero, 3, release(4, "canary")).says).toContain("The open release of v4 is stopped");
  expect(promote(zero, 3, undefined).says).not.toContain("stopped");
  expect(rollBack(three, undefined)).toMatchObject({ title: "Roll back to v1?", path: "v1/policies/rollback" });
  expect(open(four, 3).path).toBe("v1/policies/4/release");
  expect(quarantine("@acme/user 7").path).toBe("v1/raters/%40acme%2Fuser%207/quarantine");
});
