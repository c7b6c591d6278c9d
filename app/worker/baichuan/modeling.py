"""Baichuan-13B and Baichuan2-13B: Llama's layers, with a bias for distance (ALiBi) in place of rotation.

To the score of a key at j for a query at i comes slope·(j − i), a slope a head. The official code adds slope·j: the
same under softmax in exact arithmetic, but it is rounded to the model's dtype, and in bfloat16 neighbours at j = 4,000
come out equal. Here the difference is computed in float32 first: what is rounded is small where it matters.

The bias is one tensor a forward pass, shared by all layers: [B, heads, q, k], 84 MB for 256 tokens at 4,096 in bfloat16
with 40 heads. The official buffer of 1.25 GiB is not needed. Columns appended to queries and keys would need no tensor
at all; but in bfloat16 they gain a twentieth (figures: docs/measurements.md), and every cache and kernel would have to
know about them.

Source: modeling_baichuan.py of baichuan-inc/Baichuan2-13B-Chat at c6f8592.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM, LlamaModel

from app.worker.baichuan.configuration import BaichuanAlibiConfig


class NoRotation(nn.Module):
    """In place of rotary embeddings: turns by nothing, which leaves every number as it is."""

    def __init__(self, config: BaichuanAlibiConfig) -> None:
        super().__init__()
        self._head_dim = int(config.head_dim or 0)

    def forward(self, hidden: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ARG002 - Llama's call
        """Return a cosine of 1 and a sine of 0, both [1, 1, head_dim] in the dtype of `hidden`."""
        return hidden.new_ones(1, 1, self._head_dim), hidden.new_zeros(1, 1, self._head_dim)


class BaichuanAlibiModel(LlamaModel):  # type: ignore[no-untyped-call]
    """Llama's stack of layers under our bias."""

    config_class = BaichuanAlibiConfig

    def __init__(self, config: BaichuanAlibiConfig) -> None:
        super().__init__(config)
        self.rotary_emb = NoRotation(config)  # type: ignore[assignment]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Take the masks that Llama takes: none, [B, k] with 0 for padding, or a ready one [B, 1, q, k]."""
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        bias = self._bias(inputs_embeds, mask=attention_mask, position_ids=position_ids, cache=past_key_values)
        return super().forward(
            attention_mask=bias,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )

    def _bias(
        self, hidden: torch.Tensor, *, mask: torch.Tensor | None, position_ids: torch.Tensor | None, cache: Any
    ) -> torch.Tensor:
        """Return what is added to the scores: [B or 1, heads, q, k] in the dtype of `hidden`.

        Places are columns of the cache. In a row that is padded to the left all places are shifted alike, so that
        differences are the same as those of positions.
        """
        length, done = hidden.shape[1], 0
        columns = length
        if cache is not None:
            done = cache.get_seq_length()
            columns, _ = cache.get_mask_sizes(length, 0)
        queries = torch.arange(length, device=hidden.device)[None] + done  # [1, q]
        if mask is not None and mask.ndim == _READY and position_ids is not None:
            # Whoever made the mask may keep rows of different lengths in one cache: only their positions tell.
            queries, columns = position_ids, mask.shape[-1]
        keys = torch.arange(columns, device=hidden.device)
        distances = (keys - queries[..., None])[:, None]  # [1 or B, 1, q, k]
        bias = _slopes_on(self.config.num_attention_heads, hidden.device)[:, None, None] * distances.float()
        if mask is None:
            seen = distances <= 0
        elif mask.ndim == _READY:
            seen = mask if mask.dtype == torch.bool else mask == 0
        else:
            seen = (distances <= 0) & mask[:, None, None, :columns].bool()
        # The least number, not minus infinity: a row of padding, where nothing is seen, must not become NaN.
        return bias.to(hidden.dtype).masked_fill(~seen, torch.finfo(hidden.dtype).min)


class BaichuanAlibiForCausalLM(LlamaForCausalLM):  # type: ignore[no-untyped-call]
    """Baichuan-13B and Baichuan2-13B with their last layer."""

    config_class = BaichuanAlibiConfig

    def __init__(self, config: BaichuanAlibiConfig) -> None:
        # Not Llama's own: it would build Llama's stack first.
        super(LlamaForCausalLM, self).__init__(config)
        self.model = BaichuanAlibiModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]


_READY = 4
"""How many dimensions a mask has that is ready for the layers."""


def slopes(heads: int) -> list[float]:
    """Return the slope of each head; for 40 heads those of 32 first, then every other one of 64.

    Source: `_get_interleave` in modeling_baichuan.py. It is not the order of the paper, but the model was trained so.
    """
    power = 2 ** math.floor(math.log2(heads))
    start = 2 ** (-(2 ** -(math.log2(power) - 3)))
    found = [start * start**at for at in range(power)]
    return found if heads == power else found + slopes(2 * power)[0::2][: heads - power]


@lru_cache(maxsize=8)
def _slopes_on(heads: int, device: torch.device) -> torch.Tensor:
    """Return the slopes, [heads] float32. A buffer of the model would come out empty where it is built on `meta`."""
    return torch.tensor(slopes(heads), dtype=torch.float32, device=device)


def register() -> None:
    """Make the classes known to this process's transformers, as a saved model names them."""
    AutoConfig.register(BaichuanAlibiConfig.model_type, BaichuanAlibiConfig, exist_ok=True)
    AutoModelForCausalLM.register(BaichuanAlibiConfig, BaichuanAlibiForCausalLM, exist_ok=True)
