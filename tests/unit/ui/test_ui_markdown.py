import os
import re
import time
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.ports import BlockHtml, BlockText
from ui.markdown import MAX_INLINE_CHARS, MAX_INLINE_MARKS, GrowingMarkdown, MarkdownRenderer

RENDERER = MarkdownRenderer()

FRAGMENTS = st.sampled_from(
    [
        *["word", "two words", "海纳百川", "，", "。", "x", "1", "5", "🙂", "a.b", "(c)", "it's", "e\u0301", "\u3000"],
        *[" ", " ", "  ", "   ", "    ", "\n", "\n", "\n", "\n\n", "\n\n", "\t", "\r\n", "\r", "\xa0", "\0"],
        *["- ", "* ", "+ ", "1. ", "2) ", "> ", "# ", "### ", "---", "===", "***", "-", "=", "#"],
        *["\n- a", "\n1. b", "\n  - c", "\n    d", "\n> e", "\n# f"],
        *[
            "*",
            "**",
            "_",
            "__",
            "~~",
            "`",
            "``",
            "\\",
            "[",
            "]",
            "(",
            ")",
            "](http://x.y)",
            "![",
            "<",
            ">",
            "&",
            "&amp",
        ],
        *["http://x.y", "<http://x.y>", "[a]: http://x.y", "[a]", "<b>", "</b>", "<!--", "<script>", "!", ";"],
        *["```", "```python\n", "```\n", "~~~", "~~~\n", "\n```\n", "    code", "\n   ```js\n", "def f(x): return 'a'"],
        *["|", " | ", "a | b", "\n|-|-|\n", "\n--|--\n", "| a | b |\n|:-|-:|\n| 1 | 2 |\n"],
        *["$", "$$", "\n$$\n", "\\(", "\\)", "\\[", "\\]", "\n\\[\n", "\n\\]\n", "x^2", "\\frac{a}{b}", "{", "}"],
        *["$x$", "$5", "$$x$$"],
    ]
)
TEXTS = st.lists(FRAGMENTS, max_size=40).map("".join)


TABLE = (
    '<div class="table"><table><thead><tr><th>a</th><th align="right">b</th></tr></thead>'
    '<tbody><tr><td>1</td><td align="right">2</td></tr></tbody></table></div>'
)
PROGRAM = (
    '<div class="code"><div class="code-head"><span class="code-lang">{language}</span>'
    '<button class="code-copy" type="button" data-copy=""></button></div><pre><code>{content}</code></pre></div>'
)


class Page:
    """The blocks as a browser would hold them."""

    def __init__(self) -> None:
        self.blocks: list[str] = []

    def apply(self, changes: Sequence[BlockHtml | BlockText]) -> None:
        for change in changes:
            if isinstance(change, BlockHtml):
                assert change.index <= len(self.blocks)
                self.blocks[change.index :] = [change.html, *self.blocks[change.index + 1 :]]
            else:
                self.blocks[change.index] = with_text(self.blocks[change.index], change.text)

    def shown(self) -> list[str]:
        """The blocks, without those at the end that were taken back."""
        blocks = [plain(block) for block in self.blocks]
        while blocks and not blocks[-1]:
            blocks.pop()
        return blocks


def with_text(html: str, text: str) -> str:
    """Append to the last text node, as the page's script does."""
    nodes = list(re.finditer(r"(?:^|>)([^<>]+)(?=<|$)", html))
    assert nodes, "there is no text node"
    end = nodes[-1].end()
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return html[:end] + escaped + html[end:]


def plain(html: str) -> str:
    return html.replace("&nbsp;", "\xa0")


def grown(pieces: Sequence[str], stream: GrowingMarkdown | None = None) -> list[str]:
    page, stream = Page(), stream or RENDERER.stream()
    for piece in pieces:
        page.apply(stream.feed(piece))
    return page.shown()


def whole(text: str) -> list[str]:
    return [plain(block) for block in RENDERER.render(text)]


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(text[start : start + size])
        start += size
    return [*pieces, text[start:]]


class TestGrowing:
    @settings(max_examples=int(os.environ.get("HAINA_TEST_EXAMPLES", "150")), deadline=None)
    @given(text=TEXTS, sizes=st.lists(st.integers(1, 12)))
    def test_a_text_in_pieces_ends_as_the_whole_text(self, text: str, sizes: list[int]) -> None:
        assert grown(cut(text, sizes)) == whole(text)

    @settings(max_examples=int(os.environ.get("HAINA_TEST_EXAMPLES", "50")), deadline=None)
    @given(text=TEXTS)
    def test_after_every_single_character_the_page_shows_what_there_is(self, text: str) -> None:
        page, stream = Page(), RENDERER.stream()
        for n, character in enumerate(text, start=1):
            page.apply(stream.feed(character))
            if text[n - 1] != "\r":
                assert page.shown() == whole(text[:n])

    def test_plain_words_are_sent_as_words(self) -> None:
        stream = RENDERER.stream()
        assert stream.feed("Hello") == [BlockHtml(0, "<p>Hello</p>")]
        assert stream.feed(" dear") == (BlockText(0, " dear"),)
        assert stream.feed(" ") == ()
        assert stream.feed("world, 你好。") == (BlockText(0, " world, 你好。"),)
        assert stream.feed("\n\n") == []
        assert stream.feed("- one") == [BlockHtml(1, "<ul><li>one</li></ul>")]
        assert stream.feed(" more") == (BlockText(1, " more"),)

    def test_a_growing_program_is_sent_line_by_line_and_coloured_at_its_end(self) -> None:
        stream = RENDERER.stream()
        stream.feed("```python\nx")
        lines = [f" = {n} < [{n}]\n\ny" for n in range(50)]
        changes = [change for line in lines for change in stream.feed(line)]
        assert all(isinstance(change, BlockText) for change in changes)
        (closing,) = stream.feed("\n```")
        assert isinstance(closing, BlockHtml)
        assert '<span class="n">x</span>' in closing.html

    @pytest.mark.parametrize(
        "pieces",
        [
            ["a &amp", ";"],
            ["a [b](http://x.y", ")"],
            ["a [b", "](http://x.y)"],
            ["a <http://x.y", ">"],
            ["|a|b|\n|-|-|\n|c|d|d", "e"],
            ["- a\n1", ". b"],
            ["- a\n\nb | c\n", "--|--"],
            ["a **b", "** c"],
            ["# a ", "#"],
            ["a\r", "\nb"],
            ["a\r", "b"],
            ["```\na", "\n", "``", "`\n\nb"],
            ["$$\nx", " y\n", "$$"],
        ],
    )
    def test_a_piece_that_changes_what_was_before_it_is_noticed(self, pieces: list[str]) -> None:
        assert grown(pieces) == whole("".join(pieces))

    def test_brackets_and_semicolons_that_end_nothing_are_words(self) -> None:
        stream = RENDERER.stream()
        stream.feed("A word")
        assert stream.feed(" (in brackets); a > b]") == (BlockText(0, " (in brackets); a > b]"),)

    def test_closed_blocks_are_not_sent_again(self) -> None:
        stream = RENDERER.stream()
        stream.feed("*one*\n\n*two*\n\n")
        assert {change.index for change in stream.feed("*three*\n\n- four")} == {2, 3}

    def test_a_block_that_a_later_character_takes_back_is_emptied(self) -> None:
        stream = RENDERER.stream()
        assert [change.index for change in stream.feed("- a\n---")] == [0, 1]
        assert BlockHtml(1, "") in stream.feed(" b")


class TestBlocks:
    @pytest.mark.parametrize(
        ("text", "html"),
        [
            ("a *b* **c** ~~d~~ `e`", "<p>a <em>b</em> <strong>c</strong> <s>d</s> <code>e</code></p>"),
            ("one\ntwo", "<p>one<br>two</p>"),
            ("## Title", "<h2>Title</h2>"),
            ("3. c\n4. d", '<ol start="3"><li>c</li><li>d</li></ol>'),
            ("> a", "<blockquote><p>a</p></blockquote>"),
            ("|a|b|\n|-|-:|\n|1|2|", TABLE),
            ("```nosuch\n<a>\n```", PROGRAM.format(language="nosuch", content="&lt;a&gt;")),
            ("```\na", PROGRAM.format(language="", content="a")),
            ("    a\n     b", PROGRAM.format(language="", content="a\n b")),
        ],
    )
    def test_are_drawn(self, text: str, html: str) -> None:
        assert RENDERER.render(text) == [html]

    def test_each_is_a_string_of_its_own(self) -> None:
        assert len(RENDERER.render("a\n\nb\n\n- c\n- d\n\n```\n\ne\n```\n")) == 4
        assert RENDERER.render("") == RENDERER.render("\n \n") == []

    def test_an_open_program_is_not_coloured_and_a_closed_one_is(self) -> None:
        assert "<span class=" not in RENDERER.render("```python\nimport os\n")[0].partition("<pre>")[2]
        assert '<span class="kn">import</span>' in RENDERER.render("```python\nimport os\n```")[0]

    def test_reference_links_are_not_followed_as_they_reach_across_blocks(self) -> None:
        assert RENDERER.render("[a]\n\n[a]: http://x.y") == ["<p>[a]</p>", "<p>[a]: http://x.y</p>"]


class TestFormulas:
    @pytest.mark.parametrize("text", ["$x^2$", "设$x^2$为", "\\(x^2\\)", "- $x^2$", "|a|\n|-|\n|$x^2$|", "**$x^2$**"])
    def test_within_a_line_become_mathml(self, text: str) -> None:
        assert (
            '<math display="inline"><mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math>' in RENDERER.render(text)[0]
        )

    @pytest.mark.parametrize(
        "text",
        [
            "$$x^2$$",
            "$$\nx^2\n$$",
            "\\[x^2\\]",
            "\\[\nx^2\n\\]",
            "a:\n$$\nx^2\n$$",
            "a $$x^2$$ b",
            "- a\n  \\[\n  x^2\n  \\]",
        ],
    )
    def test_on_lines_of_their_own_become_display_mathml(self, text: str) -> None:
        html = "".join(RENDERER.render(text))
        assert '<math display="block"><mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math>' in html

    def test_lines_of_a_formula_that_look_like_a_list_stay_in_it(self) -> None:
        (html,) = RENDERER.render("$$\na = b\n+ c\n- d\n$$")
        assert html.count("<math") == 1
        assert "<ul>" not in html

    @pytest.mark.parametrize(
        "text",
        [
            "$5 and $10",
            "US$5 or HK$ 6",
            "from $5-$10",
            "$5 million, then 6$",
            "一共 $5 元，不是 $10 元",
            "a $ b $ c",
            "\\$x\\$",
            "`$x$`",
            "$$",
            "$$ $$",
            "$\nx$",
        ],
    )
    def test_prices_and_lone_dollars_stay_text(self, text: str) -> None:
        assert "<math" not in "".join(RENDERER.render(text))

    @pytest.mark.parametrize("formula", [r"\frac{", r"\left( x", "^", "_" * 900, "{" * 900, r"\sqrt" * 300, "x" * 1999])
    def test_one_that_cannot_be_read_is_shown_as_code_or_drawn_but_never_an_error(self, formula: str) -> None:
        (html,) = RENDERER.render(f"a ${formula}$ b")
        assert "<code>$" in html or "<math" in html

    def test_one_that_is_nested_too_deeply_is_shown_as_written(self) -> None:
        formula = r"\sqrt{" * 30 + "x" + "}" * 30
        assert RENDERER.render(f"${formula}$") == [f"<p><code>${formula}$</code></p>"]


TAGS = {
    "p",
    "a",
    "div",
    "span",
    "button",
    "pre",
    "code",
    "math",
    "mrow",
    "mtext",
    "mi",
    "mn",
    "mo",
    "table",
    "thead",
} | {*("tbody", "tr", "th", "td")}
MO = {"stretchy", "form", "fence"}


class Tags(HTMLParser):
    """Collects tags as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class TestSafety:
    @pytest.mark.parametrize(
        "text",
        [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "[a](javascript:alert(1))",
            "[a](sms:110)",
            "[a](JaVaScRiPt:alert(1))",
            "[a](data:text/html;base64,x)",
            "[a](/relative) [b](//host/x)",
            "<javascript:alert(1)>",
            "![a](http://x.y/i.png)",
            '![a" onerror="alert(1)](http://x.y/i.png)',
            '[a](http://x.y "title\\" onclick=\\"alert(1)")',
            "$\\text{<img src=x onerror=alert(1)>}$",
            "$\\href{javascript:alert(1)}{x}$",
            "$$</math><script>alert(1)</script>$$",
            '```"><script>alert(1)</script>\nx\n```',
            "```html\n<script>alert(1)</script>\n```",
            "| <b>a</b> |\n|-|\n| <i onclick=x> |",
            "<style>body{}</style>",
            "&lt;script&gt;&#60;script&#62;",
        ],
    )
    def test_nothing_that_runs_or_loads_gets_through(self, text: str) -> None:
        tags = Tags()
        tags.feed("".join(RENDERER.render(text)))
        for name, attributes in tags.found:
            assert name in TAGS
            assert set(attributes) <= {"href", "title", "class", "type", "data-copy", "target", "rel", "display", *MO}
            assert (attributes.get("href") or "http:").startswith("http:")

    def test_an_image_becomes_a_link_and_within_a_link_just_its_words(self) -> None:
        link = 'target="_blank" rel="noopener noreferrer nofollow"'
        assert RENDERER.render("![a *b*](http://x.y/i.png)") == [
            f'<p><a class="image" href="http://x.y/i.png" {link}>a b</a></p>'
        ]
        assert RENDERER.render("[![a](http://x.y/i.png)](http://x.y)") == [f'<p><a href="http://x.y" {link}>a</a></p>']

    def test_a_telephone_number_can_be_called(self) -> None:
        (html,) = RENDERER.render("[12356](tel:12356)")
        assert 'href="tel:12356"' in html

    def test_lone_surrogates_and_nulls_are_replaced(self) -> None:
        assert RENDERER.render("a\ud800\0") == ["<p>a\ufffd\ufffd</p>"]


class TestTime:
    @pytest.mark.parametrize(
        "text",
        [
            "[" * 100_000,
            "*a" * 50_000,
            "`a" * 50_000,
            "$" * 100_000,
            "$a" * 50_000,
            "\\(" * 50_000,
            "[x](" * 25_000,
            "![" * 50_000,
            "<http://a" * 11_000,
            ">" * 100_000,
            "- " * 50_000,
            "|" * 100_000,
            "|a|b|\n|-|-|\n" + "|a|b|\n" * 16_000,
            "- a\n" * 25_000,
            "a\n\n" * 33_000,
            ("[" * 1900 + "\n\n") * 52,
            ("*a_b" * 480 + "\n\n") * 52,
            "".join(">" * n + "a\n" for n in range(1, 440)),
            "```csharp\n" + "a\n" * 5900 + "```",
            "```c\n" + "\n" * 11_000 + "```",
        ],
        ids=lambda text: repr(text[:12]),
    )
    def test_a_hundred_thousand_characters_that_mean_harm_are_done_soon(self, text: str) -> None:
        started = time.process_time()
        RENDERER.render(text)
        assert time.process_time() - started < 4  # measured: 1.1 s at most

    def test_a_block_of_nothing_but_marks_is_shown_as_written(self) -> None:
        text = "[" * (MAX_INLINE_MARKS + 1)
        assert RENDERER.render(text) == [f'<p class="plain">{text}</p>']

    def test_a_block_beyond_all_bounds_is_shown_as_written_also_while_it_grows(self) -> None:
        text = "*a* " * (MAX_INLINE_CHARS // 4 + 10)
        assert whole(text) == [f'<p class="plain">{text.strip()}</p>']
        assert grown(cut(text, [len(text) - 60, *[7] * 8])) == whole(text)
        stream = RENDERER.stream()
        stream.feed(text)
        assert stream.feed("*b*") == (BlockText(0, " *b*"),)
