"""What a folder in Baichuan's official layout holds.

All of them share one `model_type` and one architecture's name, so other signs tell them apart. How many layers there
are is no sign: a tiny checkpoint of a test has two.

Sources: config.json of baichuan-inc/Baichuan2-{7B,13B}-Chat and their `-4bits`, and of Baichuan-{7B,13B}.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_BAICHUAN_1_VOCAB_SIZE = 64_000
_PACKED = ".weight.quant_state"
"""Part of a name: bitsandbytes of today adds an ending of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A layout."""

    generation: int
    """1, or 2: Baichuan2."""
    has_alibi: bool
    """13B: a bias for distance. Otherwise 7B: rotated queries and keys (RoPE)."""
    is_packed: bool
    """`-4bits`: NF4 weights, packed by bitsandbytes."""

    @property
    def has_norm_head(self) -> bool:
        """Whether the last layer's rows are normalised when the model runs."""
        return self.generation == 2  # noqa: PLR2004 - Baichuan2's number

    @property
    def source_url(self) -> str:
        """Where the model comes from."""
        name = "Baichuan2" if self.has_norm_head else "Baichuan-13B" if self.has_alibi else "Baichuan-7B"
        return f"https://github.com/baichuan-inc/{name}"

    @property
    def license_url(self) -> str:
        """Where its licence is explained."""
        return f"{self.source_url}#license" if self.has_norm_head else f"{self.source_url}/blob/main/README_EN.md"


BAICHUAN = Variant(generation=1, has_alibi=False, is_packed=False)
BAICHUAN2 = Variant(generation=2, has_alibi=False, is_packed=False)


def detect(config: dict[str, Any], names: Collection[str], *, vocab_size: int) -> Variant:
    """Tell which layout it is; `names` are the checkpoint's tensors, `vocab_size` the rows of its embeddings.

    13B's config has no `max_position_embeddings`. A table of rotations in the checkpoint is proof of RoPE, whatever the
    config says. First generation: its vocabulary has 64,000 tokens (Baichuan2's has 125,696).
    """
    rotates = "max_position_embeddings" in config or any("rotary_emb" in name for name in names)
    return Variant(
        generation=1 if vocab_size == _BAICHUAN_1_VOCAB_SIZE else 2,
        has_alibi=not rotates,
        is_packed=any(_PACKED in name for name in names),
    )
