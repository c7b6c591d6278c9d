"""A folder → a classifier: any sequence-classification model that transformers knows, from the disk alone.

Never code of the folder's, never a head that its weights lack. What goes wrong is a `LoadFailed` with one line for the
operator.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_log

from app.worker.classifier.model import SequenceClassifier
from app.worker.classifier.windows import Reader, Window
from app.worker.device import device_name, spare_a_core
from app.worker.engine import EngineBroken, JobFailed
from app.worker.failures import LoadFailed
from app.worker.mishaps import first_line, told_in_one_line
from app.worker.progress import Report, reported_bars

HEAD = "ForSequenceClassification"
"""How transformers' names of such models end."""
_TOKENIZER = "tokenizer.json"
_LONGEST = 2048
"""Tokens of a window at most: attention grows with the square."""
_UNTOLD = 512
"""Tokens of a window where neither model nor tokenizer has a limit."""
_FROM_DISK: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedClassifier:
    """A classifier that has run once, and what the server has to know about it."""

    name: str
    model: SequenceClassifier
    reader: Reader
    labels: tuple[str, ...]
    """In the order of the probabilities."""
    is_independent: bool
    """Whether several labels may hold at once: then the probabilities do not add up to 1."""


def load_classifier(path: str, *, report: Report) -> LoadedClassifier:
    """Load the classifier in a folder. Raises LoadFailed."""
    folder = Path(path).expanduser()
    report("classifier", 0.01)
    if not folder.is_dir():
        raise LoadFailed(f"there is no folder {path} with a classifier")
    with (
        told_in_one_line(f"the classifier {path}"),
        _quiet(),
        reported_bars(report, "classifier", first=0.01, last=0.04),
    ):
        try:
            return _load(folder)
        except (AttributeError, KeyError, TypeError) as error:  # how transformers answers a config that is none
            raise LoadFailed(f"the classifier {path} cannot be loaded: {first_line(error)}") from error


def _load(folder: Path) -> LoadedClassifier:
    spare_a_core()
    _require_config(folder)
    config = AutoConfig.from_pretrained(folder, **_FROM_DISK)
    labels = _labels(folder, config)
    tokenizer = _tokenizer(folder)
    model = _model(folder, config)
    is_independent = config.problem_type == "multi_label_classification" or len(labels) == 1
    classifier = SequenceClassifier(model, inputs=tokenizer.model_input_names, is_independent=is_independent)
    reader = Reader(
        tokenizer.backend_tokenizer, length=_window_length(model, tokenizer_length=tokenizer.model_max_length)
    )
    rows = int(model.get_input_embeddings().num_embeddings)
    if not rows // 2 < reader.largest_id + 1 <= rows:
        raise LoadFailed(f"the tokenizer in {folder} has {reader.largest_id + 1:,} tokens, its model {rows:,}")
    _warm_up(classifier, reader=reader, labels=labels, folder=folder)
    return LoadedClassifier(
        name=folder.resolve().name, model=classifier, reader=reader, labels=labels, is_independent=is_independent
    )


def _require_config(folder: Path) -> None:
    """See that the config is that of a classifier, before transformers makes a model of whatever it is."""
    file = folder / "config.json"
    if not file.is_file():
        raise LoadFailed(f"there is no config.json in {folder}")
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise LoadFailed(f"{file} holds no JSON object")
    names = config.get("architectures")
    if not isinstance(names, list) or not any(isinstance(name, str) and name.endswith(HEAD) for name in names):
        kind = ascii(names[0] if isinstance(names, list) and names else names)
        raise LoadFailed(f"{folder} is no sequence-classification model: its config.json says {kind[:100]}")
    if config.get("problem_type") == "regression":
        raise LoadFailed(f"{folder} gives a number in place of classes: its config.json says regression")


def _labels(folder: Path, config: Any) -> tuple[str, ...]:
    named = config.id2label
    labels = tuple(str(named[at]) for at in sorted(named))
    if sorted(named) != list(range(len(labels))) or len(set(labels)) != len(labels) or not labels:
        raise LoadFailed(f"the labels in {folder / 'config.json'} are not numbered from 0, or two have the same name")
    return labels


def _tokenizer(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder, **_FROM_DISK)
    if not getattr(tokenizer, "is_fast", False):
        raise LoadFailed(f"the classifier {folder} has no fast tokenizer (tokenizer.json)")
    # Without its files some of them are made up, empty: every text would then look the same.
    others = [name for name in tokenizer.vocab_files_names.values() if name != _TOKENIZER]
    has_others = bool(others) and all((folder / name).is_file() for name in others)
    if not has_others and not (folder / _TOKENIZER).is_file():
        raise LoadFailed(f"there is no tokenizer in {folder}: {' or '.join([_TOKENIZER, *others])} is missing")
    return tokenizer


def _model(folder: Path, config: Any) -> Any:
    is_gpu = torch.cuda.is_available()
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder,
        config=config,
        dtype="auto" if is_gpu else torch.float32,
        device_map={"": device_name()} if is_gpu else None,
        output_loading_info=True,
        **_FROM_DISK,
    )
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise LoadFailed(f"the weights in {folder} are not whole: {missing[0]}{more} missing")
    model.eval()
    return model


def _window_length(model: Any, *, tokenizer_length: int) -> int:
    """Return how many tokens the model reads at once, special ones included."""
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    limits.append(tokenizer_length)
    for name, layer in model.named_modules():
        if name.endswith("position_embeddings") and getattr(layer, "padding_idx", None) is not None:
            limits.append(layer.num_embeddings - layer.padding_idx - 1)  # RoBERTa counts from behind the padding
    told = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 1 << 24]
    return min(_LONGEST, *told) if told else _UNTOLD


def _warm_up(classifier: SequenceClassifier, *, reader: Reader, labels: tuple[str, ...], folder: Path) -> None:
    """Read the longest window once: what cannot run fails now, not in the first request. Raises LoadFailed."""
    token = next((window.ids[0] for window in reader.read("a 海")), 0)
    window = Window((token,) * reader.length, (0,) * reader.length)
    try:
        (row,) = classifier.score([window])
    except (AssertionError, IndexError, JobFailed, EngineBroken) as error:
        raise LoadFailed(
            f"the classifier {folder} cannot read {reader.length:,} tokens: {first_line(error)}"
        ) from error
    if len(row) != len(labels):
        raise LoadFailed(f"the classifier {folder} has {len(row)} classes, its config.json names {len(labels)}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing a table about what is told in one line."""
    level = transformers_log.get_verbosity()
    transformers_log.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_log.set_verbosity(level)
