"""The choice of a token, against transformers' own processors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from app.worker.jobs import SamplingParams
from app.worker.sampler import InvalidLogits, Sampler, candidates

V = 50
CPU = torch.device("cpu")
quick = settings(max_examples=100, deadline=None)


def logits_of(seed: int) -> torch.Tensor:
    # Halves make ties, which is where implementations differ.
    return (torch.randn(V, generator=torch.Generator().manual_seed(seed)) * 6).round() / 2


def sampler(params: SamplingParams, prompt_ids: tuple[int, ...] = (1, 2, 3)) -> Sampler:
    return Sampler(params, prompt_ids=prompt_ids, vocab_size=V, device=CPU)


@quick
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.1, 2),
    top_k=st.integers(0, V + 5),
    top_p=st.floats(0.05, 1),
    penalty=st.floats(0.5, 2),
)
def test_the_tokens_left_and_their_scores_are_those_of_transformers(
    seed: int, temperature: float, top_k: int, top_p: float, penalty: float
) -> None:
    logits = logits_of(seed)
    prompt = torch.tensor([[1, 2, 3, 3]])
    expected = RepetitionPenaltyLogitsProcessor(penalty)(prompt, logits[None].clone())
    expected = TemperatureLogitsWarper(temperature)(prompt, expected)
    if top_k:
        expected = TopKLogitsWarper(top_k)(prompt, expected)
    before_top_p = expected[0]
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(prompt, expected)

    scores = sampler(SamplingParams(repetition_penalty=penalty), (1, 2, 3, 3))._penalised(logits) / temperature
    left = candidates(scores, top_k=top_k, top_p=top_p)

    assert torch.equal(scores[left], before_top_p[left])
    # Among equal scores at the border either may stay, so compare the scores that stay, not the ids.
    kept = expected[0][expected[0].isfinite()].sort().values
    assert torch.allclose(scores[left].sort().values, kept)


@quick
@given(seed=st.integers(0, 10_000))
def test_temperature_0_takes_the_best_and_draws_nothing(seed: int) -> None:
    logits = torch.randn(V, generator=torch.Generator().manual_seed(seed))

    assert sampler(SamplingParams(temperature=0)).choose(logits) == int(logits.argmax())


def test_the_frequencies_are_the_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -50.0])
    chooser = Sampler(SamplingParams(seed=3), prompt_ids=(0,), vocab_size=4, device=CPU)
    counts = torch.bincount(torch.tensor([chooser.choose(logits) for _ in range(4000)]), minlength=4) / 4000

    assert torch.allclose(counts, logits.softmax(-1), atol=0.03)
    assert counts[3] == 0


def test_the_same_seed_chooses_the_same_and_another_seed_something_else() -> None:
    def drawn(seed: int) -> list[int]:
        chooser = sampler(SamplingParams(seed=seed))
        return [chooser.choose(logits_of(n)) for n in range(30)]

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)


def test_presence_and_frequency_count_the_answer_only() -> None:
    logits = torch.zeros(V)
    chooser = sampler(SamplingParams(temperature=0, presence_penalty=1, frequency_penalty=0.5), (0,))

    assert chooser.choose(logits + torch.eye(V)[0] * 1.2) == 0  # in the prompt: no penalty
    assert chooser.choose(logits + torch.eye(V)[0] * 1.2) != 0  # now 1.5 less
    assert chooser.choose(logits + torch.eye(V)[0] * 1.6) == 0


def test_a_bias_can_force_and_forbid_a_token() -> None:
    logits = logits_of(1)

    assert sampler(SamplingParams(logit_bias=((7, 100.0),))).choose(logits) == 7
    best = int(logits.argmax())
    assert sampler(SamplingParams(temperature=0, logit_bias=((best, -100.0),))).choose(logits) != best


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_an_error(wrong: float) -> None:
    logits = logits_of(1)
    logits[4] = wrong

    with pytest.raises(InvalidLogits):
        sampler(SamplingParams()).choose(logits)


def test_no_possible_token_is_an_error() -> None:
    with pytest.raises(InvalidLogits):
        sampler(SamplingParams()).choose(torch.full((V,), -torch.inf))
