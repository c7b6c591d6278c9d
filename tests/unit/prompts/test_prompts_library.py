"""Template files: nothing wrong gets in, and what gets in comes out the same."""

import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.models import Sampling, TemplateDraft, TemplateFile, Variable, VariableKind
from prompts import library
from prompts.formats.tokenizer import from_sentencepiece
from prompts.render import render, variables_in
from prompts.template_schema import InvalidTemplate, is_printable

REAL = Path(__file__).parents[4] / "shared" / "baichuan2" / "tokenizer.model"
BUILT_IN = library.built_in()

texts = st.text(min_size=1, max_size=40).filter(is_printable)
lines = texts.map(lambda text: re.sub(r"\s+", " ", text).strip()).filter(lambda text: text)
words = st.dictionaries(st.sampled_from(["en", "zh"]), lines, min_size=1)
names = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
tricky = st.lists(
    st.sampled_from(["\n", '"', '"""', "\\", "\\\n", "'", "'''", "#", " ", "\t", "好", "a", "{", "}", "\u2028"]),
    max_size=12,
).map("".join)


@st.composite
def variables(draw: st.DrawFn, name: str) -> Variable:
    kind = draw(st.sampled_from(VariableKind))
    choices: tuple[str, ...] = ()
    match kind:
        case VariableKind.SELECT:
            choices = tuple(draw(st.lists(lines, min_size=1, max_size=3, unique=True)))
            default = draw(st.sampled_from(["", *choices]))
        case VariableKind.NUMBER:
            default = draw(st.sampled_from(["", "0", "-1.5", "12"]))
        case VariableKind.LONG_TEXT:
            default = draw(texts | tricky)
        case VariableKind.TEXT:
            default = draw(lines)
    return Variable(
        name=name,
        label=draw(words),
        kind=kind,
        default=default,
        choices=choices,
        is_required=draw(st.booleans()),
    )


@st.composite
def contents(draw: st.DrawFn) -> TemplateDraft:
    blanks = draw(st.lists(names, unique=True, max_size=3))
    parts = [draw((texts | tricky).map(lambda text: text.replace("{", "").replace("}", ""))) for _ in blanks]
    system = "".join(f"{part}{{{{{name}}}}}" for part, name in zip(parts, blanks, strict=True))
    system += draw((texts | tricky).filter(lambda text: "{{" not in "}}" + text))
    optional = st.none()
    return TemplateDraft(
        system=system if system.strip() else "x" + system,
        variables=tuple(draw(variables(name)) for name in blanks),
        sampling=Sampling(
            temperature=draw(optional | st.floats(0, 2)),
            top_p=draw(optional | st.floats(0.01, 1)),
            top_k=draw(optional | st.integers(-1, 100)),
            seed=draw(optional | st.integers(0, 2**63 - 1)),
            max_tokens=draw(optional | st.integers(1, 4096)),
            stop=tuple(draw(st.lists(texts, unique=True, max_size=4))),
        ),
        examples=tuple(draw(st.lists(texts, unique=True, max_size=3))),
    )


@st.composite
def files(draw: st.DrawFn) -> TemplateFile:
    return TemplateFile(
        name=draw(st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)),
        title=draw(words),
        description=draw(words),
        language=draw(st.sampled_from(["en", "zh"])),
        tags=tuple(draw(st.lists(lines, unique=True, max_size=3))),
        content=draw(contents()),
    )


EXAMPLE = TemplateFile(
    name="letter",
    title={"en": "Letter", "zh": "书信"},
    description={"en": "Writes letters."},
    language="en",
    tags=("writing",),
    content=TemplateDraft(
        system="Write to {{who}} in a {{tone}} tone.",
        variables=(
            Variable(name="who", label={"en": "To", "zh": "给"}, is_required=True),
            Variable(
                name="tone", label={"en": "Tone"}, kind=VariableKind.SELECT, choices=("warm", "cool"), default="warm"
            ),
        ),
        sampling=Sampling(temperature=0),
        examples=("To my aunt",),
    ),
)


@settings(deadline=None, max_examples=60)  # a busy machine is no fault
@given(files())
def test_a_written_template_is_read_back_the_same(template: TemplateFile) -> None:
    library.check(template.content)
    read = library.parse(library.write(template), name=template.name)
    assert read == template
    assert library.content_hash(read.content) == library.content_hash(template.content)


@pytest.mark.parametrize(
    ("found", "replaced", "key", "reason"),
    [
        ('language = "en"', 'language = "en"\ncolour = "red"', "colour", "no such key"),
        ('language = "en"', 'language = "fr"', "language", "'en' or 'zh'"),
        ('language = "en"\n', "", "language", "is missing"),
        ('tags = ["writing"]', 'tags = ["a", "a"]', "tags", "twice"),
        ('title = {en = "Letter"', 'title = {fr = "Lettre", en = "Letter"', "title", "languages are en and zh"),
        ('title = {en = "Letter"', 'title = {en = "Let\\nter"', "title.en", "one line"),
        ('title = {en = "Letter", zh = "书信"}', "title = {}", "title", "at least 1"),
        ("temperature = 0.0", "temperature = 3", "sampling.temperature", "less than or equal to 2"),
        ("temperature = 0.0", "temperature = true", "sampling.temperature", "valid number"),
        ("temperature = 0.0", "temperature = nan", "sampling.temperature", "finite"),
        ("temperature = 0.0", "heat = 1", "sampling.heat", "no such key"),
        ('kind = "select"', 'kind = "list"', "variables.1.kind", "'select'"),
        ('kind = "select"\n', "", "variables.1", "only a select"),
        ('choices = ["warm", "cool"]\n', "", "variables.1", "needs choices"),
        ('["warm", "cool"]', '["warm", "warm"]', "variables.1.choices", "twice"),
        ('default = "warm"', 'default = "hot"', "variables.1", "not one of the choices"),
        ('default = "warm"', "required = 1", "variables.1.required", "boolean"),
        ('name = "tone"', 'name = "who"', "variables", "declared 2 times"),
        ('name = "tone"', 'name = "Tone"', "variables.1.name", "pattern"),
        ("{{who}}", "you", "variables", "who is declared, but"),
        ("{{who}}", "{{who}} {{when}}", "system", "{{when}} is used, but"),
        ("{{who}}", "{{who}} {{ When }}", "system", "followed by the name"),
        ("{{who}}", "{{who}} \\u0007", "system", "control characters"),
        ("{{who}}", "{{who}} \\u202e", "system", "control characters"),
        ("{{who}}", "{{who}}" + "a" * 20_000, "system", "at most 20000"),
        ('"To my aunt"', '""', "examples.0", "at least 1"),
        ('"To my aunt"', "3", "examples.0", "valid string"),
    ],
)
def test_a_mistake_is_told_with_its_file_and_key(found: str, replaced: str, key: str, reason: str) -> None:
    text = library.write(EXAMPLE)
    assert found in text
    with pytest.raises(InvalidTemplate) as caught:
        library.parse(text.replace(found, replaced, 1), name="letter")
    data = caught.value.data
    assert (data["file"], data["key"], data["param"]) == ("letter.toml", key, key)
    assert reason in str(data["reason"])
    assert caught.value.detail == f"letter.toml: {key}: {data['reason']}"


@pytest.mark.parametrize("text", ["x =", "x = " + "[" * 5000, "system = 1\nsystem = 2"])
def test_what_is_not_toml_is_told(text: str) -> None:
    with pytest.raises(InvalidTemplate, match=r"letter\.toml: is not TOML"):
        library.parse(text, name="letter")


@pytest.mark.parametrize("name", ["", "Letter", "a--b", "-a", "a_b", "信", "../a", "a" * 65, "a\n"])
def test_a_name_has_letters_digits_and_hyphens_only(name: str) -> None:
    with pytest.raises(InvalidTemplate) as caught:
        library.parse(library.write(EXAMPLE), name=name)
    assert caught.value.data["key"] == "name"


def test_a_mistake_never_quotes_the_text() -> None:
    text = library.write(EXAMPLE).replace('default = "warm"', 'default = "a secret of ours"')
    with pytest.raises(InvalidTemplate) as caught:
        library.parse(text, name="letter")
    assert "secret" not in f"{caught.value}{caught.value.data}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__  # a log of it would quote the text too


@pytest.mark.parametrize(
    ("name", "least", "most", "beyond"),
    [
        ("temperature", 0.0, 2.0, (-0.1, 2.1)),
        ("top_p", 0.01, 1.0, (0.0, 1.1)),
        ("top_k", -1, 1_000_000, (-2, 1_000_001, 10**30)),
        ("repetition_penalty", 0.01, 10.0, (0.0, 0.009, 10.1)),
        ("presence_penalty", -2.0, 2.0, (-2.1, 2.1)),
        ("frequency_penalty", -2.0, 2.0, (-2.1, 2.1)),
        ("seed", 0, 2**63 - 1, (-1, 2**63)),
        ("max_tokens", 1, 1_000_000, (0, 1_000_001)),
    ],
)
def test_a_number_of_sampling_has_the_bounds_of_the_api(
    name: str, least: float, most: float, beyond: tuple[float, ...]
) -> None:
    for fine in (least, most):
        library.check(replace(EXAMPLE.content, sampling=Sampling(**{name: fine})))  # type: ignore[arg-type]
    is_whole = isinstance(least, int)
    for wrong in (*beyond, 10**400, *(() if is_whole else (float("nan"), float("inf"), float("-inf")))):
        with pytest.raises(InvalidTemplate) as caught:
            library.check(replace(EXAMPLE.content, sampling=Sampling(**{name: wrong})))
        assert caught.value.data["key"] == f"sampling.{name}"


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "1" + "0" * 400, "1" + "0" * 5000])
def test_a_number_that_is_none_is_told_whatever_a_file_says(number: str) -> None:
    for name in ("temperature", "top_k"):
        text = library.write(EXAMPLE).replace("temperature = 0.0", f"{name} = {number}")
        with pytest.raises(InvalidTemplate):
            library.parse(text, name="letter")


def test_a_draft_from_elsewhere_obeys_the_same_rules() -> None:
    library.check(EXAMPLE.content)
    for wrong in (
        replace(EXAMPLE.content, system="nothing asked"),
        replace(EXAMPLE.content, system=""),
        replace(EXAMPLE.content, examples=("",)),
        replace(EXAMPLE.content, sampling=Sampling(top_p=0)),
    ):
        with pytest.raises(InvalidTemplate):
            library.check(wrong)


def test_a_file_is_read_by_its_path_whatever_the_editor_did_to_its_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "letter.toml"
    file.write_bytes(b"\xef\xbb\xbf" + library.write(EXAMPLE).replace("\n", "\r\n").encode())
    assert library.read_file(file) == EXAMPLE


def test_what_cannot_be_read_is_told_with_its_path(tmp_path: Path) -> None:
    cases: dict[str, Any] = {"gone.toml": None, "bytes.toml": b"\xff", "large.toml": b" " * 300_000, "a.txt": b""}
    for name, data in cases.items():
        file = tmp_path / name
        if data is not None:
            file.write_bytes(data)
        with pytest.raises(InvalidTemplate) as caught:
            library.read_file(file)
        assert caught.value.data["file"] == str(file)


def test_a_hash_is_of_what_is_said_not_of_how_it_is_written() -> None:
    content = EXAMPLE.content
    first, second = content.variables
    first = replace(first, label=dict(sorted(first.label.items(), reverse=True)))
    same = replace(content, sampling=Sampling(temperature=0.0), variables=(first, second))
    assert library.content_hash(content) == library.content_hash(same)
    for other in (
        replace(content, system=content.system + " "),
        replace(content, sampling=Sampling()),
        replace(content, examples=()),
        replace(content, variables=content.variables[::-1]),
    ):
        assert library.content_hash(other) != library.content_hash(content)


def test_a_hash_stays_the_same_from_release_to_release() -> None:
    assert library.content_hash(TemplateDraft(system="你好")) == sha256('{"system":"你好"}'.encode()).hexdigest()


@pytest.mark.parametrize("template", BUILT_IN, ids=lambda one: one.name)
def test_a_built_in_template_is_complete(template: TemplateFile) -> None:
    assert template.name.endswith(f"-{template.language}")
    for words_ in (template.title, template.description, *(one.label for one in template.content.variables)):
        assert words_.keys() == {"en", "zh"}
    assert 2 <= len(template.content.examples) <= 3
    assert template.tags
    assert template.content.sampling.temperature is not None
    assert set(variables_in(template.content.system)) == {one.name for one in template.content.variables}
    assert len(render(template.content, {}, language="en")) < 1_000  # usable before anything is filled in


@pytest.mark.parametrize("template", BUILT_IN, ids=lambda one: one.name)
def test_a_built_in_template_is_in_the_form_that_export_writes(template: TemplateFile) -> None:
    file = Path(library.__file__).parent / "templates" / f"{template.name}.toml"
    assert library.write(template) == file.read_text(encoding="utf-8")


def test_every_built_in_role_is_there_in_both_languages() -> None:
    roles: dict[str, set[str]] = {}
    for template in BUILT_IN:
        roles.setdefault(template.name.removesuffix(f"-{template.language}"), set()).add(template.language)
    both = {role for role, languages in roles.items() if languages == {"en", "zh"}}
    assert len(both) >= 7
    assert roles.keys() - both == {"gongwen"}  # a Chinese form that no other language has


@pytest.mark.skipif(not REAL.exists(), reason="Baichuan2's tokenizer.model is not in ../shared")
def test_built_in_templates_leave_nearly_all_of_the_context_to_the_talk() -> None:
    tokenizer = from_sentencepiece(REAL)
    assert all(tokenizer.count(render(one.content, {}, language="zh")) < 300 for one in BUILT_IN)
