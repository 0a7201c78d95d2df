/**
 * Markdown as elements, safe by construction: the parser gives a tree, and each kind of node becomes one of the fixed
 * elements below. No string is ever parsed as HTML. HTML in the text is shown as typed; pictures become links, so that
 * nothing loads by itself; links lead to http, https or mailto, all others stand as typed.
 */

import type { Nodes, Parents, PhrasingContent, Table } from "mdast";
import type { ComponentChildren } from "preact";
import { memo } from "preact/compat";
import { useRef } from "preact/hooks";
import { type Block, parse } from "./blocks";
import { Code } from "./Code";

const SAFE = /^(?:https?|mailto):/i;

/** Shows `text`; while it grows, finished blocks keep their elements, and with them the reader's selection. */
export function Markdown({ text }: { text: string }) {
  const blocks = useRef<Block[]>([]);
  blocks.current = parse(text, blocks.current);
  return (
    <>
      {blocks.current.map((block, index) => (
        <View key={index} block={block} />
      ))}
    </>
  );
}

const View = memo(({ block }: { block: Block }) => <>{draw(block.node, block.base)}</>);

/** @param base the text that was parsed: nodes that are not drawn show their part of it */
function draw(node: Nodes, base: string): ComponentChildren {
  const inside = () => all(node as Parents, base);
  switch (node.type) {
    case "text":
      return lines(node.value);
    case "html":
      return lines(node.value);
    case "paragraph":
      return <p>{inside()}</p>;
    case "heading": {
      // The page's own headings are h1 and h2, so an answer's start at h3.
      const Heading = `h${Math.min(node.depth + 2, 6)}` as "h3";
      return <Heading>{inside()}</Heading>;
    }
    case "thematicBreak":
      return <hr />;
    case "blockquote":
      return <blockquote>{inside()}</blockquote>;
    case "code":
      return <Code text={node.value} language={node.lang ?? null} />;
    case "list":
      return node.ordered ? <ol start={node.start ?? 1}>{inside()}</ol> : <ul>{inside()}</ul>;
    case "listItem":
      return <li>{item(node, base)}</li>;
    case "table":
      return <TableView node={node} base={base} />;
    case "emphasis":
      return <em>{inside()}</em>;
    case "strong":
      return <strong>{inside()}</strong>;
    case "delete":
      return <del>{inside()}</del>;
    case "inlineCode":
      return <code>{node.value}</code>;
    case "break":
      return <br />;
    case "link":
      return SAFE.test(node.url) ? link(node.url, inside()) : asTyped(node, base);
    case "image":
      return SAFE.test(node.url) ? link(node.url, node.alt || node.url) : asTyped(node, base);
    default:
      return asTyped(node, base);
  }
}

function all({ children }: Parents, base: string): ComponentChildren[] {
  return (children as Nodes[]).map((child) => draw(child, base));
}

/** The title shows where a label leads. */
function link(url: string, label: ComponentChildren) {
  return (
    <a href={url} title={url} target="_blank" rel="noopener noreferrer nofollow">
      {label}
    </a>
  );
}

/** Chat text means its single line breaks. */
function lines(text: string): ComponentChildren[] {
  return text.split("\n").flatMap((line, index) => (index === 0 ? [line] : [<br key={index} />, line]));
}

function asTyped({ position }: Nodes, base: string): ComponentChildren {
  return lines(base.slice(position?.start.offset, position?.end.offset));
}

/** Paragraphs of an item stand bare, as in a tight list, unless there are several. */
function item(node: Extract<Nodes, { type: "listItem" }>, base: string): ComponentChildren {
  const several = node.children.filter((child) => child.type === "paragraph").length > 1;
  const box = node.checked == null ? null : <span class="box">{node.checked ? "☑ " : "☐ "}</span>;
  const parts = node.children.map((child) =>
    child.type === "paragraph" && !several ? all(child, base) : draw(child, base),
  );
  return [box, ...parts];
}

/** It scrolls by itself where it is wider than the page. */
function TableView({ node, base }: { node: Table; base: string }) {
  const [head, ...body] = node.children;
  const cells = (row: typeof head, Cell: "th" | "td") =>
    row?.children.map((cell, index) => (
      <Cell key={index} class={node.align?.[index] ?? "left"}>
        {cell.children.map((child: PhrasingContent) => draw(child, base))}
      </Cell>
    ));
  return (
    <div class="table" tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead>
          <tr>{cells(head, "th")}</tr>
        </thead>
        <tbody>
          {body.map((row, index) => (
            <tr key={index}>{cells(row, "td")}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
