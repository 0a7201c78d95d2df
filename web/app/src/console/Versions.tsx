/** Every version, what people and judge say of it, and how far the loop drifted from where it began. */

import type { Leaderboard, Policy, Release, Standing } from "../api/loop";
import { ActButton } from "./ActDialog";
import { open, promote, rollBack } from "./acts";
import type { Served } from "./Console";
import { interval, number, percent, short, time, words } from "./format";
import { Whisker } from "./plots/Bar";
import { type Axis, LinePlot, type Series } from "./plots/LinePlot";
import { type Place, span, ticks } from "./plots/scale";
import { ancestry, figures, live, openOf } from "./policies";
import { Shown } from "./Shown";
import { Table } from "./Table";
import { useWatch } from "./watch";

export function Versions({ policies, releases }: Served) {
  return (
    <Shown seen={policies}>
      {({ data }) => (
        <div class="panels">
          <section class="panel whole" aria-label="Versions">
            <h2>Versions</h2>
            <All policies={data} release={openOf(releases.value?.data ?? [])} />
          </section>
          <Board />
          <Cost policies={data} />
          <Drift policies={data} />
        </div>
      )}
    </Shown>
  );
}

function All({ policies, release }: { policies: Policy[]; release: Release | undefined }) {
  const now = live(policies);
  const rows = policies.toReversed().map((each) => {
    const { version, state, parent, method, gate, created } = each;
    return [
      <span class="version">v{version}</span>,
      <span class="state" data-state={state}>
        {words(state)}
      </span>,
      parent === null ? "the base" : `${method} on v${parent}`,
      gate === null ? "" : <span title={gate.summary}>{gate.verdict}</span>,
      gate?.metrics["win_rate"] === undefined ? "" : percent(gate.metrics["win_rate"]),
      gate?.metrics["kl_to_base"] === undefined ? "" : number(gate.metrics["kl_to_base"]),
      time(created),
      now && <Acts policy={each} now={now} release={release} />,
    ];
  });
  const head = ["version", "state", "from", "gate", "judge's win rate", "KL to base", "made", "act"];
  return <Table label="Versions" head={head} rows={rows} empty="No policy is registered yet." />;
}

function Acts({ policy, now, release }: { policy: Policy; now: Policy; release: Release | undefined }) {
  const { version, state } = policy;
  if (version === now.version)
    return now.parent === null ? null : <ActButton act={rollBack(now, release)} label="Roll back" small />;
  return (
    <span class="acts">
      {state === "candidate" && release === undefined && (
        <ActButton act={open(policy, now.version)} label={`Release v${version}`} small />
      )}
      <ActButton
        act={promote(policy, now.version, release?.version === version ? undefined : release)}
        label={`Promote v${version}`}
        small
      />
    </span>
  );
}

/** Asked for once a minute: the server reads the whole log for it. */
function Board() {
  const board = useWatch<Leaderboard>("v1/leaderboard", 60_000);
  return (
    <section class="panel" aria-label="Leaderboard">
      <h2>Leaderboard</h2>
      <Shown seen={board}>
        {({ standings, votes, raters, by_rater }) => (
          <>
            <Table
              label="Leaderboard"
              head={["version", "rank", "Elo", "95 %", "votes"]}
              rows={standings.map((it) => [
                <span class="version">v{it.version}</span>,
                it.rank === it.rank_last ? it.rank : `${it.rank} to ${it.rank_last}`,
                <span class="measured">
                  {number(Math.round(it.elo.value))}
                  <Whisker {...it.elo} domain={reach(standings)} against={1000} />
                </span>,
                interval(it.elo, (elo) => number(Math.round(elo))),
                number(it.votes),
              ])}
              empty="Nobody has compared two versions yet."
            />
            {votes > 0 && (
              <p class="note">
                At equal length, by {number(votes)} votes of {number(raters)} raters. The oldest version of each group
                is 1,000{by_rater ? "" : "; with fewer than 20 raters intervals speak of these alone"}.
              </p>
            )}
          </>
        )}
      </Shown>
    </section>
  );
}

function reach(standings: Standing[]): [number, number] {
  const [low, high] = span(standings.flatMap(({ elo }) => [elo.low, elo.high]));
  return [Math.min(low, 980), Math.max(high, 1020)];
}

/** Win rates on the way to the live version, over how far each version is from the base. */
function Cost({ policies }: { policies: Policy[] }) {
  const way = ancestry(policies, live(policies)?.version ?? 0);
  const distance = new Map(figures(way, "kl_to_base"));
  const over = (name: string) =>
    figures(way, name).flatMap(([version, value]): Place[] => {
      const kl = distance.get(version);
      return kl === undefined ? [] : [[kl, value]];
    });
  const series: Series[] = [
    { name: "the reward that was optimized", colour: "brass", points: over("proxy_win_rate") },
    { name: "the judge", colour: "accent", points: over("win_rate") },
    { name: "people, of the step before", colour: "good", points: over("people_win_rate") },
  ];
  const furthest = Math.max(0.5, ...distance.values());
  return (
    <section class="panel" aria-label="Reward against KL">
      <h2>Reward against KL</h2>
      {distance.size === 0 ? (
        <p class="note">Drawn from the first version on that a gate measured.</p>
      ) : (
        <LinePlot
          title="Win rate over the version before"
          says={`Win rates of ${distance.size} versions over the one before, by their distance to the base.`}
          x={{ label: "KL to the base, nats", domain: [0, furthest], ticks: ticks([0, furthest], 4), write: number }}
          y={{ label: "win rate", domain: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1], write: (it) => percent(it, 0) }}
          series={series.filter(({ points }) => points.length > 0)}
          rules={[{ at: 0.5, says: "no better" }]}
          dots
        />
      )}
    </section>
  );
}

const DRIFTS: { name: string; title: string; write: (value: number) => string; least: number }[] = [
  { name: "length_path", title: "Length, times the base's", write: number, least: 1.5 },
  { name: "refusal_rate", title: "Refusals", write: (it) => percent(it, 0), least: 0.05 },
  { name: "agreement", title: "Agrees with wrong claims", write: (it) => percent(it, 0), least: 0.5 },
];

/** What the gate's prompts say of each version on the way to the live one. */
function Drift({ policies }: { policies: Policy[] }) {
  const way = ancestry(policies, live(policies)?.version ?? 0);
  const known = DRIFTS.map((it) => ({ ...it, points: figures(way, it.name) })).filter(
    ({ points }) => points.length > 0,
  );
  const last = way.length - 1;
  const versions: Axis = {
    label: "version",
    domain: [0, Math.max(1, last)],
    ticks: ticks([0, last], 6).filter(Number.isInteger),
    write: (at) => short(way[at]?.version ?? ""),
  };
  const places = new Map(way.map(({ version }, at) => [version, at]));
  return (
    <section class="panel whole" aria-label="Drift">
      <h2>Drift</h2>
      {known.length === 0 && <p class="note">Drawn from the first version on that a gate measured.</p>}
      <div class="plots">
        {known.map(({ name, title, write, least, points }) => {
          const [, most] = span(points.map(([, value]) => value));
          const domain: [number, number] = [0, Math.max(least, 1.1 * most)];
          return (
            <LinePlot
              key={name}
              title={title}
              says={points.map(([version, value]) => `v${version}: ${write(value)}`).join(", ")}
              x={versions}
              y={{ label: title, domain, ticks: ticks(domain, 3), write }}
              series={[
                {
                  name: "on the way to the live version",
                  colour: "accent",
                  points: points.map(([version, value]): Place => [places.get(version) ?? 0, value]),
                },
              ]}
              dots
              height={150}
            />
          );
        })}
      </div>
    </section>
  );
}
