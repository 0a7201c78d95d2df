/**
 * Who is at the page: an anonymous or invited rater whom the server names in a cookie that no script can read. What the
 * page itself keeps is the CSRF token, which every request that changes something must bring.
 */

import { signal } from "@preact/signals";
import { ApiError, json, type Options, send } from "./send";

export interface Session {
  rater: string;
  csrf: string;
  /** Whether this rater's chats and votes may be trained on; null: never said, the server's default counts. */
  train: boolean | null;
}

/** Undefined before the first answer; null where the server lets no visitors in. */
export const session = signal<Session | null | undefined>(undefined);
/** Why not, in the server's words. */
export const closedBecause = signal("");

let opening: Promise<Session | null> | null = null;

/** Makes a session, or finds the one that the cookie names. Asked twice at once, it asks the server once. */
export function openSession(): Promise<Session | null> {
  opening ??= ask({}).finally(() => {
    opening = null;
  });
  return opening;
}

/**
 * Makes a session of the rater whom an invitation names.
 * @param accept whether the person at the page was told who that is; else the server may refuse, `confirmation_required`
 */
export function acceptInvitation(invitation: string, accept: boolean): Promise<Session | null> {
  return ask({ invitation, accept });
}

async function ask(body: object): Promise<Session | null> {
  try {
    session.value = await json<Session>(await send("page/session", { method: "POST", body }));
  } catch (error) {
    if (!(error instanceof ApiError) || (error.status !== 404 && error.code !== "visitors_not_admitted")) throw error;
    session.value = null;
    closedBecause.value = error.message;
  }
  return session.value;
}

/**
 * A request in the session's name, which it waits for: where a deployment answers programs without a key, it would
 * answer the page too, as nobody in particular. A session that has expired, or a token that is no longer good, is
 * renewed once.
 */
export async function asRater(path: string, options: Options = {}): Promise<Response> {
  if (session.value === undefined) await openSession();
  try {
    return await send(path, withToken(options));
  } catch (error) {
    if (!(error instanceof ApiError) || (error.code !== "csrf_failed" && error.status !== 401)) throw error;
    if ((await openSession()) === null) throw error;
    return send(path, withToken(options));
  }
}

function withToken(options: Options): Options {
  const token = session.value?.csrf;
  if (token === undefined || (options.method ?? "GET") === "GET") return options;
  return { ...options, headers: { ...options.headers, "x-csrf-token": token } };
}
