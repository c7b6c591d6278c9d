"""Where models run: the first GPU, else the CPU."""

import os

import torch


def device_name() -> str:
    """Return torch's name of the device."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def spare_a_core() -> None:
    """Leave a core to the web process, which lives here too; without a GPU torch would take them all."""
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
