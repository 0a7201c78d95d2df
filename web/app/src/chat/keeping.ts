/**
 * Keeps conversations on the server: the list of them, and what is open. What could not be saved waits in this browser
 * and is sent again with the next change, or when the page is opened next.
 */

import { computed, effect, signal } from "@preact/signals";
import { type Entry, list, load, remove, store } from "../api/conversations";
import { ApiError } from "../api/send";
import { type Conversation, fresh } from "../model/conversation";
import { read, write } from "../model/storage";
import { toast } from "../ui/announce";

const SOON_MS = 300;
const WAITING = "unsaved";

export const conversation = signal<Conversation>(fresh());
/** The one that is being fetched to take its place; nothing can be asked meanwhile. */
export const opening = signal<string | null>(null);
export const entries = signal<Entry[]>([]);
export const moreEntries = signal<string | null>(null);
/** Why the newest change is not on the server; null if it is. */
export const problem = signal<string | null>(null);

/** The newest state of each conversation that is not on the server yet, by id. */
const waiting = new Map<string, Conversation>(Object.entries(JSON.parse(read(WAITING) ?? "{}")));
/** The revision that the server holds, as far as this page knows. */
const revisions = new Map<string, number>();
let timer = 0;
let saving: Promise<void> | null = null;

/** Marks a conversation as changed; it is saved soon. */
export function keep(changed: Conversation): void {
  waiting.set(changed.id, changed);
  remember();
  clearTimeout(timer);
  timer = window.setTimeout(save, SOON_MS);
}

function remember(): void {
  write(WAITING, waiting.size === 0 ? null : JSON.stringify(Object.fromEntries(waiting)));
}

/** Saves what waits, and what changes meanwhile, one after the other. @param leaving the page is being closed */
export function save(leaving = false): Promise<void> {
  saving ??= saveAll(leaving).finally(() => {
    saving = null;
  });
  return saving;
}

async function saveAll(leaving: boolean): Promise<void> {
  try {
    while (waiting.size > 0) for (const [id, changed] of waiting) await saveOne(id, changed, leaving);
    problem.value = null;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    problem.value = error.message;
  } finally {
    remember();
  }
}

async function saveOne(id: string, changed: Conversation, leaving: boolean): Promise<void> {
  try {
    await storeAt(revisions.get(id) ?? changed.revision, changed, leaving);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code === "conflict") return copied(id, changed);
    if (error.status !== 404) throw error;
    await storeAt(0, changed, leaving); // deleted elsewhere; what is written here since is new
  }
  if (waiting.get(id) !== changed) return;
  waiting.delete(id);
  putFirst(changed);
}

async function storeAt(revision: number, changed: Conversation, leaving: boolean): Promise<void> {
  revisions.set(changed.id, await store({ ...changed, revision }, leaving));
}

/** Another window wrote since. Nobody's words are lost: what is here goes on as a copy. */
function copied(id: string, mine: Conversation): void {
  const copy = { ...mine, id: fresh().id, title: `${mine.title} (copy)`, revision: 0 };
  waiting.delete(id);
  if (conversation.value.id === id) conversation.value = copy;
  keep(copy);
  toast("This conversation was changed in another window. Yours goes on as a copy.");
}

/** Puts a conversation that was saved first in the list. */
function putFirst({ id, title }: Conversation): void {
  const others = entries.value.filter((entry) => entry.id !== id);
  entries.value = [{ id, title, updated_at: Date.now() / 1000 }, ...others];
}

/** Reads the newest conversations, or those after the ones that are listed. */
export async function readEntries(after?: string): Promise<void> {
  const page = await list(after);
  const here = new Set(entries.value.map((entry) => entry.id)); // also what was saved while the list was on its way
  entries.value = [...entries.value, ...page.data.filter((entry) => !here.has(entry.id))];
  moreEntries.value = page.has_more ? page.last_id : null;
}

/** The conversation as it was left, here or on the server; null if there is none. */
export async function find(id: string): Promise<Conversation | null> {
  const found = waiting.get(id) ?? (await load(id));
  if (found !== null && !waiting.has(id)) revisions.set(id, found.revision);
  return found;
}

/** Changes a conversation, the open one or another. */
export async function revise(id: string, how: (conversation: Conversation) => Conversation): Promise<void> {
  const away = conversation.value.id === id ? null : await find(id);
  const open = conversation.value.id === id; // looked at again: it may have been opened meanwhile
  const found = open ? conversation.value : away;
  if (found === null) return;
  const next = how(found);
  if (open) conversation.value = next;
  keep(next);
}

/** @param id without one, all of them */
export async function forget(id?: string): Promise<void> {
  clearTimeout(timer);
  await saving; // else what is on its way would be there again
  await remove(id);
  for (const each of id === undefined ? [...waiting.keys()] : [id]) waiting.delete(each);
  remember();
  entries.value = id === undefined ? [] : entries.value.filter((entry) => entry.id !== id);
}

/** Whether the open conversation has anything in it. */
export const begun = computed(() => conversation.value.turns.length > 0);

/** Keeps the address true, so that a reload or a bookmark opens the same conversation. */
export function followAddress(): void {
  effect(() => {
    const address = begun.value ? `#${conversation.value.id}` : "";
    if (location.hash !== address) history.pushState(null, "", location.pathname + location.search + address);
  });
}
