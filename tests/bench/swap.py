"""A program that puts a long policy in force while its event loop goes on, and prints what that took, as JSON.

A process of its own, so that its memory is the policy's. Other programs' share of the processor is left out: what
counts is the time of the thread that builds, in all and, as the loop's pause, from one turn of the loop to the next.
"""

import asyncio
import gc
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import clock_gettime, pthread_getcpuclockid

from app.domain.verdicts import Stage
from app.safety.policy_file import PolicyFile
from app.safety.shelf import FilterShelf
from tests.bench.program import resident_mib

_TURN_S = 0.0005


async def swap(path: Path, *, instead: Path) -> dict[str, float]:
    """Put the policy of the file `instead` in the place of that in `path`; return seconds and MiB."""
    builders: list[int] = []
    executor = ThreadPoolExecutor(max_workers=1, initializer=lambda: builders.append(threading.get_ident()))
    asyncio.get_running_loop().set_default_executor(executor)
    shelf = FilterShelf(PolicyFile(path))
    await shelf.has_changed()  # starts the thread
    clock = pthread_getcpuclockid(builders[0])
    gc.collect()
    memory, began, pause = resident_mib(os.getpid()), clock_gettime(clock), 0.0
    _copy(instead, path)
    restocking = asyncio.create_task(shelf.restock(layers={}))
    last = began
    while not restocking.done():
        await asyncio.sleep(_TURN_S)
        now = clock_gettime(clock)
        pause, last = max(pause, now - last), now
    await restocking
    checked = await shelf.site.check("haina-blocked-test-phrase", stage=Stage.INPUT)
    if checked.text is not None or shelf.site.policy.partition("@")[0] != "made-up":
        raise RuntimeError("the new policy is not in force")
    gc.collect()
    return {"build_s": last - began, "pause_s": pause, "memory_mib": resident_mib(os.getpid()) - memory}


def _copy(source: Path, target: Path) -> None:
    target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(swap(Path(sys.argv[1]), instead=Path(sys.argv[2])))))
