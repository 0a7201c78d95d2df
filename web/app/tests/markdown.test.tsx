/** Markdown becomes the fixed elements and nothing else. */

import { renderToStaticMarkup } from "preact-render-to-string";
import { expect, test } from "vitest";
import { parse } from "../src/markdown/blocks";
import { Markdown } from "../src/markdown/Markdown";

const link = (url: string, label: string) =>
  `<a href="${url}" title="${url}" target="_blank" rel="noopener noreferrer nofollow">${label}</a>`;

test.each([
  ["one\ntwo\n\nthree", "<p>one<br/>two</p><p>three</p>"],
  ["# One\n\n###### Six", "<h3>One</h3><h6>Six</h6>"],
  ["**a** *c* ~~d~~", "<p><strong>a</strong> <em>c</em> <del>d</del></p>"],
  ["snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"],
  ["**a `b` c** \\*d\\*", "<p><strong>a <code>b</code> c</strong> *d*</p>"],
  ["- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"],
  ["3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'],
  ["> a\n> - b", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>"],
  ["a\n\n---\n\nb", "<p>a</p><hr/><p>b</p>"],
  ["[a *b*](https://x.example/y)", `<p>${link("https://x.example/y", "a <em>b</em>")}</p>`],
  ["(see https://x.example/y).", `<p>(see ${link("https://x.example/y", "https://x.example/y")}).</p>`],
  ["![a](https://x.example/y)", `<p>${link("https://x.example/y", "a")}</p>`],
  ["[a](ftp://x.example)", "<p>[a](ftp://x.example)</p>"],
  ["[a]( JaVaScRiPt:x)", "<p>[a]( JaVaScRiPt:x)</p>"],
  ["[a](/v1/models)", "<p>[a](/v1/models)</p>"],
  ["a <b>b</b> &amp; c", "<p>a &lt;b>b&lt;/b> &amp; c</p>"],
  ["<script>a</script>", "&lt;script>a&lt;/script>"],
  ["[a][b]\n\n[b]: https://x.example", "<p>[a][b]</p>[b]: https://x.example"],
])("%j", (text, expected) => {
  expect(renderToStaticMarkup(<Markdown text={text} />).replaceAll("&gt;", ">")).toBe(expected);
});

test("a table keeps its alignment and a list its ticks", () => {
  const table = renderToStaticMarkup(<Markdown text={"| a | b |\n|---|--:|\n| 1 | 2 |"} />);
  expect(table).toContain('<th class="left">a</th><th class="right">b</th>');
  expect(table).toContain('<td class="left">1</td><td class="right">2</td>');
  expect(renderToStaticMarkup(<Markdown text={"- [x] a\n- [ ] b"} />)).toContain("☑ </span>a");
});

test("code shows its language and is not parsed, also while its fence is open", () => {
  const code = renderToStaticMarkup(<Markdown text={"```py\nif a:\n    <b>"} />);
  expect(code).toContain("<span>py</span>");
  expect(code).toContain("<code>if a:\n    &lt;b></code>");
});

test.each(["> ", "- ", "**", "[", "`a", "![", "<a ", "1. ", "[a](", "*a_ "])(
  "20,000 times %j ends, whatever its depth",
  (piece) => {
    expect(renderToStaticMarkup(<Markdown text={`${piece.repeat(20_000)}a`} />)).not.toBe("");
  },
);

test("a text that grows keeps its finished blocks, wherever it is cut", () => {
  const text = "# One\n\ntwo\nthree\n\n- a\n\n  b\n- c\n\n```js\nx\n\ny\n```\n\n| a |\n|---|\n| b |\n\nlast\n===\n";
  let before = parse("", []);
  for (let end = 1; end <= text.length; end += 1) {
    const after = parse(text.slice(0, end), before);
    expect(after.slice(0, before.length - 1)).toEqual(before.slice(0, -1));
    before = after;
  }
  const whole = (blocks: typeof before) => blocks.map(({ source, node }) => [source, node.type]);
  expect(whole(before)).toEqual(whole(parse(text, [])));
});
