/** Thumbs below an answer, and why: reasons to tick and room for words. A changed mind is a new vote; the last counts. */

import { useRef, useState } from "preact/hooks";
import { completion, vote } from "../api/feedback";
import { ApiError } from "../api/send";
import type { Answer } from "../model/conversation";
import { useDraft } from "../model/draft";
import { submitting } from "../ui/form";
import { Icon } from "../ui/Icon";
import { pressedBy } from "../ui/keys";
import { TextBox } from "../ui/TextBox";
import { mark } from "./asking";
import { conversation } from "./keeping";
import { Notice, useSending } from "./voting";

const REASONS = {
  1: ["correct", "clear", "helpful", "well written"],
  [-1]: ["wrong", "not what I asked", "unclear", "too long", "too short", "unsafe"],
} as const;

type Thumb = 1 | -1;

export function Thumbs({ answer }: { answer: Answer }) {
  const { wanted, saving, notice, choose } = useThumb(answer);
  const [why, setWhy] = useState(false);
  const saved = useRef(Promise.resolve(true));
  const press = (value: Thumb) => {
    setWhy(true);
    saved.current = choose(value);
  };
  return (
    <span class="thumbs" role="group" aria-label="Vote on this answer" aria-busy={saving}>
      <ThumbButton name="up" label="Good answer" keys="g" pressed={wanted === 1} onClick={() => press(1)} />
      <ThumbButton name="down" label="Bad answer" keys="b" pressed={wanted === -1} onClick={() => press(-1)} />
      <Notice text={notice} />
      {why && wanted !== null && notice === "" && (
        <Why
          key={wanted}
          id={answer.completion ?? ""}
          value={wanted}
          after={saved.current}
          onDone={() => setWhy(false)}
        />
      )}
    </span>
  );
}

/** A vote shows at once and is taken back if it could not be saved; a mind that changes meanwhile is sent after it. */
function useThumb(answer: Answer) {
  const id = answer.completion ?? "";
  const [wanted, setWanted] = useState<Thumb | null>(answer.thumb);
  const [saving, setSaving] = useState(false);
  const [notice, setNotice] = useState("");
  const state = useRef({ wanted: answer.thumb, saved: answer.thumb, saving: null as Promise<boolean> | null });

  /** Resolves, when nothing is on its way any more, to whether it was saved. */
  function choose(value: Thumb): Promise<boolean> {
    const now = state.current;
    now.wanted = value;
    setWanted(value);
    setNotice("");
    setSaving(true);
    now.saving ??= save().finally(() => {
      now.saving = null;
      setSaving(false);
    });
    return now.saving;
  }

  async function save(): Promise<boolean> {
    const now = state.current;
    const home = conversation.value.id;
    try {
      while (now.wanted !== now.saved && now.wanted !== null) {
        const sent: Thumb = now.wanted;
        await vote(completion(id), { kind: "thumb", value: sent });
        now.saved = sent;
        mark(home, id, { thumb: sent });
      }
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      now.wanted = now.saved;
      setWanted(now.saved);
      setNotice(`Your vote was not saved. ${error.message}`);
      return false;
    }
  }

  return { wanted, saving, notice, choose };
}

interface ThumbProps {
  name: "up" | "down";
  label: string;
  keys: string;
  pressed: boolean;
  onClick: () => void;
}

function ThumbButton({ name, label, keys, pressed, onClick }: ThumbProps) {
  return (
    <button
      type="button"
      class={`action thumb ${name}`}
      aria-label={label}
      title={`${label} (${keys.toUpperCase()})`}
      aria-pressed={pressed}
      onClick={onClick}
      {...pressedBy(keys)}
    >
      <Icon name={name} />
    </button>
  );
}

interface WhyProps {
  id: string;
  value: Thumb;
  /** Whether the vote with nothing more said was saved; if it came later than this one, it would count instead. */
  after: Promise<boolean>;
  onDone: () => void;
}

/** The same vote again, with more said. */
function Why({ id, value, after, onDone }: WhyProps) {
  const [reasons, setReasons] = useState<string[]>([]);
  const [comment, setComment] = useDraft(`why.${id}`);
  const { sending, notice, send } = useSending();
  const toggle = (reason: string) =>
    setReasons(reasons.includes(reason) ? reasons.filter((it) => it !== reason) : [...reasons, reason]);
  const submit = async () => {
    const words = comment.trim() === "" ? {} : { comment: comment.trim() };
    const said = async () => {
      if (!(await after)) throw new ApiError("The thumb could not be saved.");
      await vote(completion(id), { kind: "thumb", value, reasons, ...words });
    };
    if (sending || !(await send(said))) return;
    setComment("");
    onDone();
  };
  return (
    <form class="why" aria-label="Why?" onSubmit={submitting(submit)}>
      <div class="chips" role="group" aria-label="Reasons">
        {REASONS[value].map((reason, at) => (
          <button
            key={reason}
            type="button"
            class="chip-button"
            aria-pressed={reasons.includes(reason)}
            onClick={() => toggle(reason)}
            {...pressedBy(String(at + 1))}
          >
            {reason}
          </button>
        ))}
      </div>
      <TextBox
        label="In your words"
        placeholder="In your words, if you like"
        value={comment}
        onValue={setComment}
        onSubmit={() => void submit()}
        onCancel={onDone}
        focus={false}
      />
      <div class="row">
        <Notice text={notice} />
        <button type="button" class="quiet" onClick={onDone}>
          Not now
        </button>
        <button type="submit" aria-disabled={sending || (reasons.length === 0 && comment.trim() === "")}>
          Send why
        </button>
      </div>
    </form>
  );
}
