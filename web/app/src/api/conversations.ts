/** The rater's conversations as the server keeps them. */

import type { Conversation } from "../model/conversation";
import { ApiError, json } from "./send";
import { asRater } from "./session";

export interface Entry {
  id: string;
  title: string;
  updated_at: number | string;
}

interface Page {
  data: Entry[];
  has_more: boolean;
  last_id: string | null;
}

const PATH = "page/conversations";

/** Newest first. */
export async function list(after?: string): Promise<Page> {
  const query = after === undefined ? "" : `&after=${encodeURIComponent(after)}`;
  return json(await asRater(`${PATH}?limit=50${query}`));
}

/** Null if there is none, or if it is somebody else's. */
export async function load(id: string): Promise<Conversation | null> {
  try {
    return await json(await asRater(`${PATH}/${encodeURIComponent(id)}`));
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** The new revision. An ApiError with the code `conflict` means that somebody else wrote since `revision`. */
export async function store({ id, title, turns, revision }: Conversation, leaving = false): Promise<number> {
  const options = { method: "PUT" as const, body: { title, turns, revision }, keepalive: leaving };
  const stored = await json<{ revision: number }>(await asRater(`${PATH}/${encodeURIComponent(id)}`, options));
  return stored.revision;
}

/** @param id without one, all of them */
export async function remove(id?: string): Promise<void> {
  await asRater(id === undefined ? PATH : `${PATH}/${encodeURIComponent(id)}`, { method: "DELETE" });
}
