"""LoRA adapters: merged by us, live through peft, and merged by hand into the official `W_pack` are the same model."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.worker import adapter as adapters
from app.worker.adapter import Adapter
from app.worker.baichuan import conversion
from app.worker.failures import LoadFailed
from app.worker.loading import LoadedModel
from tests.fakes.adapters import weights_of, written
from tests.fakes.checkpoints import folder_of, loaded, made_up, pack

OFFICIAL = ("self_attn.W_pack",)
"""What the official fine-tune changes."""
ALL_LINEAR = (*OFFICIAL, "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
"""What LLaMA-Factory changes with `lora_target: all`."""
MODELS = ("tiny-7b-chat", "tiny-13b-chat")
CLOSE = 1e-5
IDS = torch.arange(200, 240)[None]


def by_hand(base: Path, adapter: Path, target: Path, *, scale: Callable[[str], float]) -> Path:
    """Write the base with W + scale·B·A in place of each W that the adapter changes, in the official layout."""
    shutil.copytree(base, target)
    weights = weights_of(base)
    changes = load_file(adapter / "adapter_model.safetensors")
    for name in list(weights):
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in changes:
            change = changes[f"{stem}.lora_B.weight"] @ changes[f"{stem}.lora_A.weight"]
            weights[name] = weights[name].float() + scale(name) * change
        elif f"base_model.model.{name}" in changes:
            weights[name] = changes[f"base_model.model.{name}"]
    torch.save(weights, target / "pytorch_model.bin")
    return target


def logits(found: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = found.model(IDS, use_cache=False).logits[0]
    return result


def assert_all_the_same(base: Path, adapter: Path, hand: Path) -> None:
    wanted = logits(loaded(hand))
    assert (wanted - logits(loaded(base))).abs().max() > 0.01  # it does change something
    for mode in ("merged", "live", "auto"):
        found = loaded(base, adapter=str(adapter), adapter_mode=mode)
        assert found.profile.adapter == adapter.name
        worst = (logits(found) - wanted).abs().max().item()
        print(f"{mode}: largest difference {worst:.1e}")  # noqa: T201 - a figure to keep
        assert worst <= CLOSE


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("targets", "rank"), [(OFFICIAL, 1), (ALL_LINEAR, 4)], ids=["official", "all"])
def test_merged_by_hand_by_us_and_live_are_one_model(
    name: str, targets: tuple[str, ...], rank: int, tmp_path: Path
) -> None:
    base = folder_of(name, tmp_path)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=targets, rank=rank)
    hand = by_hand(base, adapter, tmp_path / "hand", scale=lambda _: 32 / rank)
    assert_all_the_same(base, adapter, hand)
    live = loaded(base, adapter=str(adapter), adapter_mode="live").model
    assert hasattr(live.model.layers[0].self_attn.k_proj, "lora_A")
    merged = loaded(base, adapter=str(adapter), adapter_mode="merged").model
    assert type(merged.model.layers[0].self_attn.k_proj) is torch.nn.Linear


def test_scale_follows_rslora_and_the_patterns(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    options: dict[str, Any] = {"use_rslora": True, "alpha_pattern": {"layers.1.self_attn.W_pack": 5, "o_proj": 7}}
    targets = (*OFFICIAL, "self_attn.o_proj")
    adapter = written(tmp_path / "adapter", weights_of(base), targets=targets, rank=4, **options)

    def scale(name: str) -> float:
        return (7 if "o_proj" in name else 5 if "layers.1." in name else 32) / math.sqrt(4)

    assert_all_the_same(base, adapter, by_hand(base, adapter, tmp_path / "hand", scale=scale))


def test_layers_may_have_ranks_of_their_own(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=OFFICIAL, rank=4)
    weights = load_file(adapter / "adapter_model.safetensors")
    stem = "base_model.model.model.layers.2.self_attn.W_pack"
    weights[f"{stem}.lora_A.weight"] = weights[f"{stem}.lora_A.weight"][:2].clone()
    weights[f"{stem}.lora_B.weight"] = weights[f"{stem}.lora_B.weight"][:, :2].clone()
    save_file(weights, adapter / "adapter_model.safetensors")
    with pytest.raises(LoadFailed, match=r"has rank 2 at .*layers\.2.*says 4"):
        loaded(base, adapter=str(adapter))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"rank_pattern": {"2.self_attn.W_pack": 2}}))
    hand = by_hand(base, adapter, tmp_path / "hand", scale=lambda name: 32 / (2 if "layers.2." in name else 4))
    assert_all_the_same(base, adapter, hand)


@pytest.mark.parametrize("name", MODELS)
def test_weights_that_were_trained_as_a_whole_take_the_others_place(name: str, tmp_path: Path) -> None:
    base = folder_of(name, tmp_path)
    weights = weights_of(base)
    whole = {one: torch.randn_like(weights[one]) for one in ("model.embed_tokens.weight", "lm_head.weight")}
    adapter = written(tmp_path / "adapter", weights, targets=OFFICIAL, whole=whole, modules_to_save=["lm_head"])
    assert_all_the_same(base, adapter, by_hand(base, adapter, tmp_path / "hand", scale=lambda _: 32))


def converted(base: Path, folder: Path, **choice: Any) -> Path:
    """Write what is loaded as transformers does."""
    found = loaded(base, **choice)
    found.model.save_pretrained(folder)
    found.model.generation_config.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(found.vocabulary.json)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_on_a_converted_base_it_is_split(name: str, tmp_path: Path) -> None:
    base = folder_of(name, tmp_path)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=ALL_LINEAR, rank=2)
    hand = by_hand(base, adapter, tmp_path / "hand", scale=lambda _: 16)
    folder = converted(base, tmp_path / "converted")
    assert_all_the_same(folder, adapter, hand)


def test_one_that_was_trained_on_a_converted_base_fits_both(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    folder = converted(base, tmp_path / "converted")
    split = dict(loaded(base).model.named_parameters())
    targets = ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")
    adapter = written(tmp_path / "adapter", split, targets=targets, rank=2)
    wanted = logits(loaded(base, adapter=str(adapter), adapter_mode="merged"))
    assert (wanted - logits(loaded(base))).abs().max() > 0.01
    for where in (base, folder):
        for mode in ("live", "merged"):
            assert (logits(loaded(where, adapter=str(adapter), adapter_mode=mode)) - wanted).abs().max() <= CLOSE


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
@pytest.mark.parametrize("is_converted", [False, True], ids=["official", "converted"])
def test_it_is_merged_before_the_model_is_quantised_or_live_after(
    quantize: str,
    is_converted: bool,  # noqa: FBT001 - pytest's
    tmp_path: Path,
) -> None:
    pytest.importorskip("bitsandbytes")
    base = made_up(tmp_path / "made-up", has_alibi=False)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=OFFICIAL, rank=2, strength=0.05)
    hand = by_hand(base, adapter, tmp_path / "hand", scale=lambda _: 16)
    wanted, plain = logits(loaded(hand, quantize=quantize)), logits(loaded(base, quantize=quantize))
    where = converted(base, tmp_path / "converted") if is_converted else base
    merged = loaded(where, adapter=str(adapter), adapter_mode="merged", quantize=quantize)
    assert merged.profile.quantization == quantize
    assert (logits(merged) - wanted).abs().max() <= 1e-3
    live = loaded(where, adapter=str(adapter), adapter_mode="live", quantize=quantize)
    assert "Linear" in type(live.model.model.layers[0].self_attn.q_proj.base_layer).__name__
    # Other weights were quantised, so it is only much nearer than the model without the adapter.
    assert (logits(live) - wanted).abs().mean() < 0.5 * (logits(live) - plain).abs().mean()


@pytest.mark.parametrize("has_alibi", [False, True])
def test_packed_weights_take_it_live_alone(has_alibi: bool, tmp_path: Path) -> None:  # noqa: FBT001 - pytest's
    pytest.importorskip("bitsandbytes")
    base = made_up(tmp_path / "made-up", has_alibi=has_alibi)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=ALL_LINEAR, rank=2)
    pack(base)
    with pytest.raises(LoadFailed, match=r"packed in 4 bits.*--adapter-mode live"):
        loaded(base, adapter=str(adapter), adapter_mode="merged")
    found = loaded(base, adapter=str(adapter))
    layer = found.model.model.layers[1].mlp.down_proj
    assert type(layer.base_layer).__name__ == "Linear4bit"
    one = adapters.read(str(adapter)).layers["model.layers.1.mlp.down_proj"]
    with torch.inference_mode():
        change = (layer(torch.eye(512)) - layer.base_layer(torch.eye(512))).T
    assert torch.allclose(change, one.change(), atol=CLOSE)


def test_packed_weights_that_had_to_be_unpacked_take_it_live(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat-4bits", tmp_path)
    adapter = written(tmp_path / "adapter", weights_of(folder_of("tiny-7b-chat", tmp_path)), targets=OFFICIAL)
    assert (logits(loaded(base, adapter=str(adapter))) - logits(loaded(base))).abs().max() > 0.01


def test_a_pickled_adapter_is_read_as_weights_alone(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=OFFICIAL)
    wanted = logits(loaded(base, adapter=str(adapter)))
    file = adapter / "adapter_model.safetensors"
    torch.save(load_file(file), adapter / "adapter_model.bin")
    file.unlink()
    assert torch.equal(logits(loaded(base, adapter=str(adapter))), wanted)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x": Evil()}, adapter / "adapter_model.bin")
    with pytest.raises(LoadFailed, match=r"adapter_model\.bin of the adapter adapter cannot be read as weights alone"):
        loaded(base, adapter=str(adapter))
    assert not (tmp_path / "ran").exists()


def test_half_precision_is_rounded_once(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=OFFICIAL)
    hand = by_hand(base, adapter, tmp_path / "hand", scale=lambda _: 32)
    merged = loaded(base, adapter=str(adapter), dtype="bfloat16").model.state_dict()
    for name, weight in loaded(hand).model.state_dict().items():
        assert torch.equal(merged[name], weight.bfloat16()), name


def test_a_conversion_may_go_through_the_weights_one_by_one(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=OFFICIAL)
    found = adapters.read(str(adapter))
    wanted = weights_of(by_hand(base, adapter, tmp_path / "hand", scale=lambda _: 32))
    for name, weight in weights_of(base).items():  # W_pack as it is
        assert torch.allclose(found.merged(name, weight, dtype=torch.float32), wanted[name], atol=1e-6)
    name = "model.layers.1.self_attn.v_proj.weight"  # and in three
    value = weights_of(base)["model.layers.1.self_attn.W_pack.weight"][128:]
    merged = found.split().merged(name, value, dtype=torch.float32)
    assert torch.allclose(merged, wanted["model.layers.1.self_attn.W_pack.weight"][128:], atol=1e-6)


# What cannot be used

LAYER = "base_model.model.model.layers.0.self_attn.W_pack"


def changed(key: str = "", *shape: int, without: tuple[str, ...] = ()) -> Callable[[Path], None]:
    """Put a tensor of ones in, or leave some out."""

    def change(adapter: Path) -> None:
        weights = load_file(adapter / "adapter_model.safetensors")
        weights |= {key: torch.ones(shape)} if key else {}
        kept = {name: one for name, one in weights.items() if not name.endswith(without)}
        save_file(kept if without else weights, adapter / "adapter_model.safetensors")

    return change


def configured(**values: Any) -> Callable[[Path], None]:
    def change(adapter: Path) -> None:
        file = adapter / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def cut_off(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda one: (one / "adapter_config.json").unlink(), "no adapter_config.json in"),
        (lambda one: (one / "adapter_config.json").write_text("[]"), "holds no JSON object"),
        (lambda one: (one / "adapter_config.json").write_text("[" * 100_000), "is damaged"),
        (lambda one: (one / "adapter_model.safetensors").unlink(), "no adapter_model.safetensors and no"),
        (cut_off, "adapter_model.safetensors of the adapter adapter is cut off"),
        (configured(peft_type="IA3"), "of the kind IA3; only LORA"),
        (configured(peft_type=None), "of the kind None; only LORA"),
        (configured(use_dora=True), "asks for use_dora"),
        (configured(fan_in_fan_out=True), "asks for fan_in_fan_out"),
        (configured(something_of_tomorrow=3), "asks for something_of_tomorrow"),
        (configured(bias="all"), "trained with biases"),
        (configured(init_lora_weights="pissa_niter_16"), "begins with pissa_niter_16"),
        (configured(r=2), "has rank 1 at .*, its adapter_config.json says 2"),
        (configured(r=0), "no sound r and lora_alpha"),
        (configured(lora_alpha=math.inf), "no sound r and lora_alpha"),
        (configured(alpha_pattern={"[": 3}), "a pattern that is none"),
        (configured(lora_alpha="much"), "no sound r and lora_alpha"),
        (changed(without=("weight",)), "holds no weights"),
        (changed(without=("0.self_attn.W_pack.lora_B.weight",)), "only a half of model.layers.0"),
        (changed(f"{LAYER}.lora_A.weight", 3, 64), "do not fit each other"),
        (changed(f"{LAYER}.lora_A.weight", 64), "do not fit each other"),
        (changed(f"{LAYER}.lora_A.weight", 1, 65), r"is \[64, 65\], in the model it is \[64, 64\]"),
        (changed(f"{LAYER}.lora_B.weight", 100, 1), "W_pack has 100 rows"),
        (
            changed(without=("0.self_attn.W_pack.lora_A.weight", "0.self_attn.W_pack.lora_B.weight")),
            "it lacks .* and 2 more",
        ),
        (changed(f"{LAYER}.lora_magnitude_vector", 3), "lora_magnitude_vector, which is not supported"),
        (changed("base_model.model.model.embed_tokens.lora_embedding_A", 3), "lora_embedding_A, which is not"),
        (changed("base_model.model.lm_head.weight", 601, 64), r"lm_head.weight is \[601, 64\]"),
        (changed("base_model.model.vision.weight", 2), "changes vision.weight, which the model does not have"),
    ],
)
@pytest.mark.parametrize("mode", ["merged", "live"])
def test_what_does_not_fit_is_refused_in_one_line(
    spoil: Callable[[Path], Any], said: str, mode: str, tmp_path: Path
) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=OFFICIAL)
    spoil(adapter)
    with pytest.raises(LoadFailed, match=said) as caught:
        loaded(base, adapter=str(adapter), adapter_mode=mode)
    assert "\n" not in str(caught.value)


def test_an_adapter_of_a_larger_or_smaller_model_is_refused(tmp_path: Path) -> None:
    other = weights_of(folder_of("tiny-13b-chat", tmp_path))
    adapter = written(tmp_path / "adapter", other, targets=OFFICIAL)
    with pytest.raises(LoadFailed, match=r"does not fit the model: for it model\.layers\.0.*160"):
        loaded(folder_of("tiny-7b-chat", tmp_path), adapter=str(adapter))


def test_some_layers_are_enough_where_it_says_so(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    first = {name: one for name, one in weights_of(base).items() if "layers.0." in name}
    adapter = written(tmp_path / "adapter", first, targets=OFFICIAL, layers_to_transform=[0])
    assert_all_the_same(base, adapter, by_hand(base, adapter, tmp_path / "hand", scale=lambda _: 32))


def test_a_last_layer_is_not_taken_across_layouts(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    folder = converted(base, tmp_path / "converted")
    whole = {"lm_head.weight": torch.ones(600, 64)}
    official = written(tmp_path / "official", weights_of(base), targets=OFFICIAL, whole=whole)
    with pytest.raises(LoadFailed, match="lm_head was trained on the official layout"):
        loaded(folder, adapter=str(official))
    split = dict(loaded(base).model.named_parameters())
    other = written(tmp_path / "other", split, targets=("self_attn.q_proj",), whole=whole)
    with pytest.raises(LoadFailed, match="lm_head was trained on a converted model"):
        loaded(base, adapter=str(other))
    loaded(folder, adapter=str(other))


def test_a_place_without_an_adapter_is_one_line(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    with pytest.raises(LoadFailed, match="no folder"):
        loaded(base, adapter=f"{tmp_path}/nowhere")


def test_an_adapter_is_a_value() -> None:
    one = Adapter(name="x", layers={}, whole={}, is_everywhere=True)
    assert one.split() == one
    assert not one.is_for_w_pack


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("targets", "rank"), [(OFFICIAL, 1), (ALL_LINEAR, 4)], ids=["official", "all"])
def test_converted_with_an_adapter_it_is_the_merged_model(
    name: str, targets: tuple[str, ...], rank: int, tmp_path: Path
) -> None:
    base = folder_of(name, tmp_path)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=targets, rank=rank)
    conversion.convert(str(base), tmp_path / "converted", adapter=str(adapter))

    wanted = logits(loaded(base, adapter=str(adapter), adapter_mode="merged"))
    assert (logits(loaded(tmp_path / "converted")) - wanted).abs().max() <= CLOSE
    assert "The LoRA adapter adapter was merged" in (tmp_path / "converted" / "NOTICE").read_text()


def test_a_conversion_that_was_stopped_does_not_go_on_with_another_adapter(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    one, other = (
        written(tmp_path / name, weights_of(base), targets=targets, rank=1)
        for name, targets in (("one", OFFICIAL), ("other", ALL_LINEAR))
    )

    sizes: list[int] = []

    def stop_later(size: int) -> None:
        sizes.append(size)
        if len(sizes) == 10:
            raise KeyboardInterrupt

    first = conversion.plan(base, name="first", adapter=adapters.read(str(one)), shard_bytes=200_000)
    with pytest.raises(KeyboardInterrupt):
        conversion.write(first, tmp_path / "done", advance=stop_later)
    assert list((tmp_path / "done.part").glob("*.safetensors"))
    second = conversion.plan(base, name="second", adapter=adapters.read(str(other)), shard_bytes=200_000)
    conversion.write(second, tmp_path / "done")
    wanted = logits(loaded(base, adapter=str(other), adapter_mode="merged"))
    assert (logits(loaded(tmp_path / "done")) - wanted).abs().max() <= CLOSE


def test_packed_weights_are_not_converted_with_an_adapter(tmp_path: Path) -> None:
    base = made_up(tmp_path / "base", has_alibi=False)
    adapter = written(tmp_path / "adapter", weights_of(base), targets=OFFICIAL, rank=1)
    pack(base)
    with pytest.raises(LoadFailed, match="4-bit weights cannot be merged"):
        conversion.convert(str(base), tmp_path / "done", adapter=str(adapter))
    assert not (tmp_path / "done.part").exists()
