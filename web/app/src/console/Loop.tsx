/** The loop at a glance: what is live, what is on its way, what comes next, and whom the votes come from. */

import { type List, NEWEST_RUNS, type NextRound, type Run, type Trust } from "../api/loop";
import { ActButton } from "./ActDialog";
import { cancel, rollBack } from "./acts";
import type { Served } from "./Console";
import { eValue, number, percent, span, time } from "./format";
import { live, openOf } from "./policies";
import { ReleasePanel } from "./ReleasePanel";
import { Shown } from "./Shown";
import { TrainNow } from "./TrainNow";
import { type Seen, useWatch } from "./watch";

export function Loop(served: Served) {
  const round = useWatch<NextRound>("v1/rounds/next");
  const runs = useWatch<List<Run>>(NEWEST_RUNS);
  const trust = useWatch<Trust>("v1/trust", 15_000);
  return (
    <div class="overview">
      <ReleasePanel {...served} />
      <div class="beside">
        <LivePanel {...served} />
        <section class="panel" aria-label="Training">
          <h2>Training</h2>
          <Shown seen={runs}>{({ data }) => <Newest runs={data} />}</Shown>
          <Shown seen={round}>{(next) => <Next {...next} />}</Shown>
          {runs.value && <TrainNow runs={runs.value.data} releases={served.releases.value?.data ?? []} />}
        </section>
        <Raters trust={trust} />
      </div>
    </div>
  );
}

function LivePanel({ policies, releases }: Served) {
  return (
    <section class="panel" aria-label="Live policy">
      <h2>Live</h2>
      <Shown seen={policies}>
        {({ data }) => {
          const now = live(data);
          if (now === undefined) return <p>No policy is registered yet.</p>;
          const open = openOf(releases.value?.data ?? []);
          return (
            <>
              <p class="big version">assistant@v{now.version}</p>
              <p class="note">
                {now.parent === null ? "The base itself" : `${now.method} on v${now.parent}`}, of {time(now.created)}
              </p>
              {now.gate && <p class="note">Gate: {now.gate.summary}</p>}
              {now.parent !== null && (
                <div class="row">
                  <ActButton act={rollBack(now, open)} label={`Roll back to v${now.parent}`} />
                </div>
              )}
            </>
          );
        }}
      </Shown>
    </section>
  );
}

function Newest({ runs }: { runs: Run[] }) {
  const run = runs.find(({ state }) => state === "running" || state === "queued") ?? runs[0];
  if (run === undefined) return <p class="note">No round was run yet.</p>;
  const name = run.id.slice(0, 12);
  if (run.state !== "running" && run.state !== "queued")
    return (
      <p class="note">
        The last run, <a href="#runs">{name}</a>, is {run.state}
        {run.version === null ? "" : `: v${run.version}, gate ${run.verdict}`}
        {run.reason === "" ? "" : ` (${run.reason})`}.
      </p>
    );
  const says = run.state === "queued" ? "waits for a worker" : `${run.stage}, ${percent(run.progress, 0)}`;
  return (
    <div class="going">
      <label>
        Run <a href="#runs">{name}</a>: {says}
        <progress value={run.progress} max={1} />
      </label>
      <ActButton act={cancel(run)} label="Cancel" small />
    </div>
  );
}

function Next({ votes_new, votes_needed, next_check_at, reason }: NextRound) {
  if (next_check_at === null) return <p class="note">The scheduler has not looked yet.</p>;
  const late = Date.now() / 1000 - next_check_at;
  return (
    <>
      <label>
        {number(votes_new)} of {number(votes_needed)} votes for the next round
        <progress value={Math.min(votes_new, votes_needed)} max={Math.max(1, votes_needed)} />
      </label>
      {reason !== "" && <p class="note">It waits: {reason}.</p>}
      {late > 60 && <p class="notice">The scheduler is {span(late)} late. Does it run?</p>}
    </>
  );
}

function Raters({ trust }: { trust: Seen<Trust> }) {
  return (
    <section class="panel" aria-label="Raters">
      <h2>Raters</h2>
      <Shown seen={trust}>
        {({ quarantined, report }) => (
          <>
            <p>
              <a href="#feedback">{number(quarantined)} in quarantine</a>
              {report && `, ${number(report.raters)} judged by ${number(report.votes)} votes`}
            </p>
            {report?.first && (
              <p class="note">
                First side preferred in {percent(report.first.value, 0)} ({percent(report.first.low, 0)} to{" "}
                {percent(report.first.high, 0)})
                {report.longer && `, the longer answer in ${percent(report.longer.value, 0)}`}
                {report.longer_expected !== null && ` (${percent(report.longer_expected, 0)} expected)`}.
              </p>
            )}
            {report?.habits.map(({ habit, raters, log10_e }) => (
              <p key={habit} class="notice">
                {raters} raters share a habit: {habit} (e = {eValue(log10_e)}).
              </p>
            ))}
          </>
        )}
      </Shown>
    </section>
  );
}
