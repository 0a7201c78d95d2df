"""The page's own Markdown renderer, in the browser that runs it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.web.fake_api import FakeApi

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def blank(browser: Browser) -> Iterator[Page]:
    """The page loaded once: the renderer keeps no state between calls."""
    with FakeApi().listening() as url, browser.new_context() as context:
        page = context.new_page()
        page.goto(url)
        yield page


_RENDER = """async (text) => {
    const { renderMarkdown } = await import("./markdown.js");
    const element = document.createElement("div");
    renderMarkdown(element, text);
    return element.innerHTML;
}"""
_LINK = '<a href="{0}" title="{0}" target="_blank" rel="noopener noreferrer nofollow">{1}</a>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
        ("# One\n###### Six", "<h3>One</h3><h6>Six</h6>"),
        (
            "**a** __b__ *c* _d_ ***e***",
            "<p><strong>a</strong> <strong>b</strong> <em>c</em> <em>d</em> <strong><em>e</em></strong></p>",
        ),
        ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
        ("**a `b` c** \\*d\\*", "<p><strong>a <code>b</code> c</strong> *d*</p>"),
        ("``a ` b`` `c`", "<p><code>a ` b</code> <code>c</code></p>"),
        ("```py\nif a:\n    b\n```\nc", '<pre tabindex="0"><code>if a:\n    b</code></pre><p>c</p>'),
        ("```\nstill open", '<pre tabindex="0"><code>still open</code></pre>'),
        ("- a\n- b\n  - c\n\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
        ("3. a\n4. b\n- c", '<ol start="3"><li>a</li><li>b</li></ol><ul><li>c</li></ul>'),
        ("> a\n> - b", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>"),
        ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
        ("[a *b*](https://x.example/y)", "<p>" + _LINK.format("https://x.example/y", "a <em>b</em>") + "</p>"),
        (
            "(see https://x.example/y).",
            "<p>(see " + _LINK.format("https://x.example/y", "https://x.example/y") + ").</p>",
        ),
        ("![a](https://x.example/y)", "<p>" + _LINK.format("https://x.example/y", "a") + "</p>"),
        ("[a](ftp://x.example)", "<p>[a](ftp://x.example)</p>"),
        ("<b>a</b> &amp;", "<p>&lt;b&gt;a&lt;/b&gt; &amp;amp;</p>"),
    ],
)
def test_markdown(blank: Page, text: str, expected: str) -> None:
    assert expected == blank.evaluate(_RENDER, text)


@pytest.mark.parametrize("text", ["> " * 20_000 + "a", "- " * 20_000 + "a", "**" * 20_000, "[" * 40_000, "`a" * 20_000])
def test_markdown_survives_hostile_nesting(blank: Page, text: str) -> None:
    """No input exhausts the stack: rendering ends and yields something."""
    assert blank.evaluate(_RENDER, text) != ""


def test_a_growing_text_keeps_the_nodes_of_finished_blocks(blank: Page) -> None:
    """A reader's selection above the last block survives the stream."""
    kept = blank.evaluate("""async () => {
        const { renderMarkdown } = await import("./markdown.js");
        const element = document.createElement("div");
        renderMarkdown(element, "one\\n\\ntw");
        const [first, last] = element.children;
        renderMarkdown(element, "one\\n\\ntwo\\n\\nthree");
        return [first === element.children[0], last === element.children[1], element.children.length];
    }""")
    assert kept == [True, False, 3]
