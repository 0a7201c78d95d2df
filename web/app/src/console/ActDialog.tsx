/** Asks for the reason of an act, sends it, and says what came of it. */

import { signal } from "@preact/signals";
import { useId, useState } from "preact/hooks";
import { asOperator, inWords } from "../api/operator";
import { ApiError } from "../api/send";
import { toast } from "../ui/announce";
import { Dialog } from "../ui/Dialog";
import { submitting } from "../ui/form";
import type { Act } from "./acts";
import { lookAgain } from "./watch";

const MAX_REASON = 500;
const asked = signal<Act | null>(null);

/** Opens the dialog. */
export function ask(act: Act): void {
  asked.value = act;
}

/** The button that begins an act. */
export function ActButton({ act, label, small }: { act: Act; label: string; small?: boolean }) {
  return (
    <button type="button" class={`${act.danger ? "danger" : ""} ${small ? "small" : ""}`} onClick={() => ask(act)}>
      {label}…
    </button>
  );
}

/** Once in the page. */
export function ActDialog() {
  const act = asked.value;
  const close = () => {
    if (asked.value === act) asked.value = null; // by what was sent before, another's dialog is not closed
  };
  return (
    <Dialog open={act !== null} onClose={close} title={act?.title ?? ""}>
      {act && <Form act={act} onClose={close} />}
    </Dialog>
  );
}

function Form({ act, onClose }: { act: Act; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [notice, setNotice] = useState("");
  const id = useId();
  const send = async () => {
    if (busy) return;
    if (reason.trim() === "") return setNotice("Say why: it is kept with the act.");
    setBusy(true);
    setNotice("");
    try {
      await asOperator(act.path, { method: "POST", body: { ...act.body, reason: reason.trim() } });
      onClose();
      toast(act.done);
      lookAgain();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (asked.value !== act) return toast(inWords(error)); // the dialog was left meanwhile
      setNotice(inWords(error));
      setBusy(false);
    }
  };
  return (
    <form class="act" onSubmit={submitting(send)} aria-busy={busy}>
      <p>{act.says}</p>
      <label for={id}>Reason</label>
      <textarea
        id={id}
        class="box"
        rows={2}
        required
        maxLength={MAX_REASON}
        data-autofocus
        aria-describedby={`${id}-note`}
        value={reason}
        onInput={(event) => setReason(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
          event.preventDefault();
          void send();
        }}
      />
      <p id={`${id}-note`} class="note">
        It is kept, beside who did it.
      </p>
      <p class="notice" role="alert">
        {notice}
      </p>
      <div class="row">
        <button type="button" onClick={onClose}>
          Leave it
        </button>
        <button type="submit" class={act.danger ? "danger" : "primary"} disabled={busy}>
          {busy ? "Sending…" : act.button}
        </button>
      </div>
    </form>
  );
}
