/** What a person decides about their own data: consent, and what is kept. */

import { useState } from "preact/hooks";
import { consent } from "../api/feedback";
import { ApiError } from "../api/send";
import { session } from "../api/session";
import { kindly, toast } from "../ui/announce";
import { Confirm } from "../ui/Confirm";
import { Dialog } from "../ui/Dialog";
import { discard } from "./navigation";

export function Settings({ open, onClose }: { open: boolean; onClose: () => void }) {
  return (
    <Dialog open={open} onClose={onClose} title="Your data">
      <Consent />
      <Kept onClose={onClose} />
    </Dialog>
  );
}

/** Who never said anything sees no choice made: then the server's own rule counts, which the page does not know. */
function Consent() {
  const [notice, setNotice] = useState("");
  const train = session.value?.train ?? null;
  const choose = async (next: boolean) => {
    setNotice("");
    try {
      await consent(next);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setNotice(`Your choice was not saved. ${error.message}`);
    }
  };
  return (
    <fieldset>
      <legend>May new versions learn from your chats and votes?</legend>
      <div class="segments">
        {(
          [
            [true, "Yes"],
            [false, "No"],
          ] as const
        ).map(([value, label]) => (
          <label key={label}>
            <input type="radio" name="train" checked={train === value} onChange={() => void choose(value)} />
            {label}
          </label>
        ))}
      </div>
      <p class="note">
        {train === null
          ? "You have not said; what the people who run this server decided counts."
          : train
            ? "From the next round on they may."
            : "From the next round on nothing of yours is trained on. Votes still count for comparisons that are shown."}
      </p>
      <p class="notice" role="alert">
        {notice}
      </p>
    </fieldset>
  );
}

function Kept({ onClose }: { onClose: () => void }) {
  const [asking, setAsking] = useState(false);
  const remove = async () => {
    await discard();
    onClose();
    toast("Your conversations are deleted.");
  };
  return (
    <section>
      <h3>Your conversations</h3>
      <p class="note">
        The server keeps them for this browser, under a name that says nothing about you:{" "}
        <code>{session.value?.rater}</code>
      </p>
      <button type="button" class="danger" onClick={() => setAsking(true)}>
        Delete all conversations…
      </button>
      <Confirm
        open={asking}
        onClose={() => setAsking(false)}
        title="Delete all conversations?"
        action="Delete all"
        onConfirm={() => void kindly(remove())}
      >
        All your conversations are deleted from the server. Your votes stay; they can be taken back under “What became
        of my votes”.
      </Confirm>
    </section>
  );
}
