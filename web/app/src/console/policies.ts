/** Which version is what. Pure. */

import type { Policy, Release } from "../api/loop";

export function live(policies: readonly Policy[]): Policy | undefined {
  return policies.find(({ state }) => state === "live");
}

/** The open release: at most the last. */
export function openOf(releases: readonly Release[]): Release | undefined {
  return releases.findLast(({ state }) => state === "canary");
}

/** The way from version 0 to `version`, both with it. */
export function ancestry(policies: readonly Policy[], version: number): Policy[] {
  const known = new Map(policies.map((it) => [it.version, it]));
  const way: Policy[] = [];
  for (let at = known.get(version); at; at = at.parent === null ? undefined : known.get(at.parent)) way.unshift(at);
  return way;
}

/** The two that an operator wants beside each other: an open release's, else the live version and its parent. */
export function pair(policies: readonly Policy[], releases: readonly Release[]): [number, number] {
  const open = openOf(releases);
  if (open) return [open.against, open.version];
  const now = live(policies);
  return [now?.parent ?? 0, now?.version ?? 0];
}

/** One figure of the gate reports on the way, by version; versions without it are left out. */
export function figures(way: readonly Policy[], name: string): [version: number, value: number][] {
  return way.flatMap(({ version, gate }) => {
    const found = gate?.metrics[name];
    return found === undefined ? [] : [[version, found] as [number, number]];
  });
}
