"""One model and its sequences: the only code that runs a forward pass.

Each sequence has keys and values of its own, so nothing depends on a neighbour: not the mask, not the positions, and
(in float32) not one bit of the logits. It costs speed, as requests are not batched.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache

from app.worker.engine import EngineBroken, JobFailed
from app.worker.jobs import Job, TokenScore
from app.worker.sampler import InvalidLogits, Sampler

PREFILL_CHUNK = 256
"""Tokens of a prompt in one turn: what a newcomer may delay the others by."""
LEAST_LOGPROB = -9999.0
"""In place of minus infinity, which JSON lacks; OpenAI's number."""


class ModelRunner:
    """Opens sequences on a causal language model of transformers, which is in eval mode."""

    def __init__(self, model: Any, *, prefill_chunk: int = PREFILL_CHUNK) -> None:
        self.model = model
        self.prefill_chunk = prefill_chunk

    def open(self, job: Job) -> "ModelSequence":
        """Take a place in memory for a job."""
        with inference():
            return ModelSequence(self, job)


class ModelSequence:
    """One job's keys and values, and its random numbers."""

    def __init__(self, runner: ModelRunner, job: Job) -> None:
        self.prompt_scores: tuple[TokenScore, ...] = ()
        self._model = runner.model
        self._chunk = runner.prefill_chunk
        self._job = job
        self._device = runner.model.device
        self._cache = DynamicCache(config=runner.model.config)
        self._sampler = Sampler(
            job.sampling,
            prompt_ids=job.prompt_ids,
            vocab_size=runner.model.config.get_text_config().vocab_size,
            device=self._device,
        )
        self._done = 0  # tokens of the prompt whose keys and values are in the cache
        self._logits: torch.Tensor | None = None  # [V] float32, of the position after the last token in the cache
        self._token: int | None = None  # chosen, but not in the cache yet

    def prefill(self) -> bool:
        """Take the next chunk; True when it was the last."""
        with inference():
            ids = self._job.prompt_ids[self._done : self._done + self._chunk]
            logits = self._forward(ids, all_positions=self._job.wants_prompt_logprobs)
            if self._job.wants_prompt_logprobs:
                self._score_prompt(ids, logits)
            self._logits = logits[-1]
            self._done += len(ids)
            return self._done == len(self._job.prompt_ids)

    def step(self) -> TokenScore:
        """Choose the next token from the logits of the token before."""
        with inference():
            if self._token is not None:
                self._logits = self._forward((self._token,), all_positions=False)[-1]
            if self._logits is None:
                raise RuntimeError("step before prefill")
            self._token = self._sampler.choose(self._logits)
            return self._score(self._token, self._logits)

    def _forward(self, ids: tuple[int, ...], *, all_positions: bool) -> torch.Tensor:
        """Return [n, V] float32: the logits after each of the ids, or after the last one only."""
        output = self._model(
            input_ids=torch.tensor([ids], dtype=torch.long, device=self._device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=0 if all_positions else 1,
        )
        logits: torch.Tensor = output.logits[0].float()
        return logits

    def _score_prompt(self, ids: tuple[int, ...], logits: torch.Tensor) -> None:
        """Score the chunk's tokens: each by the logits of the position before it."""
        scores = [TokenScore(ids[0], None) if self._logits is None else self._score(ids[0], self._logits)]
        scores += [self._score(token, row) for token, row in zip(ids[1:], logits[:-1], strict=True)]
        self.prompt_scores += tuple(scores)

    def _score(self, token: int, logits: torch.Tensor) -> TokenScore:
        if self._job.logprobs is None:
            return TokenScore(token, None)
        logprobs = logits.log_softmax(dim=-1).clamp(min=LEAST_LOGPROB)
        best = torch.topk(logprobs, min(self._job.logprobs, len(logprobs)))
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return TokenScore(token, logprobs[token].item(), top)


@contextmanager
def inference() -> Iterator[None]:
    """Run torch without gradients, and turn its errors into the engine's."""
    try:
        with torch.inference_mode():
            yield
    except InvalidLogits as error:
        raise JobFailed(str(error), code="invalid_numbers") from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise JobFailed("no memory left for this request", code="out_of_memory") from error
    except torch.AcceleratorError as error:
        # After a device-side assert every later call fails too.
        raise EngineBroken(f"the device failed: {error}") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise JobFailed("no memory left for this request", code="out_of_memory") from error
