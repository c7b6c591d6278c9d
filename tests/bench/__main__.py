"""The benchmarks: `python -m tests.bench [NAME …] [--quick] [--record]`. Loopback only, each under two minutes."""

import argparse
import shlex
import sys
from collections.abc import Mapping
from time import monotonic

from tests.bench import classifier, gate, history, overhead, readers, start
from tests.bench.measurement import Benchmark, Effort, machine, table
from tests.fakes.served import ROOT

_RECORD = ROOT / "docs" / "measurements.md"
_BENCHMARKS: Mapping[str, Benchmark] = {
    "start": start.measure,
    "readers": readers.measure,
    "overhead": overhead.measure,
    "history": history.measure,
    "gate": gate.measure,
    "classifier": classifier.measure,
}


def main() -> int:
    """Run the named ones, or all, and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="fewer readers and repetitions")
    parser.add_argument("--record", action="store_true", help=f"append the tables to {_RECORD.relative_to(ROOT)}")
    options = parser.parse_args()
    if unknown := set(options.names) - _BENCHMARKS.keys():
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    command = shlex.join(["python", "-m", "tests.bench", *(each for each in sys.argv[1:] if each != "--record")])
    said = [f"## {machine()}\n\n`{command}`"]
    print(said[0], flush=True)
    for name in options.names or _BENCHMARKS:
        began = monotonic()
        rows = _BENCHMARKS[name](Effort(is_quick=options.quick))
        said.append(table(f"{name} ({monotonic() - began:.0f} s)", rows))
        print(f"\n{said[-1]}", flush=True)
    if options.record:
        with _RECORD.open("a", encoding="utf-8") as file:
            file.write("\n" + "\n\n".join(said) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
