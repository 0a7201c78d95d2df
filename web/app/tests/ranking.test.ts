/** A ranking in the making. */

import { expect, test } from "vitest";
import { groups, moved, ordered, placed } from "../src/model/ranking";

test("equal places are one group, gaps between places mean nothing, and a missing place is no ranking", () => {
  expect(groups([2, 1, 2, 4], ["a", "b", "c", "d"])).toEqual([["b"], ["a", "c"], ["d"]]);
  expect(groups([2, null], ["a", "b"])).toBeNull();
  expect(placed([null, null], 1, 2)).toEqual([null, 2]);
});

test("dragging gives each answer the place where it stands", () => {
  expect(moved([0, 1, 2], 2, 0)).toEqual([2, 0, 1]);
  expect(ordered([2, 0, 1])).toEqual([2, 3, 1]);
  const order = [0, 1, 2];
  expect(moved(order, 0, -1)).toBe(order);
  expect(moved(order, 2, 3)).toBe(order);
});
