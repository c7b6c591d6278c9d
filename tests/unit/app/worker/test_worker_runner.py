"""A tiny random Llama in the engine: alone, among neighbours and in transformers' own generate() the same tokens."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LlamaForCausalLM

from app.worker.jobs import EndReason, Job, Piece, PromptScored, SamplingParams
from app.worker.runner import ModelRunner

MakeEngine = Callable[..., Any]  # see conftest
GREEDY = SamplingParams(temperature=0)
WARM = SamplingParams(temperature=0.9, top_k=40, top_p=0.95, repetition_penalty=1.1, seed=11)


def prompt(n: int, length: int) -> tuple[int, ...]:
    return tuple(torch.randint(5, 320, (length,), generator=torch.Generator().manual_seed(n)).tolist())


def job(n: int, *, length: int = 20, max_tokens: int = 24, sampling: SamplingParams = GREEDY, **more: Any) -> Job:
    return Job(id=str(n), prompt_ids=prompt(n, length), max_tokens=max_tokens, sampling=sampling, **more)


def generated(model: Any, ids: tuple[int, ...], *, max_tokens: int, **options: Any) -> list[int]:
    settings: Any = GenerationConfig
    config = settings(max_new_tokens=max_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0, **options)
    found = model.generate(torch.tensor([ids]), generation_config=config, attention_mask=torch.ones(1, len(ids)))
    return list(found[0, len(ids) :].tolist())


@pytest.mark.filterwarnings("ignore")  # transformers warns about eos_token_id=-1
@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_greedy_tokens_are_those_of_generate_alone_and_among_neighbours(
    model: LlamaForCausalLM, make_engine: MakeEngine, chunk: int
) -> None:
    running = make_engine(ModelRunner(model, prefill_chunk=chunk), slots=3)
    jobs = [job(n, length=5 + 9 * n) for n in range(5)]
    together = running.complete(*jobs)
    for one, inbox in zip(jobs, together, strict=True):
        assert inbox.ids == generated(model, one.prompt_ids, max_tokens=24)
        assert running.complete(one)[0].ids == inbox.ids


@pytest.mark.filterwarnings("ignore")
def test_the_repetition_penalty_is_that_of_generate(model: LlamaForCausalLM, make_engine: MakeEngine) -> None:
    one = job(1, sampling=SamplingParams(temperature=0, repetition_penalty=1.3))
    (inbox,) = make_engine(ModelRunner(model)).complete(one)

    assert inbox.ids == generated(model, one.prompt_ids, max_tokens=24, repetition_penalty=1.3)


def test_the_same_seed_gives_the_same_text_whoever_is_beside(model: LlamaForCausalLM, make_engine: MakeEngine) -> None:
    running = make_engine(ModelRunner(model), slots=4)
    alone = running.complete(job(1, sampling=WARM))[0].ids
    beside_others = running.complete(job(2, sampling=WARM), job(1, sampling=WARM), job(3, sampling=GREEDY))[1].ids
    ticket, _ = running.submit(job(9, max_tokens=400, sampling=WARM))
    _, beside_cancelled = running.submit(job(1, sampling=WARM))
    running.engine.cancel(ticket)
    beside_cancelled.wait()

    assert alone == beside_others == beside_cancelled.ids
    assert running.complete(job(1, sampling=SamplingParams(temperature=0.9, seed=12)))[0].ids != alone


def test_log_probabilities_are_those_of_the_whole_text_at_once(
    model: LlamaForCausalLM, make_engine: MakeEngine
) -> None:
    one = job(4, max_tokens=6, sampling=WARM, logprobs=3, wants_prompt_logprobs=True)
    (inbox,) = make_engine(ModelRunner(model, prefill_chunk=7)).complete(one)
    scored = inbox.events[0]
    assert isinstance(scored, PromptScored)
    tokens = [*scored.tokens, *(token for event in inbox.events if isinstance(event, Piece) for token in event.tokens)]

    with torch.inference_mode():
        ids = torch.tensor([[token.id for token in tokens]])
        logprobs = model(ids).logits[0].log_softmax(-1)
    assert tuple(ids[0, :20].tolist()) == one.prompt_ids
    assert tokens[0].logprob is None
    for place, token in enumerate(tokens[1:]):
        assert token.logprob == pytest.approx(logprobs[place, token.id].item(), abs=1e-4)
        assert [best for best, _ in token.top] == logprobs[place].topk(3).indices.tolist()


def test_numbers_that_are_none_end_one_job_only(model: LlamaForCausalLM, make_engine: MakeEngine) -> None:
    class Poisoned:
        config, device = model.config, model.device

        def __call__(self, *, input_ids: torch.Tensor, **options: Any) -> Any:
            output = model(input_ids=input_ids, **options)
            if 7 in input_ids:
                output.logits[:] = torch.nan
            return output

    running = make_engine(ModelRunner(Poisoned()))
    bad = Job(id="bad", prompt_ids=(7, 8), max_tokens=5, sampling=GREEDY)
    bad_inbox, good_inbox = running.complete(bad, Job(id="good", prompt_ids=(9,), max_tokens=1, sampling=GREEDY))

    assert [(end.reason, end.error_code) for end in bad_inbox.ends] == [(EndReason.ERROR, "invalid_numbers")]
    assert [end.reason for end in good_inbox.ends] == [EndReason.LENGTH]
