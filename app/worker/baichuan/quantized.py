"""The official `-4bits` files: NF4 weights as bitsandbytes packed them in 2023.

A layer is two entries. `….weight.data` is uint8 [n/2, 1], two weights a byte, the high half first; and
`….weight.quant_state` is a list: [absmax uint8, shape, dtype, 64, [offset, [absmax2, code2, 256, …]], 'nf4', code].
A weight is code[its half byte] · absmax of its 64; such an absmax is code2[its byte] · absmax2 of its 256, plus offset.
bitsandbytes of today reads the same numbers under names of their own; nothing is computed anew on the way there. A
folder that `haina models convert` has written holds that form, with `W_pack` in one where the layout keeps it so.

Source: quantizer.py of baichuan-inc/Baichuan2-13B-Chat; issue 367 of baichuan-inc/Baichuan2 lists a real layer.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from app.worker.baichuan.weights import split_names
from app.worker.failures import LoadFailed

_STATE = ".weight.quant_state"
_STATE_TODAY = ".quant_state.bitsandbytes__nf4"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWeight:
    """One layer's weight, [out, in]."""

    data: torch.Tensor
    """uint8 [out·in/2, 1]."""
    shape: tuple[int, int]
    dtype: torch.dtype
    """What it was before, and is rounded to when it is unpacked: float16."""
    blocksize: int
    code: torch.Tensor
    """float32 [16]."""
    absmax: torch.Tensor
    """[out·in/blocksize]: uint8 where `nested` says what it stands for, else float32."""
    nested: "Nested | None"

    @classmethod
    def from_official(cls, data: torch.Tensor, state: Any) -> Self:
        """Read what a checkpoint holds. Raises LoadFailed where it is of another form."""
        try:
            absmax, shape, dtype, blocksize, (offset, (absmax2, code2, blocksize2, *_)), kind, code = state
            out_features, in_features = shape
        except (TypeError, ValueError) as error:
            raise LoadFailed("the 4-bit weights are of no form that is known") from error
        if kind != "nf4" or out_features * in_features != 2 * data.numel():
            raise LoadFailed("the 4-bit weights are of no form that is known")
        nested = Nested(offset=offset, absmax=absmax2, code=code2, blocksize=blocksize2)
        return cls(
            data=data,
            shape=(out_features, in_features),
            dtype=dtype,
            blocksize=blocksize,
            code=code,
            absmax=absmax,
            nested=nested,
        )

    @classmethod
    def from_serialised(cls, entries: Mapping[str, torch.Tensor], name: str) -> Self:
        """Read what `serialised` has written. Raises LoadFailed where it is of another form."""
        try:
            state = json.loads(bytes(entries[name + _STATE_TODAY].tolist()))
            out_features, in_features = state["shape"]
            nested = Nested(
                offset=torch.tensor(state["nested_offset"], dtype=torch.float32),
                absmax=entries[f"{name}.nested_absmax"],
                code=entries[f"{name}.nested_quant_map"],
                blocksize=state["nested_blocksize"],
            ) if "nested_blocksize" in state else None  # fmt: skip
            return cls(
                data=entries[name],
                shape=(out_features, in_features),
                dtype=getattr(torch, state["dtype"]),
                blocksize=state["blocksize"],
                code=entries[f"{name}.quant_map"],
                absmax=entries[f"{name}.absmax"],
                nested=nested,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LoadFailed("the 4-bit weights are of no form that is known") from error

    def dequantised(self) -> torch.Tensor:
        """Return the weight, [out, in] in its old dtype; bit for bit what bitsandbytes makes of it."""
        halves = torch.stack([self.data.flatten() >> 4, self.data.flatten() & 15], dim=1).int()
        blocks = self.code[halves].view(-1, self.blocksize) * self._flat_absmax()[:, None]
        return blocks.view(self.shape).to(self.dtype)

    def rows(self, parts: int) -> tuple["PackedWeight", ...]:
        """Return the weight cut into equal parts of its rows, [out/parts, in] each.

        The blocks of the second level keep their borders where those are borders of the parts too, as they are in the
        real models. Elsewhere that level is resolved; the weights stay the same.
        """
        if parts == 1:
            return (self,)
        whole = self
        if self.nested and len(self.absmax) // parts % self.nested.blocksize:
            whole = replace(self, absmax=self._flat_absmax(), nested=None)
        levels = [one.nested for one in [whole] * parts]
        if whole.nested:
            cut = whole.nested.absmax.chunk(parts)
            levels = [replace(whole.nested, absmax=absmax) for absmax in cut]
        return tuple(
            replace(whole, data=data, absmax=absmax, nested=nested, shape=(self.shape[0] // parts, self.shape[1]))
            for data, absmax, nested in zip(whole.data.chunk(parts), whole.absmax.chunk(parts), levels, strict=True)
        )

    def serialised(self, name: str) -> dict[str, torch.Tensor]:
        """Return the entries of a checkpoint as bitsandbytes of today writes them."""
        return {name: self.data} | {
            f"{name}.{key}": value.contiguous() for key, value in self._quant_state().as_dict(packed=True).items()
        }

    def run(self, device: str) -> None:
        """See whether bitsandbytes can unpack and multiply it on a device. Raises what it raises, RuntimeError."""
        from bitsandbytes import functional  # noqa: PLC0415 - an extra, and slow to import
        from bitsandbytes.nn.modules import Linear4bit, Params4bit  # noqa: PLC0415 - as above

        # 0.50.2 on a CPU: where a row is no whole number of blocks, all rows but the first come out wrong.
        state = self._quant_state()
        state.to(device)
        theirs = functional.dequantize_4bit(self.data.to(device), state)
        if not torch.allclose(theirs.cpu().float(), self.dequantised().float(), rtol=1e-2):
            raise RuntimeError("it makes other weights of them")
        layer: Any = Linear4bit(  # type: ignore[no-untyped-call]
            self.shape[1], self.shape[0], bias=False, device="meta"
        )
        layer.weight = Params4bit.from_prequantized(
            self.data.clone(), self._quant_state().as_dict(packed=True), device=torch.device(device), module=layer
        )
        layer.train(mode=False)
        with torch.inference_mode():
            layer(torch.zeros(1, self.shape[1], dtype=torch.bfloat16, device=device))

    def _flat_absmax(self) -> torch.Tensor:
        """Return the largest value of each block, float32 [out·in/blocksize]."""
        if self.nested is None:
            return self.absmax
        blocks = torch.arange(len(self.absmax)) // self.nested.blocksize
        return self.nested.code[self.absmax.int()] * self.nested.absmax[blocks] + self.nested.offset

    def _quant_state(self) -> Any:
        from bitsandbytes.functional import QuantState  # noqa: PLC0415 - as above

        level: dict[str, Any] = {}
        if self.nested:
            second = QuantState(  # type: ignore[no-untyped-call]
                absmax=self.nested.absmax,
                code=self.nested.code,
                blocksize=self.nested.blocksize,
                dtype=torch.float32,
            )
            level = {"offset": self.nested.offset, "state2": second}
        return QuantState(  # type: ignore[no-untyped-call]
            absmax=self.absmax,
            shape=torch.Size(self.shape),
            dtype=self.dtype,
            blocksize=self.blocksize,
            quant_type="nf4",
            code=self.code,
            **level,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """How the largest values of the blocks are packed themselves."""

    offset: torch.Tensor
    """float32 []."""
    absmax: torch.Tensor
    """float32 [blocks/blocksize]."""
    code: torch.Tensor
    """float32 [256]."""
    blocksize: int


def read(official: Mapping[str, Any]) -> dict[str, PackedWeight]:
    """Return the packed weights of a checkpoint under Llama's names, `W_pack` in three. Raises LoadFailed."""
    found: dict[str, PackedWeight] = {}
    for name in official:
        if name.endswith(_STATE):
            layer = name.removesuffix(_STATE)
            if f"{layer}.weight.data" not in official:
                raise LoadFailed(f"the weights lack {layer}.weight.data")
            packed = PackedWeight.from_official(official[f"{layer}.weight.data"], official[name])
        elif name.endswith(f".weight{_STATE_TODAY}"):
            layer = name.removesuffix(f".weight{_STATE_TODAY}")
            packed = PackedWeight.from_serialised(official, f"{layer}.weight")
        else:
            continue
        names = split_names(layer)
        found |= dict(zip(names, packed.rows(len(names)), strict=True))
    return found


def layers(names: Iterable[str]) -> list[str]:
    """Return the names of the layers that are packed in the official form."""
    return [name.removesuffix(_STATE) for name in names if name.endswith(_STATE)]


def without_packed(official: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights that are not packed."""
    return {
        name: one for name, one in official.items() if ".weight." not in name and name + _STATE_TODAY not in official
    }


def hindrance(weights: Iterable[PackedWeight], *, device: str) -> str:
    """Tell why bitsandbytes cannot run layers of these shapes on the device; empty where it can."""
    try:
        for one in {one.shape: one for one in weights}.values():
            one.run(device)
    except ImportError:
        return "bitsandbytes is not installed"
    except (AssertionError, RuntimeError) as error:
        return f"bitsandbytes cannot run these layers on this device: {error}"
    return ""
