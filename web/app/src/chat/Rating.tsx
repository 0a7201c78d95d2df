/** One to five stars for an answer. */

import { useState } from "preact/hooks";
import { completion, vote } from "../api/feedback";
import type { Answer } from "../model/conversation";
import { Icon } from "../ui/Icon";
import { pressedBy } from "../ui/keys";
import { mark } from "./asking";
import { conversation } from "./keeping";
import { Notice, useSending } from "./voting";

const NAMES = ["bad", "poor", "fair", "good", "excellent"];

export function Rating({ answer }: { answer: Answer }) {
  const id = answer.completion ?? "";
  const [open, setOpen] = useState(false);
  const { sending, notice, send } = useSending();
  const rate = async (value: number) => {
    if (sending) return;
    const home = conversation.value.id;
    if (!(await send(async () => void (await vote(completion(id), { kind: "rating", value }))))) return;
    mark(home, id, { rating: value });
    setOpen(false);
  };
  const stands = answer.rating === null ? "" : `: ${answer.rating} of 5`;
  return (
    <span class="rating">
      <button
        type="button"
        class="action"
        aria-expanded={open}
        aria-label={`Rate this answer${stands}`}
        title={`Rate this answer (S)${stands}`}
        onClick={() => setOpen(!open)}
        {...pressedBy("s")}
      >
        <Icon name="star" />
        {answer.rating !== null && <span aria-hidden="true">{answer.rating}</span>}
      </button>
      {open && (
        <span class="stars" role="group" aria-label="Stars" aria-busy={sending}>
          {NAMES.map((name, at) => (
            <button
              key={name}
              type="button"
              class={`action ${at < (answer.rating ?? 0) ? "lit" : ""}`}
              aria-label={`${at + 1} of 5, ${name}`}
              title={name}
              aria-pressed={answer.rating === at + 1}
              onClick={() => void rate(at + 1)}
              {...pressedBy(String(at + 1))}
            >
              <Icon name="star" />
            </button>
          ))}
        </span>
      )}
      <Notice text={notice} />
    </span>
  );
}
