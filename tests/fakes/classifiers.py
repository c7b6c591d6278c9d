"""Sequence-classification models for tests: tiny folders with random weights, and one that is not a model at all."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from app.worker.classifier.batches import Probabilities
from app.worker.classifier.windows import Window

VOCABULARY = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"的一是不了人我在有他这中大来上国个到说们海纳测试禁语",
    *"abcdefghij",
)
LABELS = ("safe", "offensive", "other")
WINDOW = 32


def char_tokenizer() -> Tokenizer:
    """Return a tokenizer of a token for each character."""
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


def config_of(labels: Sequence[str] = LABELS, **options: Any) -> BertConfig:
    """Return the config of a tiny BERT with large weights, so that its answers vary."""
    sizes: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "max_position_embeddings": WINDOW, "initializer_range": 0.3, "vocab_size": len(VOCABULARY),
    }  # fmt: skip
    named: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: at for at, label in enumerate(labels)},
    }
    return BertConfig(**sizes | named | options)


def classifier_folder(folder: Path, *, labels: Sequence[str] = LABELS, **options: Any) -> Path:
    """Write a tiny BERT with random weights and its tokenizer, as an operator has them after a fine-tune."""
    fast: Any = PreTrainedTokenizerFast
    fast(
        tokenizer_object=char_tokenizer(), pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=WINDOW, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(6)
    BertForSequenceClassification(config_of(labels, **options)).save_pretrained(folder)
    return folder


class CountingScorer:
    """A scorer without a model: how much of a window is one of the ids that it knows, and how much is not.

    It keeps the batches, may be told to wait, and fails at a token or gives no number at another.
    """

    def __init__(
        self,
        *,
        known: int = 7,
        fails_at: Mapping[int, Exception] | None = None,
        empty_at: int = -1,
        can_batch: bool = True,
    ) -> None:
        self.can_batch = can_batch
        self.most_tokens = 256
        self.batches: list[list[Window]] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.has_begun = threading.Event()
        self._known = known
        self._fails_at = fails_at or {}
        self._empty_at = empty_at

    def score(self, windows: Sequence[Window]) -> list[Probabilities]:
        """Return the shares."""
        self.batches.append(list(windows))
        self.has_begun.set()
        assert self.may_go.wait(20)
        for window in windows:
            for token, error in self._fails_at.items():
                if token in window.ids:
                    raise error
        return [self.shares(window) for window in windows]

    def shares(self, window: Window) -> Probabilities:
        """Return what one window is answered, whatever its neighbours are."""
        if self._empty_at in window.ids:
            return (float("nan"), 1.0)
        share = window.ids.count(self._known) / len(window)
        return (share, 1 - share)
