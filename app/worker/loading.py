"""A path, a hub id or `default` → a model ready to serve, its tokenizer and its profile.

Everything that transformers knows by itself can be loaded; remote code never is. What goes wrong is a `LoadFailed` with
one line for the operator.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from app.domain.errors import InvalidInput
from app.domain.generation import ModelProfile
from app.domain.models import Sampling
from app.domain.ports import PromptFormat
from app.worker import adapter as adapters
from app.worker import embedded
from app.worker.adapter import Adapter, Mode
from app.worker.baichuan import modeling, official, variants, weights
from app.worker.checkpoints import hub
from app.worker.checkpoints.machine import has_fast_bfloat16
from app.worker.device import device_name, spare_a_core
from app.worker.failures import LoadFailed
from app.worker.mishaps import told_in_one_line
from app.worker.progress import Report, reported_bars
from app.worker.vocabulary import Vocabulary
from prompts.formats.registry import load_format
from prompts.formats.tokenizer import Tokenizer as PromptTokenizer

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantize = Literal["none", "8bit", "4bit"]

_CPU_SLOTS = 4
_MAX_SLOTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """What to load."""

    path: str = "default"
    """A folder, a hub id, or `default`: the embedded model."""
    dtype: Dtype = "auto"
    quantize: Quantize = "none"
    revision: str | None = None
    """Of a hub id."""
    adapter: str = ""
    """A LoRA adapter: a folder, or a hub id; empty: none."""
    adapter_mode: Mode = "auto"
    """`merged` into the weights, or `live` beside them; `auto`: merged, unless the weights are packed."""
    data_dir: Path
    """Where the embedded model's conversion is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model in eval mode on its device, and what the server has to know about it."""

    model: Any
    vocabulary: Vocabulary
    vocab_size: int
    hidden_ids: frozenset[int]
    """Tokens that are never shown."""
    profile: ModelProfile
    prompt_format: PromptFormat | None
    """None: the model completes text only."""
    slots: int
    """How many requests fit, a fair guess."""


def load(choice: ModelChoice, *, report: Report) -> LoadedModel:
    """Load the model. Raises LoadFailed."""
    with told_in_one_line(f"the model {choice.path}", hint="try --quantize 8bit or 4bit"):
        try:
            return _load(choice, report=report)
        except (embedded.EmbeddedModelMissing, embedded.NoRoomForModel) as error:
            raise LoadFailed(str(error)) from error


def _load(choice: ModelChoice, *, report: Report) -> LoadedModel:
    is_embedded = choice.path == "default"
    if is_embedded:
        folder = embedded.ensure_converted(data_dir=choice.data_dir, report=report)
    else:
        report("fetch", 0.05)
        folder = hub.folder_of(choice.path, revision=choice.revision)
    report("weights", 0.5)
    spare_a_core()
    dtype = _dtype(choice.dtype)
    adapter = adapters.read(choice.adapter) if choice.adapter else None
    with reported_bars(report, "weights", first=0.5, last=0.95):
        variant: variants.Variant | None = None
        quantize = choice.quantize
        if official.is_official(folder):
            quantization = _quantization(choice.quantize, dtype=dtype)
            found = official.load(
                folder,
                dtype=dtype,
                device=device_name(),
                quantization=quantization,
                adapter=adapter,
                mode=choice.adapter_mode,
            )
            model, tokenizer, variant = found.model, found.tokenizer, found.variant
            if variant.is_packed:
                quantize = "4bit" if found.is_kept_packed else "none"
        else:
            modeling.register()
            model, tokenizer = _load_standard(folder, choice=choice, dtype=dtype, adapter=adapter)
    model.eval()
    report("warm_up", 0.95)
    _refuse_broken_rows(model)
    _warm_up(model)
    described = _described(model, tokenizer=tokenizer, choice=choice, dtype=dtype, quantize=quantize, variant=variant)
    return replace(described, profile=replace(described.profile, adapter=adapter.name)) if adapter else described


def _load_standard(
    folder: Path, *, choice: ModelChoice, dtype: torch.dtype, adapter: Adapter | None
) -> tuple[Any, Tokenizer]:
    """Load what transformers knows by itself."""
    where: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    if not (folder / "config.json").is_file():
        raise LoadFailed(f"there is no config.json in {folder}")
    config = AutoConfig.from_pretrained(folder, **where)
    tokenizer = AutoTokenizer.from_pretrained(folder, **where)
    if not getattr(tokenizer, "is_fast", False):
        raise LoadFailed(f"the model {folder} has no fast tokenizer (tokenizer.json)")
    is_packed = getattr(config, "quantization_config", None) is not None
    is_live = adapters.is_live(choice.adapter_mode, is_packed=is_packed)
    if adapter is not None:
        adapter = _fitting(adapter, is_packed=is_packed, is_live=is_live)
    quantization = _quantization(choice.quantize, dtype=dtype)
    is_in_between = adapter is not None and not is_live and quantization is not None
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        # Before it is quantised it may not fit where it will fit then.
        device_map={"": device_name()} if torch.cuda.is_available() and not is_in_between else None,
        quantization_config=None if is_in_between else quantization,
        **where,
    )
    if adapter is not None and is_live:
        adapters.attach(model, adapter, dtype=dtype)
    elif adapter is not None:
        adapters.merge(model, adapter, dtype=dtype)
    if is_in_between:
        model = _quantised(model, quantization)
    return model, tokenizer.backend_tokenizer


def _quantised(model: Any, quantization: BitsAndBytesConfig | None) -> Any:
    """Return a model that is in memory once more, quantised."""
    found = type(model).from_pretrained(
        None,
        config=model.config,
        state_dict=model.state_dict(),
        dtype=model.dtype,
        device_map={"": device_name()} if torch.cuda.is_available() else None,
        quantization_config=quantization,
    )
    found.generation_config = model.generation_config
    return found


def _fitting(adapter: Adapter, *, is_packed: bool, is_live: bool) -> Adapter:
    """Return the adapter as a model with query, key and value apart wants it. Raises LoadFailed."""
    if is_packed and not is_live:
        raise adapter.misfit("its weights are packed, and cannot be merged with: --adapter-mode live")
    if adapter.is_for_w_pack and weights.HEAD in adapter.whole:
        raise adapter.misfit("its lm_head was trained on the official layout, and this model's is normalised already")
    return adapter.split()


def _described(
    model: Any,
    *,
    tokenizer: Tokenizer,
    choice: ModelChoice,
    dtype: torch.dtype,
    quantize: Quantize,
    variant: variants.Variant | None,
) -> LoadedModel:
    is_embedded = choice.path == "default"
    vocabulary = Vocabulary(tokenizer)
    config = model.config.get_text_config()
    prompt_format = _prompt_format(vocabulary)
    if variant is None and prompt_format is not None:  # in a layout that transformers knows: converted by somebody
        variant = {"baichuan": variants.BAICHUAN, "baichuan2": variants.BAICHUAN2}.get(prompt_format.name)
    format_ids = prompt_format.stop_token_ids if prompt_format else ()
    stop_token_ids = tuple(dict.fromkeys((*_stop_token_ids(model), *format_ids)))
    context_length = int(config.max_position_embeddings)
    name = embedded.MODEL_ID if is_embedded else _name(choice.path)
    profile = ModelProfile(
        id=name,
        title=embedded.TITLE if is_embedded else name.rpartition("/")[2],
        prompt_format=prompt_format.name if prompt_format else None,
        context_length=context_length,
        stop_token_ids=stop_token_ids,
        defaults=_defaults(model, context_length=context_length),
        revision=_revision(choice, model=model, is_embedded=is_embedded),
        quantization=quantize,
        dtype=str(dtype).removeprefix("torch."),
        is_embedded=is_embedded,
        license_url=embedded.LICENSE_URL if is_embedded else variant.license_url if variant else "",
        source_url=embedded.SOURCE_URL if is_embedded else variant.source_url if variant else "",
    )
    return LoadedModel(
        model=model,
        vocabulary=vocabulary,
        vocab_size=int(config.vocab_size),
        hidden_ids=vocabulary.special_ids | frozenset(stop_token_ids),
        profile=profile,
        prompt_format=prompt_format,
        slots=_slots(model, context_length=context_length),
    )


def _dtype(name: Dtype) -> torch.dtype:
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if has_fast_bfloat16() else torch.float32


def _quantization(quantize: Quantize, *, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    if quantize == "none":
        return None
    try:
        import bitsandbytes  # noqa: F401, PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise LoadFailed("--quantize needs bitsandbytes: pip install 'haina[quantize]'") from error
    # It warns about a cast for every layer and step.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    options: dict[str, Any] = {"load_in_8bit": True}
    if quantize == "4bit":
        options = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        }
    return BitsAndBytesConfig(llm_int8_skip_modules=["lm_head"], **options)  # type: ignore[no-untyped-call]


def _refuse_broken_rows(model: Any) -> None:
    """Refuse 4-bit layers of which bitsandbytes would silently make other weights. Raises LoadFailed.

    On a CPU 0.50.2 unpacks row by row, while blocks of 64 run on over the ends of rows: where a row is no whole number
    of blocks, all rows but the first come out wrong.
    """
    for name, layer in model.named_modules():
        if type(layer).__name__ != "Linear4bit" or layer.weight.device.type != "cpu":
            continue
        block = layer.weight.quant_state.blocksize
        if layer.in_features % block:
            raise LoadFailed(
                f"bitsandbytes cannot run this model in 4 bits on a CPU: {name} has rows of {layer.in_features} "
                f"numbers, which is no multiple of {block}; leave --quantize out, or take 8bit"
            )


def _warm_up(model: Any) -> None:
    """Run one token: what cannot run fails now, not in the first request. Raises LoadFailed."""
    try:
        with torch.inference_mode():
            model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device), use_cache=False)
    except (AssertionError, RuntimeError) as error:
        # How bitsandbytes says that a layer's shape does not suit it.
        if isinstance(error, RuntimeError) and "is invalid for input of size" not in str(error):
            raise
        raise LoadFailed(f"the model cannot run on this device: {error}") from error


def _stop_token_ids(model: Any) -> tuple[int, ...]:
    found = model.generation_config.eos_token_id
    if found is None:
        found = model.config.get_text_config().eos_token_id
    if found is None:
        return ()
    return tuple(found) if isinstance(found, list | tuple) else (int(found),)


def _defaults(model: Any, *, context_length: int) -> Sampling:
    """Return the model's own sampling, else OpenAI's defaults; half the context is for the answer."""
    config = model.generation_config
    is_greedy = config.do_sample is False and config.temperature is None

    def value(name: str, default: Any) -> Any:
        found = getattr(config, name, None)
        return default if found is None else found

    return Sampling(
        temperature=0.0 if is_greedy else float(value("temperature", 1.0)),
        top_p=float(value("top_p", 1.0)),
        top_k=int(value("top_k", 0)),
        repetition_penalty=float(value("repetition_penalty", 1.0)),
        max_tokens=min(int(value("max_new_tokens", 2048)), context_length // 2),
    )


def _prompt_format(vocabulary: Vocabulary) -> PromptFormat | None:
    """Return the prompt format that the vocabulary's control tokens speak of."""
    try:
        return load_format(None, PromptTokenizer.from_json(vocabulary.json))
    except InvalidInput:
        return None


def _name(path: str) -> str:
    return Path(path).resolve().name if Path(path).is_dir() else path


def _revision(choice: ModelChoice, *, model: Any, is_embedded: bool) -> str:
    if is_embedded:
        return f"{embedded.DISTRIBUTION} {embedded.VERSION} Q4_1"
    return getattr(model.config, "_commit_hash", None) or choice.revision or ""


def _slots(model: Any, *, context_length: int) -> int:
    """Guess how many full contexts fit beside the weights."""
    if not torch.cuda.is_available():
        return _CPU_SLOTS
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    slot_bytes: int = 2 * config.num_hidden_layers * heads * head_dim * context_length * model.dtype.itemsize
    free_bytes, _ = torch.cuda.mem_get_info()
    return max(1, min(_MAX_SLOTS, int(free_bytes * 0.8) // slot_bytes))
