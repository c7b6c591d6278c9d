"""The filter for other programs: its decisions as they are, and no verdict where a part of it failed."""

import pytest

from app.domain.errors import SafetyUnavailable
from app.domain.verdicts import Action, Stage
from app.safety.detector import Scan
from app.safety.filter import ContentFilter
from app.safety.policy import make_policy
from app.safety.policy_file import load_policy
from app.services.moderation import Moderation
from tests.fakes.filters import OneFilter
from tests.fakes.house import make_account

ANN = make_account("ann")


class Broken:
    """A detector that cannot start."""

    name = "broken"

    def open(self, *, stage: Stage) -> Scan:
        raise RuntimeError(stage)


async def test_each_text_has_its_decision_in_its_stage() -> None:
    moderation = Moderation(OneFilter(ContentFilter(load_policy())))
    judged = await moderation.judge(ANN, ["\ud800 hello", "haina-blocked-test-phrase"], stage=Stage.OUTPUT)
    calm, bad = judged.decisions
    assert (calm.action, bad.action) == (Action.ALLOW, Action.REFUSE)
    assert {calm.stage, bad.stage} == {Stage.OUTPUT}
    assert calm.policy == bad.policy == judged.policy
    assert calm.id != bad.id
    assert {"test", "weapons", "personal_data"} <= judged.categories


async def test_a_filter_with_a_part_that_failed_gives_no_verdict() -> None:
    moderation = Moderation(OneFilter(ContentFilter(make_policy("bare"), detectors=[Broken()])))
    with pytest.raises(SafetyUnavailable):
        await moderation.judge(ANN, ["hello"], stage=Stage.INPUT)
