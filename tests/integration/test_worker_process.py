"""A real worker process with a tiny random model: starting, serving, being left, being killed, ending."""

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from app import bootstrap
from app.engines.model_card import read_cards
from app.settings import ModelSettings, Settings
from app.worker.supervisor import Supervisor, SupervisorState
from tests.fakes.adapters import weights_of, written
from tests.fakes.checkpoints import folder_of, greedy, loaded

ENTRY = """
import argparse, sys
from pathlib import Path
from app.worker.process import run_worker
parser = argparse.ArgumentParser()
parser.add_argument("--model"); parser.add_argument("--host"); parser.add_argument("--port", type=int)
parser.add_argument("--slots", type=int, default=2); parser.add_argument("--data-dir", type=Path, default=Path("."))
parser.add_argument("--exit-with-parent", action="store_true")
sys.exit(run_worker(**vars(parser.parse_args())))
"""
COMMAND = (sys.executable, "-c", ENTRY)  # what `haina worker` does
PARENT = """
import asyncio, signal, structlog, sys
from app.worker.supervisor import Supervisor

WORKER = \"\"\"
import sys
from app.worker.process import _exit_at_end_of_input
sys.stderr.write("worker up\\\\n")
sys.stderr.flush()
_exit_at_end_of_input()
\"\"\"

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, told.set)
    supervisor = Supervisor([], command=(sys.executable, "-c", WORKER))
    await supervisor.start()
    print(supervisor.status.pid, flush=True)
    await told.wait()
    await asyncio.sleep(0.5)  # what closing a running answer takes
    print(supervisor.status.state, supervisor.status.pid, flush=True)
    await supervisor.stop()
    print(supervisor.status.state, flush=True)

asyncio.run(main())
"""
START_WITHIN_S = 90


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"], trainer)
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=200_000, eos_token_id=2, bos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class Worker:
    """A worker process and a client for it."""

    def __init__(self, process: "subprocess.Popen[bytes]", *, port: int) -> None:
        self.process = process
        self.port = port

    def get(self, path: str, *, token: str = "", **body: Any) -> tuple[int, Any]:
        return get(self.port, path, token=token, **body)

    def wait_ready(self) -> None:
        wait_until(lambda: self.get("/health")[0] == 200, unless=lambda: self.process.poll() is not None)


def get(port: int, path: str, *, token: str = "", **body: Any) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own worker
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
    except (urllib.error.URLError, ConnectionError):
        return 0, None


def wait_until(is_so: Callable[[], bool], *, unless: Callable[[], bool] = lambda: False) -> None:
    """Ask another process until it says so: there is no event to wait for."""
    deadline = time.monotonic() + START_WITHIN_S
    while not is_so():
        assert not unless(), "the process ended"
        assert time.monotonic() < deadline, "too slow"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spawn(*arguments: str, port: int, env: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    command = [*COMMAND, "--host", "127.0.0.1", "--port", str(port), *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | (env or {})
    )


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """Return the exit code and the last line on standard error."""
    _, errors = process.communicate(timeout=START_WITHIN_S)
    lines = errors.decode().strip().splitlines()
    return process.returncode, lines[-1] if lines else ""


@pytest.fixture(scope="module")
def worker(tiny_folder: Path) -> Iterator[Worker]:
    port = free_port()
    process = spawn("--model", str(tiny_folder), "--slots", "1", port=port)
    worker = Worker(process, port=port)
    worker.wait_ready()
    yield worker
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0


def open_raw(port: int, **body: Any) -> socket.socket:
    """Send a completion request over a bare socket, and read nothing."""
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: worker\r\ncontent-length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


def test_it_listens_at_once_and_says_what_it_loads(tiny_folder: Path) -> None:
    port = free_port()
    process = spawn("--model", str(tiny_folder), port=port)
    try:
        worker = Worker(process, port=port)
        wait_until(lambda: worker.get("/health")[0] != 0)
        status, body = worker.get("/health")
        assert (status, body["state"]) == (503, "loading")
        assert worker.get("/v1/completions", prompt="a")[1]["error"]["code"] == "engine_starting"
        process.send_signal(signal.SIGTERM)  # also in the middle of a load
        assert ended(process)[0] == 0
    finally:
        process.kill()
        process.communicate()


def test_nothing_that_it_needs_to_listen_imports_torch() -> None:
    script = "import sys, app.worker.process; print({'torch', 'transformers'} & sys.modules.keys())"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert said.stdout == "set()\n"


def test_a_completion_and_its_counts(worker: Worker) -> None:
    status, body = worker.get("/v1/completions", prompt="the fox", max_tokens=7, temperature=0, ignore_eos=True)

    assert status == 200
    assert body["usage"]["completion_tokens"] == 7
    assert worker.get("/health")[1] == {
        "state": "ready", "slots": 1, "running": 0, "waiting": 0, "model": "tiny-llama", "adapter": "",
    }  # fmt: skip


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_goes_away_frees_its_slot_while_it_runs(worker: Worker, *, is_stream: bool) -> None:
    connection = open_raw(worker.port, prompt="the", max_tokens=100_000, ignore_eos=True, stream=is_stream)
    wait_until(lambda: worker.get("/health")[1]["running"] == 1)
    connection.close()

    wait_until(lambda: worker.get("/health")[1]["running"] == 0)
    assert worker.get("/v1/completions", prompt="a", max_tokens=1)[0] == 200


def test_a_client_that_goes_away_leaves_the_queue_and_the_prefill(worker: Worker) -> None:
    runs = open_raw(worker.port, prompt=[9] * 150_000, max_tokens=1)
    wait_until(lambda: worker.get("/health")[1]["running"] == 1)
    waits = open_raw(worker.port, prompt="b", max_tokens=5, stream=True)
    wait_until(lambda: worker.get("/health")[1]["waiting"] == 1)
    waits.close()
    wait_until(lambda: worker.get("/health")[1]["waiting"] == 0)
    assert worker.get("/health")[1]["running"] == 1  # 150,000 tokens take longer than that
    runs.close()

    wait_until(lambda: worker.get("/health")[1]["running"] == 0)


def test_stopping_ends_open_streams_with_an_error_and_exits_with_0(tiny_folder: Path) -> None:
    port = free_port()
    process = spawn("--model", str(tiny_folder), port=port)
    worker = Worker(process, port=port)
    worker.wait_ready()
    connection = open_raw(port, prompt="the", max_tokens=100_000, ignore_eos=True, stream=True)
    wait_until(lambda: worker.get("/health")[1]["running"] == 1)
    process.send_signal(signal.SIGTERM)
    received = b""
    with connection:
        while part := connection.recv(65536):
            received += part

    assert ended(process)[0] == 0
    assert b'"code": "engine_unavailable"' in received
    assert b"data: [DONE]" in received


def test_the_token_is_asked_for(tiny_folder: Path) -> None:
    port = free_port()
    process = spawn("--model", str(tiny_folder), port=port, env={"HAINA_WORKER_TOKEN": "secret"})
    worker = Worker(process, port=port)
    worker.wait_ready()

    assert worker.get("/v1/models")[0] == 401
    assert worker.get("/v1/models", token="secret")[0] == 200
    process.kill()
    process.communicate()


def test_a_worker_whose_parent_is_gone_ends(tiny_folder: Path) -> None:
    port = free_port()
    process = spawn("--model", str(tiny_folder), "--exit-with-parent", port=port)
    Worker(process, port=port).wait_ready()
    assert process.stdin is not None
    process.stdin.close()  # the kernel does it when the parent is killed

    assert process.wait(timeout=10) == 0
    assert process.stderr is not None
    process.stderr.close()


def test_a_port_in_use_is_one_line_and_exit_code_3() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, line = ended(spawn("--model", "x", port=other.getsockname()[1]))

    assert code == 3
    assert line.startswith("haina worker: cannot listen on 127.0.0.1:")


def test_a_model_that_is_not_there_or_unknown_or_damaged_is_one_line_and_exit_code_3(
    tiny_folder: Path, tmp_path: Path
) -> None:
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    (unknown / "config.json").write_text('{"model_type": "nobody-knows", "auto_map": {"AutoConfig": "evil.Config"}}')
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in tiny_folder.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes()[: 900 if file.suffix == ".safetensors" else None])
    paths = [tmp_path / "nowhere", tmp_path, unknown, damaged]
    processes = [spawn("--model", str(path), port=free_port()) for path in paths]
    ends = [ended(process) for process in processes]

    assert [code for code, _ in ends] == [3, 3, 3, 3]
    assert all(line.startswith("haina worker: ") for _, line in ends)
    assert "there is no folder" in ends[0][1]
    assert "there is no config.json" in ends[1][1]


async def test_a_killed_worker_is_started_again_and_stop_ends_it(tiny_folder: Path) -> None:
    errors = io.BytesIO()
    supervisor = Supervisor(["--model", str(tiny_folder)], command=COMMAND, first_delay_s=0.05, errors=errors)
    port = int(supervisor.url.split(":")[2].split("/")[0])

    def is_ready() -> bool:
        return get(port, "/health")[0] == 200

    await supervisor.start()
    await asyncio.to_thread(wait_until, is_ready)
    first = supervisor.status.pid
    assert first is not None
    assert (await asyncio.to_thread(get, port, "/v1/models"))[0] == 401
    assert (await asyncio.to_thread(lambda: get(port, "/v1/models", token=supervisor.token)))[0] == 200
    os.kill(first, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: supervisor.status.restarts == 1)
    await asyncio.to_thread(wait_until, is_ready)
    status = supervisor.status
    assert (status.state, status.last_exit_code) == (SupervisorState.RUNNING, -signal.SIGKILL)
    assert status.pid not in {None, first}
    await supervisor.stop()

    stopped = supervisor.status
    assert (stopped.state, stopped.pid) == (SupervisorState.STOPPED, None)
    assert (await asyncio.to_thread(get, port, "/health"))[0] == 0


async def test_an_adapter_that_is_set_is_served_and_named(tmp_path: Path) -> None:
    base = folder_of("tiny-7b-chat", tmp_path)
    adapter = written(tmp_path / "poet", weights_of(base), targets=("self_attn.W_pack",))
    model = ModelSettings(path=str(base), adapter=str(adapter), adapter_mode="live", dtype="float32")
    supervisor = bootstrap._supervisor(Settings(model=model, data_dir=tmp_path))
    port = int(supervisor.url.split(":")[2].split("/")[0])

    def ask(path: str, **body: Any) -> Any:
        return get(port, path, token=supervisor.token, **body)[1]

    await supervisor.start()
    await asyncio.to_thread(wait_until, lambda: get(port, "/health")[0] == 200)
    health, cards = await asyncio.to_thread(ask, "/health"), await asyncio.to_thread(ask, "/v1/models")
    body = {"prompt": list(range(200, 220)), "max_tokens": 8, "temperature": 0, "repetition_penalty": 1.0}
    answer = await asyncio.to_thread(lambda: ask("/v1/completions", return_token_ids=True, ignore_eos=True, **body))
    await supervisor.stop()

    assert health["adapter"] == "poet"
    assert cards["data"][0]["haina"]["adapter"] == "poet"
    assert read_cards(json.dumps(cards).encode())[0].adapter == "poet"
    ids = torch.tensor([body["prompt"]])
    merged = loaded(base, adapter=str(adapter), adapter_mode="merged").model
    assert answer["choices"][0]["token_ids"] == greedy(merged, ids, tokens=8)[0].tolist()
    assert answer["choices"][0]["token_ids"] != greedy(loaded(base).model, ids, tokens=8)[0].tolist()


async def test_a_worker_that_cannot_start_is_tried_again_and_its_reason_kept() -> None:
    errors = io.BytesIO()
    script = "import sys; sys.stderr.write('haina worker: there is no model\\na log line\\n'); sys.exit(3)"
    supervisor = Supervisor(
        [], command=(sys.executable, "-c", script), first_delay_s=0.01, longest_delay_s=0.02, errors=errors
    )
    await supervisor.start()
    await asyncio.to_thread(wait_until, lambda: supervisor.status.restarts >= 3)
    await supervisor.stop()

    assert supervisor.status.last_exit_code == 3
    assert supervisor.status.last_error == "haina worker: there is no model"
    assert errors.getvalue().startswith(b"haina worker: there is no model\n")


async def test_a_worker_that_does_not_listen_to_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.worker.supervisor._STOP_WITHIN_S", 0.2)
    script = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "sys.stderr.write('up'); sys.stderr.flush(); time.sleep(60)"
    )
    errors = io.BytesIO()
    supervisor = Supervisor([], command=(sys.executable, "-c", script), errors=errors)
    await supervisor.start()
    pid = supervisor.status.pid
    await asyncio.to_thread(wait_until, lambda: bool(errors.getvalue()))
    await supervisor.stop()

    assert pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        pytest.fail("it still runs")


@pytest.fixture
def parent() -> Iterator["subprocess.Popen[str]"]:
    """A process that keeps a worker, in a group of its own as a shell makes one."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


def worker_of(parent: "subprocess.Popen[str]") -> int:
    """Return the process id of a parent's worker, once it runs."""
    assert parent.stdout is not None
    assert parent.stderr is not None
    pid = int(parent.stdout.readline())
    while "worker up" not in parent.stderr.readline():
        pass
    return pid


def test_a_ctrl_c_reaches_the_web_process_alone_which_then_ends_the_worker(parent: "subprocess.Popen[str]") -> None:
    pid = worker_of(parent)
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    said, _ = parent.communicate(timeout=START_WITHIN_S)

    assert said.splitlines() == [f"running {pid}", "stopped"]
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_a_worker_does_not_outlive_its_parent_however_that_ends(
    parent: "subprocess.Popen[str]", number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    pid = worker_of(parent)
    send(parent.pid, number)
    assert parent.wait(timeout=START_WITHIN_S) == -number

    wait_until(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2] != "Z"  # nobody may be there to bury it
    except FileNotFoundError:
        return False
