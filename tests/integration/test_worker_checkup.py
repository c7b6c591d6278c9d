"""`haina models check`: what is whole is called whole, what is not is named, and nothing in a folder makes it fail."""

import hashlib
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from app.domain.errors import InvalidInput
from app.worker.checkpoints import architecture, checkup, memory, shelf
from app.worker.checkpoints.checkup import Checkup, examine, lines
from app.worker.checkpoints.machine import Memory
from tests.fakes.checkpoints import DATA, NAMES, TOKENIZER, folder_of, loaded, made_up, pack

SHARED = Path(__file__).parents[2].parent / "shared" / "baichuan2" / "tokenizer.model"
PARTS = tuple(f"model-{at:05}-of-00002.safetensors" for at in (1, 2))
CONFIG = {
    "model_type": "baichuan", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "vocab_size": 125696, "max_position_embeddings": 4096, "model_max_length": 4096,
}  # fmt: skip
CONFIG_13B = {name: value for name, value in CONFIG.items() if name != "max_position_embeddings"} | {
    "hidden_size": 5120, "intermediate_size": 13696, "num_hidden_layers": 40, "num_attention_heads": 40,
}  # fmt: skip


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A folder in the official layout, in two parts of safetensors with an index."""
    folder = folder_of("tiny-7b-chat", tmp_path)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (folder / "pytorch_model.bin").unlink()
    names = sorted(weights)
    places = {name: PARTS[at % 2] for at, name in enumerate(names)}
    for part in PARTS:
        save_file({name: weights[name].contiguous() for name in names if places[name] == part}, folder / part)
    total = sum(weight.nbytes for weight in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def faults(folder: Path, *, is_deep: bool = False) -> list[str]:
    found = examine(folder, is_deep=is_deep)
    assert list(lines(found))
    return [f"{one.subject}: {one.words}" for one in found.faults]


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


# What is whole


@pytest.mark.parametrize("name", NAMES)
def test_the_official_layouts_are_whole_and_named(name: str, tmp_path: Path) -> None:
    found = examine(folder_of(name, tmp_path), is_deep=True)
    assert found.faults == ()
    position = "ALiBi, as 13B" if "13b" in name else "RoPE, as 7B"
    assert found.title.startswith(f"Baichuan2, of no published size ({position})")
    assert ("4-bit" in found.title) == ("4bits" in name)
    assert found.title.endswith("official layout")
    assert "Community License" in found.license
    assert found.source_url == "https://github.com/baichuan-inc/Baichuan2"
    assert ["8-bit" in [need.precision for need in found.needs]] == ["4bits" not in name]


def test_what_it_counts_is_what_the_model_holds(tmp_path: Path) -> None:
    folder = folder_of("tiny-13b-chat", tmp_path)
    model = loaded(folder).model
    found = examine(folder)
    assert found.parameters == sum(weight.numel() for weight in model.parameters())
    float32 = found.need(dtype="float32", quantize="none")
    assert float32 is not None
    assert float32.weights_bytes == model.get_memory_footprint(return_buffers=False)


def test_parts_with_an_index_are_whole(whole: Path) -> None:
    assert faults(whole) == []


@pytest.mark.parametrize("has_alibi", [False, True])
def test_what_is_saved_after_loading_is_whole_as_well(has_alibi: bool, tmp_path: Path) -> None:  # noqa: FBT001 - pytest's
    found = loaded(made_up(tmp_path / "made-up", has_alibi=has_alibi))
    folder = tmp_path / "saved"
    found.model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(found.vocabulary.json)
    assert faults(folder) == []
    title = examine(folder).title
    assert ("ALiBi" in title, "converted" in title) == (has_alibi, True)


def test_4_bit_weights_as_bitsandbytes_saves_them_today_are_whole(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = made_up(tmp_path / "made-up", has_alibi=False)
    found = loaded(folder, quantize="4bit")
    shutil.rmtree(folder)
    found.model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(found.vocabulary.json)
    assert faults(folder) == []
    assert "4-bit weights, converted" in examine(folder).title


def test_a_model_of_another_kind_is_read_without_a_list_of_its_tensors(whole: Path) -> None:
    changed(whole / "config.json", model_type="mamba", architectures=["MambaForCausalLM"])
    shutil.copy(whole / "config.json", whole / "tokenizer.json")
    found = examine(whole)
    assert found.faults == ()
    assert "MambaForCausalLM" in found.title
    assert found.parameters == 227_776


# How large it is


@pytest.mark.parametrize(
    ("config", "parameters", "official_gib"),
    [(CONFIG, 7_505_973_248, (14.0, 8.0, 5.1)), (CONFIG_13B, 13_896_668_160, (25.9, 14.2, 8.6))],
    ids=["7B", "13B"],
)
def test_memory_is_that_of_the_official_table(
    config: dict[str, Any], parameters: int, official_gib: tuple[float, ...]
) -> None:
    layers = architecture.read(config)
    assert layers is not None
    assert layers.parameters == parameters
    size = memory.Size(
        linear_parameters=layers.linear_parameters,
        other_parameters=layers.other_parameters,
        slot_numbers=layers.token_numbers * layers.context_length,
    )
    _, *needs = memory.needs(size)
    for need, gib in zip(needs, official_gib, strict=True):
        assert need.weights_bytes / 2**30 == pytest.approx(gib, rel=0.02)
    assert needs[0].weights_bytes == 2 * parameters  # 13B: 27,793,336,320, the total_size of the official index
    assert needs[0].slot_bytes / 2**30 == pytest.approx({32: 2.0, 40: 3.1}[layers.layers], abs=0.05)


def test_slots_are_what_fits_beside_the_weights() -> None:
    need = memory.Need(precision="bfloat16", weights_bytes=10, slot_bytes=4)
    rooms = {
        total: Memory(place="RAM", is_gpu=False, total_bytes=total, free_bytes=0).slots(need) for total in (13, 14, 30)
    }
    assert rooms == {13: 0, 14: 1, 30: 5}


MEASURED = """
import re, sys
from app.cli import main
try:
    main()
finally:  # the most that was in memory, in kB; what `resource` says begins with the parent's
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux tells it")
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_28_gb_are_checked_without_being_read(suffix: str, tmp_path: Path) -> None:
    """The official 13B in three files whose numbers are holes."""
    folder = tmp_path / "Baichuan2-13B-Chat"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG_13B))
    shutil.copyfile(TOKENIZER, folder / "tokenizer.model")
    shutil.copyfile(DATA / "tiny-13b-chat" / "generation_config.json", folder / "generation_config.json")
    layers = architecture.read(CONFIG_13B)
    assert layers is not None
    shapes = list(layers.shapes())
    places: dict[str, str] = {}
    for at in range(3):
        part = dict(shapes[at::3])
        file = folder / (f"pytorch_model-0000{at + 1}-of-00003" + suffix if suffix == ".bin" else f"model-{at}{suffix}")
        places |= dict.fromkeys(part, file.name)
        write_hollow(file, part)
    index = {"metadata": {"total_size": 27_793_336_320}, "weight_map": places}
    (folder / f"{'pytorch_model' if suffix == '.bin' else 'model'}{suffix}.index.json").write_text(json.dumps(index))
    started_at = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "models", "check", str(folder)], capture_output=True, text=True, check=False
    )
    wall_s, peak_mb = time.monotonic() - started_at, int(done.stderr) / 1024
    print(f"{suffix}: {wall_s:.1f} s, at most {peak_mb:.0f} MB")  # noqa: T201 - a figure to keep
    assert done.returncode == 0
    assert done.stdout.startswith("Baichuan2-13B-Chat, official layout, 13,896,668,160 parameters\n")
    assert peak_mb < 1000
    assert wall_s < 60


def write_hollow(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write a file of bfloat16 weights whose numbers take no room on the disk."""
    if file.suffix == ".bin":
        with torch.serialization.skip_data():
            torch.save({name: torch.empty(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}, file)
        return
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(file, 8 + len(text) + end)


# What is missing or damaged


def test_a_missing_part_is_named_by_the_index_or_by_the_other_parts(whole: Path) -> None:
    (whole / PARTS[1]).unlink()
    assert faults(whole) == [f"{PARTS[1]}: is missing"]
    (whole / "model.safetensors.index.json").unlink()
    assert faults(whole) == [f"{PARTS[1]}: is missing"]


@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_cut_off_part_is_named(whole: Path, left: int) -> None:
    part = whole / PARTS[0]
    os.truncate(part, left if left >= 0 else part.stat().st_size - 1)
    (said,) = faults(whole)
    assert said.startswith(f"{PARTS[0]}: is ")
    assert "empty" in said or "cut off" in said


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"a": ("F32", [2], (0, 8)), "b": ("F32", [2], (4, 12))}, "overlap, or leave gaps"),
        ({"a": ("F32", [2], (0, 8)), "b": ("F32", [2], (12, 20))}, "overlap, or leave gaps"),
        ({"a": ("F32", [3], (0, 8))}, "entry a contradicts itself"),
        ({"a": ("F32", [-2], (0, -8))}, "entry a contradicts itself"),
        ({"a": ("F99", [2], (0, 8))}, "entry a cannot be read"),
        ({"a": ("F32", 2, (0, 8))}, "entry a cannot be read"),
        ({"a": ("F32", [2], (0, 8))}, "too long"),
    ],
    ids=str,
)
def test_a_header_that_cannot_be_true_is_told(whole: Path, header: dict[str, Any], said: str) -> None:
    names = ("dtype", "shape", "data_offsets")
    text = json.dumps({name: dict(zip(names, about, strict=True)) for name, about in header.items()}).encode()
    (whole / PARTS[0]).write_bytes(struct.pack("<Q", len(text)) + text + bytes(20))
    (one,) = faults(whole)
    assert said in one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[" * 100_000, "its header is no JSON"),
        (b'{"a"\xff', "its header is no JSON"),
        (b"[1]", "lists no tensors"),
        (b'{"a\\n": 1}', r"entry 'a\n' cannot be read"),
    ],
    ids=["deep", "bytes", "a list", "a number"],
)
def test_a_header_of_another_form_is_told(whole: Path, text: bytes, said: str) -> None:
    (whole / PARTS[0]).write_bytes(struct.pack("<Q", len(text)) + text)
    (one,) = faults(whole)
    assert said in one
    (whole / PARTS[0]).write_bytes(b"\xff" * 200)
    assert faults(whole) == [f"{PARTS[0]}: is no safetensors file"]


@pytest.mark.parametrize("left", [0, 5, 100_000, -1])
def test_a_cut_off_pickle_is_named(tmp_path: Path, left: int) -> None:
    file = folder_of("tiny-7b-chat", tmp_path) / "pytorch_model.bin"
    os.truncate(file, left if left >= 0 else file.stat().st_size - 1)
    (said,) = faults(file.parent)
    assert said.startswith("pytorch_model.bin: is ")


def test_a_hole_in_a_pickle_is_found(tmp_path: Path) -> None:
    file = folder_of("tiny-7b-chat", tmp_path) / "pytorch_model.bin"
    with zipfile.ZipFile(file) as archive:
        first, second = [one for one in archive.infolist() if "/data/" in one.filename][2:4]
    content = bytearray(file.read_bytes())
    content[first.header_offset : second.header_offset] = bytes(second.header_offset - first.header_offset)
    file.write_bytes(content)
    (said,) = faults(file.parent)
    assert "pytorch_model.bin: is cut off or damaged" in said


def test_a_single_wrong_byte_is_found_by_reading_all(tmp_path: Path) -> None:
    file = folder_of("tiny-7b-chat", tmp_path) / "pytorch_model.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert faults(file.parent) == []
    (said,) = faults(file.parent, is_deep=True)
    assert said.startswith("pytorch_model.bin: its part pytorch_model/data/")


def test_a_tensor_that_is_missing_or_of_another_shape_is_named(tmp_path: Path) -> None:
    folder = folder_of("tiny-7b-chat", tmp_path)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del weights["model.layers.1.mlp.up_proj.weight"]
    weights["lm_head.weight"] = weights["lm_head.weight"][:500].clone()
    torch.save(weights, folder / "pytorch_model.bin")
    assert faults(folder) == [
        "tensors: model.layers.1.mlp.up_proj.weight is missing",
        "tensors: lm_head.weight is [500, 64], but config.json asks for [600, 64]",
    ]


def test_packed_weights_without_their_key_or_of_another_shape_are_named(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "made-up", has_alibi=True)
    weights = pack(folder)
    del weights["model.layers.0.mlp.up_proj.weight.quant_state"]
    weights["model.layers.1.self_attn.W_pack.weight.data"] = torch.zeros(4, 1, dtype=torch.uint8)
    torch.save(weights, folder / "pytorch_model.bin")
    first, second = faults(folder)
    assert "layers.0.mlp.up_proj.weight is missing" in first
    assert "layers.1.self_attn.W_pack.weight is [4, 1]" in second


def test_an_index_that_disagrees_with_the_files_is_told(whole: Path) -> None:
    index = whole / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["lm_head.weight"] = next(p for p in PARTS if p != content["weight_map"]["lm_head.weight"])
    content["metadata"]["total_size"] += 1
    index.write_text(json.dumps(content))
    first, second = faults(whole)
    assert "lm_head.weight should be in" in first
    assert "911,105 bytes in all, the files hold 911,104" in second


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", ""])
def test_an_index_cannot_lead_out_of_the_folder(whole: Path, name: str) -> None:
    index = whole / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    assert any("no file's name" in one for one in faults(whole))


def test_an_index_that_names_thousands_of_files_is_a_few_lines(whole: Path) -> None:
    index = whole / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {str(at): f"model-{at}.safetensors" for at in range(5000)}}))
    assert 5 < len(faults(whole)) < 15


def test_a_pickle_that_would_run_something_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    folder = folder_of("tiny-7b-chat", tmp_path)
    torch.save({"lm_head.weight": Evil()}, folder / "pytorch_model.bin")
    assert any("cannot be read as weights alone" in one for one in faults(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is no number"),
        ({"num_attention_heads": "4"}, "num_attention_heads is no number"),
        ({"num_attention_heads": 5}, "among 5 heads"),
        ({"vocab_size": True}, "vocab_size is no number"),
        ({"vocab_size": -1}, "vocab_size is no number"),
        ({"vocab_size": 64000}, "is [600, 64], but config.json asks for [64000, 64] and 1 more"),
        ({"vocab_size": 500}, "has 600 pieces, but config.json says 500 tokens"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_true_is_told(whole: Path, values: dict[str, Any], said: str) -> None:
    changed(whole / "config.json", **values)
    assert any(said in one for one in faults(whole))


def test_a_link_of_the_cache_that_leads_nowhere_is_an_incomplete_download(whole: Path) -> None:
    (whole / PARTS[0]).unlink()
    (whole / PARTS[0]).symlink_to("../../blobs/" + "0" * 64)
    (said,) = faults(whole)
    assert "leads to no file: the download is not complete" in said


# Checksums


def test_checksums_are_compared_from_a_list_and_from_the_hubs_names(whole: Path) -> None:
    first, second = (whole / part for part in PARTS)
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    (whole / "SHA256SUMS").write_text(f"{digest}  {first.name}\n")
    blob = whole.parent / hashlib.sha256(second.read_bytes()).hexdigest()
    second.rename(blob)
    second.symlink_to(blob)
    config = whole / "config.json"
    content = config.read_bytes()
    git = whole.parent / hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
    config.rename(git)
    config.symlink_to(git)
    said: list[str] = []
    found = examine(whole, is_deep=True, say=said.append)
    assert found.faults == ()
    assert said == [f"reading {name}" for name in sorted(["config.json", *PARTS])]

    for file in (first, blob, git):
        data = bytearray(file.read_bytes())
        data[-2] ^= 4
        file.write_bytes(data)
    assert len(faults(whole, is_deep=True)) >= 3


def test_what_a_conversion_has_noted_is_compared(whole: Path) -> None:
    changed(whole / "config.json", haina={"converted": 1})
    noted = {PARTS[0]: {"size": 1, "sha256": "0" * 64}, "model-9.safetensors": {"sha256": "0" * 64}}
    record = whole / "haina-conversion.json"
    record.write_text(json.dumps({"shards": noted}))
    assert faults(whole, is_deep=True) == [
        "model-9.safetensors: is missing, though haina-conversion.json lists it",
        f"{PARTS[0]}: is not the file that haina-conversion.json has the checksum of",
    ]
    assert examine(whole).title.endswith(", converted")
    for other in (
        "[]",
        "[" * 100_000,
        '{"shards": [1]}',
        '{"shards": {"a": 1}}',
        '{"shards": {"../a": {"sha256": "x"}}}',
    ):
        record.write_text(other)
        assert faults(whole) == []


def test_what_the_hubs_client_notes_in_a_folder_is_compared(whole: Path) -> None:
    notes = whole / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / f"{PARTS[0]}.metadata").write_text(f"{'a' * 40}\n{'b' * 64}\n1700000000.0\n")
    assert faults(whole) == []
    assert faults(whole, is_deep=True) == [f"{PARTS[0]}: is not the file that the hub's client has the checksum of"]


def test_a_file_that_a_list_names_and_that_is_not_there_is_missing(whole: Path) -> None:
    (whole / "SHA256SUMS").write_text(f"{'0' * 64} *LICENSE.pdf\nno line of it\n")
    assert faults(whole) == ["LICENSE.pdf: is missing, though SHA256SUMS lists it"]


# Where it is


def test_a_place_with_nothing_is_refused(tmp_path: Path, whole: Path) -> None:
    for place in (f"{tmp_path}/nowhere", str(whole / "config.json"), "someone/never-fetched", "no id!", "default"):
        with pytest.raises(InvalidInput):
            shelf.find(place, revision=None, data_dir=tmp_path)


def test_a_hub_id_is_found_in_the_cache_by_its_revision(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    repository = cache / "models--baichuan-inc--Baichuan2-7B-Intermediate-Checkpoints"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "train_00220B").write_text("c" * 40)
    shutil.copytree(whole, repository / "snapshots" / ("c" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    name = "baichuan-inc/Baichuan2-7B-Intermediate-Checkpoints"
    folder = shelf.find(name, revision="train_00220B", data_dir=tmp_path)
    assert faults(folder) == []
    with pytest.raises(InvalidInput, match="train_00440B"):
        shelf.find(name, revision="train_00440B", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("baichuan-inc/Baichuan2-7B-Chat", "Baichuan2-7B-Chat, official layout"),
        (
            "baichuan-inc/Baichuan2-7B-Intermediate-Checkpoints train_00220B",
            "Baichuan2-7B, intermediate checkpoint train_00220B, official layout",
        ),
    ],
)
def test_a_published_size_has_its_name(name: str, title: str) -> None:
    from app.worker.baichuan.variants import BAICHUAN2  # noqa: PLC0415

    assert checkup._title(BAICHUAN2, 7_505_973_248, name=name, is_chat=True, config=CONFIG) == title


# Whatever is there


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    parent = tmp_path_factory.mktemp("originals")
    folder = folder_of("tiny-7b-chat", parent)
    other = parent / "safetensors"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("*.bin"))
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    save_file({name: one.clone() for name, one in weights.items()}, other / "model.safetensors")
    return [folder, other, folder_of("tiny-7b-chat-4bits", parent)]


NAMES_OF_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "model.safetensors",
    "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json", "SHA256SUMS",
    "model-00001-of-00002.safetensors", "x.sha256", "haina-conversion.json",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda one: (
        st.lists(one, max_size=3)
        | st.dictionaries(st.sampled_from([*CONFIG, "weight_map", "metadata", "total_size", "x"]), one, max_size=6)
    ),
    max_leaves=12,
)
CONTENT = st.binary(max_size=300) | JSON.map(lambda one: json.dumps(one).encode()) | st.just(b"[" * 100_000)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files=st.dictionaries(st.sampled_from(NAMES_OF_FILES), CONTENT, max_size=6), is_deep=st.booleans())
def test_a_folder_of_anything_is_a_report(
    files: dict[str, bytes],
    is_deep: bool,  # noqa: FBT001 - hypothesis'
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("anything")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    found = examine(folder, is_deep=is_deep)
    assert found.faults
    assert all("\n" not in line for line in lines(found))
    shutil.rmtree(folder)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_folder_is_a_report(
    data: st.DataObject, originals: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "folder"
    shutil.copytree(data.draw(st.sampled_from(originals)), folder)
    file = data.draw(st.sampled_from(sorted(path for path in folder.iterdir() if path.suffix != ".npz")))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # Where the structure is: at the beginning and at the end.
        near = data.draw(st.integers(0, min(4000, len(content))))
        at = data.draw(st.sampled_from([near, len(content) - near]))
        content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    del content[data.draw(st.sampled_from([len(content), len(content) // 2])) :]
    file.write_bytes(content)
    assert list(lines(examine(folder, is_deep=data.draw(st.booleans()))))
    shutil.rmtree(folder.parent)


@pytest.fixture
def strange(whole: Path) -> Path:
    for name in ("config.json", "generation_config.json", "tokenizer.model", PARTS[0], PARTS[1]):
        (whole / name).unlink()
    os.mkfifo(whole / "config.json")
    (whole / "generation_config.json").symlink_to(whole / "generation_config.json")
    (whole / "tokenizer.model").mkdir()
    (whole / PARTS[0]).symlink_to("/dev/zero")
    (whole / PARTS[1]).mkdir()
    (whole / "model\n\x1b[31m.safetensors").write_bytes(b"x")
    return whole


def test_what_is_no_file_is_not_opened(strange: Path) -> None:
    said = faults(strange, is_deep=True)
    assert len(said) >= 5
    assert all(one.isprintable() for one in said)


def test_the_report_reads_like_this(whole: Path) -> None:
    found: Checkup = examine(whole)
    text = list(lines(found))
    assert text[0] == "Baichuan2, of no published size (RoPE, as 7B), official layout, 227,776 parameters"
    assert "✓ weights: 2 files, 0.9 MB, 24 tensors, float32" in text
    assert any(line.startswith("  bfloat16") and "a slot of 512 tokens: room for" in line for line in text)
    assert text[-1] == "source: https://github.com/baichuan-inc/Baichuan2"


@pytest.mark.skipif(not SHARED.is_file(), reason="the real tokenizer.model is not here")
def test_the_real_tokenizer_fits_the_real_config(whole: Path) -> None:
    shutil.copyfile(SHARED, whole / "tokenizer.model")
    changed(whole / "config.json", vocab_size=125_696)
    assert not any("pieces" in one for one in faults(whole))
