"""A folder in the official layout → a standard checkpoint, written piece by piece.

7B becomes a Llama model, which every program knows. 13B keeps its own layout, which no program calls by another name,
with normalised rows of `lm_head` (docs/decisions/0009-converted-forms.md).

The work is done in `DST.part`, which gets its name when all is on the disk. `haina-conversion.json` in it lists the
finished files with their digests: a run that was killed goes on after them. A file lock beside it keeps a second run
out. In memory is never more than one piece of the source, and what becomes of it.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from app.domain.errors import InvalidInput
from app.worker import adapter as adapters
from app.worker.adapter import Adapter
from app.worker.baichuan import companions, official, quantized, stored, variants, weights
from app.worker.baichuan.companions import Described
from app.worker.baichuan.shards import Piece, Shard, divide, index
from app.worker.checkpoints import architecture, disk, hub
from app.worker.checkpoints.shelf import UNFINISHED
from app.worker.failures import LoadFailed
from app.worker.progress import shown_bytes

SHARD_BYTES = 5 * 10**9
"""How large a file becomes."""
_RECORD = "haina-conversion.json"
_SMALL_FILES_BYTES = 32 * 10**6  # tokenizer.json of 125,696 tokens has 10 MB
_FULL = (errno.ENOSPC, errno.EDQUOT)

Advance = Callable[[int], None]
"""Is told how many bytes were done since it was called last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A conversion that can be done: the source is whole, as far as names, shapes and lengths of files tell."""

    source: Path
    files: tuple[Path, ...]
    described: Described
    adapter: Adapter | None
    """What is merged into the weights."""
    shards: tuple[Shard, ...]

    @property
    def size_bytes(self) -> int:
        """Of all weights that are to be written."""
        return sum(shard.size_bytes for shard in self.shards)


def convert(source: str, target: Path, *, dtype: str = "auto", revision: str | None = None, adapter: str = "") -> None:
    """Convert a folder or a hub id's files, and show how far it is; `dtype` auto keeps that of the source.

    `adapter` is the folder or hub id of a LoRA adapter that is merged into the weights; empty: none.

    Raises what `plan` and `write` raise.
    """
    is_folder = Path(source).expanduser().is_dir()
    require_free(target, source=Path(source).expanduser())  # before anything is fetched
    folder = hub.folder_of(source, revision=revision)
    planned = plan(
        folder,
        name=folder.resolve().name if is_folder else source,
        revision=None if is_folder else revision or folder.name,  # the hub's cache names it by the commit
        dtype=None if dtype == "auto" else getattr(torch, dtype),
        adapter=adapters.read(adapter) if adapter else None,
    )
    with shown_bytes(planned.size_bytes, label="Converting") as advance:
        write(planned, target, advance=advance)


def plan(
    source: Path,
    *,
    name: str,
    revision: str | None = None,
    dtype: torch.dtype | None = None,
    adapter: Adapter | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Plan:
    """Read what the source holds; nothing is written. `dtype` None keeps that of the source.

    Raises InvalidInput where it is no official folder, LoadFailed where it is not whole, OSError.
    """
    config = _official_config(source)
    tokenizer = official.tokenizer_of(source)
    try:
        files = tuple(weights.files(source))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LoadFailed(f"the index of the weights in {source} is damaged") from error
    held: dict[str, Any] = {}
    for file in files:
        held |= stored.scan(file)
    embeddings = held.get("model.embed_tokens.weight")
    if not isinstance(embeddings, stored.StoredTensor):
        raise LoadFailed(f"there is no model.embed_tokens.weight in the weights of {source}: not an official layout")
    vocab_size = embeddings.shape[0]
    variant = variants.detect(config, held, vocab_size=vocab_size)
    dtype = dtype or embeddings.dtype
    described = Described(
        name=name,
        revision=revision,
        variant=variant,
        official=config,
        config=official.llama_config(config, variant, vocab_size=vocab_size),
        tokenizer=tokenizer,
        dtype=dtype,
        adapter=adapter.name if adapter else None,
    )
    _require_whole(held, described)
    if adapter is not None:
        adapter = _fitting(adapter, held, variant)
    try:
        pieces = [*_plain(held, variant, dtype=dtype, adapter=adapter), *_packed(held, variant)]
    except ImportError as error:
        raise LoadFailed("4-bit weights need bitsandbytes: pip install 'haina[quantize]'") from error
    return Plan(
        source=source,
        files=files,
        described=described,
        adapter=adapter,
        shards=divide(pieces, limit_bytes=shard_bytes),
    )


def write(planned: Plan, target: Path, *, advance: Advance = lambda _: None) -> None:
    """Write the folder `target`, or go on where an earlier run was stopped.

    Raises InvalidInput where `target` cannot be taken, LoadFailed where the disk is full or another run is at it,
    OSError.
    """
    require_free(target, source=planned.source)
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f"{target.name}.lock")
    try:
        with FileLock(lock, timeout=0):
            try:
                require_free(target, source=planned.source)  # another run may just have finished
                _write(planned, target, advance=advance)
            finally:
                lock.unlink(missing_ok=True)  # while it is held: filelock sees that a file it waited for has gone
    except Timeout as error:
        if not lock.exists():  # filelock tries on where no file can be made, as in /proc
            raise InvalidInput(f"nothing can be written to {target.parent}") from error
        raise LoadFailed(f"another process is converting to {target}") from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        left = target.with_name(target.name + UNFINISHED)
        raise LoadFailed(f"the disk is full: make room and run again; what is done stays in {left}") from error


def require_free(target: Path, *, source: Path) -> None:
    """See that a folder can be written in this place. Raises InvalidInput."""
    if target.resolve() == source.resolve():
        raise InvalidInput(f"{target} is the source itself; name another folder")
    if target.exists() or target.is_symlink():
        raise InvalidInput(f"{target} is there already; name another folder, or remove it first")


def _official_config(source: Path) -> dict[str, Any]:
    try:
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(f"there is no config.json in {source}: not a model's folder") from error
    except ValueError as error:
        raise LoadFailed(f"the config.json in {source} is damaged") from error
    if not isinstance(config, dict):
        raise LoadFailed(f"the config.json in {source} is damaged")
    if official.CONVERTED in config:
        raise InvalidInput(f"{source} is converted already")
    if config.get("model_type") != "baichuan":
        kind = config.get("model_type") or "without a model_type"
        raise InvalidInput(f"{source} is not a Baichuan model in the official layout, but {kind}")
    return config


def _fitting(adapter: Adapter, held: Mapping[str, Any], variant: variants.Variant) -> Adapter:
    """Return the adapter under Llama's names. Raises LoadFailed where it cannot be merged into these weights."""
    if variant.is_packed:
        raise adapter.misfit("4-bit weights cannot be merged with; convert the model that they were packed from")
    adapter = official.fitting(adapter, variant, is_live=False)
    metas = {name: one.meta for name, one in held.items() if isinstance(one, stored.StoredTensor)}
    shapes = weights.as_llama(metas, has_norm_head=False, dtype=torch.float32)
    adapter.require_fit({name: tuple(one.shape) for name, one in shapes.items()})
    return adapter


def _plain(
    held: Mapping[str, Any], variant: variants.Variant, *, dtype: torch.dtype, adapter: Adapter | None
) -> Iterator[Piece]:
    """Yield the pieces of weights that are not packed, an adapter's changes in them."""

    def converted(name: str, weight: torch.Tensor) -> Mapping[str, torch.Tensor]:
        if name == weights.HEAD and variant.has_norm_head:
            return changed({name: weights.normalised(weight, dtype=dtype)})
        if not name.endswith(".W_pack.weight") or (variant.has_alibi and adapter is None):
            return changed({name: weight})
        parts = changed(weights.split(name, weight))
        return {name: torch.cat([*parts.values()])} if variant.has_alibi else parts

    def changed(entries: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        if adapter is not None:
            entries = {name: adapter.merged(name, weight, dtype=dtype) for name, weight in entries.items()}
        return {name: weight.to(dtype) for name, weight in entries.items()}

    def piece(name: str, one: stored.StoredTensor) -> Piece:
        return Piece(entries=converted(name, one.meta), make=lambda: converted(name, one.read()))

    for name, one in held.items():
        if isinstance(one, stored.StoredTensor) and not weights.is_buffer(name):
            yield piece(name, one)


def _packed(held: Mapping[str, Any], variant: variants.Variant) -> Iterator[Piece]:
    """Yield the pieces of packed weights."""

    def converted(layer: str, data: torch.Tensor) -> Mapping[str, torch.Tensor]:
        state = stored.read(held[f"{layer}.weight.quant_state"])
        packed = quantized.PackedWeight.from_official(data, state)
        names = (f"{layer}.weight",) if variant.has_alibi else weights.split_names(layer)
        entries: dict[str, torch.Tensor] = {}
        for name, part in zip(names, packed.rows(len(names)), strict=True):
            entries |= part.serialised(name)
        return entries

    def piece(layer: str) -> Piece:
        data = held[f"{layer}.weight.data"]
        # The lengths of what bitsandbytes writes depend on the numbers in the state, not on the weights.
        entries = {name: one.to("meta") for name, one in converted(layer, data.meta).items()}
        return Piece(entries=entries, make=lambda: converted(layer, data.read()))

    for layer in quantized.layers(held):
        yield piece(layer)


def _require_whole(held: Mapping[str, Any], described: Described) -> None:
    """See that every weight is there, in the shape that the config tells. Raises LoadFailed."""
    try:
        layers = architecture.read(described.official | {"vocab_size": described.config.vocab_size})
    except InvalidInput as error:
        raise LoadFailed(f"the config.json cannot be right: {error}") from error
    wanted = dict(layers.shapes()) if layers else {}
    shapes = {name: one.shape for name, one in held.items() if isinstance(one, stored.StoredTensor)}
    for layer in quantized.layers(held):
        data = held.get(f"{layer}.weight.data")
        if not isinstance(data, stored.StoredTensor):
            raise LoadFailed(f"the weights lack {layer}.weight.data: the download is not complete")
        packed = quantized.PackedWeight.from_official(data.meta, held[f"{layer}.weight.quant_state"])
        shapes[f"{layer}.weight"] = packed.shape
    if missing := sorted(wanted.keys() - shapes.keys()):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise LoadFailed(f"the weights lack {missing[0]}{more}: the download is not complete")
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise LoadFailed(f"{name} has the shape {shapes[name]}, and by config.json should have {shape}")


def _write(planned: Plan, target: Path, *, advance: Advance) -> None:
    """Fill `DST.part`, then give it its name. Call it under the lock."""
    folder = target.with_name(target.name + UNFINISHED)
    record = _begin(planned, folder)
    done = {shard.name for shard in planned.shards if _is_done(folder, record, shard)}
    missing = sum(shard.size_bytes for shard in planned.shards if shard.name not in done)
    _require_room(target.parent, missing + _SMALL_FILES_BYTES)
    folder.mkdir(exist_ok=True)
    _keep(folder, record)
    for shard in planned.shards:
        if shard.name in done:
            advance(shard.size_bytes)
            continue
        unfinished = folder / f"{shard.name}{UNFINISHED}"
        digest = shard.write(unfinished, advance=advance)
        record["shards"][shard.name] = {"size": unfinished.stat().st_size, "sha256": digest}
        unfinished.rename(folder / shard.name)
        _keep(folder, record)
    if len(planned.shards) > 1:
        text = json.dumps(index(planned.shards), indent=2)
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    companions.write(planned.described, folder, source=planned.source)
    companions.write_config(planned.described, folder)
    disk.sync(folder)
    folder.rename(target)
    disk.sync_folder(target.parent)


def _begin(planned: Plan, folder: Path) -> dict[str, Any]:
    """Return the record of what is done of this very conversion; anything else that we left there is cleared away."""
    described = planned.described
    fresh: dict[str, Any] = {
        "version": 1,
        "source": {
            file.name: {"size": file.stat().st_size, "mtime_ns": file.stat().st_mtime_ns} for file in planned.files
        },
        "dtype": str(described.dtype).removeprefix("torch."),
        "adapter": planned.adapter.digest() if planned.adapter else None,
        "files": {shard.name: shard.size_bytes for shard in planned.shards},
        "shards": {},
    }
    if folder.exists() or folder.is_symlink():
        try:
            found = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            if not folder.is_dir() or {file.name for file in folder.iterdir()} - {_RECORD, _RECORD + UNFINISHED}:
                raise InvalidInput(f"{folder} is in the way, and no conversion has left it: move it first") from error
            found = None
        if isinstance(found, dict) and found | {"shards": {}} == fresh and isinstance(found["shards"], dict):
            for unfinished in folder.glob(f"*{UNFINISHED}"):
                unfinished.unlink()
            return found
        shutil.rmtree(folder)
    return fresh


def _keep(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record in one step: a process that is killed leaves the old one or the new one."""
    unfinished = folder / f"{_RECORD}{UNFINISHED}"
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(folder / _RECORD)
    disk.sync_folder(folder)


def _is_done(folder: Path, record: Mapping[str, Any], shard: Shard) -> bool:
    """Whether a file is there as it was recorded, to the last byte."""
    noted = record["shards"].get(shard.name)
    file = folder / shard.name
    if not noted or not file.is_file() or file.stat().st_size != noted["size"]:
        return False
    return disk.sha256(file) == str(noted["sha256"])


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise LoadFailed(
            f"no room for the model in {folder}: {needed // 10**6} MB are needed, {free // 10**6} MB are free"
        )
