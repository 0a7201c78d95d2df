/** What this browser keeps by itself. Blocked or full storage is no error: it then lasts as long as the page. */

const PREFIX = "plumbline.";
const memory = new Map<string, string>();

export function read(key: string): string | null {
  try {
    return localStorage.getItem(PREFIX + key) ?? memory.get(key) ?? null;
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    return memory.get(key) ?? null;
  }
}

/** @param value null takes it away */
export function write(key: string, value: string | null): void {
  if (value === null) memory.delete(key);
  else memory.set(key, value);
  try {
    if (value === null) localStorage.removeItem(PREFIX + key);
    else localStorage.setItem(PREFIX + key, value);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}
