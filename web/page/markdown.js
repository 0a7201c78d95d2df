/**
 * Markdown to nodes, safe by construction: the tags are the fixed ones below, everything from the model is a text node.
 *
 * Headings, bold, italic, code, fenced code, lists, quotes, rules and http(s) links. No raw HTML (it shows as typed),
 * no images (they become links: nothing loads by itself), no tables. Why not a library: the page has no build step yet
 * and must load from this host alone; a kept-up renderer replaces this module when the page gets built.
 *
 * Every pattern scans forward to the next occurrence of its own delimiter, so no input takes more than linear time.
 */

import { el } from "./dom.js";

/**
 * @typedef {{type: "paragraph" | "code", text: string}
 *   | {type: "heading", level: number, text: string}
 *   | {type: "rule"}
 *   | {type: "quote", blocks: Block[]}
 *   | {type: "list", start: number | null, items: Block[][]}} Block
 * @typedef {{block: Block, next: number}} Taken
 */

const FENCE = /^ {0,3}(`{3,}|~{3,})[^`]*$/;
const FENCE_END = /^ {0,3}(?:`{3,}|~{3,})\s*$/;
const HEADING = /^ {0,3}(#{1,6}) +(\S.*)$/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)(?:[-*+]|(\d{1,9})[.)]) +(?=\S)/;
/** Quotes and lists deeper than this stay text: hostile nesting must not exhaust the stack. */
const DEEPEST = 8;

const INLINE = new RegExp(
  [
    /(?<!`)(?<ticks>`+)(?!`)(?<code>[^]*?[^`])\k<ticks>(?!`)/,
    /!?\[(?<label>[^[\]\n]+)\]\((?<address>https?:\/\/[^\s()<>]+(?:\([^\s()<>]*\)[^\s()<>]*)*)(?: +"[^"\n]*")?\)/,
    /\*\*\*(?=[^\s*])(?<both>[^*]+)(?<!\s)\*\*\*/,
    /\*\*(?=[^\s*])(?<bold>(?:[^*]|\*(?!\*))+)\*\*(?!\*)/,
    /(?<!\w)__(?=[^\s_])(?<bold_>(?:[^_]|_(?!_))+)__(?!\w)/,
    /\*(?=[^\s*])(?<italic>[^*]+)(?<!\s)\*(?!\*)/,
    /(?<!\w)_(?=[^\s_])(?<italic_>[^_]+)(?<!\s)_(?!\w)/,
    /(?<![\w/])(?<bare>https?:\/\/[^\s<>"`*]*[^\s<>"`*.,:;!?'()[\]])/,
    /\\(?<escaped>[!-/:-@[-`{-~])/,
  ].map((pattern) => pattern.source).join("|"),
  "g",
);

/**
 * Shows `text` inside `element`. Blocks that did not change since the last call keep their nodes, so a stream neither
 * flickers nor loses the reader's selection above its last block.
 * @param {HTMLElement} element
 * @param {string} text
 */
export function renderMarkdown(element, text) {
  const blocks = parse(text.split(/\r?\n/), 0);
  blocks.forEach((block, index) => {
    const key = JSON.stringify(block);
    const shown = element.children[index];
    if (shown !== undefined && drawn.get(shown) === key) return;
    const node = draw(block);
    drawn.set(node, key);
    if (shown === undefined) element.append(node);
    else shown.replaceWith(node);
  });
  while (element.children.length > blocks.length) element.lastElementChild?.remove();
}

/** What each node on the page was drawn from. @type {WeakMap<Element, string>} */
const drawn = new WeakMap();

/** @param {string[]} lines @param {number} depth @returns {Block[]} */
function parse(lines, depth) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const { block, next } = takeBlock(lines, at, depth);
    blocks.push(block);
    at = next;
  }
  return blocks;
}

/** @param {string[]} lines @param {number} at @param {number} depth @returns {Taken} */
function takeBlock(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return takeCode(lines, at, fence[1]);
  const heading = HEADING.exec(line);
  if (heading) return { block: { type: "heading", level: heading[1].length, text: heading[2] }, next: at + 1 };
  if (RULE.test(line)) return { block: { type: "rule" }, next: at + 1 };
  if (QUOTE.test(line) && depth < DEEPEST) return takeQuote(lines, at, depth);
  if (ITEM.test(line) && depth < DEEPEST) return takeList(lines, at, depth);
  return takeParagraph(lines, at);
}

/** Fenced code; a fence that is still open, as in a stream, reaches to the end.
 * @param {string[]} lines @param {number} at @param {string} fence @returns {Taken} */
function takeCode(lines, at, fence) {
  const isEnd = (/** @type {string} */ line) => line.trim().startsWith(fence) && FENCE_END.test(line);
  let end = at + 1;
  while (end < lines.length && !isEnd(lines[end])) end += 1;
  return { block: { type: "code", text: lines.slice(at + 1, end).join("\n") }, next: end + 1 };
}

/** @param {string[]} lines @param {number} at @param {number} depth @returns {Taken} */
function takeQuote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return { block: { type: "quote", blocks: parse(inner, depth + 1) }, next: end };
}

/** Items with the first one's indent and kind; what is indented more, or follows lazily, belongs to the item above.
 * @param {string[]} lines @param {number} at @param {number} depth @returns {Taken} */
function takeList(lines, at, depth) {
  const [, indent, number] = /** @type {RegExpExecArray} */ (ITEM.exec(lines[at]));
  /** @type {string[][]} */
  const items = [];
  let offset = 0;
  let next = at;
  for (; next < lines.length; next += 1) {
    const line = lines[next];
    const item = ITEM.exec(line);
    const sibling = item !== null && item[1].length <= indent.length + 1;
    if (sibling && (item[2] === undefined) !== (number === undefined)) break;
    if (sibling) {
      offset = item[0].length;
      items.push([line.slice(offset)]);
    } else if (belongs(lines, next, indent.length)) {
      items[items.length - 1].push(line.slice(Math.min(offset, line.search(/\S|$/))));
    } else break;
  }
  const start = number === undefined ? null : Number(number);
  return { block: { type: "list", start, items: items.map((item) => parse(item, depth + 1)) }, next };
}

/** Whether a line that starts no sibling still belongs to the list item above it.
 * @param {string[]} lines @param {number} at @param {number} indent */
function belongs(lines, at, indent) {
  const deeper = (/** @type {string} */ line) => line.search(/\S/) > indent;
  if (lines[at].trim() === "") return at + 1 < lines.length && (deeper(lines[at + 1]) || ITEM.test(lines[at + 1]));
  return deeper(lines[at]) || (lines[at - 1].trim() !== "" && !startsBlock(lines[at]));
}

/** @param {string} line */
function startsBlock(line) {
  return [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));
}

/** @param {string[]} lines @param {number} at @returns {Taken} */
function takeParagraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== "" && !startsBlock(lines[end])) end += 1;
  return { block: { type: "paragraph", text: lines.slice(at, end).map((line) => line.trim()).join("\n") }, next: end };
}

/** @param {Block} block @returns {HTMLElement} */
function draw(block) {
  switch (block.type) {
    case "paragraph":
      return el("p", {}, ...inline(block.text));
    case "code":
      return el("pre", { tabindex: 0 }, el("code", {}, block.text));
    case "heading":
      // The page's own headings are h1 and h2, so an answer's start at h3.
      return el(`h${Math.min(block.level + 2, 6)}`, {}, ...inline(block.text));
    case "rule":
      return el("hr");
    case "quote":
      return el("blockquote", {}, ...block.blocks.map(draw));
    case "list":
      return el(block.start === null ? "ul" : "ol", { start: block.start }, ...block.items.map(drawItem));
  }
}

/** The first paragraph of an item stands bare, as in a tight list. @param {Block[]} blocks */
function drawItem(blocks) {
  const [first, ...rest] = blocks;
  if (first?.type !== "paragraph") return el("li", {}, ...blocks.map(draw));
  return el("li", {}, ...inline(first.text), ...rest.map(draw));
}

/** @param {string} text @param {boolean} [linked] whether this is the label of a link, which holds no other link
 * @returns {Node[]} */
function inline(text, linked = false) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(...plain(text.slice(at, match.index)), drawInline(match, linked));
    at = match.index + match[0].length;
  }
  return [...nodes, ...plain(text.slice(at))];
}

/** @param {RegExpMatchArray} match @param {boolean} linked @returns {Node} */
function drawInline(match, linked) {
  const { code, label, address, both, bold, bold_, italic, italic_, bare, escaped } = match.groups ?? {};
  if (code !== undefined) return el("code", {}, code.trim() || code);
  if (both !== undefined) return el("strong", {}, el("em", {}, ...inline(both, linked)));
  if (bold ?? bold_) return el("strong", {}, ...inline(bold ?? bold_, linked));
  if (italic ?? italic_) return el("em", {}, ...inline(italic ?? italic_, linked));
  if (address !== undefined && !linked) return link(address, inline(label, true));
  if (bare !== undefined && !linked) return link(bare, [document.createTextNode(bare)]);
  return document.createTextNode(escaped ?? match[0]);
}

/** The patterns let only http and https through; the title shows where a label leads.
 * @param {string} address @param {Node[]} label */
function link(address, label) {
  return el("a", { href: address, title: address, target: "_blank", rel: "noopener noreferrer nofollow" }, ...label);
}

/** Chat text means its single line breaks. @param {string} text */
function plain(text) {
  return text.split("\n").flatMap((line, index) => (index === 0 ? [line] : [el("br"), line]))
    .filter((part) => part !== "")
    .map((part) => (typeof part === "string" ? document.createTextNode(part) : part));
}
