/** What people gave, what was left out and why, and who is set aside. */

import { useState } from "preact/hooks";
import type { FeedbackFigures, Rater, RaterPage } from "../api/loop";
import { submitting } from "../ui/form";
import { ActButton, ask } from "./ActDialog";
import { quarantine, restore } from "./acts";
import { number, percent, short, time, words } from "./format";
import { Bar } from "./plots/Bar";
import { Shown } from "./Shown";
import { Table } from "./Table";
import { useWatch } from "./watch";

export function Feedback() {
  const figures = useWatch<FeedbackFigures>("v1/figures/feedback");
  return (
    <div class="panels">
      <Shown seen={figures}>
        {({ people, ai, regenerated, snapshot, dropped }) => (
          <>
            <Counts title="Votes of people" head="kind" counts={people} empty="Nobody has voted yet." />
            <Counts
              title="Left out"
              head="reason"
              counts={dropped}
              empty={snapshot === null ? "No snapshot was cut yet." : "The newest snapshot left nothing out."}
              note={snapshot === null ? "" : `Votes without a row in the newest snapshot, ${snapshot.slice(0, 12)}.`}
            />
            <Counts title="Asked for again" head="version" counts={regenerated} empty="No answer was." />
            {Object.keys(ai).length > 0 && <Counts title="Votes of AI raters" head="kind" counts={ai} empty="" />}
          </>
        )}
      </Shown>
      <Quarantined />
    </div>
  );
}

interface Counted {
  title: string;
  head: string;
  counts: Record<string, number>;
  empty: string;
  note?: string;
}

/** The most first. */
function Counts({ title, head, counts, empty, note = "" }: Counted) {
  const sorted = Object.entries(counts).sort(([, one], [, other]) => other - one);
  const most = Math.max(1, ...Object.values(counts));
  return (
    <section class="panel" aria-label={title}>
      <h2>{title}</h2>
      <Table
        label={title}
        head={[head, "count", "share"]}
        rows={sorted.map(([name, count]) => [words(short(name)), number(count), <Bar value={count} most={most} />])}
        empty={empty}
      />
      {note !== "" && <p class="note">{note}</p>}
    </section>
  );
}

function Quarantined() {
  const [after, setAfter] = useState("");
  const next = after === "" ? "" : `&after=${encodeURIComponent(after)}`;
  const raters = useWatch<RaterPage>(`v1/raters?quarantined=true&limit=50${next}`, 15_000);
  return (
    <section class="panel whole" aria-label="Raters in quarantine">
      <h2>Raters in quarantine</h2>
      <Shown seen={raters}>
        {({ data, has_more, last_id }) => (
          <>
            <Table
              label="Raters in quarantine"
              head={["rater", "since", "by", "why", "judged", "act"]}
              rows={data.map(row)}
              empty="Nobody is."
            />
            <div class="row">
              {after !== "" && (
                <button type="button" class="quiet" onClick={() => setAfter("")}>
                  The first ones
                </button>
              )}
              {has_more && last_id !== null && (
                <button type="button" class="quiet" onClick={() => setAfter(last_id)}>
                  More
                </button>
              )}
            </div>
          </>
        )}
      </Shown>
      <Aside />
    </section>
  );
}

function row({ id, review, report }: Rater) {
  return [
    <code>{id}</code>,
    review && time(Date.parse(review.created_at) / 1000),
    review?.actor,
    review?.reason,
    report && `${number(report.judged)} of ${number(report.votes)} votes, weight ${percent(report.weight, 0)}`,
    <ActButton act={restore(id)} label="Take back" small />,
  ];
}

/** Whom the judging of raters did not find, a person may. */
function Aside() {
  const [rater, setRater] = useState("");
  return (
    <form class="inline" onSubmit={submitting(() => ask(quarantine(rater.trim())))}>
      <label for="rater">Put a rater in quarantine</label>
      <input
        id="rater"
        required
        maxLength={256}
        pattern=".*\S.*"
        autocomplete="off"
        spellcheck={false}
        placeholder="their id"
        value={rater}
        onInput={(event) => setRater(event.currentTarget.value)}
      />
      <button type="submit" class="danger">
        Quarantine…
      </button>
    </form>
  );
}
