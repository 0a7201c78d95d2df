/**
 * The keyboard: every key presses a button that is on the page, so a key can do nothing that the pointer cannot.
 *
 * A button names its keys in `data-keys`. A key means the button of the turn that has the focus, else of the last turn
 * that has one, else any. In a dialog only its own buttons are meant. Single letters can be switched off, as WCAG 2.1.4
 * asks: speech input must not trip over them.
 */

import { signal } from "@preact/signals";
import { read, write } from "../model/storage";

export interface Shortcut {
  keys: string[];
  does: string;
}

export const singleKeys = signal(read("single-keys") !== "off");

export function setSingleKeys(on: boolean): void {
  singleKeys.value = on;
  write("single-keys", on ? null : "off");
}

/** Attributes of a button that these keys press: `{...pressedBy("g")}`. */
export function pressedBy(...keys: string[]) {
  return { "data-keys": keys.join(" "), "aria-keyshortcuts": singleKeys.value ? keys[0] : undefined };
}

/** Whether the element has a use of its own for letters, digits or arrows. */
function usesKeys(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.closest("input:not([type=checkbox]), select, textarea, pre, [role=menu], [role=radiogroup]") !== null;
}

/** Whether the key belongs to a field, or letters do nothing here. */
function isTyping(event: KeyboardEvent): boolean {
  return usesKeys(event.target) || (!singleKeys.value && event.key.length === 1);
}

function buttons(root: ParentNode, key: string): HTMLElement[] {
  const found = root.querySelectorAll<HTMLElement>(`[data-keys~="${CSS.escape(key)}"]`);
  return [...found].filter((it) => it.checkVisibility());
}

/** The button that `key` means now. */
export function meant(key: string): HTMLElement | undefined {
  const dialogs = document.querySelectorAll(
    '[role="dialog"][data-state="open"], [role="alertdialog"][data-state="open"]',
  );
  const dialog = [...dialogs].at(-1);
  if (dialog) return buttons(dialog, key)[0];
  const turn = document.activeElement?.closest(".turn");
  return (turn && buttons(turn, key)[0]) ?? buttons(document, key).at(-1);
}

/** Listens as long as the page lives. */
export function listen(): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.repeat || event.altKey || event.isComposing) return;
    const chord = event.ctrlKey || event.metaKey;
    if (chord ? event.key !== "/" : event.key !== "Escape" && isTyping(event)) return;
    const button = meant(chord ? "?" : event.key);
    if (button === undefined) return;
    event.preventDefault();
    button.click();
  });
}
