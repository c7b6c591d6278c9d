"""From logits to a token: the order of transformers, one random number a step, nobody else's numbers touched.

Order: bias, repetition penalty, presence and frequency penalty, temperature, top-k, top-p. Proven against
transformers' own processors on random logits. One step takes exactly one number from the job's own generator and
inverts the distribution with it, so the same seed gives the same answer whoever runs beside it.
"""

import math
from collections.abc import Sequence

import torch

from app.worker.jobs import GREEDY_BELOW, SamplingParams


class InvalidLogits(ValueError):
    """The model's numbers hold NaN or +inf, or leave no token possible."""


class Sampler:
    """One job's choice of tokens. It remembers which tokens were seen; give it every token that it chose, once."""

    def __init__(
        self, params: SamplingParams, *, prompt_ids: Sequence[int], vocab_size: int, device: torch.device
    ) -> None:
        self._params = params
        # On the CPU whatever the model's device is: a seed then means the same everywhere.
        self._generator = torch.Generator(device="cpu").manual_seed(params.seed)
        self._seen: torch.Tensor | None = None  # [V] bool: in the prompt or the answer
        self._counts: torch.Tensor | None = None  # [V] float32: how often in the answer
        if params.repetition_penalty != 1.0:
            self._seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
            self._seen[torch.tensor(prompt_ids, dtype=torch.long, device=device)] = True
        if params.presence_penalty or params.frequency_penalty:
            self._counts = torch.zeros(vocab_size, dtype=torch.float32, device=device)

    def choose(self, logits: torch.Tensor) -> int:
        """Return the next token's id. `logits`: [V] float32. Raises InvalidLogits."""
        scores = self._penalised(logits)
        best = scores.max().item()  # NaN wins every comparison in torch
        if not math.isfinite(best):
            raise InvalidLogits("the model produced numbers that are none")
        if self._params.temperature < GREEDY_BELOW:
            token = int(scores.argmax())
        else:
            token = self._drawn(scores / self._params.temperature)
        if self._seen is not None:
            self._seen[token] = True
        if self._counts is not None:
            self._counts[token] += 1
        return token

    def _penalised(self, logits: torch.Tensor) -> torch.Tensor:
        params = self._params
        scores = logits
        if params.logit_bias:
            ids, values = zip(*params.logit_bias, strict=True)
            bias = torch.tensor(values, dtype=scores.dtype, device=scores.device)
            scores = scores.index_add(0, torch.tensor(ids, device=scores.device), bias)
        if self._seen is not None:
            penalty = params.repetition_penalty
            scores = torch.where(self._seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
        if self._counts is not None:
            scores = scores - params.frequency_penalty * self._counts
            scores = scores - params.presence_penalty * (self._counts > 0)
        return scores

    def _drawn(self, scores: torch.Tensor) -> int:
        ids = candidates(scores, top_k=self._params.top_k, top_p=self._params.top_p)
        cumulative = scores[ids].double().softmax(dim=-1).cumsum(dim=-1)
        drawn = torch.rand((), dtype=torch.float64, generator=self._generator).item()
        place = torch.searchsorted(cumulative, drawn * cumulative[-1], right=True)
        return int(ids[place.clamp(max=len(ids) - 1)])


def candidates(scores: torch.Tensor, *, top_k: int, top_p: float) -> torch.Tensor:
    """Return the ids that top-k and then top-p leave. `scores`: [V]; the result is sorted by score, worst first."""
    if 0 < top_k < len(scores):
        # All that tie with the k-th stay, as in transformers.
        ids = (scores >= torch.topk(scores, top_k).values[-1]).nonzero().squeeze(-1)
    else:
        ids = torch.arange(len(scores), device=scores.device)
    ordered, places = torch.sort(scores[ids], stable=True)
    ids = ids[places]
    if top_p >= 1.0:
        return ids
    is_kept = ordered.softmax(dim=-1).cumsum(dim=-1) > 1.0 - top_p
    is_kept[-1] = True
    return ids[is_kept]
