"""The model's side of classification: the only code of it that runs a forward pass."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from app.worker.classifier.batches import Probabilities
from app.worker.classifier.windows import Window
from app.worker.runner import inference

_CPU_TOKENS = 1024
"""Of a batch, padding included. A CPU gains by batches of short texts only, and newcomers wait for a whole one."""
_GPU_TOKENS = 16384


class SequenceClassifier:
    """Scores windows with a sequence-classification model of transformers, which is in eval mode."""

    def __init__(self, model: Any, *, inputs: Sequence[str], is_independent: bool) -> None:
        """`inputs`: what its tokenizer makes for it, by the names of transformers.

        `is_independent`: labels do not exclude each other.
        """
        known = inspect.signature(model.forward).parameters
        self._model = model
        self._device = model.device
        self._is_independent = is_independent
        self._inputs = {name for name in ("attention_mask", "token_type_ids") if name in inputs and name in known}
        self._options = {"use_cache": False} if "use_cache" in known else {}
        pad_id = getattr(model.config.get_text_config(), "pad_token_id", None)
        self._pad_id = pad_id or 0
        # A decoder looks for the last token that is no padding, so it has to know which one is.
        self.can_batch = pad_id is not None and "attention_mask" in self._inputs
        self.most_tokens = _CPU_TOKENS if self._device.type == "cpu" else _GPU_TOKENS

    def score(self, windows: Sequence[Window]) -> list[Probabilities]:
        """Return the probabilities of all labels for each window, which may be of different lengths.

        Raises JobFailed, EngineBroken, or whatever the model raises.
        """
        shape = (len(windows), max(map(len, windows)))
        ids = torch.full(shape, self._pad_id, dtype=torch.long)  # [n, longest]
        mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = torch.tensor(window.ids)
            types[row, : len(window)] = torch.tensor(window.type_ids)
            mask[row, : len(window)] = 1
        given = {"attention_mask": mask, "token_type_ids": types}
        with inference():
            logits = self._model(
                input_ids=ids.to(self._device),
                **{name: given[name].to(self._device) for name in self._inputs},
                **self._options,
            ).logits.float()  # [n, labels]
            probabilities = logits.sigmoid() if self._is_independent else logits.softmax(dim=-1)
            return [tuple(row) for row in probabilities.tolist()]
