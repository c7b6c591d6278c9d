"""The configuration of the model with ALiBi: Llama's, under a name of our own."""

from transformers import LlamaConfig


class BaichuanAlibiConfig(LlamaConfig):  # type: ignore[no-untyped-call]
    """Baichuan-13B and Baichuan2-13B. What Llama says about rotation is not used."""

    model_type = "haina_baichuan_alibi"
