/** Two versions beside each other: what they answer to one prompt, not blind, and how they differ by the numbers. */

import { useId, useState } from "preact/hooks";
import type { Change, Difference, List, Sample } from "../api/loop";
import { asOperator, inWords } from "../api/operator";
import { ApiError } from "../api/send";
import { Markdown } from "../markdown/Markdown";
import { submitting } from "../ui/form";
import type { Served } from "./Console";
import { interval, number, percent, words } from "./format";
import { pair } from "./policies";
import { Shown } from "./Shown";
import { Table } from "./Table";
import { useWatch } from "./watch";

export function Compare({ policies, releases }: Served) {
  const [chosen, setChosen] = useState<[number, number] | null>(null);
  const versions = policies.value?.data ?? [];
  const [before, after] = chosen ?? pair(versions, releases.value?.data ?? []);
  const pick = (name: string, value: number, onPick: (version: number) => void) => (
    <label>
      {name}
      <select value={value} onChange={(event) => onPick(Number(event.currentTarget.value))}>
        {versions.map(({ version, state }) => (
          <option key={version} value={version}>
            v{version}, {words(state)}
          </option>
        ))}
      </select>
    </label>
  );
  return (
    <div class="panels">
      <section class="panel whole" aria-label="Samples">
        <h2>Samples</h2>
        <div class="inline">
          {pick("Version", before, (version) => setChosen([version, after]))}
          {pick("beside", after, (version) => setChosen([before, version]))}
        </div>
        <Samples versions={before === after ? [after] : [before, after]} />
      </section>
      {before !== after && <Differences key={`${before} ${after}`} before={before} after={after} />}
    </div>
  );
}

function Samples({ versions }: { versions: number[] }) {
  const [prompt, setPrompt] = useState("");
  const [samples, setSamples] = useState<Sample[]>([]);
  const [busy, setBusy] = useState(false);
  const [notice, setNotice] = useState("");
  const id = useId();
  const send = async () => {
    if (busy) return;
    setBusy(true);
    setNotice("");
    try {
      const body = { messages: [{ role: "user", content: prompt }], versions };
      setSamples((await asOperator<List<Sample>>("v1/samples", { method: "POST", body })).data);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setNotice(inWords(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <form class="act" onSubmit={submitting(send)} aria-busy={busy}>
        <label for={id}>Prompt</label>
        <textarea
          id={id}
          class="box"
          rows={2}
          required
          value={prompt}
          onInput={(event) => setPrompt(event.currentTarget.value)}
          aria-describedby={`${id}-note`}
        />
        <p id={`${id}-note`} class="note">
          Nothing of it is kept or trained on. Loaded are version 0, the live one, the one before and a canary.
        </p>
        <p class="notice" role="alert">
          {notice}
        </p>
        <div class="row">
          <button type="submit" class="primary" disabled={busy}>
            {busy ? "Answering…" : "Answer by both"}
          </button>
        </div>
      </form>
      <div class="cards" aria-live="polite">
        {samples.map(({ policy_version, content, finish_reason }) => (
          <article key={policy_version} class="card">
            <header>
              <h3 class="version">{policy_version}</h3>
              {finish_reason === "length" && <span class="note">cut off at 256 tokens</span>}
            </header>
            <div class="prose">
              <Markdown text={content} />
            </div>
          </article>
        ))}
      </div>
    </>
  );
}

function Differences({ before, after }: { before: number; after: number }) {
  const found = useWatch<Difference>(`v1/policies/${before}/diff/${after}`, 600_000);
  const table = (title: string, changes: Change[]) =>
    changes.length > 0 && (
      <section class="panel" aria-label={title}>
        <h2>{title}</h2>
        <Table
          label={title}
          head={["", `v${before}`, `v${after}`]}
          rows={changes.map((it) => [words(it.name), it.before, it.after])}
        />
      </section>
    );
  return (
    <Shown seen={found}>
      {({ people, path, gate, recipe, snapshot }) => (
        <>
          <section class="panel" aria-label="People">
            <h2>People</h2>
            {people.win_rate === null ? (
              <p>
                Nobody has compared v{after} with v{before}.
              </p>
            ) : (
              <p>
                v{after} is preferred to v{before} in <strong>{percent(people.win_rate.value)}</strong> (
                {interval(people.win_rate, percent)}) of {number(people.votes)} votes of {number(people.raters)} raters
                {people.at_equal_length && `; at equal length in ${percent(people.at_equal_length.value)}`}.
              </p>
            )}
            <p class="note">By descent: {path.map((version) => `v${version}`).join(" → ")}</p>
          </section>
          {table("Gate", gate)}
          {table("Recipe", recipe)}
          {table("Snapshot", snapshot)}
        </>
      )}
    </Shown>
  );
}
