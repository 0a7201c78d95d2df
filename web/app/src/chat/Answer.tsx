/** One answer: its text, who wrote it, how it ended, and what can be done with it. */

import { useState } from "preact/hooks";
import { Markdown } from "../markdown/Markdown";
import { type Answer, BROKEN, type Turn } from "../model/conversation";
import { copy } from "../ui/copy";
import { Icon, type IconName } from "../ui/Icon";
import { pressedBy } from "../ui/keys";
import { again, running, undecided } from "./asking";
import { Correction } from "./Correction";
import { Rating } from "./Rating";
import { Thumbs } from "./Thumbs";

interface Props {
  turn: Turn;
  index: number;
  /** It is being written. */
  busy: boolean;
  /** Only the last turn's question can be asked again: later ones went on from this answer. */
  last: boolean;
}

export function AnswerView({ turn, index, busy, last }: Props) {
  const answer = turn.answers[turn.shown] as Answer;
  const [correcting, setCorrecting] = useState(false);
  return (
    <article class="answer" aria-label="Answer" tabIndex={-1}>
      {correcting ? (
        <Correction answer={answer} onDone={() => setCorrecting(false)} />
      ) : (
        <div class="prose" aria-busy={busy || undefined}>
          <Markdown text={answer.correction ?? answer.text} />
        </div>
      )}
      {!busy && !correcting && answer.finish_reason !== BROKEN && (
        <footer class="signature">
          {answer.model !== null && (
            <span class="version" title="The policy that wrote this answer">
              {answer.model}
            </span>
          )}
          <Notes answer={answer} />
          <span class="actions">
            {isVotable(answer) && <Thumbs answer={answer} />}
            {isVotable(answer) && <Rating answer={answer} />}
            {isVotable(answer) && (
              <Action icon="edit" label="Correct this answer" keys="c" onClick={() => setCorrecting(true)} />
            )}
            <CopyAnswer text={answer.correction ?? answer.text} />
            {last && !undecided.value && running.value === null && (
              <Action icon="again" label="Another answer" keys="r" onClick={() => again(index, "answer")} />
            )}
          </span>
        </footer>
      )}
    </article>
  );
}

/** An unfinished answer cannot be voted on, nor one that the server did not keep. */
function isVotable({ completion, stopped }: Answer): boolean {
  return completion !== null && !stopped;
}

function Notes({ answer }: { answer: Answer }) {
  const notes = [];
  if (answer.stopped) notes.push("stopped");
  if (answer.finish_reason === "length") notes.push("cut off at the length limit");
  if (answer.correction !== null) notes.push("corrected by you");
  if (answer.completion === null && !answer.stopped) {
    notes.push("Voting is off for this answer: the server could not keep it.");
  }
  return notes.map((note) => (
    <span key={note} class="note">
      {note}
    </span>
  ));
}

interface ActionProps {
  icon: IconName;
  label: string;
  keys: string;
  onClick: () => void;
}

function Action({ icon, label, keys, onClick }: ActionProps) {
  return (
    <button
      type="button"
      class="action"
      aria-label={label}
      title={`${label} (${keys.toUpperCase()})`}
      onClick={onClick}
      {...pressedBy(keys)}
    >
      <Icon name={icon} />
    </button>
  );
}

function CopyAnswer({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const press = async () => {
    setCopied(await copy(text));
    window.setTimeout(() => setCopied(false), 2000);
  };
  return (
    <Action icon={copied ? "check" : "copy"} label={copied ? "Copied" : "Copy this answer"} keys="y" onClick={press} />
  );
}
