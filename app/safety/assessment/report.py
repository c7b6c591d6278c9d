"""An assessment for people and programs: Markdown, HTML, JSON. The same figures always give the same bytes."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

from app.safety.assessment.bank import ANSWER_KINDS, REFUSE_KINDS
from app.safety.assessment.examination import Refuser, Result
from app.safety.assessment.score import Assessment, BankScore, ClassScore, Score, Share, StandardRate
from app.safety.taxonomy import CLASSES, GROUPS

Format = Literal["markdown", "html", "json"]

_SHOWN: Final = 50
"""How many wrongly refused questions a report for people lists."""
_TITLES: Final = {**REFUSE_KINDS, **ANSWER_KINDS}
_REFUSERS: Final = {
    Refuser.QUESTION: "the filter, over the question",
    Refuser.ANSWER: "the filter, over the answer",
    Refuser.ENGINE: "the model, by its words (heuristic)",
}
_CARE: Final = (
    "Recall: of what should be refused, how much was. Over-refusal: of what should be answered, how much was refused. "
    "Precision: of what was refused, how much should have been; banks are no sample of what people ask, so it says "
    "little about a service. In brackets: Wilson's 95 % intervals."
)
_ALONE: Final = (
    "The filter was alone: what a model would have refused by itself, or what its answers would have been, is not in "
    "these figures."
)
_ASKED: Final = (
    "A model was asked, without a system prompt, at temperature 0. Whether it refused is told from the first words of "
    "its answer by a list of phrases: a heuristic, which misses what declines in other words."
)
_CLASSES: Final = (
    "Questions: those whose kind is the class. Found in: questions of any kind, or their answers, in which the filter "
    "found something of the class, refused or not. A class without a list of its own finds nothing: A5 has none at all."
)
_MADE: Final = "Made from the policy's own lists: how well they hold, not how much they know."


@dataclass(frozen=True, slots=True)
class _Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    title: str
    table: _Table
    words: Sequence[str] = ()


def render(assessment: Assessment, *, as_format: Format) -> str:
    """Return the report, ending in a line break."""
    if as_format == "json":
        return json.dumps(_data(assessment), ensure_ascii=False, indent=2) + "\n"
    sections = tuple(_sections(assessment))
    return _html(sections) if as_format == "html" else _markdown(sections)


def _sections(assessment: Assessment) -> Iterable[_Section]:
    about = f"Policy {assessment.policy}, " + (f"model {assessment.model}." if assessment.model else "no model.")
    banks = [
        (each.bank.name, str(each.whole.questions), each.bank.digest, each.bank.source) for each in assessment.banks
    ]
    yield _Section(
        title="Assessment of the content filter",
        words=(about, _ASKED if assessment.model else _ALONE, _CARE),
        table=_Table(("bank", "questions", "digest", "source"), banks),
    )
    yield _Section(
        title="The rates of GB/T 45654",
        table=_Table(("rate", "asked for", "measured", "", "note"), [_rate_row(rate) for rate in assessment.rates]),
    )
    if assessment.whole.questions:
        yield _Section(title="All banks", table=_scores([(assessment.whole, "all but what was made from the lists")]))
    if any(each.found or each.asked.questions for each in assessment.groups):
        yield _Section(
            title="By group and class of GB/T 45654",
            words=(_CLASSES,),
            table=_class_table(assessment),
        )
    if assessment.model:
        rows = [(_REFUSERS[refuser], str(count)) for refuser, count in assessment.refusers]
        yield _Section(title="Who refused", table=_Table(("who", "questions"), rows))
    for each in assessment.banks:
        yield _Section(
            title=each.bank.name,
            words=(_MADE,) if each.bank.is_made else (),
            table=_scores([*((kind, _named(kind)) for kind in each.kinds if len(each.kinds) > 1), (each.whole, "all")]),
        )
    if wrong := assessment.wrongly_refused:
        yield _Section(
            title="Refused, though harmless",
            words=(f"{len(wrong)} questions" + (f", the first {_SHOWN}." if len(wrong) > _SHOWN else "."),),
            table=_Table(
                ("bank", "kind", "by", "rules", "question"), [_wrong_row(result) for result in wrong[:_SHOWN]]
            ),
        )


def _class_table(assessment: Assessment) -> _Table:
    """Return the groups, each followed by those of its classes of which there is something to say."""
    rows: list[Sequence[str]] = []
    for group in assessment.groups:
        names = GROUPS[group.id]
        rows.append(_class_row(group, f"{group.id} {names.zh} · {names.en}"))
        for each in assessment.classes:
            one = CLASSES[each.id]
            if one.group == group.id and (each.found or each.asked.questions):
                rows.append(_class_row(each, f"{one.id} {one.zh} · {one.en}"))
    return _Table(("class", "questions", "refused", "found in"), rows)


def _class_row(score: ClassScore, name: str) -> Sequence[str]:
    asked = score.asked
    return name, str(asked.questions or ""), _percent(asked.recall or asked.hits), str(score.found or "")


def _named(score: Score) -> str:
    return f"{score.name} {_TITLES[score.name]}" if score.name in _TITLES else score.name


def _scores(scores: Sequence[tuple[Score, str]]) -> _Table:
    """Return them as rows, without the columns in which nothing stands."""
    columns = [
        ("kind", [name for _, name in scores]),
        ("questions", [str(score.questions) for score, _ in scores]),
        ("recall", [_percent(score.recall) for score, _ in scores]),
        ("over-refusal", [_percent(score.over_refusal) for score, _ in scores]),
        ("refused (unlabelled)", [_percent(score.hits) for score, _ in scores]),
        ("precision", [_percent(score.precision) for score, _ in scores]),
        ("passed, marked", [str(score.marked or "") for score, _ in scores]),
    ]
    filled = [(title, cells) for title, cells in columns if any(cells)]
    rows = [[cells[row] for _, cells in filled] for row in range(len(scores))]
    return _Table([title for title, _ in filled], rows)


def _percent(share: Share | None) -> str:
    if share is None:
        return ""
    low, high = share.interval
    return f"{share.rate:.1%} ({low:.1%}–{high:.1%}) {share.count}/{share.of}"


def _rate_row(rate: StandardRate) -> Sequence[str]:
    verdict = {True: "met", False: "missed", None: "–"}[rate.is_met]
    return (
        rate.name,
        f"{'≥' if rate.is_least else '≤'} {rate.bound:.0%}",
        _percent(rate.share),
        verdict,
        "; ".join(rate.notes),
    )


def _wrong_row(result: Result) -> Sequence[str]:
    by = _REFUSERS[result.refuser] if result.refuser else ""
    return result.bank, result.question.kind, by, ", ".join(result.rules), result.question.text


def _markdown(sections: Sequence[_Section]) -> str:
    lines: list[str] = []
    for number, section in enumerate(sections):
        lines += [f"{'##' if number else '#'} {_plain(section.title)}", ""]
        for words in section.words:
            lines += [words, ""]
        header = section.table.header
        lines += [_line(header), _line(["---"] * len(header)), *map(_line, section.table.rows), ""]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(cell: str) -> str:
    """Return a cell in which nothing is Markdown or HTML, on one line."""
    escaped = "".join(f"\\{char}" if char in "\\`*_[]|~" else char for char in " ".join(cell.split()))
    return escape(escaped, quote=False)


_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.25rem .5rem;text-align:left;vertical-align:top}"
)


def _html(sections: Sequence[_Section]) -> str:
    parts = [
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n',
        f"<title>{escape(sections[0].title)}</title>\n<style>{_STYLE}</style>\n",
    ]
    for number, section in enumerate(sections):
        level = "h2" if number else "h1"
        parts.append(f"<{level}>{escape(section.title)}</{level}>\n")
        parts += [f"<p>{escape(words)}</p>\n" for words in section.words]
        rows = [_row("th", section.table.header), *(_row("td", row) for row in section.table.rows)]
        parts.append(f"<table>\n{''.join(rows)}</table>\n")
    return "".join([*parts, "</html>\n"])


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>\n"


def _data(assessment: Assessment) -> dict[str, object]:
    return {
        "policy": assessment.policy,
        "model": assessment.model,
        "refusals_of_the_model_are_heuristic": assessment.model is not None,
        "rates": [
            {
                "name": rate.name,
                "bound": rate.bound,
                "is_least": rate.is_least,
                "measured": _share_data(rate.share),
                "met": rate.is_met,
                "notes": rate.notes,
            }
            for rate in assessment.rates
        ],
        "all": _score_data(assessment.whole),
        "groups": [_class_data(each) for each in assessment.groups],
        "classes": [_class_data(each) for each in assessment.classes],
        "refused_by": {str(refuser): count for refuser, count in assessment.refusers},
        "banks": [_bank_data(each) for each in assessment.banks],
        "wrongly_refused": [
            {
                "bank": each.bank,
                "kind": each.question.kind,
                "by": each.refuser,
                "rules": each.rules,
                "text": each.question.text,
            }
            for each in assessment.wrongly_refused
        ],
    }


def _bank_data(score: BankScore) -> dict[str, object]:
    return {
        "name": score.bank.name,
        "source": score.bank.source,
        "digest": score.bank.digest,
        "made_from_lists": score.bank.is_made,
        "whole": _score_data(score.whole),
        "kinds": [_score_data(kind) for kind in score.kinds],
    }


def _class_data(score: ClassScore) -> dict[str, object]:
    return {"id": score.id, "found": score.found, "asked": _score_data(score.asked)}


def _score_data(score: Score) -> dict[str, object]:
    return {
        "name": score.name,
        "questions": score.questions,
        "recall": _share_data(score.recall),
        "over_refusal": _share_data(score.over_refusal),
        "refused_unlabelled": _share_data(score.hits),
        "precision": _share_data(score.precision),
        "passed_marked": score.marked,
    }


def _share_data(share: Share | None) -> dict[str, object] | None:
    if share is None:
        return None
    low, high = share.interval
    return {
        "count": share.count,
        "of": share.of,
        "rate": round(share.rate, 6),
        "low": round(low, 6),
        "high": round(high, 6),
    }
