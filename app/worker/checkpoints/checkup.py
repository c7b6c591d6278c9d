"""Is a model's folder whole, what is in it, and does it fit this machine? Looks, changes nothing.

What was looked at and how: `inspection`. The weights themselves are read for one question alone, whether their
checksums are right, and only where it is asked: that takes minutes, the rest seconds.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.worker import embedded
from app.worker.baichuan import variants
from app.worker.baichuan.variants import Variant
from app.worker.checkpoints import memory
from app.worker.checkpoints.architecture import Architecture
from app.worker.checkpoints.inspection import Headers, Inspection, Observation, Say, gigabytes
from app.worker.checkpoints.machine import Memory, has_fast_bfloat16, memory_here
from app.worker.checkpoints.memory import Need, Size

_TRAINING = re.compile(r"train_\d{5}B|Intermediate-Checkpoints", re.IGNORECASE)
_ROLE_TOKENS = {b'"<reserved_106>"', b'"<reserved_102>"'}
"""In a tokenizer of another layout they tell that the model is Baichuan's."""
_CLASSIFIER = "ForSequenceClassification"
"""How the names of such models' classes end."""
_CONVERTED = "haina"
"""In a config.json that `haina models convert` has written."""
_PACKED = ".weight.quant_state"
_BAICHUAN_1_VOCAB_SIZE = 64_000
_NAMES = {
    (2, 7_505_973_248): "Baichuan2-7B",
    (2, 13_896_668_160): "Baichuan2-13B",
    (1, 7_000_559_616): "Baichuan-7B",
    (1, 13_264_901_120): "Baichuan-13B",
}
"""By generation and number of parameters."""
_LICENSES = {
    1: "of Baichuan's first generation",
    2: "Community License for Baichuan2 Model: no commercial use without registration and authorisation",
}
"""By generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """What was found."""

    title: str
    """Which model it is, and in which layout, as far as its files tell."""
    license: str
    source_url: str
    """Empty where the files do not tell."""
    folder: Path
    observations: tuple[Observation, ...]
    parameters: int
    """0 where it is not known."""
    context_length: int
    """Tokens; 0 where it is not known."""
    is_packed: bool
    """Weights that are 4-bit ones already."""
    is_classifier: bool
    """A sequence-classification model: it says what a text is, and answers nobody."""
    needs: tuple[Need, ...]
    """At each precision; none where the parameters are not known."""
    memory: Memory

    @property
    def faults(self) -> tuple[Observation, ...]:
        """What is wrong with the files."""
        return tuple(one for one in self.observations if one.is_fault)

    def need(self, *, dtype: str, quantize: str) -> Need | None:
        """Return what it takes as the worker would load it with these options; None where that is not known."""
        if self.is_packed or quantize != "none":
            precision = "4-bit" if self.is_packed else quantize.replace("bit", "-bit")
        elif dtype == "auto":
            precision = "bfloat16" if self.memory.is_gpu or has_fast_bfloat16() else "float32"
        else:
            precision = "float32" if dtype == "float32" else "bfloat16"  # float16 is as wide
        return next((need for need in self.needs if need.precision == precision), None)


def examine(folder: Path, *, name: str = "", is_deep: bool = False, say: Say = lambda _: None) -> Checkup:
    """Look at a model's folder. `name` is what it was asked for by: a hub id tells more than its cache's folder.

    `is_deep` compares checksums; `say` is told of each file that is read for it. Raises OSError where the folder itself
    cannot be read; what is wrong inside is in the checkup.
    """
    look = Inspection(folder)
    config = look.json("config.json", is_needed=True)
    layers = look.layers(config)
    entries = look.weights()
    if layers and entries:
        look.compare(layers, entries)
    is_official = config.get("model_type") == "baichuan"
    is_classifier = _kind(config).endswith(_CLASSIFIER)
    if is_classifier:
        look.labels(config, entries)
    look.tokenizer(is_official=is_official, is_classifier=is_classifier, vocab_size=layers.vocab_size if layers else 0)
    is_chat = "user_token_id" in look.json("generation_config.json")
    look.checksums(is_deep=is_deep, say=say)
    variant = _variant(config, entries, folder=folder)
    is_packed = variant is not None and variant.is_packed
    size = _size(layers, entries)
    parameters = size.linear_parameters + size.other_parameters if size else 0
    title, license_, source_url = _unknown(config, folder)
    if folder.name.startswith(f"{embedded.MODEL_ID}-"):
        title, license_, source_url = embedded.TITLE, f"Apache-2.0, {embedded.LICENSE_URL}", embedded.SOURCE_URL
    elif variant is not None:
        title = _title(variant, parameters, name=f"{name} {folder.absolute()}", is_chat=is_chat, config=config)
        license_ = f"{_LICENSES[variant.generation]}, {variant.license_url}"
        source_url = variant.source_url
    return Checkup(
        title=title,
        license=license_,
        source_url=source_url,
        folder=folder,
        observations=tuple(look.seen),
        parameters=parameters,
        context_length=layers.context_length if layers else 0,
        is_packed=is_packed,
        is_classifier=is_classifier,
        needs=tuple(_possible(memory.needs(size), is_packed=is_packed)) if size else (),
        memory=memory_here(),
    )


def lines(checkup: Checkup) -> Iterator[str]:
    """Yield a checkup as people read it."""
    yield checkup.title + (f", {checkup.parameters:,} parameters" if checkup.parameters else "")
    yield f"  {checkup.folder}"
    for one in checkup.observations:
        yield f"{'✗' if one.is_fault else '✓'} {one.subject}: {one.words}"
    there = checkup.memory
    yield f"memory: {gigabytes(there.total_bytes)} of {there.place}, {gigabytes(there.free_bytes)} of it free now"
    for need in checkup.needs:
        slots = there.slots(need)
        cache = (
            f" + {gigabytes(need.slot_bytes)} a slot of {checkup.context_length:,} tokens" if need.slot_bytes else ""
        )
        room = "does not fit" if not slots else f"room for {slots:,} slots" if need.slot_bytes else "fits"
        yield f"  {need.precision:<8} {gigabytes(need.weights_bytes):>8}{cache}: {room}"
    if not checkup.needs:
        yield "  how much the model needs is not known"
    yield f"licence: {checkup.license}"
    yield f"source: {checkup.source_url or 'not told by the files'}"


def _variant(config: dict[str, Any], entries: Headers, *, folder: Path) -> Variant | None:
    """Tell which of Baichuan's models it is; None: none of them."""
    vocab_size = entries["model.embed_tokens.weight"].shape[:1] if "model.embed_tokens.weight" in entries else ()
    rows = vocab_size[0] if vocab_size else config.get("vocab_size")
    if config.get("model_type") == "baichuan":
        found = variants.detect(config, entries, vocab_size=rows if isinstance(rows, int) else 0)
        return replace(found, is_packed=any(_PACKED in name for name in entries))
    if not _speaks_baichuan(folder / "tokenizer.json"):
        return None
    return Variant(
        generation=1 if rows == _BAICHUAN_1_VOCAB_SIZE else 2,
        has_alibi=config.get("model_type") != "llama",
        is_packed=any(_PACKED in name for name in entries),
    )


def _speaks_baichuan(tokenizer: Path) -> bool:
    try:
        text = tokenizer.read_bytes() if tokenizer.is_file() else b""
    except OSError:
        return False
    return all(token in text for token in _ROLE_TOKENS)


def _title(variant: Variant, parameters: int, *, name: str, is_chat: bool, config: dict[str, Any]) -> str:
    """Name a model of Baichuan's. `name` is whatever it is called by outside."""
    position = "ALiBi, as 13B" if variant.has_alibi else "RoPE, as 7B"
    generation = "Baichuan2" if variant.has_norm_head else "Baichuan's first generation"
    title = _NAMES.get((variant.generation, parameters), "")
    if title and _TRAINING.search(name):
        step = re.search(r"train_\d{5}B", name)
        title += f", intermediate checkpoint{f' {step.group()}' if step else ''}"
    elif title:
        title += "-Chat" if is_chat else "-Base"
    else:
        title = f"{generation}, of no published size ({position})"
    if variant.is_packed:
        title += ", 4-bit weights"
    if config.get("model_type") == "llama":
        return f"{title}, converted to Llama's layout"
    is_official = config.get("model_type") == "baichuan" and _CONVERTED not in config
    return f"{title}, {'official layout' if is_official else 'converted'}"


def _unknown(config: dict[str, Any], folder: Path) -> tuple[str, str, str]:
    """Return title, licence and source of a model that is none of Baichuan's."""
    kind = _kind(config)
    what = "a classifier" if kind.endswith(_CLASSIFIER) else "another model"
    title = f"{what} ({ascii(kind)[1:60].rstrip(chr(39))})" if kind else "no model that is known"
    files = (one for one in ("LICENSE", "LICENSE.txt", "LICENSE.md") if (folder / one).exists())
    return title, next((f"see {one} in the folder" for one in files), "not told by the files"), ""


def _kind(config: dict[str, Any]) -> str:
    """Return the name of a model's class, else its type; empty where the config tells neither."""
    names = config.get("architectures")
    kind = names[0] if isinstance(names, list) and names else config.get("model_type")
    return kind if isinstance(kind, str) else ""


def _size(layers: Architecture | None, entries: Headers) -> Size | None:
    """Count from the config where its kind is known, else from what the files hold, unless that is packed."""
    if layers:
        return Size(
            linear_parameters=layers.linear_parameters,
            other_parameters=layers.other_parameters,
            slot_numbers=layers.token_numbers * layers.context_length,
        )
    if not entries or any(not entry.dtype.startswith(("float", "bfloat")) for entry in entries.values()):
        return None
    total = sum(entry.count for entry in entries.values())
    linear = sum(
        math.prod(entry.shape)
        for name, entry in entries.items()
        if len(entry.shape) == 2 and not re.search(r"embed|lm_head|wte|wpe", name)  # noqa: PLR2004 - a matrix
    )
    return Size(linear_parameters=linear, other_parameters=total - linear, slot_numbers=0)


def _possible(needs: Iterator[Need], *, is_packed: bool) -> Iterator[Need]:
    """Leave out what the worker refuses: weights packed in 4 bits do not become 8-bit ones."""
    yield from (need for need in needs if not (is_packed and need.precision == "8-bit"))
