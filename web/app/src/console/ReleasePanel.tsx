/** The open release, or the last one: its stages, what people said of it, and how the evidence went. */

import type { ComponentChildren } from "preact";
import type { Evidence, EvidencePoint, List, Policy, Release, Shadow } from "../api/loop";
import { ActButton } from "./ActDialog";
import { promote, stop } from "./acts";
import type { Served } from "./Console";
import { EvidencePlots } from "./EvidencePlots";
import { eValue, interval, number, percent, span } from "./format";
import { openOf } from "./policies";
import { Shown } from "./Shown";
import { useWatch } from "./watch";

/** Shares of end users, stage by stage; the first is one that nobody sees. */
const STAGES = ["unseen", "1 %", "10 %", "50 %", "all"];

export function ReleasePanel({ policies, releases }: Served) {
  return (
    <section class="panel release" aria-label="Release">
      <Shown seen={releases}>
        {({ data }) => {
          const release = openOf(data) ?? data.findLast(({ ended }) => ended !== null);
          if (release === undefined)
            return (
              <>
                <h2>Release</h2>
                <p>No candidate has passed its gate yet. The first that does is released here, step by step.</p>
              </>
            );
          return <One key={release.id} release={release} policies={policies.value?.data ?? []} />;
        }}
      </Shown>
    </section>
  );
}

function One({ release, policies }: { release: Release; policies: Policy[] }) {
  const isOpen = release.state === "canary";
  const every = isOpen ? 2000 : 60_000;
  const evidence = useWatch<Evidence>(`v1/releases/${release.id}/evidence`, every);
  const points = useWatch<List<EvidencePoint>>(`v1/figures/evidence/${release.id}`, every);
  const shadow = useWatch<Shadow>(`v1/releases/${release.id}/shadow`, isOpen ? 5000 : 60_000);
  const candidate = policies.find(({ version }) => version === release.version);
  return (
    <>
      <h2>
        {isOpen ? "Release" : "Last release"}: <span class="version">v{release.version}</span> against{" "}
        <span class="version">v{release.against}</span>
      </h2>
      <Stages release={release} />
      <p class="note">
        {isOpen ? "" : `${ENDED[release.state]} after ${span((release.ended ?? 0) - release.opened)}. `}
        {release.reason}, by {release.actor}.
      </p>
      <Shown seen={evidence}>{(said) => <Facts {...said} alpha={release.alpha} />}</Shown>
      <Shown seen={points}>{({ data }) => <EvidencePlots points={data} alpha={release.alpha} />}</Shown>
      {shadow.value && <Unseen {...shadow.value} />}
      {isOpen && candidate && (
        <div class="row">
          <ActButton act={stop(release)} label="Stop the release" />
          <ActButton act={promote(candidate, release.against, undefined)} label={`Promote v${release.version} now`} />
        </div>
      )}
    </>
  );
}

const ENDED: Record<Release["state"], string> = {
  canary: "",
  promoted: "Promoted",
  rolled_back: "Rolled back",
  kept: "Undecided, the live version stayed,",
  stopped: "Stopped",
};

function Stages({ release: { stage, state } }: { release: Release }) {
  const at = state === "promoted" ? STAGES.length : stage;
  return (
    <ol class="stages" aria-label="Share of users whom the candidate answers">
      {STAGES.map((name, place) => (
        <li key={name} data-passed={place < at} aria-current={place === at && state === "canary" ? "step" : undefined}>
          {name}
        </li>
      ))}
    </ol>
  );
}

function Facts(said: Evidence & { alpha: number }) {
  const { wins, ties, losses, low, high, alpha } = said;
  const people = wins + ties + losses;
  return (
    <dl class="facts">
      <Fact name="won, tied, lost" value={`${number(wins)}, ${number(ties)}, ${number(losses)}`} />
      <Fact name="win rate" value={people === 0 ? "–" : percent((wins + ties / 2) / people)}>
        {people === 0 ? "nobody voted yet" : interval({ low, high }, percent)}
      </Fact>
      <Fact name="e-value for it" value={eValue(said.log10_e)}>
        {number(1 / alpha)} promotes
      </Fact>
      <Fact name="e-value against it" value={eValue(said.log10_e_against)}>
        {number(1 / alpha)} rolls back
      </Fact>
      <Fact name="thumbs down" value={share(said.candidate_down, said.candidate_thumbs)}>
        live version {share(said.incumbent_down, said.incumbent_thumbs)}
      </Fact>
    </dl>
  );
}

function Fact({ name, value, children }: { name: string; value: string; children?: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
      {children !== undefined && <dd class="note">{children}</dd>}
    </div>
  );
}

function share(part: number, whole: number): string {
  return whole === 0 ? "–" : percent(part / whole, 0);
}

function Unseen({ wins, ties, losses, low, high, waiting, error }: Shadow) {
  const compared = wins + ties + losses;
  if (compared + waiting === 0 && error === "") return null;
  return (
    <p class="note">
      Before its first user: the judge preferred{" "}
      {compared === 0
        ? "nothing yet"
        : `${percent((wins + ties / 2) / compared)} of ${number(compared)} unseen answers`}
      {compared > 0 && ` (${interval({ low, high }, percent)})`}
      {waiting > 0 && `, ${number(waiting)} wait`}
      {error !== "" && `. Not compared: ${error}`}.
    </p>
  );
}
