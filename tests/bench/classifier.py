"""A classifier of BERT-base-Chinese's size in a worker of its own: how long a text takes, alone and among others.

Its weights are random, made on the spot: they take as long as trained ones.
"""

import http.client
import json
import random
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep

from transformers import BertConfig, BertForSequenceClassification

from tests.bench.measurement import Effort, Row, median, percentile
from tests.bench.program import Program, is_answered
from tests.bench.worker import free_port

_VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(0x4E00, 0x4E00 + 21_123))]
_CLIENTS = 8
_LENGTHS = (500, 64)
"""Characters: a long question, and about what the filter asks of an answer at a time."""
_LONG = 5_000


def measure(effort: Effort) -> Sequence[Row]:
    """Return the rows."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        model = _written(Path(folder) / "bert-base-size")
        port = free_port()
        arguments = ("app", "worker", "--port", str(port), "--model", "none", "--classifier", str(model))
        began = monotonic()
        with Program(*arguments, environment={"HAINA_LOG__LEVEL": "error"}) as program:
            while not is_answered(port, "/health"):
                if program.has_ended:
                    raise RuntimeError("haina worker ended")
                sleep(0.05)
            rows.append(Row(what="worker ready", value=monotonic() - began, unit="s"))
            for length in _LENGTHS:
                rows += _of_length(port, length, requests=effort.of(full=12, quick=4))
            took_s = _ask(port, _text(_LONG))
            rows.append(Row(what=f"a text of {_LONG:,} characters, alone", value=1000 * took_s, unit="ms"))
    return rows


def _of_length(port: int, length: int, *, requests: int) -> Sequence[Row]:
    _ask(port, _text(length))
    alone = [_ask(port, _text(length)) for _ in range(requests)]
    began = monotonic()
    with ThreadPoolExecutor(_CLIENTS) as pool:
        among = list(pool.map(lambda text: _ask(port, text), [_text(length) for _ in range(requests * 2)]))
    took_s = monotonic() - began
    what, others = f"a text of {length} characters", f"{_CLIENTS} clients, {length} characters each"
    return [
        Row(what=f"{what}, alone, p50", value=1000 * median(alone), unit="ms"),
        Row(what=f"{what}, alone, p95", value=1000 * percentile(alone, 95), unit="ms"),
        Row(what=f"{others}, p50", value=1000 * median(among), unit="ms"),
        Row(what=f"{others}, p95", value=1000 * percentile(among, 95), unit="ms"),
        Row(what=f"{others}, texts a second", value=len(among) / took_s),
    ]


def _ask(port: int, text: str) -> float:
    """Return how long an answer takes, in seconds."""
    began = monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=110)
    connection.request("POST", "/classify", json.dumps({"input": text}))
    answer = connection.getresponse()
    probabilities = json.loads(answer.read())["data"][0]["probs"]
    connection.close()
    if len(probabilities) != 2:
        raise RuntimeError("no answer of two labels")
    return monotonic() - began


def _text(length: int) -> str:
    return "".join(random.choices(_VOCABULARY[5:3_000], k=length))


def _written(folder: Path) -> Path:
    config = BertConfig(vocab_size=len(_VOCABULARY))  # its other defaults are BERT base's, and two labels
    BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(_VOCABULARY) + "\n", encoding="utf-8")
    return folder
