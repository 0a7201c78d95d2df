/** What an operator can do: each act as data, with what will happen in words. Each asks for a reason. */

import type { Policy, Release, Run } from "../api/loop";

export interface Act {
  /** A question. */
  title: string;
  /** What will happen. */
  says: string;
  /** On the button that does it. */
  button: string;
  danger?: boolean;
  path: string;
  /** Beside the reason. */
  body?: Record<string, unknown>;
  /** Said once it is done. */
  done: string;
}

export function trainNow(): Act {
  return {
    title: "Train now?",
    says: "The scheduler takes a snapshot of all votes and begins a round, however few are new. A candidate that passes its gate opens a release.",
    button: "Train now",
    path: "v1/runs",
    done: "A round was asked for.",
  };
}

export function cancel({ id }: Run): Act {
  return {
    title: `Cancel run ${id.slice(0, 12)}?`,
    says: "Its trainer is stopped within a heartbeat. Finished stages are kept, and the run can be repeated.",
    button: "Cancel the run",
    danger: true,
    path: `v1/runs/${id}/cancel`,
    done: "The run is cancelled.",
  };
}

export function retry({ id }: Run): Act {
  return {
    title: `Repeat run ${id.slice(0, 12)}?`,
    says: "It is queued again with fresh attempts, and goes on behind the stages that it finished.",
    button: "Repeat the run",
    path: `v1/runs/${id}/retry`,
    done: "The run is queued again.",
  };
}

/** @param live the version that is live now */
export function open({ version }: Policy, live: number): Act {
  return {
    title: `Open the release of v${version}?`,
    says: `v${version} answers its first users, and people's votes decide between it and v${live}.`,
    button: "Open the release",
    path: `v1/policies/${version}/release`,
    done: `The release of v${version} is open.`,
  };
}

/** @param open the release that is open, whosever it is */
export function promote({ version }: Policy, live: number, open: Release | undefined): Act {
  const stops = open === undefined ? "" : ` The open release of v${open.version} is stopped.`;
  return {
    title: `Promote v${version}?`,
    says: `v${version} answers everybody in place of v${live}, at once and without waiting for people's votes.${stops}`,
    button: `Promote v${version}`,
    danger: true,
    path: `v1/policies/${version}/promote`,
    body: { force: true },
    done: `v${version} is live.`,
  };
}

export function rollBack({ version, parent }: Policy, open: Release | undefined): Act {
  const stops = open === undefined ? "" : ` The open release of v${open.version} is stopped.`;
  return {
    title: `Roll back to v${parent}?`,
    says: `v${parent}, the parent of v${version}, answers everybody again, at once.${stops}`,
    button: `Roll back to v${parent}`,
    danger: true,
    path: "v1/policies/rollback",
    done: `v${parent} is live again.`,
  };
}

export function stop({ id, version, against }: Release): Act {
  return {
    title: `Stop the release of v${version}?`,
    says: `v${against} answers everybody again, and v${version} is retired. A version has one release: only a promotion by hand could bring it back.`,
    button: "Stop the release",
    danger: true,
    path: `v1/releases/${id}/stop`,
    done: `The release of v${version} is stopped.`,
  };
}

export function quarantine(rater: string): Act {
  return {
    title: "Put this rater in quarantine?",
    says: `Nothing of ${rater} is trained on from the next snapshot on, and their votes fall out of an open release. They are not told.`,
    button: "Quarantine",
    danger: true,
    path: `v1/raters/${encodeURIComponent(rater)}/quarantine`,
    done: `${rater} is in quarantine.`,
  };
}

export function restore(rater: string): Act {
  return {
    title: "Take this rater back?",
    says: `The votes of ${rater} count from the next snapshot on, also those that they gave meanwhile.`,
    button: "Take back",
    path: `v1/raters/${encodeURIComponent(rater)}/restore`,
    done: `${rater} is not in quarantine any more.`,
  };
}
