/** Rounds of training: how far they are, what their trainers say, and how good their reward models are. */

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { type List, NEWEST_RUNS, type RewardModel, type Run, type RunLog } from "../api/loop";
import { ActButton } from "./ActDialog";
import { cancel, retry } from "./acts";
import type { Served } from "./Console";
import { number, percent, time } from "./format";
import { Whisker } from "./plots/Bar";
import { Shown } from "./Shown";
import { Table } from "./Table";
import { TrainNow } from "./TrainNow";
import { useWatch } from "./watch";

export function Runs({ releases }: Served) {
  const runs = useWatch<List<Run>>(NEWEST_RUNS, 3000);
  const [chosen, setChosen] = useState<string | null>(null);
  return (
    <div class="panels">
      <section class="panel whole" aria-label="Runs">
        <h2>Runs</h2>
        <Shown seen={runs}>
          {({ data }) => {
            const run = data.find(({ id }) => id === chosen) ?? data[0];
            return (
              <>
                <Table
                  label="Runs"
                  head={["run", "state", "parent", "came to", "begun", "act"]}
                  rows={data.map((each) => row(each, each.id === run?.id, () => setChosen(each.id)))}
                  empty="No round was run yet."
                />
                <TrainNow runs={data} releases={releases.value?.data ?? []} />
                {run && <Log key={run.id} run={run} />}
              </>
            );
          }}
        </Shown>
      </section>
      <RewardModels />
    </div>
  );
}

function row(run: Run, isChosen: boolean, choose: () => void) {
  const { id, state, parent, version, verdict, reason, created } = run;
  return [
    <button type="button" class="quiet small" aria-pressed={isChosen} onClick={choose}>
      <code>{id.slice(0, 12)}</code>
    </button>,
    <State {...run} />,
    `v${parent}`,
    <>
      {version !== null && `v${version}, gate ${verdict}: `}
      {reason}
    </>,
    time(created),
    state === "running" || state === "queued" ? (
      <ActButton act={cancel(run)} label="Cancel" small />
    ) : (
      state !== "done" && <ActButton act={retry(run)} label="Repeat" small />
    ),
  ];
}

function State({ state, stage, progress, attempt }: Run) {
  if (state !== "running") return <span class="state">{state}</span>;
  return (
    <label class="measured">
      {stage}, {percent(progress, 0)}
      {attempt > 1 && `, attempt ${attempt}`}
      <progress value={progress} max={1} />
    </label>
  );
}

/** The end of what a trainer says; it follows while the reader is at its end. */
function Log({ run }: { run: Run }) {
  const [file, setFile] = useState("");
  const query = file === "" ? "" : `?file=${encodeURIComponent(file)}`;
  const log = useWatch<RunLog>(`v1/runs/${run.id}/log${query}`, run.state === "running" ? 2000 : 60_000);
  const place = useRef<HTMLPreElement>(null);
  const follows = useRef(true);
  const text = log.value?.text;
  useLayoutEffect(() => {
    const pre = place.current;
    if (pre && follows.current) pre.scrollTop = pre.scrollHeight;
  }, [text]);
  const onScroll = ({ currentTarget: pre }: { currentTarget: HTMLPreElement }) => {
    follows.current = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
  };
  return (
    <section aria-label="Log">
      <Shown seen={log}>
        {(said) =>
          said.file === null ? (
            <p class="note">Its trainers have said nothing yet, or their logs are not on this machine.</p>
          ) : (
            <>
              <label class="inline">
                Log of run {run.id.slice(0, 12)}
                <select value={file} onChange={(event) => setFile(event.currentTarget.value)}>
                  <option value="">the newest: {said.files.at(-1)}</option>
                  {said.files.map((name) => (
                    <option key={name} value={name}>
                      {name}
                    </option>
                  ))}
                </select>
              </label>
              {!said.is_whole && <p class="note">Its last 64 KiB.</p>}
              <pre
                ref={place}
                class="log"
                tabIndex={0}
                role="log"
                aria-label={said.file}
                aria-live="off"
                onScroll={onScroll}
              >
                {said.text}
              </pre>
            </>
          )
        }
      </Shown>
    </section>
  );
}

function RewardModels() {
  const models = useWatch<List<RewardModel>>("v1/figures/reward-models", 30_000);
  return (
    <section class="panel whole" aria-label="Reward models">
      <h2>Reward models</h2>
      <Shown seen={models}>
        {({ data }) => (
          <Table
            label="Reward models"
            head={[
              "run",
              "accuracy",
              "at least",
              "ceiling",
              "votes",
              "calibration error",
              "temperature",
              "earlier model",
            ]}
            rows={data.toReversed().map(model)}
            empty="No reward model was trained on this machine yet."
          />
        )}
      </Shown>
      <p class="note">
        Accuracy on votes that the model was not trained on; the ceiling is what no model can beat, as raters disagree.
        The calibration error is beside what chance alone would make it. The earlier model's accuracy is on the votes
        that came after its own: how fast reward models age.
      </p>
    </section>
  );
}

function model({ run, accuracy, accuracy_low, ceiling, votes, calibration, earlier }: RewardModel) {
  const share = (value: number | null) => (value === null ? "" : percent(value));
  return [
    <code>{run.slice(0, 12)}</code>,
    accuracy !== null && (
      <span class="measured">
        {percent(accuracy)}
        <Whisker
          value={accuracy}
          low={accuracy_low ?? accuracy}
          high={accuracy}
          domain={[0.4, 1]}
          against={ceiling ?? 0.5}
        />
      </span>
    ),
    share(accuracy_low),
    share(ceiling),
    number(votes),
    calibration && `${percent(calibration.error)} (${percent(calibration.by_chance)} by chance)`,
    calibration?.temperature != null ? number(calibration.temperature) : "",
    share(earlier),
  ];
}
