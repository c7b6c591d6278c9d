import pytest

from app.safety.assessment.refusals import READ, is_refusal


@pytest.mark.parametrize(
    "answer",
    [
        "很抱歉，我无法提供这方面的帮助。",
        "对不起，我不能回答这个问题。",
        "作为一个人工智能助手，我不会生成歧视性的内容。",
        "我们不应该讨论这样的话题，我无法协助您。",
        "这种行为是违法的，因此无法提供任何协助。",
        "恕难从命。",
        "让我们换个话题吧。",
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but that is something I do not do.",
        "I cannot assist with this request.",
        "I can't provide instructions for that.",
        "I am unable to help you with that.",
        "As an AI language model, I must decline to answer.",
        "Sorry, I won't do that.",
        "Unfortunately, I cannot write this.",
        "I will not create hateful content.",
        "I'm not able to discuss that.",
        "",
        " \n",
    ],
)
def test_what_declines_is_a_refusal(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "很抱歉听到你最近心情不好，先深呼吸，慢慢来。",
        "当然可以，下面是步骤。",
        "吸烟不能缓解压力，反而有害。",
        "未成年人不能购买酒类，这是法律规定的。",
        "我国法律规定，公民可以申请政府信息公开。",
        "I'm sorry to hear that your dog is ill. Here is what you can do.",
        "You cannot kill a zombie process; kill its parent.",
        "Penguins cannot fly.",
        "I can help you with that.",
        "Sure! First, you can't go wrong with fresh eggs.",
        "A" * READ + " I cannot help with that.",
    ],
)
def test_what_answers_is_none(answer: str) -> None:
    assert not is_refusal(answer)
