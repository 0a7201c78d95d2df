/**
 * The admin API. Where its listener is this machine's alone and no key was ever made, nobody needs one; else the
 * operator types a key, which is kept until the tab is closed and sent to this server only.
 */

import { signal } from "@preact/signals";
import { ApiError, json, type Options, send } from "./send";

const KEPT = "plumbline.key";

/** Empty where none was typed. */
export const key = signal(kept());
/** Why a key is asked for, in the server's words; null where none is. */
export const keyWanted = signal<string | null>(null);

/** @param typed empty forgets it */
export function takeKey(typed: string): void {
  key.value = typed;
  keyWanted.value = null;
  try {
    sessionStorage.setItem(KEPT, typed);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error; // blocked: it lasts as long as the page
  }
}

function kept(): string {
  try {
    return sessionStorage.getItem(KEPT) ?? "";
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    return "";
  }
}

/** What an operator asks for. A key that is missing or refused is asked for. */
export async function asOperator<T>(path: string, options: Options = {}): Promise<T> {
  const sent = key.value;
  const headers: Record<string, string> = sent === "" ? {} : { authorization: `Bearer ${sent}` };
  try {
    return await json<T>(await send(path, { ...options, headers }));
  } catch (error) {
    // The first refusal counts: what is asked for beside it is given up half-read.
    if (error instanceof ApiError && error.status === 401 && sent === key.value) keyWanted.value ??= error.message;
    throw error;
  }
}

/** A refusal in words for who sits at the console. To a tenant's key the deployment's routes do not exist. */
export function inWords(error: ApiError): string {
  if (error.status === 403) return `${error.message} Use another key for this.`;
  if (error.status === 404 && /^There is no [A-Z]+ \//.test(error.message))
    return "This key cannot see the deployment: it is a tenant's. Use one that was made without a tenant.";
  return error.message;
}
