"""Markdown to safe HTML, block by block, whole or while it grows.

A *block* is a top-level part of a text: a paragraph, a list, a table, a fenced program. A growing text changes only its
last block, so the page is sent that one, or, where plain words are added to plain words, just the words.

How it is made sure that no foreign markup gets through: raw HTML in Markdown is text (`html=False`), and every block
passes an allow-list (nh3) after it is rendered. How it is made sure that a growing text ends up as the whole one would:
reference links are off, as they alone reach across blocks, and a property test compares the two.

Nothing here may take long, whatever the text: what is too large or too tangled is shown as it was written.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from html import escape

import nh3
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from app.domain.ports import BlockHtml, BlockText

MAX_INLINE_CHARS = 20_000
"""Of one block; a block with more is shown as it was written. Programs do not count."""
MAX_INLINE_MARKS = 2_000
"""Characters in one block that may begin or end something; some of them cost quadratic time."""
MAX_FORMULA_CHARS = 2_000
MAX_FORMULA_DEPTH = 20
MAX_CODE_CHARS = 12_000
"""Longer programs are shown without colours."""

LANGUAGES = frozenset(
    """
    bash bat c c++ clojure cmake console cpp c# cs csharp css dart diff docker dockerfile elixir erlang fortran go
    golang graphql groovy haskell html http ini java javascript js json jsx julia kotlin latex less lisp lua make
    makefile markdown matlab md mysql nginx objective-c ocaml perl php postgresql powershell ps1 proto protobuf py py3
    pycon python python3 r rb rs ruby rust scala scheme scss sh shell shell-session solidity sql swift tex toml ts tsx
    typescript vb.net verilog vhdl vim xml yaml yml zig zsh
    """.split()  # noqa: SIM905 - words are easier to read and to change than a column of quotes
)
"""Programs in these are coloured. A list, as some of Pygments' 600 lexers hang on text that is made for it."""

_MARKS = re.compile(r"[\\`*_\[\]<&$~!]")
_MAX_CODE_LINE = 500
_MAX_CODE_WORDS = 500
"""Pygments' lexers for C, Java and C# take quadratic time over words without any sign between them."""

_UNSAFE = re.compile("\r\n?|[\0\ud800-\udfff]")
_ACTIVE = r"\x00-\x1f\x7f-\x9f\\`*_\[<&$~#"
"""What may change how the text around it is read, or is no plain character, as a set for a pattern. Not among them are
signs that count at the beginning of a line only."""
_ACTIVE_AFTER = {"[": r"\])", "&": ";", "<": ">"}
"""What is so only where there is something that it may end."""
_BODY = re.compile(r"[^\s>#\-+*=_|:~`\d.)$\\\]]")
"""A character that cannot be part of what begins a block: from it on, a line is what it is."""
_STRUCTURAL = re.compile(r"[\x00-\x1f\x7f-\x9f\\$\]]|[^\S ]")
"""The same for a block that is shown as it was written: what may end a formula, and thus the block."""
_CLOSING_TAGS = re.compile(r"(?:</[a-z0-9]+>)*\Z")

_MATH_TAGS = frozenset(
    """
    math menclose mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup mtable mtd
    mtext mtr munder munderover
    """.split()  # noqa: SIM905 - words are easier to read and to change than a column of quotes
)
_MATH_ATTRIBUTES = frozenset(
    """
    accent columnalign columnlines columnspacing depth display displaystyle fence form height largeop linebreak
    linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits notation rowlines
    rowspacing rspace scriptlevel separator stretchy voffset width
    """.split()  # noqa: SIM905 - words are easier to read and to change than a column of quotes
)
_TAGS = frozenset(
    """
    a blockquote br button code div em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul
    """.split()  # noqa: SIM905 - words are easier to read and to change than a column of quotes
)


class MarkdownRenderer:
    """Implements the port `Markdown`. One serves the whole process."""

    def __init__(self) -> None:
        self._blocks = _parser().disable(["inline", "text_join"])
        self._inline = _parser()
        self._cleaner = _cleaner()

    def render(self, text: str) -> list[str]:
        """Return the HTML of each top-level block."""
        return [self.html(block, parsed={}) for block in self.split(_plain(text))]

    def stream(self) -> "GrowingMarkdown":
        """Start a growing text."""
        return GrowingMarkdown(self)

    def split(self, source: str) -> list["Block"]:
        """Return the top-level blocks of a source, their inline parts not yet looked at."""
        # A last line's end matters to nobody, and with it the lines of a fence can be counted.
        tokens = self._blocks.parse(source + "\n")
        starts = [i for i, token in enumerate(tokens) if token.level == 0 and token.nesting >= 0]
        lines = source.split("\n")
        blocks = []
        for start, end in zip(starts, [*starts[1:], len(tokens)][: len(starts)], strict=True):
            first, last = tokens[start].map or (0, 0)
            blocks.append(Block(tokens=tokens[start:end], first_line=first, lines=lines[first:last]))
        return blocks

    def html(self, block: "Block", *, parsed: dict[str, list[Token]]) -> str:
        """Return the HTML of one block; `parsed` keeps what its inline parts are, for those that come again."""
        if block.is_tangled:
            html = f'<p class="plain">{escape(block.source.strip(), quote=False)}</p>'
        else:
            for token in block.tokens:
                if token.type == "inline":
                    if token.content not in parsed:
                        parsed[token.content] = self._inline.parseInline(token.content)[0].children or []
                    token.children = parsed[token.content]
            html = self._inline.renderer.render(block.tokens, self._inline.options, {})
        return self._cleaner.clean(html)


@dataclass(kw_only=True)
class Block:
    """A top-level part of a source."""

    tokens: list[Token]
    first_line: int
    lines: list[str]

    @property
    def source(self) -> str:
        """Its lines as they were written."""
        return "\n".join(self.lines)

    @property
    def parts(self) -> list[str]:
        """The sources of its inline parts."""
        return [token.content for token in self.tokens if token.type == "inline"]

    @cached_property
    def is_tangled(self) -> bool:
        """Whether it is too much for a parser whose time may grow faster than the text."""
        parts = self.parts
        if sum(map(len, parts)) > MAX_INLINE_CHARS:
            return True
        return sum(len(_MARKS.findall(part)) for part in parts) > MAX_INLINE_MARKS

    def words_after(self, html: str, *, source: str) -> "_Words | None":
        """Return how plain text is added, where adding it to the source adds it to the last text node of the HTML.

        So it is where the last thing that was read is text, was read as written, and stands in a line whose kind is
        settled. Not in a table: what follows may be the next cell.
        """
        words = source.rstrip(" ")
        if not _BODY.search(words, words.rfind("\n") + 1):
            return None
        active = _STRUCTURAL if self.is_tangled else _active_in(source)
        last = self._last_inline
        if last is None or active.match(words[-1]):
            return None
        if not self.is_tangled and not (last.children and last.children[-1].type == "text"):
            return None
        text = _CLOSING_TAGS.sub("", html, count=1)
        if not text.endswith(escape(words[-1], quote=False)):
            return None
        return _Words(active=active, closing=html[len(text) :], held=source[len(words) :])

    @property
    def _last_inline(self) -> Token | None:
        for token in reversed(self.tokens):
            if token.type == "inline":
                return token
            if token.nesting >= 0 or token.type == "table_close":
                return None
        return None

    def fence_after(self, *, source: str) -> "_Fence | None":
        """Return how lines are added, where it is a fence that is not closed, not indented and not empty."""
        token = self.tokens[0]
        if token.type != "fence" or _is_closed(token) or self.lines[0][:1] != token.markup[0]:
            return None
        if not token.content.strip("\n"):  # there is no text node yet
            return None
        return _Fence(closing_line=_closing_line(token.markup), held=source[len(source.rstrip("\n")) :])


@dataclass(slots=True, kw_only=True)
class _Fence:
    """An open fence at the end of the text: its lines are shown as they come."""

    closing_line: re.Pattern[str]
    held: str
    """Line ends, shown once something follows."""
    closing: str = "</code></pre></div>"
    """The tags after the last text node."""

    def takes(self, text: str, *, after: str) -> bool:
        """Whether a text is more of the program, and nothing else; `after` is what stands in its first line."""
        return not any(self.closing_line.fullmatch(line) for line in (after + text).split("\n"))

    def split(self, text: str) -> tuple[str, str]:
        """Return what is shown of a text now, and what is held back."""
        shown = text.rstrip("\n")
        return shown, text[len(shown) :]


@dataclass(slots=True, kw_only=True)
class _Words:
    """Plain text at the end of the text."""

    active: re.Pattern[str]
    """What would not be plain here."""
    closing: str
    held: str
    """Spaces, shown once something follows."""

    def takes(self, text: str, *, after: str) -> bool:  # noqa: ARG002 - as _Fence
        """Whether a text is more plain text."""
        return not self.active.search(text)

    def split(self, text: str) -> tuple[str, str]:
        """Return what is shown of a text now, and what is held back."""
        shown = text.rstrip(" ")
        return shown, text[len(shown) :]


@dataclass(slots=True)
class GrowingMarkdown:
    """Implements the port `MarkdownStream`. A block that a later line took back is sent with empty HTML."""

    _renderer: MarkdownRenderer
    _closed: int = 0
    """How many blocks can change no more; their source is forgotten."""
    _open: str = ""
    """The source from there on."""
    _shown: list[str] = field(default_factory=list)
    """The HTML of the open blocks, as the reader has it."""
    _parsed: dict[str, list[Token]] = field(default_factory=dict)
    """The inline parts of the open blocks, by their source."""
    _end: _Words | _Fence | None = None
    """How the text can grow cheaply, where it can."""
    _half_line_end: str = ""
    """A CR that an LF may follow."""

    def feed(self, text: str) -> Sequence[BlockHtml | BlockText]:
        """Take the next piece and return what changes."""
        text = self._half_line_end + text
        self._half_line_end = "\r" if text.endswith("\r") else ""
        text = _plain(text.removesuffix("\r"))
        if not text:
            return ()
        end = self._end
        if end is not None and end.takes(text, after=self._open[self._open.rfind("\n") + 1 :]):
            return self._add(text, end=end)
        self._open += text
        return list(self._changes(has_new_line="\n" in text))

    def _add(self, text: str, *, end: _Words | _Fence) -> Sequence[BlockText]:
        self._open += text
        shown, held = end.split(text)
        if not shown:
            end.held += held
            return ()
        added = end.held + shown
        end.held = held
        self._shown[-1] = self._shown[-1].removesuffix(end.closing) + escape(added, quote=False) + end.closing
        return (BlockText(self._closed + len(self._shown) - 1, added),)

    def _changes(self, *, has_new_line: bool) -> Iterator[BlockHtml]:
        blocks = self._renderer.split(self._open)
        # In a list that grows, all items but the last come again.
        self._parsed = {part: self._parsed[part] for block in blocks for part in block.parts if part in self._parsed}
        htmls = [self._renderer.html(block, parsed=self._parsed) for block in blocks]
        for i, html in enumerate(htmls):
            if i >= len(self._shown) or html != self._shown[i]:
                yield BlockHtml(self._closed + i, html)
        for i in range(len(htmls), len(self._shown)):
            yield BlockHtml(self._closed + i, "")
        self._shown = htmls
        self._end = None
        if blocks:
            last = blocks[-1]
            self._end = last.words_after(htmls[-1], source=self._open) or last.fence_after(source=self._open)
        if has_new_line:
            self._forget_closed()

    def _forget_closed(self) -> None:
        """Forget blocks that no further text can change: all before the last one that whole lines make.

        What the unfinished last line is can still change, and with it what the line before it was (a table's head).
        """
        whole = self._open[: self._open.rfind("\n") + 1]
        blocks = self._renderer.split(whole)
        if len(blocks) < 2:  # noqa: PLR2004 - one is the open one
            return
        lines = self._open.split("\n")
        self._open = "\n".join(lines[blocks[-1].first_line :])
        self._shown = self._shown[len(blocks) - 1 :]
        self._closed += len(blocks) - 1


def _plain(text: str) -> str:
    """Return the text with one kind of line end and without what no HTML can hold."""
    return _UNSAFE.sub(lambda found: "\n" if found[0][0] == "\r" else "\ufffd", text)


def _active_in(source: str) -> re.Pattern[str]:
    """Return what is not plain text where it follows a source."""
    signs = _ACTIVE + "".join(closing for opening, closing in _ACTIVE_AFTER.items() if opening in source)
    return re.compile(rf"[{signs}]|[^\S ]")  # re keeps the few that there are


def _is_closed(fence: Token) -> bool:
    first, last = fence.map or (0, 0)
    return last - first - 1 > fence.content.count("\n")


def _closing_line(markup: str) -> re.Pattern[str]:
    return re.compile(rf"[ \t]*{re.escape(markup[0])}{{{len(markup)},}}[ \t]*")


def _parser() -> MarkdownIt:
    options = {"html": False, "breaks": True, "xhtmlOut": False, "maxNesting": 20}
    parser = MarkdownIt("commonmark", options, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"]).disable("reference")
    parser.block.ruler.before("fence", "math", _math_block, {"alt": ["paragraph", "blockquote", "list"]})
    parser.inline.ruler.before("escape", "math", _math_inline)
    return parser


def _cleaner() -> nh3.Cleaner:
    attributes = {
        "a": {"href", "title", "class"},
        "button": {"class", "type", "data-copy"},
        "code": {"class"},
        "div": {"class"},
        "ol": {"start"},
        "p": {"class"},
        "span": {"class"},
        "td": {"align"},
        "th": {"align"},
    } | {tag: set(_MATH_ATTRIBUTES) for tag in _MATH_TAGS}
    return nh3.Cleaner(
        tags=set(_TAGS | _MATH_TAGS),
        attributes=attributes,
        url_schemes={"http", "https", "mailto", "tel"},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


class _Renderer(RendererHTML):
    """Writes no white space between tags, so that the last text node of a block is its last text."""

    def renderToken(  # noqa: N802 - markdown-it's name
        self,
        tokens: Sequence[Token],
        idx: int,
        options: OptionsDict,  # noqa: ARG002
        env: EnvType,  # noqa: ARG002
    ) -> str:
        token = tokens[idx]
        if token.hidden:
            return ""
        if token.nesting < 0:
            return f"</{token.tag}>"
        return f"<{token.tag}{self.renderAttrs(token)}>"

    def hardbreak(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        return "<br>"

    softbreak = hardbreak

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        return _code(tokens[idx].content, language="", is_closed=True)

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        token = tokens[idx]
        language = (token.info.split() or [""])[0]
        return _code(token.content, language=language, is_closed=_is_closed(token))

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """An image would tell its server who reads, so it becomes a link; within a link, just its words."""
        token = tokens[idx]
        source = str(token.attrs["src"])
        words = escape(self.renderInlineAsText(token.children, options, env) or source)
        depth = sum(each.nesting for each in tokens[:idx] if each.tag == "a")
        return words if depth else f'<a class="image" href="{escape(source)}">{words}</a>'

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        return '<div class="table"><table>'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        return "</table></div>"

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        token = tokens[idx]
        style = str(token.attrs.get("style", ""))
        align = style.removeprefix("text-align:")
        return f'<{token.tag} align="{align}">' if style else f"<{token.tag}>"

    th_open = td_open

    def math(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        token = tokens[idx]
        if token.block:
            return f'<div class="math">{_formula(token.content, source=token.markup, is_display=True)}</div>'
        is_display = token.markup.startswith(("$$", "\\["))
        html = _formula(token.content, source=token.markup, is_display=is_display)
        return f'<span class="math">{html}</span>' if is_display else html


@lru_cache(maxsize=256)
def _code(content: str, *, language: str, is_closed: bool) -> str:
    content = content.rstrip("\n")
    coloured = _coloured(content, language=language) if is_closed else None
    body = escape(content, quote=False) if coloured is None else coloured
    return (
        f'<div class="code"><div class="code-head"><span class="code-lang">{escape(language)}</span>'
        '<button class="code-copy" type="button" data-copy=""></button></div>'
        f"<pre><code>{body}</code></pre></div>"
    )


def _coloured(content: str, *, language: str) -> str | None:
    if language.lower() not in LANGUAGES or len(content) > MAX_CODE_CHARS:
        return None
    longest_line = max(map(len, content.split("\n")))
    longest_words = max(map(len, re.split(r"[^\w\s]+", content)))
    if longest_line > _MAX_CODE_LINE or longest_words > _MAX_CODE_WORDS:
        return None
    lexer = get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    return highlight(content, lexer, HtmlFormatter(nowrap=True)).rstrip("\n")


@lru_cache(maxsize=1024)
def _formula(content: str, *, source: str, is_display: bool) -> str:
    """Return MathML, or the source as code where it cannot be read."""
    as_code = f"<code>{escape(source, quote=False)}</code>"
    html = as_code
    if len(content) <= MAX_FORMULA_CHARS and _depth(content) <= MAX_FORMULA_DEPTH:
        try:
            html = convert(content, display="block" if is_display else "inline")
        except Exception:  # noqa: BLE001 - bad input surfaces as a dozen kinds, IndexError and KeyError among them
            html = as_code
    return html


def _depth(formula: str) -> int:
    depth = deepest = 0
    for sign in re.findall(r"\\.|[{}]|\\left|\\right", formula):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        deepest = max(deepest, depth)
    return deepest


_DELIMITERS = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$"}
_PRICE = re.compile(r"\d[\d.,]*\s[^\\]*(?:[A-Za-z]{2}|[\u3400-\u9fff])[^\\]*")


def _math_inline(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - markdown-it's signature
    opening = state.src[state.pos : state.pos + 2]
    if opening not in _DELIMITERS:
        opening = opening[:1]
    if opening not in _DELIMITERS:
        return False
    start = state.pos + len(opening)
    end = state.src.find(_DELIMITERS[opening], start, min(state.posMax, start + MAX_FORMULA_CHARS))
    if end < 0 or not state.src[start:end].strip() or (opening == "$" and not _is_formula(state, start, end)):
        return False
    if not silent:
        token = state.push("math", "math", 0)
        token.content = state.src[start:end].strip()
        token.markup = state.src[state.pos : end + len(opening)]
    state.pos = end + len(opening)
    return True


def _is_formula(state: StateInline, start: int, end: int) -> bool:
    """Tell a formula between single dollars from two prices, as Pandoc does, and a little more carefully."""
    content = state.src[start:end]
    before = state.src[start - 2] if start > 1 else " "
    after = state.src[end + 1] if end + 1 < state.posMax else " "
    if content != content.strip() or "\n" in content:
        return False
    if (before.isascii() and before.isalnum()) or (after.isascii() and after.isalnum()):
        return False
    return not _PRICE.fullmatch(content)


def _math_block(state: StateBlock, first: int, last: int, silent: bool) -> bool:  # noqa: FBT001 - as above
    """Read a formula that begins a line; without its end before an empty line it is a paragraph like any other.

    Whether a line belongs to it is settled by the lines before, never by a later one: so a growing text cannot turn
    what follows into a formula and back.
    """
    if state.is_code_block(first):
        return False
    text = _line(state, first)
    closing = _DELIMITERS.get(text[:2]) if text[:2] in {"$$", "\\["} else None
    if closing is None:
        return False
    rest = text[2:].rstrip()
    if closing in rest and not (rest.endswith(closing) and rest.count(closing) == 1):
        return False
    if silent:
        return True
    line, is_closed = first, bool(closing in rest)
    while (
        not is_closed and line + 1 < last and not state.isEmpty(line + 1) and state.sCount[line + 1] >= state.blkIndent
    ):
        line += 1
        is_closed = _line(state, line).rstrip().endswith(closing)
    source = "\n".join(_line(state, each) for each in range(first, line + 1)).strip()
    state.line = line + 1
    content = source[2 : -len(closing)].strip()
    if is_closed and content:
        token = state.push("math", "math", 0)
        token.content, token.markup = content, source
    else:
        _push_paragraph(state, source)
        token = state.tokens[-3]
    token.map = [first, state.line]
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _push_paragraph(state: StateBlock, source: str) -> None:
    state.push("paragraph_open", "p", 1)
    inline = state.push("inline", "", 0)
    inline.content, inline.children = source, []
    state.push("paragraph_close", "p", -1)
