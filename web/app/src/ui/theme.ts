/** Light, dark, or as the system says. */

import { signal } from "@preact/signals";
import { read, write } from "../model/storage";

const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export const theme = signal<Theme>(THEMES.find((it) => it === read("theme")) ?? "system");

export function applyTheme(): void {
  document.documentElement.dataset["theme"] = theme.value;
}

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "system";
  write("theme", theme.value === "system" ? null : theme.value);
  applyTheme();
}
