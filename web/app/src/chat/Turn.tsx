/** One question, which can be edited, and what came of it. */

import { memo } from "preact/compat";
import { useState } from "preact/hooks";
import { drafts, shownDraft, type Turn } from "../model/conversation";
import { useDraft } from "../model/draft";
import { submitting } from "../ui/form";
import { Icon } from "../ui/Icon";
import { pressedBy } from "../ui/keys";
import { TextBox } from "../ui/TextBox";
import { AnswerView } from "./Answer";
import { again, change, edit, type Failure, isFree, running, withdraw } from "./asking";
import { Comparison } from "./Comparison";
import { putBack } from "./composing";
import { conversation } from "./keeping";

interface Props {
  turn: Turn;
  index: number;
  last: boolean;
  failure: Failure | undefined;
}

/** Drawn again only when its own turn changes, so that a stream costs the same in a long conversation. */
export const TurnView = memo(({ turn, index, last, failure }: Props) => {
  const draft = shownDraft(turn);
  const busy = running.value?.turn === index;
  return (
    <section class="turn" aria-label={`Message ${index + 1}`}>
      <Question turn={turn} index={index} />
      <div class="place">
        {draft?.pair && <Comparison turn={turn} first={draft.index} busy={busy} />}
        {draft && !draft.pair && <AnswerView key={turn.shown} turn={turn} index={index} busy={busy} last={last} />}
        {last && !busy && drafts(turn).length > 1 && <Drafts turn={turn} index={index} />}
        {failure && <FailureView index={index} failure={failure} />}
        {!draft && !failure && !busy && <FailureView index={index} failure={UNANSWERED} />}
      </div>
    </section>
  );
});

/** After a reload, a question whose answer never came. */
const UNANSWERED: Failure = { why: "There is no answer yet.", way: "answer" };

function Question({ turn, index }: { turn: Turn; index: number }) {
  const [editing, setEditing] = useState(false);
  if (editing) return <Edit turn={turn} index={index} onDone={() => setEditing(false)} />;
  return (
    <div class="question">
      <button
        type="button"
        class="quiet square"
        title="Edit the question (E)"
        aria-label="Edit the question"
        disabled={running.value !== null}
        onClick={() => setEditing(true)}
        {...pressedBy("e")}
      >
        <Icon name="edit" />
      </button>
      <p>{turn.question}</p>
    </div>
  );
}

function Edit({ turn, index, onDone }: { turn: Turn; index: number; onDone: () => void }) {
  const [text, setText] = useDraft(`edit.${conversation.value.id}.${index}`, turn.question);
  const later = conversation.value.turns.length - index - 1;
  const send = () => {
    if (text.trim() === "") return;
    setText(turn.question);
    onDone();
    edit(index, text);
  };
  return (
    <form class="edit" onSubmit={submitting(send)}>
      <TextBox label="The question, edited" value={text} onValue={setText} onSubmit={send} onCancel={onDone} />
      <div class="row">
        {later > 0 && <span class="note">The messages after it will go.</span>}
        <button type="button" class="quiet" onClick={onDone}>
          Cancel
        </button>
        <button type="submit" class="primary">
          Ask
        </button>
      </div>
    </form>
  );
}

/** Which of several answers the conversation goes on from. */
function Drafts({ turn, index }: { turn: Turn; index: number }) {
  const all = drafts(turn);
  const at = all.findIndex((draft) => draft.index === shownDraft(turn)?.index);
  const show = (next: number) => {
    const draft = all[next];
    if (draft === undefined || !isFree.value) return;
    const better = draft.pair && turn.answers[draft.index]?.vote === "b" ? 1 : 0;
    change(index, (it) => ({ ...it, shown: draft.index + better }));
  };
  return (
    <div class="drafts" role="group" aria-label="Answers to this question">
      <button
        type="button"
        class="quiet square"
        aria-label="Answer before"
        title="Answer before ([)"
        disabled={at === 0}
        onClick={() => show(at - 1)}
        {...pressedBy("[")}
      >
        <Icon name="left" />
      </button>
      <span aria-live="polite">{`${at + 1} of ${all.length}`}</span>
      <button
        type="button"
        class="quiet square"
        aria-label="Next answer"
        title="Next answer (])"
        disabled={at === all.length - 1}
        onClick={() => show(at + 1)}
        {...pressedBy("]")}
      >
        <Icon name="right" />
      </button>
    </div>
  );
}

/** What is shown where no answer came: why, and two ways on. */
function FailureView({ index, failure }: { index: number; failure: Failure }) {
  return (
    <div class="failure" role="alert">
      <p>{failure.why}</p>
      <button type="button" onClick={() => again(index, failure.way)} {...pressedBy("r")}>
        Try again
      </button>
      <button type="button" class="quiet" onClick={() => isFree.value && putBack(withdraw(index))}>
        Edit message
      </button>
    </div>
  );
}
