"""`haina safety`: the content filter asked, measured, run dry."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.shared import (
    FOUND,
    about,
    given,
    lines_of,
    settings_of,
    show_progress,
    text_of,
)
from app.domain.errors import (
    InvalidInput,
)

if TYPE_CHECKING:
    pass

app = typer.Typer(help="The content filter.", no_args_is_help=True)


@app.command("check")
def safety_check(
    file: Annotated[Path | None, typer.Argument(help="One text a line; standard input if left out.")] = None,
    stage: Annotated[Literal["input", "output"], typer.Option(help="As a question, or as an answer.")] = "input",
    policy: Annotated[str | None, typer.Option(help="A policy file, or builtin:NAME, in place of the one set.")] = None,
) -> None:
    """Print one JSON verdict a line for each input line. Exit code 1 where something was refused."""
    from app.bootstrap import filter_of  # noqa: PLC0415
    from app.domain.verdicts import Stage  # noqa: PLC0415 - as above
    from app.safety.report import verdict_report  # noqa: PLC0415

    content_filter = filter_of(settings_of(**({"safety": {"policy": policy}} if policy else {})))

    async def work() -> bool:
        is_refused = False
        try:
            for line in lines_of(file):
                checked = await content_filter.check(line.rstrip("\n"), stage=Stage(stage))
                is_refused |= checked.text is None
                typer.echo(json.dumps(verdict_report(checked), ensure_ascii=False))
        finally:
            await content_filter.close()
        return is_refused

    if asyncio.run(work()):
        raise typer.Exit(FOUND)


@app.command("replay")
def safety_replay(
    draft: Annotated[Path, typer.Argument(help="A policy file; with --layer, the text of a layer.")],
    layer: Annotated[str, typer.Option(help="The layer that the draft is for; the live one stays as it is.")] = "",
    days: Annotated[int, typer.Option(help="Messages of so many last days.", min=1, max=365)] = 30,
    bank: Annotated[list[str] | None, typer.Option(help="A question bank in place of the messages kept.")] = None,
    as_format: Annotated[Literal["text", "json"], typer.Option("--format")] = "text",
) -> None:
    """Tell what a draft policy would decide differently about the messages kept, or about question banks."""
    from app.bootstrap import replayed  # noqa: PLC0415
    from app.services.replay_report import render  # noqa: PLC0415 - as above

    chosen = {"layer": (layer, text_of(draft))} if layer else {"policy": draft}
    replay = asyncio.run(replayed(settings_of(), **chosen, days=days, banks=bank or ()))
    typer.echo(render(replay, as_format=as_format), nl=False)


@app.command("eval")
def safety_eval(
    banks: Annotated[
        list[str] | None,
        typer.Argument(help="Files (.toml, .csv, .jsonl) or names of built-in banks; all of these if left out."),
    ] = None,
    as_format: Annotated[Literal["markdown", "html", "json"], typer.Option("--format")] = "markdown",
    out: Annotated[Path | None, typer.Option(help="A file for the report; standard output if left out.")] = None,
    policy: Annotated[str | None, typer.Option(help="A policy file, or builtin:NAME, in place of the one set.")] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask the engine that is set as well.")] = False,
    engine: Annotated[str | None, typer.Option(help="Ask the engine at this address as well.")] = None,
    sample: Annotated[int | None, typer.Option(help="Draw so many questions from each bank.", min=1)] = None,
    text: Annotated[str, typer.Option(help="The column of the question, for a set that is not known.")] = "",
    kind: Annotated[str, typer.Option(help="The column of its kind.")] = "",
    label: Annotated[str, typer.Option(help="The column that says whether to refuse.")] = "",
    refuse: Annotated[list[str] | None, typer.Option(help="A label of what should be refused.")] = None,
    expect: Annotated[Literal["answer", "refuse", "unknown"], typer.Option(help="Without labels: of all.")] = "unknown",
) -> None:
    """Measure the filter, and a model behind it, on banks of questions."""
    from app.bootstrap import assessed  # noqa: PLC0415
    from app.safety.assessment.bank import Expectation  # noqa: PLC0415
    from app.safety.assessment.importers import Columns  # noqa: PLC0415
    from app.safety.assessment.report import render  # noqa: PLC0415 - as above

    if (kind or label or refuse or expect != "unknown") and not text:
        raise InvalidInput("--kind, --label, --refuse and --expect speak of columns: name the question's with --text")
    if bool(label) != bool(refuse):
        raise InvalidInput("--label and --refuse need each other")
    columns = Columns(text=text, kind=kind, label=label, refuse=frozenset(refuse or ()), expected=Expectation(expect))
    if out and (out.is_dir() or not out.parent.is_dir()):  # better now than after an hour
        raise InvalidInput(f"{out}: no file can be written there")
    settings = settings_of(
        **given(safety={"policy": policy} if policy else None, engine={"url": engine} if engine else None)
    )
    assessment = asyncio.run(
        assessed(
            settings,
            names=banks or (),
            columns=columns if text else None,
            sample=sample,
            with_engine=ask or engine is not None,
            progress=show_progress,
        )
    )
    report = render(assessment, as_format=as_format)
    if out is None:
        typer.echo(report, nl=False)
        return
    with about(out):
        out.write_text(report, encoding="utf-8", errors="backslashreplace")
