/**
 * The top-level blocks of a Markdown text. A text that grows keeps the blocks that are closed already, as the same
 * objects: only what stands after the last of them is parsed again, so a long stream costs no more than a short one.
 *
 * Left out: links whose address is defined elsewhere (`[a][1]` … `[1]: https://…`) stand as written, because they would
 * reach across blocks.
 */

import type { RootContent } from "mdast";
import { fromMarkdown } from "mdast-util-from-markdown";
import { gfmFromMarkdown } from "mdast-util-gfm";
import { gfm } from "micromark-extension-gfm";

export interface Block {
  /** The lines of the block, and empty ones after it. */
  source: string;
  node: RootContent;
  /** The text that positions in `node` count in. */
  base: string;
}

/** What is deeper than any person writes, or longer in one piece, is shown as it was typed: parsing it is not linear. */
const DEEP = /^(?:[ \t]{0,4}(?:>|[-*+]|\d{1,9}[.)])[ \t]?){40}/m;
const DENSE = /(?:[[*_~`]{1,2}[^\s[*_~`]{0,2}){400}/;
const LONGEST = 50_000;

const OPTIONS = { extensions: [gfm({ singleTilde: false })], mdastExtensions: [gfmFromMarkdown()] };

/** @param before what this gave for a beginning of `text`; anything else is harmless */
export function parse(text: string, before: readonly Block[]): Block[] {
  const kept: Block[] = [];
  let at = 0;
  for (const block of before.slice(0, -1)) {
    if (!text.startsWith(block.source, at)) break;
    kept.push(block);
    at += block.source.length;
  }
  const rest = text.slice(at);
  return rest.trim() === "" ? kept : [...kept, ...split(rest)];
}

function split(text: string): Block[] {
  if (text.length > LONGEST || DEEP.test(text) || DENSE.test(text)) return [asTyped(text)];
  const { children } = fromMarkdown(text, OPTIONS);
  const starts = children.map((child) => text.lastIndexOf("\n", (child.position?.start.offset ?? 0) - 1) + 1);
  return children.map((node, index) => {
    const from = index === 0 ? 0 : starts[index];
    return { source: text.slice(from, starts[index + 1]), node, base: text };
  });
}

function asTyped(text: string): Block {
  const node: RootContent = { type: "paragraph", children: [{ type: "text", value: text }] };
  return { source: text, node, base: text };
}
