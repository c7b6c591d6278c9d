"""What this machine has to run a model with. No torch unless there is a GPU."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.worker.checkpoints.memory import Need

_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")
_GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What there is to run a model in."""

    place: str
    """`RAM`, or the GPU's name."""
    is_gpu: bool
    total_bytes: int
    free_bytes: int

    def slots(self, need: Need) -> int:
        """Return how many full contexts fit beside the weights; 0: not even one."""
        if need.least_bytes > self.total_bytes:
            return 0
        return (self.total_bytes - need.weights_bytes) // need.slot_bytes if need.slot_bytes else 1


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; elsewhere float32 is faster."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(flag in flags for flag in _FAST_BFLOAT16)


def memory_here() -> Memory:
    """Return where the worker would put a model: the first GPU, else RAM within this container's limit."""
    if any(Path(file).exists() for file in _GPU_FILES):
        import torch  # noqa: PLC0415 - a second that a machine without a GPU need not wait

        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info(0)
            return Memory(place=torch.cuda.get_device_name(0), is_gpu=True, total_bytes=total, free_bytes=free)
    ram = psutil.virtual_memory()
    total = min([ram.total, *_limits()])
    return Memory(place="RAM", is_gpu=False, total_bytes=total, free_bytes=min(ram.available, total))


def _limits() -> Iterator[int]:
    for name in _LIMITS:
        try:
            yield int((_CGROUP / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # there is none
            continue
