/** Sending a vote from a control, and saying so where that fails. */

import { useState } from "preact/hooks";
import { ApiError } from "../api/send";

/** `send` resolves to whether it was saved; while it is under way `sending` is true; `notice` says why it was not. */
export function useSending() {
  const [sending, setSending] = useState(false);
  const [notice, setNotice] = useState("");
  const send = async (what: () => Promise<void>): Promise<boolean> => {
    setSending(true);
    setNotice("");
    try {
      await what();
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setNotice(`Your vote was not saved. ${error.message}`);
      return false;
    } finally {
      setSending(false);
    }
  };
  return { sending, notice, send };
}

export function Notice({ text }: { text: string }) {
  return (
    <span class="notice" role="alert">
      {text}
    </span>
  );
}
