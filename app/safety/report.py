"""A verdict as one line of JSON, for the command line. The text is never part of it."""

from app.domain.verdicts import Checked, Decision


def verdict_report(verdict: Checked | Decision) -> dict[str, object]:
    """Return what was decided and why, ready for `json.dumps`. Offsets are code points of the checked text."""
    decision = verdict.decision if isinstance(verdict, Checked) else verdict
    return {
        "action": decision.action.name.lower(),
        "category": decision.category,
        "stage": decision.stage.value,
        "policy": decision.policy,
        "degraded": decision.is_degraded or bool(decision.unguarded_by),
        "findings": [
            {
                "category": finding.category,
                "rule": finding.rule,
                "detector": finding.detector,
                "action": finding.action.name.lower(),
                "start": finding.start,
                "end": finding.end,
                "score": finding.score,
            }
            for finding in decision.findings
        ],
    }
