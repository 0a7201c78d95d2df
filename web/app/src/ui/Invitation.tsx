/**
 * The way in by an invitation: the token in the link, the question whether to be the rater whom it names, the session.
 * It is asked because anybody can post a link, and would share what is written here by whoever followed it.
 */

import { signal } from "@preact/signals";
import { ApiError } from "../api/send";
import { acceptInvitation, openSession, type Session } from "../api/session";
import { toast } from "./announce";
import { Dialog } from "./Dialog";

const LINK = /^#invitation=([\w.-]+)$/;
const question = signal<{ text: string; answer: (yes: boolean) => void } | null>(null);

/** Begins the page anew for a link that is followed where it is open already: only the address changes by that. */
export function followLinks(): void {
  window.addEventListener("popstate", (event) => {
    if (!LINK.test(location.hash)) return;
    event.stopImmediatePropagation(); // who comes to listen later is not to make another address of it
    location.reload();
  });
}

/** Opens the page's session: the one that a link invites to, if the person here agrees, else their own. */
export async function enter(): Promise<Session | null> {
  const invitation = LINK.exec(location.hash)?.[1];
  if (invitation === undefined) return openSession();
  history.replaceState(null, "", location.pathname + location.search); // a secret is not left where others see it
  try {
    return await follow(invitation);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message);
    return openSession();
  }
}

async function follow(invitation: string): Promise<Session | null> {
  try {
    return await acceptInvitation(invitation, false);
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== "confirmation_required") throw error;
    return (await agreed(error.message)) ? acceptInvitation(invitation, true) : openSession();
  }
}

function agreed(text: string): Promise<boolean> {
  return new Promise((resolve) => {
    const answer = (yes: boolean) => {
      question.value = null;
      resolve(yes);
    };
    question.value = { text, answer };
  });
}

export function Invitation() {
  const asked = question.value;
  const say = (yes: boolean) => () => asked?.answer(yes);
  return (
    <Dialog open={asked !== null} onClose={say(false)} title="An invitation" as="alert">
      <p>{asked?.text}</p>
      <p>
        What you write and vote here is then this rater's, and whoever has the same link sees it: go on only if it was
        meant for you. Conversations that you had in this browser cannot be opened any more.
      </p>
      <div class="row">
        <button type="button" onClick={say(false)}>
          Not me
        </button>
        <button type="button" class="primary" onClick={say(true)}>
          Go on
        </button>
      </div>
    </Dialog>
  );
}
