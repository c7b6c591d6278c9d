import json

from app.domain.verdicts import Stage
from app.safety.filter import ContentFilter
from app.safety.policy import make_policy
from app.safety.report import verdict_report


async def test_a_verdict_becomes_json_without_its_text() -> None:
    guard = ContentFilter(make_policy("bare"))
    checked = await guard.check("words haina-blocked-test-phrase", stage=Stage.INPUT)
    report = verdict_report(checked)
    assert report == verdict_report(checked.decision)
    line = json.dumps(report)
    assert "words" not in line
    assert "blocked" not in line
    assert json.loads(line) == {
        "action": "refuse",
        "category": "test",
        "stage": "input",
        "policy": guard.policy,
        "degraded": False,
        "findings": [
            {
                "category": "test",
                "rule": "test:b58cfcf19a",
                "detector": "phrases",
                "action": "refuse",
                "start": 6,
                "end": 31,
                "score": 1.0,
            }
        ],
    }


async def test_what_passes_has_no_category() -> None:
    report = verdict_report(await ContentFilter(make_policy("bare")).check("hello", stage=Stage.INPUT))
    assert (report["action"], report["category"], report["findings"]) == ("allow", None, [])
