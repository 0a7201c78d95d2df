/** Begins a round, where one can begin. */

import type { Release, Run } from "../api/loop";
import { ActButton } from "./ActDialog";
import { trainNow } from "./acts";
import { openOf } from "./policies";

export function TrainNow({ runs, releases }: { runs: Run[]; releases: Release[] }) {
  const release = openOf(releases);
  const active = runs.find(({ state }) => state === "running" || state === "queued");
  if (active) return null;
  if (release)
    return <p class="note">No round begins while a release is open: its votes decide what that starts from.</p>;
  return (
    <div class="row">
      <ActButton act={trainNow()} label="Train now" />
    </div>
  );
}
