/** How the evidence of a release went, vote by vote: the e-values on a log axis, and the confidence sequence. */

import type { EvidencePoint } from "../api/loop";
import { eValue, number, percent } from "./format";
import { type Axis, LinePlot } from "./plots/LinePlot";
import { span, ticks } from "./plots/scale";

/** Less evidence than this is drawn as this much: it only grows less while the other side's grows. */
const LEAST = -2;

export function EvidencePlots({ points, alpha }: { points: EvidencePoint[]; alpha: number }) {
  const last = points.at(-1);
  if (last === undefined) return <p class="note">The evidence is drawn here from the first vote on.</p>;
  const bar = -Math.log10(alpha);
  const people: Axis = {
    label: "people who voted",
    domain: [0, Math.max(10, last.raters)],
    ticks: ticks([0, Math.max(10, last.raters)], 4),
    write: number,
  };
  const [, highest] = span(points.flatMap((it) => [it.log10_e, it.log10_e_against]));
  const powers: [number, number] = [LEAST, Math.max(bar + 0.7, highest + 0.3)];
  return (
    <div class="plots">
      <LinePlot
        title="Evidence"
        says={`After ${last.raters} people the e-value for the candidate is ${eValue(last.log10_e)}, against it ${eValue(last.log10_e_against)}; ${number(1 / alpha)} decides.`}
        x={people}
        y={{ label: "e-value", domain: powers, ticks: ticks(powers).filter(Number.isInteger), write: eValue }}
        series={[
          { name: "for the candidate", colour: "accent", points: points.map((it) => [it.raters, it.log10_e]) },
          { name: "against it", colour: "bad", points: points.map((it) => [it.raters, it.log10_e_against]) },
        ]}
        rules={[{ at: bar, says: `${number(1 / alpha)} decides` }]}
      />
      <LinePlot
        title="Win rate"
        says={`The candidate wins ${percent(last.win_rate)}, with 95 % confidence at all times together ${percent(last.low)} to ${percent(last.high)}.`}
        x={people}
        y={{ label: "win rate", domain: [0, 1], ticks: [0, 0.25, 0.5, 0.75, 1], write: (it) => percent(it, 0) }}
        series={[
          {
            name: "of the candidate, ties half",
            colour: "accent",
            points: points.map((it) => [it.raters, it.win_rate]),
          },
        ]}
        band={{
          name: "95 % at all times",
          lower: points.map((it) => [it.raters, it.low]),
          upper: points.map((it) => [it.raters, it.high]),
        }}
        rules={[{ at: 0.5, says: "no better, no worse" }]}
      />
    </div>
  );
}
