/** What became of my votes: each with the versions that learned from it, or why none did. */

import { useEffect, useState } from "preact/hooks";
import { type Fate, fates, takeBack } from "../api/feedback";
import { ApiError } from "../api/send";
import { Dialog } from "../ui/Dialog";

const FATES: Record<Fate["fate"], string> = {
  waiting: "waits for the next round",
  used: "used",
  set_aside: "not used",
  withdrawn: "taken back",
};

export function MyVotes({ open, onClose }: { open: boolean; onClose: () => void }) {
  return (
    <Dialog open={open} onClose={onClose} title="What became of my votes">
      <Votes />
    </Dialog>
  );
}

function Votes() {
  const [votes, setVotes] = useState<Fate[] | null>(null);
  const [after, setAfter] = useState<string | null>(null);
  const [notice, setNotice] = useState("");
  const attempt = async (work: () => Promise<void>) => {
    setNotice("");
    await work().catch((error) => {
      if (!(error instanceof ApiError)) throw error;
      setNotice(error.message);
    });
  };
  const more = async () => {
    const page = await fates(after ?? undefined);
    setVotes((here) => {
      const known = new Set(here?.map((it) => it.feedback)); // "Show more" may be pressed twice
      return [...(here ?? []), ...page.data.filter((it) => !known.has(it.feedback))];
    });
    setAfter(page.has_more ? page.last_id : null);
  };
  const undo = async (vote: Fate) => {
    await takeBack(vote.feedback);
    const undone: Fate = { ...vote, fate: "withdrawn", reason: null };
    setVotes((here) => (here ?? []).map((it) => (it.feedback === vote.feedback ? undone : it)));
  };
  useEffect(() => void attempt(more), []);
  return (
    <>
      {votes === null && notice === "" && <p class="note">Looking them up…</p>}
      {votes?.length === 0 && <p>You have not voted yet. Thumbs, ratings, corrections and choices all count.</p>}
      <ul class="fates">
        {votes?.map((vote) => (
          <Row key={vote.feedback} vote={vote} onTakeBack={() => void attempt(() => undo(vote))} />
        ))}
      </ul>
      <p class="notice" role="alert">
        {notice}
      </p>
      {after !== null && (
        <button type="button" class="quiet" onClick={() => void attempt(more)}>
          Show more
        </button>
      )}
    </>
  );
}

function Row({ vote, onTakeBack }: { vote: Fate; onTakeBack: () => void }) {
  return (
    <li>
      <span class="said">{said(vote)}</span>
      <time dateTime={vote.created_at}>{new Date(vote.created_at).toLocaleString()}</time>
      {/* The server's own sentence, if it has one. */}
      <span class={`fate ${vote.fate}`}>{vote.reason ?? FATES[vote.fate]}</span>
      {vote.fate !== "withdrawn" && (
        <button type="button" class="quiet small" onClick={onTakeBack}>
          Take back
        </button>
      )}
    </li>
  );
}

function said({ kind, value }: Fate): string {
  if (kind === "thumb") return value === 1 ? "Good answer" : "Bad answer";
  if (kind === "rating") return `Rated ${value} of 5`;
  if (kind === "correction") return "Corrected an answer";
  if (kind === "preference")
    return value === "tie" || value === "both_bad" ? "Compared: no side is better" : "Compared two answers";
  if (kind === "ranking") return "Ranked answers";
  return kind === "flag" ? "Reported an answer" : "Commented on an answer";
}
