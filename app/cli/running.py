"""The commands that keep running, and what looks before they do: `serve`, `worker`, `doctor`."""

import asyncio
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.shared import (
    FOUND,
    Dtype,
    given,
    settings_of,
)
from app.domain.errors import (
    InvalidInput,
)
from app.settings import InvalidSettings

if TYPE_CHECKING:
    pass

app = typer.Typer()
Quantize = Literal["none", "8bit", "4bit"]
AdapterMode = Literal["auto", "merged", "live"]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
    worker: Annotated[bool, typer.Option(help="Start a local worker unless an engine URL is set.")] = True,
) -> None:
    """Start the web, and a local worker unless an engine URL is set."""
    settings = settings_of(**given(data_dir=data))
    if changes := given(host=host, port=port):  # checked as the environment's are, which have to be sound as well
        settings = settings_of(**given(data_dir=data), server=changes)
    if not worker and not settings.engine.url:
        raise InvalidSettings("--no-worker needs an engine: set HAINA_ENGINE__URL")
    if not worker and settings.model.classifier:
        raise InvalidSettings("--no-worker leaves no process for the classifier: unset HAINA_MODEL__CLASSIFIER")
    gc.disable()  # what is imported stays; searching it for garbage would take a fifth of the start
    from app import server  # noqa: PLC0415 - Gradio takes seconds to import; other commands do without

    sys.exit(server.run(settings))


@app.command()
def worker(
    model: Annotated[str, typer.Option(help="A folder, a hub id, `default`; `none`: a classifier alone.")] = "default",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8001,
    dtype: Annotated[Dtype, typer.Option(help="Precision of the weights.")] = "auto",
    quantize: Annotated[Quantize, typer.Option(help="Quantise while loading.")] = "none",
    slots: Annotated[int, typer.Option(help="Requests at once; 0: chosen by the worker.", min=0)] = 0,
    revision: Annotated[str, typer.Option(help="Revision of a hub id.")] = "",
    adapter: Annotated[str, typer.Option(help="A LoRA adapter: a folder, or a hub id.")] = "",
    adapter_mode: Annotated[AdapterMode, typer.Option(help="Into the weights, or beside them.")] = "auto",
    classifier: Annotated[str, typer.Option(help="A folder with a sequence-classification model.")] = "",
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
    exit_with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start the engine process alone."""
    from app.worker.process import run_worker  # noqa: PLC0415 - as above
    from app.worker.protocol import NO_MODEL  # noqa: PLC0415

    if model == NO_MODEL and not classifier:
        raise InvalidInput("--model none leaves nothing to serve: name a folder with --classifier")
    settings = settings_of(**given(data_dir=data))
    sys.exit(
        run_worker(
            model=model,
            host=host,
            port=port,
            dtype=dtype,
            quantize=quantize,
            slots=slots,
            revision=revision or None,
            adapter=adapter,
            adapter_mode=adapter_mode,
            classifier=classifier,
            data_dir=settings.data_dir,
            exit_with_parent=exit_with_parent,
        )
    )


@app.command()
def doctor() -> None:
    """Say what would fail, and the fix, before it fails."""
    from app.doctor import examine  # noqa: PLC0415 - as above

    findings = asyncio.run(examine(settings_of()))
    for finding in findings:
        typer.echo(f"{finding.mark} {finding.subject}: {finding.words}")
        if finding.fix:
            typer.echo(f"    fix: {finding.fix}")
    if any(finding.is_fault for finding in findings):
        raise typer.Exit(FOUND)
