/**
 * A blind comparison: two answers side by side, one vote, then who wrote which. Nothing on the page can tell the sides
 * apart before the vote but their place: neither a name nor a class, an id or an order comes from a policy.
 */

import { useLayoutEffect, useRef } from "preact/hooks";
import { type Preference, vote } from "../api/feedback";
import { Markdown } from "../markdown/Markdown";
import type { Answer, Turn } from "../model/conversation";
import { announce } from "../ui/announce";
import { pressedBy } from "../ui/keys";
import { decide } from "./asking";
import { focusComposer, hasDraft } from "./composing";
import { conversation } from "./keeping";
import { Notice, useSending } from "./voting";

/**
 * Where a side stands: beside the other on a wide page, above or below it on a narrow one. The style sheet shows the
 * word that is true, to a screen reader as well.
 */
const PLACES = { a: ["Left", "Top"], b: ["Right", "Bottom"] } as const;

/** The server reveals nothing while hired raters are asked about the same comparison, which is to stay blind. */
const HELD = "Thank you. Others are still being asked about these answers, so who wrote them stays hidden.";

interface Props {
  turn: Turn;
  /** The place of the first side among the turn's answers. */
  first: number;
  busy: boolean;
}

export function Comparison({ turn, first, busy }: Props) {
  const a = turn.answers[first] as Answer;
  const b = turn.answers[first + 1] as Answer;
  return (
    <>
      <div class="cards">
        <Card side="a" answer={a} busy={busy} />
        <Card side="b" answer={b} busy={busy} />
      </div>
      {a.vote !== null && <p class="outcome">{outcome(a, b)}</p>}
      {a.vote === null && !busy && <Ballot id={a.comparison ?? ""} />}
    </>
  );
}

function Card({ side, answer, busy }: { side: "a" | "b"; answer: Answer; busy: boolean }) {
  const chosen = answer.vote === side;
  return (
    <article class={chosen ? "card chosen" : "card"}>
      <header>
        <h2>
          <Position side={side} />
        </h2>
        {chosen && <span class="note">your choice</span>}
        {answer.model !== null && <span class="version">{answer.model}</span>}
      </header>
      <div class="prose" aria-busy={(busy && answer.finish_reason === null) || undefined}>
        <Markdown text={answer.text} />
      </div>
    </article>
  );
}

function Position({ side }: { side: "a" | "b" }) {
  const [wide, narrow] = PLACES[side];
  return (
    <>
      <span class="wide">{wide}</span>
      <span class="narrow">{narrow}</span>
    </>
  );
}

/** Asks for the vote. It takes the focus, unless a person is writing meanwhile. */
function Ballot({ id }: { id: string }) {
  const bar = useRef<HTMLDivElement>(null);
  const { sending, notice, send } = useSending();
  // Before it is painted: whoever sees the buttons may press their keys.
  useLayoutEffect(() => {
    if (!hasDraft()) bar.current?.focus({ preventScroll: true });
  }, []);
  /** The conversation goes on, and so does whoever was at the buttons. */
  const close = (home: string, value: Preference | "skipped", reveal?: { a: string; b: string }) => {
    const here = document.activeElement === document.body || bar.current?.contains(document.activeElement);
    decide(home, id, value, reveal);
    if (here) focusComposer();
  };
  const choose = (value: Preference) => {
    const home = conversation.value.id;
    const said = async () => {
      const { reveal } = await vote({ type: "comparison", id }, { kind: "preference", value });
      close(home, value, reveal);
      announce(reveal ? "Thank you. The names are shown." : HELD);
    };
    if (!sending) void send(said);
  };
  const button = (value: Preference, keys: string[], label: preact.ComponentChildren) => (
    <button type="button" onClick={() => choose(value)} {...pressedBy(...keys)}>
      <span>{label}</span>
      <kbd aria-hidden="true">{keys[0]}</kbd>
    </button>
  );
  return (
    <>
      <div ref={bar} class="ballot" role="group" aria-labelledby={`ask-${id}`} aria-busy={sending} tabIndex={-1}>
        <p id={`ask-${id}`}>Which answer is better?</p>
        <button type="button" class="quiet" onClick={() => close(conversation.value.id, "skipped")} {...pressedBy("0")}>
          Skip
        </button>
        {button(
          "a",
          ["1", "ArrowLeft"],
          <>
            <Position side="a" />
            <IsBetter />
          </>,
        )}
        {button("tie", ["2", "="], "Tie")}
        {button(
          "b",
          ["3", "ArrowRight"],
          <>
            <Position side="b" />
            <IsBetter />
          </>,
        )}
        {button("both_bad", ["4"], "Both are bad")}
      </div>
      <Notice text={notice} />
    </>
  );
}

/** Left out where three buttons share a narrow row: the question above them says it. */
function IsBetter() {
  return <span class="wide"> is better</span>;
}

function outcome(a: Answer, b: Answer): string {
  if (a.vote === "skipped") return "No vote. The conversation goes on from the first answer.";
  if (a.model === null || b.model === null) return HELD;
  if (a.model === b.model) return `Thank you. Both are drafts of ${a.model}.`;
  if (a.vote === "tie") return `Thank you. A tie between ${a.model} and ${b.model}.`;
  if (a.vote === "both_bad") return `Thank you. You found both bad: ${a.model} and ${b.model}.`;
  return a.vote === "a"
    ? `Thank you. You preferred ${a.model} to ${b.model}.`
    : `Thank you. You preferred ${b.model} to ${a.model}.`;
}
