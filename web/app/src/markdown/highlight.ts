/** Colours for code, loaded with the first block of it: the 37 languages that highlight.js calls common. */

import type { Nodes } from "hast";
import { common, createLowlight } from "lowlight";

const lowlight = createLowlight(common);

/** A tree of spans; null for a language that is not known. */
export function highlight(text: string, language: string): Nodes | null {
  return lowlight.registered(language) ? lowlight.highlight(language, text) : null;
}
