"""How much memory a model takes at each precision. What there is of it: `machine`."""

from collections.abc import Iterator
from dataclasses import dataclass

PRECISIONS = ("float32", "bfloat16", "8-bit", "4-bit")
"""As `--dtype` and `--quantize` choose them."""

_QUANTISED_BYTES = {
    "8-bit": 1.0,
    # A half byte; for each 64 weights a byte, for each 256 of those a float32 (bitsandbytes' NF4, quantised twice).
    "4-bit": 1 / 2 + 1 / 64 + 4 / (64 * 256),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What memory depends on."""

    linear_parameters: int
    """What bitsandbytes quantises."""
    other_parameters: int
    """What stays at 16 bits beside it."""
    slot_numbers: int
    """What the cache keeps for one full context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a model takes at one precision, without what a forward pass takes for a moment."""

    precision: str
    weights_bytes: int
    slot_bytes: int
    """Keys and values of one full context; 0 where it is not known."""

    @property
    def least_bytes(self) -> int:
        """With one slot."""
        return self.weights_bytes + self.slot_bytes


def needs(size: Size) -> Iterator[Need]:
    """Yield what a model takes at each precision."""
    for precision in PRECISIONS:
        width = 4 if precision == "float32" else 2
        linear = size.linear_parameters * _QUANTISED_BYTES.get(precision, width)
        yield Need(
            precision=precision,
            weights_bytes=round(linear) + size.other_parameters * width,
            slot_bytes=size.slot_numbers * width,
        )
