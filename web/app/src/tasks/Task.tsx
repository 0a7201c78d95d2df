/** One task: what was asked, the answers, and the question that the rater answers. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Task, TaskAnswer } from "../api/tasks";
import { Markdown } from "../markdown/Markdown";
import { useDraft } from "../model/draft";
import { pressedBy } from "../ui/keys";
import { TextBox } from "../ui/TextBox";
import { Rank } from "./Rank";

export interface Judging {
  task: Task;
  onAnswer: (value: unknown) => Promise<void>;
  onSkip: () => Promise<void>;
}

const QUESTIONS: Record<Task["kind"], string> = {
  compare: "Which answer is better?",
  rank: "Rank the answers. 1 is the best; equal ones may share a place.",
  rate: "How good is the answer?",
  correct: "Edit the answer until it is right.",
};

type Choice = [key: string, label: string, value: unknown];

const COMPARE: Choice[] = [
  ["1", "A is better", "a"],
  ["2", "Tie", "tie"],
  ["3", "B is better", "b"],
  ["4", "Both are bad", "both_bad"],
];
const RATE: Choice[] = ["Bad", "Poor", "Fair", "Good", "Excellent"].map((label, at) => [String(at + 1), label, at + 1]);

export function TaskView(judging: Judging) {
  const { task } = judging;
  return (
    <>
      {task.instructions !== "" && (
        <details class="instructions" open>
          <summary>Instructions</summary>
          <div class="prose">
            <Markdown text={task.instructions} />
          </div>
        </details>
      )}
      <section aria-label="Conversation">
        {task.messages.map(({ role, content }, index) => (
          <div key={index} class={role === "user" ? "question" : "said"}>
            <span class="unseen">{role}: </span>
            <p>{content}</p>
          </div>
        ))}
      </section>
      <h2 class="asked">{QUESTIONS[task.kind]}</h2>
      <Kind {...judging} />
    </>
  );
}

function Kind(judging: Judging) {
  switch (judging.task.kind) {
    case "compare":
      return <Choose {...judging} choices={COMPARE} />;
    case "rate":
      return <Choose {...judging} choices={RATE} />;
    case "rank":
      return <Rank {...judging} />;
    case "correct":
      return <Correct {...judging} />;
  }
}

export function Card({ answer, control }: { answer: TaskAnswer; control?: ComponentChildren }) {
  return (
    <article class="card">
      <header>
        <h3>{answer.side === null ? "Answer" : `Answer ${answer.side.toUpperCase()}`}</h3>
        {control}
      </header>
      <div class="prose">
        <Markdown text={answer.content} />
      </div>
    </article>
  );
}

interface ControlsProps {
  task: Task;
  busy: boolean;
  skip: () => void;
  children: ComponentChildren;
}

/** The controls below a task. While an answer is on its way, nothing else can be pressed. */
export function Controls({ task, busy, skip, children }: ControlsProps) {
  return (
    <div class="judge" role="group" aria-label={QUESTIONS[task.kind]} aria-busy={busy}>
      {children}
      <button type="button" class="quiet" onClick={skip} {...pressedBy("0")}>
        Skip
      </button>
    </div>
  );
}

/** One answer or skip is sent at a time. */
export function useSettling({ onAnswer, onSkip }: Judging) {
  const [busy, setBusy] = useState(false);
  const once = (settle: () => Promise<void>) => {
    if (busy) return;
    setBusy(true);
    void settle().finally(() => setBusy(false));
  };
  return { busy, answer: (value: unknown) => once(() => onAnswer(value)), skip: () => once(onSkip) };
}

/** One of a few values, by a button or its key. */
function Choose({ choices, ...judging }: Judging & { choices: Choice[] }) {
  const { task } = judging;
  const { busy, answer, skip } = useSettling(judging);
  return (
    <>
      <div class={task.answers.length === 2 ? "cards" : "cards many"}>
        {task.answers.map((each) => (
          <Card key={each.side} answer={each} />
        ))}
      </div>
      <Controls task={task} busy={busy} skip={skip}>
        {choices.map(([key, label, value]) => (
          <button key={key} type="button" onClick={() => answer(value)} {...pressedBy(key)}>
            {label}
            <kbd aria-hidden="true">{key}</kbd>
          </button>
        ))}
      </Controls>
    </>
  );
}

/** The answer in a text field, below the answer as it was. A draft outlives a reload. */
function Correct(judging: Judging) {
  const { task } = judging;
  const original = task.answers[0]?.content ?? "";
  const [text, setText] = useDraft(`task.${task.id}`, original);
  const { busy, answer, skip } = useSettling(judging);
  return (
    <>
      <div class="cards many">
        {task.answers.map((each) => (
          <Card key={each.side} answer={each} />
        ))}
      </div>
      <div class="corrected">
        <TextBox
          label="The answer as it should be"
          value={text}
          onValue={setText}
          onSubmit={() => answer(text)}
          focus={false}
        />
      </div>
      <Controls task={task} busy={busy} skip={skip}>
        <button type="button" class="primary" onClick={() => answer(text)}>
          Send the correction
          <kbd aria-hidden="true">Ctrl ↵</kbd>
        </button>
      </Controls>
    </>
  );
}
