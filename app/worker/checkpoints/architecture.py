"""What a `config.json` says about a model's layers: which tensors there must be, of what shape, and how many numbers.

Known are Llama's layers, in the three ways in which Baichuan is stored: the official one (`W_pack`), Llama's, and ours
for 13B. No torch here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.domain.errors import InvalidInput

_MOST = 1 << 24
"""No count in a config is as large as this; a damaged one may be."""
_MOST_LAYERS = 1_000
_LLAMA = {"llama", "haina_baichuan_alibi"}

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Layers like Llama's, all of one shape."""

    hidden: int
    inner: int
    """Of the feed-forward part."""
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    """Tokens."""
    has_w_pack: bool
    """Query, key and value in one matrix: Baichuan's official layout."""
    is_tied: bool = False
    """Whether the last layer is the embeddings."""

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return self.linear_parameters + self.other_parameters

    @property
    def linear_parameters(self) -> int:
        """How many of them bitsandbytes would quantise: those of the layers' matrices."""
        return self.layers * sum(rows * columns for rows, columns in dict(self._matrices()).values())

    @property
    def other_parameters(self) -> int:
        """How many stay as they are: embeddings, last layer, norms."""
        return (1 if self.is_tied else 2) * self.vocab_size * self.hidden + (2 * self.layers + 1) * self.hidden

    @property
    def token_numbers(self) -> int:
        """How many numbers the cache keeps a token: keys and values of all layers."""
        return 2 * self.layers * self.key_value_heads * self.head_dim

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Yield the name and shape of each tensor that a checkpoint must hold."""
        yield "model.embed_tokens.weight", (self.vocab_size, self.hidden)
        for at in range(self.layers):
            layer = f"model.layers.{at}"
            for name, shape in self._matrices():
                yield f"{layer}.{name}.weight", shape
            for norm in ("input_layernorm", "post_attention_layernorm"):
                yield f"{layer}.{norm}.weight", (self.hidden,)
        yield "model.norm.weight", (self.hidden,)
        if not self.is_tied:
            yield "lm_head.weight", (self.vocab_size, self.hidden)

    def _matrices(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield the matrices of one layer, [out, in]."""
        width, narrow = self.heads * self.head_dim, self.key_value_heads * self.head_dim
        if self.has_w_pack:
            yield "self_attn.W_pack", (3 * width, self.hidden)
        else:
            yield "self_attn.q_proj", (width, self.hidden)
            yield "self_attn.k_proj", (narrow, self.hidden)
            yield "self_attn.v_proj", (narrow, self.hidden)
        yield "self_attn.o_proj", (self.hidden, width)
        yield "mlp.gate_proj", (self.inner, self.hidden)
        yield "mlp.up_proj", (self.inner, self.hidden)
        yield "mlp.down_proj", (self.hidden, self.inner)


def read(config: dict[str, Any]) -> Architecture | None:
    """Return the layers of a model whose kind is known here, else None.

    Raises InvalidInput where the config lacks a number, or has one that can be none.
    """
    kind = config.get("model_type")
    is_official = kind == "baichuan"
    if not is_official and (not isinstance(kind, str) or kind not in _LLAMA):
        return None
    if not is_official and (config.get("attention_bias") or config.get("mlp_bias")):
        return None
    hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    has_head_dim = not is_official and config.get("head_dim") is not None
    if not has_head_dim and hidden % heads:
        raise InvalidInput(f"its hidden_size of {hidden} cannot be shared out among {heads} heads")
    has_own_keys = not is_official and config.get("num_key_value_heads") is not None
    has_context = is_official and config.get("model_max_length") is not None
    return Architecture(
        hidden=hidden,
        inner=_count(config, "intermediate_size"),
        layers=_count(config, "num_hidden_layers", most=_MOST_LAYERS),
        heads=heads,
        key_value_heads=_count(config, "num_key_value_heads") if has_own_keys else heads,
        head_dim=_count(config, "head_dim") if has_head_dim else hidden // heads,
        vocab_size=_count(config, "vocab_size"),
        context_length=_count(config, "model_max_length" if has_context else "max_position_embeddings"),
        has_w_pack=is_official,
        is_tied=not is_official and config.get("tie_word_embeddings") is True,
    )


def _count(config: dict[str, Any], name: str, *, most: int = _MOST) -> int:
    value = config.get(name)
    if value is None:
        raise InvalidInput(f"it lacks {name}")
    if type(value) is not int or not 0 < value <= most:
        raise InvalidInput(f"its {name} is no number of such things")
    return value
