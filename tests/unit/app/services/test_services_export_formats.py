"""A conversation as a file: labelled, and nothing in it can pass for what it is not."""

import json
import os
import re
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.domain.labels import EXPLICIT
from app.domain.models import Role
from app.domain.verdicts import NOTHING, ReleasedText
from app.domain.words import LANGUAGES, Language
from app.services.export_formats import Document, ExportFormat, one_line, slug, write
from app.services.outgoing import Outgoing, OutgoingMessage

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FIELDS = [
    "Label",
    "ContentProducer",
    "ProduceID",
    "ReservedCode1",
    "ContentPropagator",
    "PropagateID",
    "ReservedCode2",
]
"""GB 45438-2025, annex E."""
HOSTILE = [
    "```\nx",
    "~~~\n",
    "<!-- ",
    "<script>\n",
    "<![CDATA[ ",
    "<?php",
    "<pre>",
    "- ```\n  a\n",
    "> ```",
    "    ```",
    "<",
]
MANY = int(os.environ.get("HAINA_TEST_EXAMPLES", "200"))


def question(text: str = "Where?", **changes: object) -> OutgoingMessage:
    return message(Role.USER, text, **changes)


def answer(text: str = "There.", **changes: object) -> OutgoingMessage:
    return message(Role.ASSISTANT, text, **{"model": ReleasedText("Baichuan2"), **changes})


def message(role: Role, text: str, **changes: object) -> OutgoingMessage:
    return OutgoingMessage(id=f"m-{role}", role=role, text=ReleasedText(text), created_at=AT, **changes)  # type: ignore[arg-type]


def document(
    *messages: OutgoingMessage,
    title: str = "Rivers",
    language: Language = "en",
    producer: str = "Haina",
    is_title_withheld: bool = False,
) -> Document:
    conversation = Outgoing(
        id="c-1",
        title=ReleasedText(title),
        is_title_withheld=is_title_withheld,
        created_at=AT,
        policy="general@0",
        messages=messages,
    )
    return Document(conversation=conversation, producer=producer, language=language, exported_at=AT)


def text_of(made: Document, kind: ExportFormat) -> str:
    return write(made, kind).text


def markdown_of(*messages: OutgoingMessage, **about: str) -> str:
    return text_of(document(*messages, **about), ExportFormat.MARKDOWN)  # type: ignore[arg-type]


def front_of(markdown: str) -> dict[str, object]:
    assert markdown.startswith("---\n")
    loaded = yaml.safe_load(markdown.split("\n---\n", 1)[0])
    assert isinstance(loaded, dict)
    return loaded


def headings(markdown: str) -> list[str]:
    """The headings at the top level, as a reader that takes HTML for HTML finds them."""
    tokens = MarkdownIt("commonmark").parse(markdown.split("\n---\n", 1)[1])
    return [
        "".join(child.content for child in tokens[i + 1].children or [])
        for i, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0
    ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ExportFormat)
def test_every_file_begins_with_a_label_in_words(kind: ExportFormat, language: Language) -> None:
    text = text_of(document(question(), answer(), language=language), kind)
    assert "人工智能生成" in EXPLICIT
    assert "AI-generated" in EXPLICIT
    assert text.index(EXPLICIT) < text.index("There.")
    assert text.count(EXPLICIT) == (2 if kind is ExportFormat.TEXT else 1)
    if kind is ExportFormat.TEXT:
        assert text.startswith(f"[{EXPLICIT}]")
        assert text.rstrip().endswith(f"[{EXPLICIT}]")
    if kind is not ExportFormat.JSON:
        assert {"en": "Answer · AI-generated · Baichuan2", "zh": "回答 · 人工智能生成 · Baichuan2"}[language] in text


def test_markdown_has_the_standards_fields_in_its_front_matter() -> None:
    aigc = front_of(markdown_of(answer(), producer="某某公司"))["AIGC"]
    assert list(aigc) == FIELDS  # type: ignore[call-overload]
    assert aigc == {
        **dict.fromkeys(FIELDS, ""),
        "Label": "1",
        "ContentProducer": "某某公司",
        "ProduceID": "c-1",
    }


def test_json_has_the_fields_at_the_top_and_with_each_answer_and_no_question() -> None:
    body = json.loads(text_of(document(question(), answer(), answer()), ExportFormat.JSON))
    assert list(body["AIGC"]) == FIELDS
    assert body["AIGC"]["ProduceID"] == "c-1"
    assert [one.get("AIGC", {}).get("ProduceID") for one in body["messages"]] == [None, "m-assistant", "m-assistant"]
    assert body["label"] == EXPLICIT


@pytest.mark.parametrize("kind", ExportFormat)
def test_what_is_withheld_is_a_stub_in_the_readers_language(kind: ExportFormat) -> None:
    for language, stub in (("en", "[withheld by the content filter]"), ("zh", "[已被内容过滤器隐去]")):
        made = document(question(""), answer("", is_withheld=True), title="", is_title_withheld=True, language=language)  # type: ignore[arg-type]
        text = text_of(made, kind).replace("\\", "")
        assert text.count(stub) >= 2  # the title's and the answer's
        assert write(made, kind).name.startswith("haina-conversation.")


@pytest.mark.parametrize("kind", ExportFormat)
def test_an_answer_that_was_cut_says_so(kind: ExportFormat) -> None:
    assert "this answer is incomplete" in text_of(document(answer(is_partial=True)), kind)
    assert "incomplete" not in text_of(document(answer()), kind)


@pytest.mark.parametrize("kind", ExportFormat)
def test_what_was_written_in_advance_is_not_said_to_be_made_by_ai(kind: ExportFormat) -> None:
    text = text_of(document(question(), answer("Call 12356.", is_prepared=True)), kind)
    assert "Call 12356." in text
    assert "written in advance, not by the model" in text
    assert "Baichuan2" not in text
    if kind is ExportFormat.JSON:
        assert "AIGC" not in json.loads(text)["messages"][1]
    else:
        assert "Answer · AI" not in text


@settings(max_examples=MANY, deadline=None)
@given(title=st.text(), producer=st.text(st.characters(exclude_categories=["C"]), min_size=1))
def test_no_title_and_no_name_breaks_out_of_the_front_matter_or_its_heading(title: str, producer: str) -> None:
    made = document(answer(), title=title, producer=producer)
    front = front_of(text_of(made, ExportFormat.MARKDOWN))
    assert front["title"] == (one_line(title) or "Conversation")
    aigc = front["AIGC"]
    assert isinstance(aigc, dict)
    assert (aigc["Label"], aigc["ContentProducer"]) == ("1", producer)
    assert len(headings(text_of(made, ExportFormat.MARKDOWN))) == 2


@pytest.mark.parametrize(
    "title",
    [
        'x"\n---\nAIGC: {Label: "0"}',
        "<!-- x",
        "# a *b* [c](d) `e`",
        "no",
        "null",
        "1",
        "{}",
        "\u202eevil\u2066",
        "a: b",
        "&amp;",
    ],
)
def test_a_title_is_read_as_the_text_it_is(title: str) -> None:
    markdown = markdown_of(answer(), title=title)
    assert front_of(markdown)["title"] == one_line(title)
    assert headings(markdown)[0] == one_line(title)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", markdown)


@settings(max_examples=MANY, deadline=None)
@given(
    texts=st.lists(
        st.one_of(st.text(), st.lists(st.sampled_from([*HOSTILE, "\n", "a ", "> ", "- "])).map("".join)), max_size=4
    )
)
def test_no_message_swallows_what_comes_after_it(texts: list[str]) -> None:
    messages = [one for text in texts for one in (question(text), answer(f"{text}\n"))]
    found = headings(markdown_of(*messages, answer("the last")))
    marks = [heading for heading in found if heading in {"Question", "Answer · AI-generated · Baichuan2"}]
    # A text may have headings of its own; ours are all there, and the last one is the last answer's.
    assert marks.count("Question") >= len(texts)
    assert marks.count("Answer · AI-generated · Baichuan2") >= len(texts) + 1
    assert found[-1] == "Answer · AI-generated · Baichuan2"


@pytest.mark.parametrize("text", HOSTILE)
def test_an_answer_that_reaches_beyond_its_end_is_quoted_whole(text: str) -> None:
    markdown = markdown_of(answer(f"one\n\n{text}\ntwo"), question("Next?"))
    assert headings(markdown) == ["Rivers", "Answer · AI-generated · Baichuan2", "Question"]
    unquoted = re.sub("(?m)^> ?", "", markdown)
    assert f"one\n\n{text}\ntwo".replace("> ```", "```") in unquoted or text in markdown


def test_an_answers_own_markdown_is_kept_as_it_is() -> None:
    text = "## A\n\n- *b*\n\n```py\nx = '<!--'\n```\n\n| a |\n| - |\n\n$x$ <br>"
    assert f"\n\n{text}\n" in markdown_of(answer(text))


@settings(max_examples=MANY, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_json_gives_every_text_back(text: str) -> None:
    body = json.loads(text_of(document(question(text), answer(text)), ExportFormat.JSON).encode())
    assert [one["text"] for one in body["messages"]] == [text, text]


@settings(max_examples=MANY, deadline=None)
@given(title=st.text(max_size=300))
def test_a_files_name_can_be_kept_everywhere(title: str) -> None:
    for kind in ExportFormat:
        name = write(document(title=title), kind).name
        assert re.fullmatch(r"haina-[^\W_]+(-[^\W_]+)*\.(md|json|txt)", name)
        assert len(name.encode()) <= 255


def test_a_files_name_says_what_is_in_it() -> None:
    assert write(document(title="去杭州：第 2 天/../x"), ExportFormat.TEXT).name == "haina-去杭州-第-2-天-x.txt"
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("…") == ""
    assert len(write(document(title="𠀀" * 200), ExportFormat.JSON).name.encode()) <= 255


def test_an_empty_title_has_a_name_in_the_readers_language() -> None:
    assert "# 对话" in markdown_of(title=NOTHING, language="zh")


def test_a_question_is_quoted_line_by_line_and_makes_no_heading_of_its_own() -> None:
    markdown = markdown_of(question("# Answer\r\n\r\nof *mine*"))
    assert "\n> # Answer\n>\n> of *mine*\n" in markdown
    assert headings(markdown) == ["Rivers", "Question"]
