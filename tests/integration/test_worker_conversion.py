"""Official checkpoints written anew: the same numbers, a form that others load, nothing half done that looks whole."""

import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from app.domain.errors import InvalidInput
from app.worker.baichuan import conversion, quantized
from app.worker.baichuan.shards import Piece, Shard
from app.worker.checkpoints import hub
from app.worker.checkpoints.shelf import models_here
from app.worker.failures import LoadFailed
from tests.fakes.checkpoints import (
    DATA,
    NAMES,
    as_first_generation,
    converted,
    folder_of,
    golden,
    greedy,
    loaded,
    made_up,
    pack,
    sharded,
)

WHOLE = ("tiny-7b-chat", "tiny-13b-chat")
ROOT = Path(__file__).parents[2]


def held(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a folder, by safetensors' own reader."""
    return {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}


def official(folder: Path) -> dict[str, Any]:
    weights: dict[str, Any] = torch.load(folder / "pytorch_model.bin", weights_only=True)
    return weights


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# The same numbers


@pytest.mark.parametrize("name", WHOLE)
def test_converted_direct_and_official_are_the_same(name: str, tmp_path: Path) -> None:
    source = folder_of(name, tmp_path)
    direct, ours = loaded(source), loaded(converted(source))

    for weight, other in zip(direct.model.parameters(), ours.model.parameters(), strict=True):
        assert torch.equal(weight, other)
    for one in golden(name).values():
        with torch.inference_mode():
            logits = ours.model(one.ids, use_cache=False).logits[0]
        assert (logits[-len(one.logits) :] - one.logits).abs().max() <= 1e-4
        if one.answer is not None:
            assert greedy(ours.model, one.ids, tokens=len(one.answer)).tolist() == [one.answer]
    assert (ours.profile.license_url, ours.profile.source_url) == (
        direct.profile.license_url,
        direct.profile.source_url,
    )
    assert ours.profile.defaults == direct.profile.defaults


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("as_safetensors", [False, True])
def test_shards_in_and_shards_out_change_nothing(name: str, as_safetensors: bool, tmp_path: Path) -> None:  # noqa: FBT001
    source = folder_of(name, tmp_path)
    whole = held(converted(source))
    shutil.rmtree(tmp_path / f"{name}-converted")
    folder = converted(sharded(source, parts=3, as_safetensors=as_safetensors), shard_bytes=300_000)
    parts = sorted(folder.glob("*.safetensors"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())

    assert len(parts) > 2
    assert index["metadata"]["total_size"] == sum(one.numel() * one.itemsize for one in whole.values())
    assert {name: str(file.name) for file in parts for name in load_file(file)} == index["weight_map"]
    assert held(folder).keys() == whole.keys()
    assert all(torch.equal(one, whole[name]) for name, one in held(folder).items())
    for file in parts:
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}
    loaded(folder)


@pytest.mark.parametrize("name", WHOLE)
def test_the_precision_may_be_changed(name: str, tmp_path: Path) -> None:
    source = folder_of(name, tmp_path)
    folder = converted(source, dtype=torch.bfloat16)
    direct = loaded(source, dtype="bfloat16")

    assert {one.dtype for one in held(folder).values()} == {torch.bfloat16}
    config = json.loads((folder / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"
    for weight, other in zip(
        direct.model.parameters(), loaded(folder, dtype="bfloat16").model.parameters(), strict=True
    ):
        assert torch.equal(weight, other)


def test_a_weight_that_is_not_laid_out_row_by_row_is_read_rightly(tmp_path: Path) -> None:
    source = folder_of("tiny-13b-chat", tmp_path)
    weights = official(source)
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = weights[name].t().contiguous().t()
    weights["model.norm.weight"] = torch.cat([torch.zeros(3), weights["model.norm.weight"]])[3:]
    torch.save(weights, source / "pytorch_model.bin")

    assert torch.equal(held(converted(source))[name], weights[name])
    assert torch.equal(held(tmp_path / "tiny-13b-chat-converted")["model.norm.weight"], weights["model.norm.weight"])


@pytest.mark.parametrize("name", WHOLE)
def test_the_first_generation_keeps_its_head_and_its_prompt(name: str, tmp_path: Path) -> None:
    source = folder_of(name, tmp_path)
    as_first_generation(source / "tokenizer.model")
    weights = official(source)
    for one in ("lm_head.weight", "model.embed_tokens.weight"):
        weights[one] = torch.nn.functional.pad(weights[one], (0, 0, 0, 64_000 - 600))
    torch.save(weights | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}, source / "pytorch_model.bin")
    if name == "tiny-13b-chat":  # a table of rotations would be proof of 7B
        torch.save(weights, source / "pytorch_model.bin")
    direct, ours = loaded(source), loaded(converted(source))

    assert torch.equal(ours.model.lm_head.weight, weights["lm_head.weight"])
    assert (ours.profile.prompt_format, ours.profile.source_url) == ("baichuan", direct.profile.source_url)
    assert ours.vocabulary.encode("hello", add_special_tokens=False) == direct.vocabulary.encode(
        "hello", add_special_tokens=False
    )
    text = (tmp_path / f"{name}-converted" / "NOTICE").read_text()
    assert "lm_head" not in text
    assert direct.profile.license_url in text


# Packed weights


@pytest.mark.parametrize("has_alibi", [False, True])
def test_packed_weights_are_the_same_bit_for_bit(has_alibi: bool, tmp_path: Path) -> None:  # noqa: FBT001 - pytest's
    functional = pytest.importorskip("bitsandbytes.functional")
    hidden = 192 if has_alibi else 256  # 13B: no border of a part is one of bitsandbytes' second level
    source = made_up(tmp_path / "made-up", has_alibi=has_alibi, hidden=hidden)
    before = {name: one.dequantised() for name, one in quantized.read(pack(source)).items()}
    folder = converted(source)
    weights = held(folder)
    after = {name: one.dequantised() for name, one in quantized.read(weights).items()}

    assert after.keys() == before.keys()
    assert all(torch.equal(one, after[name]) for name, one in before.items())
    stem = "model.layers.1.self_attn." + ("W_pack" if has_alibi else "k_proj") + ".weight"
    state = {name.removeprefix(f"{stem}."): one for name, one in weights.items() if name.startswith(f"{stem}.")}
    theirs = functional.dequantize_4bit(
        weights[stem],
        functional.QuantState.from_dict({f"weight.{n}": one for n, one in state.items()}, torch.device("cpu")),
    )
    assert f"{stem}.nested_absmax" in weights
    middle = slice(hidden, 2 * hidden) if has_alibi else slice(None)
    assert torch.equal(theirs[middle], before["model.layers.1.self_attn.k_proj.weight"])
    ours = loaded(folder)
    assert ours.profile.quantization == "4bit"
    ids = torch.arange(200, 240)[None]
    with torch.inference_mode():
        assert torch.allclose(ours.model(ids).logits, loaded(source).model(ids).logits, atol=1e-2)


def test_the_official_results_of_packed_weights_come_out(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    source = folder_of("tiny-7b-chat-4bits", tmp_path)
    exact = loaded(converted(source, dtype=torch.float32)).model
    shutil.rmtree(tmp_path / "tiny-7b-chat-4bits-converted")
    rounded = loaded(converted(source)).model  # its head as the source's: float16

    for one in golden("tiny-7b-chat-4bits").values():
        with torch.inference_mode():
            assert (exact(one.ids).logits[0, -len(one.logits) :] - one.logits).abs().max() <= 1e-4
            assert (rounded(one.ids).logits[0, -len(one.logits) :] - one.logits).abs().max() <= 2e-3


def test_packed_weights_that_bitsandbytes_cannot_run_are_unpacked_here_too(tmp_path: Path) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    if torch.cuda.is_available() or not functional.has_avx512bf16():
        pytest.skip("only bitsandbytes' kernel for avx512_bf16 is particular about shapes")
    ours = loaded(converted(folder_of("tiny-7b-chat-4bits", tmp_path)))

    assert ours.profile.quantization == "none"


# Others load it

ALONE = """
import json, sys, warnings
class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {"app", "prompts", "storage", "ui"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent)
try:
    import app
except ModuleNotFoundError:
    pass
else:
    sys.exit("our package is here")
import numpy, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, golden = sys.argv[1:]
model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
tokenizer = AutoTokenizer.from_pretrained(folder)
arrays, worst, same = numpy.load(golden), 0.0, []
for name in [name for name in arrays.files if name.startswith("ids_")]:
    ids = torch.from_numpy(arrays[name]).long()[None]
    logits = torch.from_numpy(arrays["logits_" + name[4:]])
    with torch.inference_mode():
        worst = max(worst, (model(ids).logits[0, -len(logits):] - logits).abs().max().item())
    if "greedy_" + name[4:] in arrays.files:
        answer = arrays["greedy_" + name[4:]].tolist()
        made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=len(answer),
            temperature=None, top_k=None, top_p=None, repetition_penalty=1.0, eos_token_id=None)
        same.append(made[0, ids.shape[1]:].tolist() == answer)
question = [{"role": "user", "content": "hello"}]
prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
print(json.dumps({"class": type(model).__name__, "worst": worst, "same": same, "prompt": prompt,
    "strange": sorted(map(str, [*report["missing_keys"], *report["unexpected_keys"]])),
    "layer": type(model.model.layers[0].mlp.up_proj).__name__, "sampling": model.generation_config.to_diff_dict()}))
"""


def alone(folder: Path, *, results: Path, cwd: Path) -> Any:
    """Load a folder in a process that cannot import any code of ours."""
    command = [sys.executable, "-I", "-c", ALONE, str(folder), str(results)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_converted_7b_needs_no_code_of_ours(tmp_path: Path) -> None:
    folder = converted(folder_of("tiny-7b-chat", tmp_path), shard_bytes=300_000)
    (tmp_path / "empty").mkdir()
    found = alone(folder, results=DATA / "tiny-7b-chat" / "golden.npz", cwd=tmp_path / "empty")

    assert (found["class"], found["strange"]) == ("LlamaForCausalLM", [])
    assert found["worst"] <= 1e-4
    assert found["same"] == [True] * 3
    assert found["prompt"] == "<reserved_106>hello<reserved_107>"
    assert found["sampling"] | {"temperature": 0.3, "top_k": 5, "top_p": 0.85} == found["sampling"]


def test_a_converted_7b_of_4_bits_needs_none_either(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    source = made_up(tmp_path / "made-up", has_alibi=False)
    pack(source)
    folder = converted(source)
    (tmp_path / "empty").mkdir()
    found = alone(folder, results=DATA / "tiny-7b-chat" / "golden.npz", cwd=tmp_path / "empty")  # ids for other weights

    assert (found["class"], found["strange"], found["layer"]) == ("LlamaForCausalLM", [], "Linear4bit")


READ_BY_VLLM = (
    *("architectures", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("hidden_act", "rms_norm_eps", "tie_word_embeddings", "rope_parameters"),
)
"""What vLLM takes out of the config. Source: vllm/model_executor/models/baichuan.py of vllm-project/vllm at 6b06599."""
READ_BY_LLAMA_CPP = (
    *("architectures", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("rms_norm_eps", "model_max_length"),
)
"""And llama.cpp, beside `tokenizer.model`. Source: conversion/baichuan.py of ggml-org/llama.cpp at 7bca1fd."""
LAYER = (
    *("self_attn.W_pack", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    *("input_layernorm", "post_attention_layernorm"),
)
"""Both know these tensors of a layer, and no other. vLLM raises a KeyError for names that it does not know."""


def test_a_converted_13b_is_what_vllm_and_llama_cpp_read(tmp_path: Path) -> None:
    folder = converted(folder_of("tiny-13b-chat", tmp_path))
    config = json.loads((folder / "config.json").read_text())
    weights = held(folder)

    assert {*READ_BY_VLLM, *READ_BY_LLAMA_CPP} <= config.keys()
    assert config["architectures"] == ["BaichuanForCausalLM"]  # with a small c: 13B, where hidden_size is not 4096
    assert config["model_type"] == "baichuan"
    assert (config["hidden_act"], config["tie_word_embeddings"]) == ("silu", False)
    assert "auto_map" not in config
    assert "quantization_config" not in config
    layers = {f"model.layers.{at}.{part}.weight" for at in range(config["num_hidden_layers"]) for part in LAYER}
    assert weights.keys() == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"} | layers
    assert weights["model.layers.0.self_attn.W_pack.weight"].shape == (3 * 160, 160)
    assert torch.allclose(weights["lm_head.weight"].norm(dim=1), torch.ones(600))  # llama.cpp does not do it
    assert (folder / "tokenizer.model").read_bytes() == (tmp_path / "tiny-13b-chat" / "tokenizer.model").read_bytes()
    said = json.loads((folder / "tokenizer_config.json").read_text())
    assert (said["add_bos_token"], said["add_prefix_space"]) == (False, False)


def test_what_the_licence_asks_for_goes_along(tmp_path: Path) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    (source / "Community License for Baichuan2 Model.pdf").write_bytes(b"%PDF")
    folder = converted(source)
    text = (folder / "NOTICE").read_text()

    assert (folder / "Community License for Baichuan2 Model.pdf").read_bytes() == b"%PDF"
    for part in ("Baichuan Inside", "tiny-7b-chat", "https://github.com/baichuan-inc/Baichuan2", "lm_head", "W_pack"):
        assert part in text
    assert "in this folder: Community License for Baichuan2 Model.pdf." in text
    assert str(tmp_path) not in "".join(one.decode(errors="replace") for one in files(folder).values())
    sampling = (folder / "generation_config.json").read_bytes()
    assert sampling == (source / "generation_config.json").read_bytes()


def test_a_hub_id_is_named_with_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_of("tiny-13b-chat", tmp_path)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(hub, "snapshot_download", lambda _, **options: asked.update(options) or str(source))
    conversion.convert("baichuan-inc/Baichuan2-13B-Chat", tmp_path / "done", revision="v2.0")

    assert asked["revision"] == "v2.0"
    assert "baichuan-inc/Baichuan2-13B-Chat, revision v2.0." in (tmp_path / "done" / "NOTICE").read_text()


# What cannot be done is one line, and nothing is written


def cut(source: Path) -> None:
    os.truncate(source / "pytorch_model.bin", 400_000)


def cut_safetensors(source: Path) -> None:
    file = sorted(sharded(source, parts=2, as_safetensors=True).glob("*.safetensors"))[1]
    os.truncate(file, file.stat().st_size - 10)


def lose_a_shard(source: Path) -> None:
    sorted(sharded(source, parts=3).glob("*.bin"))[1].unlink()


def lose_a_tensor(source: Path) -> None:
    weights = official(source)
    weights.pop("model.layers.1.mlp.up_proj.weight")
    torch.save(weights, source / "pytorch_model.bin")


def run_code(source: Path) -> None:
    torch.save({"model.embed_tokens.weight": Path("/")}, source / "pytorch_model.bin")


def save_as_before_1_6(source: Path) -> None:
    torch.save(official(source), source / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def break_the_index(source: Path) -> None:
    (sharded(source, parts=2) / "pytorch_model.bin.index.json").write_text("[1]")


def say(source: Path, **words: object) -> None:
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | words))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut, r"pytorch_model\.bin is damaged, or the download is not complete"),
        (cut_safetensors, r"model-00002-of-00002\.safetensors is damaged, or the download is not complete"),
        (lose_a_shard, r"there is no pytorch_model-00002-of-00003\.bin"),
        (lose_a_tensor, r"lack model\.layers\.1\.mlp\.up_proj\.weight: the download is not complete"),
        (
            lambda source: say(source, intermediate_size=99),
            r"shape \(176, 64\), and by config\.json should have \(99, 64\)",
        ),
        (
            lambda source: say(source, intermediate_size="x"),
            r"config\.json holds what it should not: .*'intermediate_size'",
        ),
        (lambda source: say(source, num_attention_heads=0), r"config\.json holds what it should not"),
        (run_code, r"pytorch_model\.bin is damaged"),
        (save_as_before_1_6, r"torch's form before 1\.6"),
        (lambda source: (source / "pytorch_model.bin").unlink(), r"no pytorch_model\.bin"),
        (break_the_index, "index of the weights .* is damaged"),
        (lambda source: (source / "tokenizer.model").unlink(), r"no tokenizer\.model"),
        (lambda source: (source / "tokenizer.model").write_bytes(b"no"), r"not a SentencePiece model"),
        (lambda source: (source / "config.json").write_text("{"), r"config\.json .* is damaged"),
        (lambda source: (source / "config.json").unlink(), r"no config\.json .*: not a model's folder"),
        (lambda source: say(source, model_type="llama"), "not a Baichuan model in the official layout, but llama"),
    ],
)
def test_a_source_that_is_not_whole_is_found_before_anything_is_written(
    spoil: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    spoil(source)
    with pytest.raises((LoadFailed, InvalidInput)) as caught:
        converted(source)
    line = caught.value.detail if isinstance(caught.value, InvalidInput) else str(caught.value)
    assert line is not None
    assert len(line.splitlines()) == 1
    assert re.search(words, line), line
    assert list(tmp_path.iterdir()) == [source]


def test_a_place_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    planned = conversion.plan(source, name="x")
    before = files(source)
    taken = tmp_path / "taken"
    taken.mkdir()
    link = tmp_path / "link"
    link.symlink_to(source)
    foreign = tmp_path / "new.part"
    foreign.mkdir()
    (foreign / "diary").write_text("mine")
    for target, words in (
        (source, "is the source itself"),
        (link, "is the source itself"),
        (taken, "is there already"),
        (tmp_path / "new", "no conversion has left it"),
    ):
        with pytest.raises(InvalidInput) as caught:
            conversion.write(planned, target)
        assert words in str(caught.value.detail)

    assert files(source) == before
    assert list(taken.iterdir()) == []
    assert (foreign / "diary").read_text() == "mine"


def test_what_is_converted_is_not_converted_again(tmp_path: Path) -> None:
    folder = converted(folder_of("tiny-13b-chat", tmp_path))
    with pytest.raises(InvalidInput) as caught:
        converted(folder)
    assert "is converted already" in str(caught.value.detail)


def test_a_disk_that_is_too_small_or_fills_up_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    target = tmp_path / "done"
    planned = conversion.plan(source, name="x", shard_bytes=300_000)
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(tmp_path)
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(LoadFailed, match="32 MB are needed, 0 MB are free"):
            conversion.write(planned, target)
    assert list(tmp_path.iterdir()) == [source]
    last = planned.shards[-1].name
    write = Shard.write

    def fill(shard: Shard, path: Path, **options: Any) -> str:
        if shard.name == last:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(shard, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Shard, "write", fill)
        with pytest.raises(LoadFailed, match=r"the disk is full: make room and run again; .*done\.part"):
            conversion.write(planned, target)
    assert not target.exists()
    conversion.write(planned, target)
    assert held(target).keys() == held(converted(source)).keys()


def test_a_source_that_shrinks_meanwhile_is_one_line(tmp_path: Path) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    planned = conversion.plan(source, name="x")
    os.truncate(source / "pytorch_model.bin", 400_000)
    with pytest.raises(LoadFailed, match=r"pytorch_model\.bin ends too early"):
        conversion.write(planned, tmp_path / "done")
    assert not (tmp_path / "done").exists()


# It may be stopped at any moment


class Stopped(Exception):
    """By a test."""


def stop_after(planned: conversion.Plan, target: Path, *, pieces: int) -> None:
    left = pieces

    def advance(_: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stopped

    with pytest.raises(Stopped):
        conversion.write(planned, target, advance=advance)


def test_finished_files_are_not_written_again_unless_they_were_changed(tmp_path: Path) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    target = tmp_path / "done"
    planned = conversion.plan(source, name=source.name, shard_bytes=150_000)
    assert len(planned.shards) > 4
    stop_after(planned, target, pieces=sum(len(shard.pieces) for shard in planned.shards[:3]))
    part = tmp_path / "done.part"
    first, second, third = (part / shard.name for shard in planned.shards[:3])
    assert not target.exists()
    assert not (part / "config.json").exists()
    inode = first.stat().st_ino, first.stat().st_mtime_ns
    second.write_bytes(second.read_bytes()[:-1] + b"\0\1"[second.read_bytes()[-1] == 0 :][:1])  # one byte, same length
    third.write_bytes(b"short")
    told: list[int] = []
    conversion.write(planned, target, advance=told.append)

    assert ((target / first.name).stat().st_ino, (target / first.name).stat().st_mtime_ns) == inode
    assert sum(told) == planned.size_bytes
    assert told[0] == planned.shards[0].size_bytes  # at once
    assert files(target) == files(converted(source, shard_bytes=150_000))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["done", "tiny-7b-chat", "tiny-7b-chat-converted"]


@pytest.mark.parametrize("change", ["the source", "the precision"])
def test_what_was_begun_of_another_conversion_is_begun_anew(change: str, tmp_path: Path) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    target = tmp_path / "done"
    planned = conversion.plan(source, name=source.name, shard_bytes=150_000)
    stop_after(planned, target, pieces=8)
    weights = official(source)
    dtype = torch.float32
    if change == "the source":
        weights["model.embed_tokens.weight"] += 1
        torch.save(weights, source / "pytorch_model.bin")  # of the same length
    else:
        dtype = torch.float16
    conversion.write(conversion.plan(source, name=source.name, shard_bytes=150_000, dtype=dtype), target)

    name = "model.embed_tokens.weight"
    assert torch.equal(held(target)[name], weights[name].to(dtype))
    assert {one.dtype for one in held(target).values()} == {dtype}


def test_a_folder_that_is_not_finished_is_not_listed(tmp_path: Path) -> None:
    for name in ("done", "other.part"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").write_text("{}")

    assert [one.name for one in models_here(tmp_path)] == ["done"]


def test_numbers_of_every_width_lie_at_multiples_of_it(tmp_path: Path) -> None:
    made = {
        "byte": torch.tensor([1, 2, 3], dtype=torch.uint8),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "scalar": torch.tensor(3.5),
        "none": torch.empty(0, 4),
        "wide": torch.tensor([1, 2]),
    }
    piece = Piece(entries={name: one.to("meta") for name, one in made.items()}, make=lambda: made)
    Shard(name="x", pieces=(piece,)).write(tmp_path / "x.safetensors", advance=lambda _: None)
    read = load_file(tmp_path / "x.safetensors")

    assert read.keys() == made.keys()
    assert all(torch.equal(one, read[name]) and one.dtype == read[name].dtype for name, one in made.items())


CHILD = """
import sys
from pathlib import Path
from app.worker.baichuan import conversion
source, target = map(Path, sys.argv[1:])
def advance(_):
    print("piece", flush=True)
    sys.stdin.readline()
planned = conversion.plan(source, name=source.name, shard_bytes=1_000_000)
advance(0)
conversion.write(planned, target, advance=advance)
"""


@contextmanager
def child(source: Path, target: Path) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str]]]:
    """A process that converts, and waits for a line after each piece."""
    command = [sys.executable, "-c", CHILD, str(source), str(target)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, process.stdin, process.stdout
    finally:
        process.kill()
        process.wait(timeout=20)
        process.stdin.close()
        process.stdout.close()


@pytest.mark.slow
def test_killed_again_and_again_it_still_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    source = made_up(tmp_path / "made-up", has_alibi=False, layers=6)
    target = tmp_path / "done"
    chance = random.Random(4)
    for _ in range(5):
        with child(source, target) as (process, told, said):
            for _ in range(chance.randint(1, 25)):
                assert said.readline() == "piece\n"
                told.write("\n")
                told.flush()
            process.kill()  # while it is at the next piece, wherever that is
        assert not target.exists()
        planned = conversion.plan(source, name=source.name, shard_bytes=1_000_000)
    conversion.write(planned, target)

    assert files(target) == files(converted(source, shard_bytes=1_000_000))


@pytest.mark.slow
def test_of_two_at_once_the_second_is_told(tmp_path: Path) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    target = tmp_path / "done"
    with child(source, target) as (process, told, said):
        for _ in range(2):
            assert said.readline() == "piece\n"
            told.write("\n")
            told.flush()
        assert said.readline() == "piece\n"
        planned = conversion.plan(source, name=source.name)
        with pytest.raises(LoadFailed, match="another process is converting to"):
            conversion.write(planned, target)
        told.write("\n" * 100)
        told.flush()
        assert process.wait(timeout=60) == 0
    assert (target / "config.json").is_file()


# Memory

MEASURED = """
import sys
from pathlib import Path
from app.worker.baichuan import conversion
if sys.argv[3:]:
    import bitsandbytes
def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = memory("VmRSS")
conversion.convert(sys.argv[1], Path(sys.argv[2]))
print(memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["7B", "13B", "7B, safetensors", "13B, 4 bits"])
def test_peak_memory_stays_below_the_largest_shard(kind: str, tmp_path: Path) -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of a process cannot be reset here: /proc/self/clear_refs")
    is_packed = "4 bits" in kind
    source = made_up(tmp_path / "made-up", has_alibi="13B" in kind, vocab_size=4000, hidden=1024, inner=2816, layers=8)
    if is_packed:
        pytest.importorskip("bitsandbytes")
        pack(source)
    sharded(source, parts=1 if is_packed else 8, as_safetensors="safetensors" in kind)
    sizes = [file.stat().st_size for file in source.iterdir() if file.suffix in {".bin", ".safetensors"}]
    command = [sys.executable, "-c", MEASURED, str(source), str(tmp_path / "done"), *(["packed"] if is_packed else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout.splitlines()[-1])
    print(  # noqa: T201 - a figure to keep
        f"{kind}: {sum(sizes) / 1e6:.0f} MB, largest shard {max(sizes) / 1e6:.0f} MB, "
        f"memory grew by {grown / 1e6:.0f} MB at most: {grown / max(sizes):.2f}"
    )

    assert grown <= 1.3 * max(sizes)


# The command


def test_the_command_says_how_far_it_is_and_the_model_is_listed(tmp_path: Path) -> None:
    source = folder_of("tiny-7b-chat", tmp_path)
    target = tmp_path / "data" / "models" / "tiny"
    environment = os.environ | {"HAINA_DATA_DIR": str(tmp_path / "data")}

    def haina(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app", "models", *map(str, arguments)]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False
        )

    done = haina("convert", source, target, "--dtype", "bfloat16")
    assert (done.returncode, done.stdout) == (0, f"converted to {target}\n")
    assert done.stderr.splitlines()[-1] == "Converting: 100 % of 0 MB"
    assert haina("list").stdout.startswith("tiny\t")
    again = haina("convert", source, target)
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
    (source / "pytorch_model.bin").unlink()
    broken = haina("convert", source, tmp_path / "other")
    assert (broken.returncode, len(broken.stderr.splitlines())) == (3, 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_lists_what_was_made_of_what(name: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = converted(folder_of(name, tmp_path))
    record = json.loads((folder / "haina-conversion.json").read_text())

    assert record["source"].keys() == {"pytorch_model.bin"}
    assert record["shards"].keys() == {"model.safetensors"}
    assert record["shards"]["model.safetensors"]["size"] == (folder / "model.safetensors").stat().st_size
