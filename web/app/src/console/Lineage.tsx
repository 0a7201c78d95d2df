/** Where a version comes from, as a picture: each version, the snapshot that it learned from, and whose votes it holds. */

import { useState } from "preact/hooks";
import type { List, Step } from "../api/loop";
import type { Served } from "./Console";
import { number, time, words } from "./format";
import { live } from "./policies";
import { Shown } from "./Shown";
import { useWatch } from "./watch";

export function Lineage({ policies }: Served) {
  const [chosen, setChosen] = useState<number | null>(null);
  const version = chosen ?? live(policies.value?.data ?? [])?.version ?? null;
  const steps = useWatch<List<Step>>(version === null ? null : `v1/policies/${version}/lineage`, 15_000);
  return (
    <section class="panel" aria-label="Lineage">
      <h2>Lineage</h2>
      <label class="inline">
        Of version
        <select value={version ?? ""} onChange={(event) => setChosen(Number(event.currentTarget.value))}>
          {policies.value?.data.map((it) => (
            <option key={it.version} value={it.version}>
              v{it.version}, {words(it.state)}
            </option>
          ))}
        </select>
      </label>
      <Shown seen={steps}>
        {({ data }) => (
          <ol class="lineage">
            {data.map((step) => (
              <Version key={step.version} step={step} />
            ))}
          </ol>
        )}
      </Shown>
    </section>
  );
}

function Version({ step: { version, state, method, run, created, votes, tainted } }: { step: Step }) {
  return (
    <li>
      <div class="node" data-state={state}>
        <strong class="version">v{version}</strong> {words(state)}
        <span class="note">{version === 0 ? "the base itself" : `${method}, run ${run?.slice(0, 12)}`}</span>
        <span class="note">{time(created)}</span>
        {tainted !== null && <span class="notice">Learned from what was erased on {time(tainted)}</span>}
      </div>
      {version > 0 &&
        (votes === null ? (
          <div class="node from">its snapshot is not on this machine</div>
        ) : (
          <>
            <div class="node from">
              <span class="unseen">learned from </span>snapshot <code>{votes.snapshot.slice(0, 12)}</code>
              <span class="note">{counts(rows(votes.rows))}</span>
              {votes.erased !== null && <span class="notice">Its rows were erased on {time(votes.erased)}</span>}
            </div>
            <div class="node from">
              <span class="unseen">cut from </span>votes of {number(votes.raters)} raters
              <span class="note">
                {Object.keys(votes.dropped).length === 0 ? "nothing left out" : `left out: ${counts(votes.dropped)}`}
              </span>
            </div>
          </>
        ))}
    </li>
  );
}

/** Kinds alone: `pairs.judge` says in which fold some of the pairs are. */
function rows(all: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(all).filter(([name]) => !name.includes(".")));
}

function counts(of: Record<string, number>): string {
  return Object.entries(of)
    .map(([name, count]) => `${number(count)} ${words(name)}`)
    .join(", ");
}
