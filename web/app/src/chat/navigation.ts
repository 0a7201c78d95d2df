/** Which conversation is open: the address after `#` names it. */

import { fresh } from "../model/conversation";
import { clearAnnouncements, kindly, toast } from "../ui/announce";
import { failures, halt } from "./asking";
import { conversation, find, forget, opening, save } from "./keeping";

const ID = /^#(conv_[0-9a-f]{32})$/;

function leave(): void {
  opening.value = null;
  halt();
  failures.value = new Map();
  clearAnnouncements();
  void save();
}

export function startNew(): void {
  leave();
  conversation.value = fresh();
}

/** Opens a conversation; where there is none, the page begins a new one and says so. */
export async function open(id: string): Promise<void> {
  if (conversation.value.id === id) {
    opening.value = null;
    return;
  }
  leave();
  opening.value = id;
  try {
    await kindly(fetchInto(id));
  } finally {
    if (opening.value === id) opening.value = null;
  }
}

async function fetchInto(id: string): Promise<void> {
  const found = await find(id);
  if (opening.value !== id) return; // another was chosen meanwhile
  if (found === null) toast("That conversation is not here any more.");
  conversation.value = found ?? fresh();
}

/** @param id without one, all of them */
export async function discard(id?: string): Promise<void> {
  if (id === undefined || opening.value === id) opening.value = null;
  if (id === undefined || conversation.value.id === id) {
    halt();
    conversation.value = fresh();
  }
  await forget(id);
}

/** Opens what the address names. */
export async function openAddress(): Promise<void> {
  const id = ID.exec(location.hash)?.[1];
  if (id !== undefined) await open(id);
  else if (conversation.value.turns.length > 0) startNew();
}
