/** A block of code: coloured if the language is known, with a button that copies it. */

import { signal } from "@preact/signals";
import type { Nodes } from "hast";
import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { copy } from "../ui/copy";
import { Icon } from "../ui/Icon";

type Highlight = (text: string, language: string) => Nodes | null;

/** Null until the first block of code is shown: its languages are half of the page's weight. */
const highlighter = signal<Highlight | null>(null);
let loading = false;

/** Longer code stays in one colour: colouring it again with each word would be felt. */
const LONGEST = 20_000;

async function load(): Promise<void> {
  if (loading) return;
  loading = true;
  const { highlight } = await import("./highlight");
  highlighter.value = highlight;
}

export function Code({ text, language }: { text: string; language: string | null }) {
  const highlight = highlighter.value;
  useEffect(() => {
    // Without the colours the code is still readable, so a file that cannot be had is no error to show.
    if (language !== null) void load().catch(() => undefined);
  }, [language]);
  const tree = useMemo(
    () => (highlight && language && text.length <= LONGEST ? highlight(text, language) : null),
    [highlight, text, language],
  );
  return (
    <figure class="code">
      <figcaption>
        <span>{language ?? "text"}</span>
        <CopyButton text={text} />
      </figcaption>
      <pre tabIndex={0}>
        <code>{tree ? draw(tree) : text}</code>
      </pre>
    </figure>
  );
}

function CopyButton({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const press = async () => {
    setCopied(await copy(text));
    window.setTimeout(() => setCopied(false), 2000);
  };
  return (
    <button type="button" class="quiet small" onClick={press}>
      <Icon name={copied ? "check" : "copy"} />
      {copied ? "Copied" : "Copy code"}
    </button>
  );
}

/** The highlighter's tree holds spans with classes, and text. */
function draw(node: Nodes): ComponentChildren {
  if (node.type === "text") return node.value;
  if (node.type === "root") return node.children.map((child) => draw(child));
  if (node.type !== "element") return null;
  const classes = node.properties["className"];
  return (
    <span class={Array.isArray(classes) ? classes.join(" ") : ""}>{node.children.map((child) => draw(child))}</span>
  );
}
