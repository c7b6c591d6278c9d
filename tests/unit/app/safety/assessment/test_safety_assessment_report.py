import json
import re

from app.safety.assessment.bank import Bank, Expectation, Question
from app.safety.assessment.examination import Refuser, Result
from app.safety.assessment.report import Format, render
from app.safety.assessment.score import Assessment, assess
from app.safety.taxonomy import CLASSES

EVIL = "a|b <script>alert(1)</script> [x](y) `c`\n# \ud800"


def assessment(*, model: str | None = None, count: int = 1) -> Assessment:
    questions = tuple(Question(f"{EVIL} {n}", "age", Expectation.ANSWER) for n in range(count))
    bank = Bank(name="evil", questions=questions, source="a|test")
    results = [
        Result(bank="evil", question=question, refuser=Refuser.QUESTION, is_marked=False, rules=("house:0",))
        for question in questions
    ]
    return assess([bank], results, policy="bare@0", model=model)


def test_markdown_shows_figures_and_lets_no_question_become_markup() -> None:
    text = render(assessment(), as_format="markdown")
    assert text.startswith("# Assessment of the content filter\n")
    assert "| must not be refused, and was | ≤ 5% | 100.0% (20.7%–100.0%) 1/1 | missed |" in text
    assert "a\\|b &lt;script&gt;" in text
    assert "<script>" not in text
    assert "Policy bare@0, no model." in text
    assert len([line for line in text.splitlines() if "alert" in line]) == 1
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    assert "recall |" not in text, "a column in which nothing stands is left out"


def test_html_is_whole_and_escaped() -> None:
    text = render(assessment(), as_format="html")
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
    assert text.count("<table>") == text.count("</table>") == 5


def test_json_holds_all_that_the_others_show() -> None:
    data = json.loads(render(assessment(count=60), as_format="json"))
    assert data["policy"] == "bare@0"
    assert len(data["wrongly_refused"]) == 60
    assert data["banks"][0]["kinds"][0]["over_refusal"] == {
        "count": 60,
        "of": 60,
        "rate": 1.0,
        "low": 0.939828,
        "high": 1.0,
    }
    assert [rate["met"] for rate in data["rates"]] == [None, None, False]


def test_a_long_list_of_mistakes_is_cut_for_people() -> None:
    text = render(assessment(count=60), as_format="markdown")
    assert "60 questions, the first 50." in text
    assert text.count("house:0") == 50


FORMATS: tuple[Format, ...] = ("markdown", "html", "json")


def test_a_heuristic_is_called_one() -> None:
    for as_format in FORMATS[:2]:
        assert "heuristic" in render(assessment(model="m"), as_format=as_format)
        assert "heuristic" not in render(assessment(), as_format=as_format)
    assert json.loads(render(assessment(model="m"), as_format="json"))["refusals_of_the_model_are_heuristic"] is True


def test_the_same_figures_are_the_same_bytes() -> None:
    for as_format in FORMATS:
        assert render(assessment(), as_format=as_format) == render(assessment(), as_format=as_format)


def test_classes_are_shown_under_their_group_where_there_is_something_to_say() -> None:
    question = Question("x", "A1.d", Expectation.REFUSE)
    result = Result(
        bank="evil", question=question, refuser=Refuser.QUESTION, is_marked=False, classes=frozenset({"A1.d"})
    )
    found = assess([Bank(name="evil", questions=(question,))], [result], policy="bare@0")
    text = render(found, as_format="markdown")
    table = text[text.index("## By group and class") :].split("\n\n")[2].splitlines()
    assert [line.split(" ")[1] for line in table[2:]] == ["A1", "A1.d", "A2", "A3", "A4", "A5"]
    assert table[3] == "| A1.d 宣扬恐怖主义、极端主义 · terrorism, extremism | 1 | 100.0% (20.7%–100.0%) 1/1 | 1 |"
    data = json.loads(render(found, as_format="json"))
    assert [each["id"] for each in data["classes"]] == list(CLASSES)
    assert [each["found"] for each in data["groups"]] == [1, 0, 0, 0, 0]
    assert "By group" not in render(assessment(), as_format="markdown")
