"""The `haina` command. Each command builds settings, calls one function, and prints.

Exit codes: 0 done · 1 a check found something · 2 wrong usage or settings · 3 a dependency is not reachable.
"""

import asyncio
import errno
import gc
import io
import json
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app import logs
from app.domain.errors import (
    ChatError,
    EngineUnavailable,
    InvalidInput,
    NotFound,
    SchemaOutdated,
    StorageCorrupt,
    StorageFailure,
)
from app.domain.words import describe
from app.services.accounts import operator
from app.settings import InvalidSettings, Settings, load_settings
from app.worker.failures import LoadFailed

if TYPE_CHECKING:
    from app.bootstrap import Desks

FOUND, USAGE, UNREACHABLE = 1, 2, 3
_WRONG_PATH = {
    *(errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
}
"""What a path that was given can be at fault for; anything else is the disk's affair."""

app = typer.Typer(
    name="haina",
    help="Haina: a self-hosted web chat for Baichuan2-Chat with an admin console.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="Models on this machine.", no_args_is_help=True)
prompts_app = typer.Typer(help="Prompt templates without a browser.", no_args_is_help=True)
safety_app = typer.Typer(help="The content filter.", no_args_is_help=True)
layer_app = typer.Typer(help="Layers over the policy file, kept in the database.", no_args_is_help=True)
safety_app.add_typer(layer_app, name="layer")
lexicon_app = typer.Typer(help="Lists of phrases: a gate for them, importers, counts.", no_args_is_help=True)
admin_app = typer.Typer(help="Accounts and API keys without a browser.", no_args_is_help=True)
db_app = typer.Typer(help="The database.", no_args_is_help=True)
for name, group in (
    ("models", models_app),
    ("prompts", prompts_app),
    ("safety", safety_app),
    ("admin", admin_app),
    ("db", db_app),
):
    app.add_typer(group, name=name)
safety_app.add_typer(lexicon_app, name="lexicon")

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantize = Literal["none", "8bit", "4bit"]
AdapterMode = Literal["auto", "merged", "live"]


def main() -> None:
    """Run the command line; every expected failure is one clear line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character is no failure
    try:
        app()
    except InvalidSettings as error:
        _fail(str(error), USAGE)
    except (InvalidInput, NotFound) as error:
        _fail(error.detail or describe(error, "en"), USAGE)
    except (StorageFailure, EngineUnavailable) as error:
        _fail(_line(error), UNREACHABLE)
    except LoadFailed as error:
        _fail(str(error), UNREACHABLE)
    except ChatError as error:
        _fail(_line(error), FOUND)
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        _fail(f"{place}{error.strerror or error}", USAGE if error.errno in _WRONG_PATH else UNREACHABLE)


def _line(error: ChatError) -> str:
    words = describe(error, "en")
    return f"{words} ({error.detail})" if error.detail and error.detail != error.code else words


def _fail(message: str, code: int) -> None:
    typer.echo(f"haina: {message}", err=True)
    sys.exit(code)


def _settings(**overrides: object) -> Settings:
    settings = load_settings(None, **overrides)
    logs.configure(settings.log)
    return settings


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
    worker: Annotated[bool, typer.Option(help="Start a local worker unless an engine URL is set.")] = True,
) -> None:
    """Start the web, and a local worker unless an engine URL is set."""
    settings = _settings(**_given(data_dir=data))
    if changes := _given(host=host, port=port):  # checked as the environment's are, which have to be sound as well
        settings = _settings(**_given(data_dir=data), server=changes)
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
    settings = _settings(**_given(data_dir=data))
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

    findings = asyncio.run(examine(_settings()))
    for finding in findings:
        typer.echo(f"{finding.mark} {finding.subject}: {finding.words}")
        if finding.fix:
            typer.echo(f"    fix: {finding.fix}")
    if any(finding.is_fault for finding in findings):
        raise typer.Exit(FOUND)


@models_app.command("list")
def models_list() -> None:
    """List the models that are here."""
    from app.worker.checkpoints.shelf import models_here  # noqa: PLC0415 - as above

    for model in models_here(_settings().data_dir):
        typer.echo(f"{model.name}\t{model.size_bytes / 1e6:,.0f} MB\t{model.path}")


@models_app.command("convert")
def models_convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A folder in Baichuan's official layout, or a hub id.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write; it must not be there yet.")],
    dtype: Annotated[Dtype, typer.Option(help="Precision of the weights; auto keeps the source's.")] = "auto",
    revision: Annotated[
        list[str] | None,
        typer.Option(
            help="Revision of a hub id. Several, or `all` intermediate checkpoints: a folder in DST for each."
        ),
    ] = None,
    adapter: Annotated[str, typer.Option(help="LoRA adapter to be merged in: a folder or a hub id.")] = "",
) -> None:
    """Write an official checkpoint anew as a standard one; run it again to go on after a stop."""
    from app.worker.baichuan import conversion, series  # noqa: PLC0415 - as above

    revisions = revision or []
    if len(revisions) > 1 or series.ALL in revisions:
        series.convert(source, target, revisions=revisions, dtype=dtype, adapter=adapter, say=typer.echo)
    else:
        conversion.convert(source, target, dtype=dtype, revision=next(iter(revisions), None), adapter=adapter)
    typer.echo(f"converted to {target}")


@models_app.command("check")
def models_check(
    path: Annotated[str, typer.Argument(help="A folder, a hub id that is in the hub's cache, or `default`.")],
    deep: Annotated[bool, typer.Option(help="Compare checksums too: reads every byte.")] = False,
    revision: Annotated[str, typer.Option(help="Revision of a hub id.")] = "",
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
) -> None:
    """Say what a model is, whether its files are whole, and whether it fits this machine."""
    from app.worker.checkpoints import checkup, shelf  # noqa: PLC0415 - as above

    folder = shelf.find(path, revision=revision or None, data_dir=_settings(**_given(data_dir=data)).data_dir)
    found = checkup.examine(
        folder, name=f"{path} {revision}", is_deep=deep, say=lambda line: typer.echo(line, err=True)
    )
    for line in checkup.lines(found):
        typer.echo(line)
    if found.faults:
        raise typer.Exit(FOUND)


@prompts_app.command("list")
def prompts_list() -> None:
    """List the templates in the database with their live versions."""

    async def work(desks: "Desks") -> None:
        for one in await desks.prompts.shelf():
            title = one.template.title
            typer.echo(f"{one.template.name}\tv{one.live.number}\t{title.get('en') or next(iter(title.values()), '')}")

    _with_desks(work)


@prompts_app.command("show")
def prompts_show(name: str) -> None:
    """Print a template's live version as a file."""
    from prompts import library  # noqa: PLC0415 - as above

    async def work(desks: "Desks") -> None:
        typer.echo(library.write(await desks.prompts.export(operator(), name)))

    _with_desks(work)


@prompts_app.command("export")
def prompts_export(folder: Path) -> None:
    """Write every template's live version into a folder, a file each."""
    from prompts import library  # noqa: PLC0415 - as above

    async def work(desks: "Desks") -> None:
        with _about(folder):
            folder.mkdir(parents=True, exist_ok=True)
        shelf = await desks.prompts.shelf()
        for one in shelf:
            file = await desks.prompts.export(operator(), one.template.name)
            path = folder / f"{file.name}.toml"
            with _about(path):
                path.write_text(library.write(file), encoding="utf-8")
        typer.echo(f"{len(shelf)} templates written to {folder}")

    _with_desks(work)


@prompts_app.command("import")
def prompts_import(files: list[Path]) -> None:
    """Add templates from files, and take over what differs in those that are here."""
    from prompts import library  # noqa: PLC0415 - as above

    parsed = [library.read_file(path) for path in files]

    async def work(desks: "Desks") -> None:
        changed = await desks.prompts.import_files(operator(), parsed)
        typer.echo(f"{changed} of {len(parsed)} imported; the others are here already")

    _with_desks(work)


@prompts_app.command("check")
def prompts_check(files: list[Path]) -> None:
    """Check template files as an import would, the content filter included, without a database."""
    from app.bootstrap import filter_of  # noqa: PLC0415
    from app.services.prompt_library import require_clean  # noqa: PLC0415
    from prompts import library  # noqa: PLC0415 - as above

    content_filter = filter_of(_settings())

    async def work() -> int:
        faults = 0
        for path in files:
            try:
                await require_clean(content_filter, library.read_file(path))
            except InvalidInput as error:
                faults += 1
                typer.echo(f"✗ {error.detail}")
            except ChatError as error:
                faults += 1
                typer.echo(f"✗ {path}: {_line(error)}")
            else:
                typer.echo(f"✓ {path}")
        await content_filter.close()
        return faults

    if asyncio.run(work()):
        raise typer.Exit(FOUND)


@safety_app.command("check")
def safety_check(
    file: Annotated[Path | None, typer.Argument(help="One text a line; standard input if left out.")] = None,
    stage: Annotated[Literal["input", "output"], typer.Option(help="As a question, or as an answer.")] = "input",
    policy: Annotated[str | None, typer.Option(help="A policy file, or builtin:NAME, in place of the one set.")] = None,
) -> None:
    """Print one JSON verdict a line for each input line. Exit code 1 where something was refused."""
    from app.bootstrap import filter_of  # noqa: PLC0415
    from app.domain.verdicts import Stage  # noqa: PLC0415 - as above
    from app.safety.report import verdict_report  # noqa: PLC0415

    content_filter = filter_of(_settings(**({"safety": {"policy": policy}} if policy else {})))

    async def work() -> bool:
        is_refused = False
        try:
            for line in _lines_of(file):
                checked = await content_filter.check(line.rstrip("\n"), stage=Stage(stage))
                is_refused |= checked.text is None
                typer.echo(json.dumps(verdict_report(checked), ensure_ascii=False))
        finally:
            await content_filter.close()
        return is_refused

    if asyncio.run(work()):
        raise typer.Exit(FOUND)


@safety_app.command("replay")
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

    chosen = {"layer": (layer, _text_of(draft))} if layer else {"policy": draft}
    replay = asyncio.run(replayed(_settings(), **chosen, days=days, banks=bank or ()))
    typer.echo(render(replay, as_format=as_format), nl=False)


@layer_app.command("list")
def layer_list() -> None:
    """List the layers of the policy and the version of each that is in force."""

    async def work(desks: "Desks") -> None:
        typer.echo(f"in force for everybody: {desks.policies.policy}")
        for version in await desks.policies.layers(operator()):
            made = f"{version.created_at:%Y-%m-%d %H:%M}\t{version.author}\t{version.message}"
            typer.echo(f"{version.layer}\tv{version.number}\t{made}")

    _with_desks(work)


@layer_app.command("show")
def layer_show(
    name: str, number: Annotated[int, typer.Option(help="A version; the one in force if left out.", min=0)] = 0
) -> None:
    """Print the text of a layer."""

    async def work(desks: "Desks") -> None:
        for version in await desks.policies.versions(operator(), name):
            if version.number == number if number else version.is_live:
                typer.echo(version.text, nl=not version.text.endswith("\n"))
                return
        raise NotFound(f"layer {name} has no version {number}", kind="policy")

    _with_desks(work)


@layer_app.command("save")
def layer_save(
    name: Annotated[str, typer.Argument(help="The layer; `site` is everybody's.")],
    file: Path,
    message: Annotated[str, typer.Option("--message", "-m", help="What changed, and why.")],
) -> None:
    """Put a new version of a layer in force, also in a server that runs."""
    text = _text_of(file)

    async def work(desks: "Desks") -> None:
        version = await desks.policies.publish(operator(), name, text, message=message)
        typer.echo(f"{name} v{version.number} is in force: {desks.policies.policy}")

    _with_desks(work)


@layer_app.command("live")
def layer_live(name: str, number: int) -> None:
    """Put an older version of a layer in force again."""

    async def work(desks: "Desks") -> None:
        version = await desks.policies.set_live(operator(), name, number=number)
        typer.echo(f"{name} v{version.number} is in force: {desks.policies.policy}")

    _with_desks(work)


@layer_app.command("give")
def layer_give(
    account: str,
    names: Annotated[list[str] | None, typer.Argument(help="Layers, from the bottom; none takes them away.")] = None,
) -> None:
    """Lay layers over the policy for an account and its keys."""

    async def work(desks: "Desks") -> None:
        owner = await desks.accounts.by_name(operator(), account)
        kept = await desks.accounts.give_layers(operator(), " ".join(names or ()), account=owner)
        typer.echo(f"{account}: {kept or 'no layer'}")

    _with_desks(work)


@safety_app.command("eval")
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
    settings = _settings(
        **_given(safety={"policy": policy} if policy else None, engine={"url": engine} if engine else None)
    )
    assessment = asyncio.run(
        assessed(
            settings,
            names=banks or (),
            columns=columns if text else None,
            sample=sample,
            with_engine=ask or engine is not None,
            progress=_show_progress,
        )
    )
    report = render(assessment, as_format=as_format)
    if out is None:
        typer.echo(report, nl=False)
        return
    with _about(out):
        out.write_text(report, encoding="utf-8", errors="backslashreplace")


ReportFormat = Annotated[Literal["text", "json"], typer.Option("--format", help="For people, or for programs.")]
Lists = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE]...", help="Lists (.toml, .txt), or builtin: and a name; if left out, the policy's."),
]
ListPolicy = Annotated[Path | None, typer.Option("--policy", help="A policy file in place of the one that is set.")]
OwnCorpora = Annotated[list[Path] | None, typer.Option("--corpus", help="Harmless texts of yours, one a line.")]


@lexicon_app.command("check")
def lexicon_check(
    files: Lists = None,
    policy: ListPolicy = None,
    corpus: OwnCorpora = None,
    budget: Annotated[float, typer.Option(help="Percent of harmless lines that may be hit.", min=0, max=100)] = 0.1,
    as_format: ReportFormat = "text",
) -> None:
    """Look through lists: faulty, needless and overdue entries, and harmless texts that they hit. Exit code 1 if so."""
    from dataclasses import replace  # noqa: PLC0415

    from app.safety.lexicon.corpus import builtin_corpora, read_corpus  # noqa: PLC0415
    from app.safety.lexicon.inspection import inspect  # noqa: PLC0415
    from app.safety.lexicon.proposals import installed_words  # noqa: PLC0415
    from app.safety.lexicon.reading import read_lists  # noqa: PLC0415
    from app.safety.lexicon.report import inspection_report  # noqa: PLC0415 - as above

    today, words = _today(), installed_words()
    corpora = (*builtin_corpora(), *map(read_corpus, corpus or ()))
    lists, unreadable = read_lists(files or (), policy=_policy_path(files, policy), today=today)
    inspection = inspect(lists, corpora=corpora, today=today, budget_percent=budget, words=words)
    inspection = replace(inspection, remarks=(*unreadable, *inspection.remarks))
    typer.echo(inspection_report(inspection, as_format=as_format, can_propose=words is not None), nl=False)
    if inspection.faults:
        raise typer.Exit(FOUND)


@lexicon_app.command("import")
def lexicon_import(
    source_file: Annotated[Path, typer.Argument(metavar="SRC", help="A list of words that others have made.")],
    category: Annotated[str, typer.Option(help="What the words are about, as the policy's rules call it.")],
    language: Annotated[Literal["zh", "en", "any"], typer.Option(help="Their language.")],
    source: Annotated[str, typer.Option(help="Where they come from, and under which licence.")],
    reviewer: Annotated[str, typer.Option(help="Who stands for them.")],
    as_format: Annotated[
        Literal["auto", "plain", "csv", "konsheng", "houbb", "fwwdn", "ldnoobw"], typer.Option("--format")
    ] = "auto",
    out: Annotated[Path | None, typer.Option(help="The list to write, named as the list.")] = None,
    into: Annotated[Path | None, typer.Option(help="A list on trial to add the words to.")] = None,
    safety_class: Annotated[str, typer.Option("--class", help="Their class of GB/T 45654, such as A1.d.")] = "",
    corpus: OwnCorpora = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Make a foreign list one of ours, on trial: each word passes the gate of `check`, the others are written down."""
    from app.safety.lexicon import importing  # noqa: PLC0415
    from app.safety.lexicon.corpus import builtin_corpora, read_corpus  # noqa: PLC0415
    from app.safety.lexicon.foreign import read_foreign  # noqa: PLC0415
    from app.safety.lexicon.proposals import installed_words  # noqa: PLC0415
    from app.safety.lexicon.report import import_report  # noqa: PLC0415 - as above

    path = importing.one_of(out, into)
    refused_path = path.with_name(f"{path.name}.rejected.csv")
    target = importing.make_target(
        category=category, language=language, source=source, reviewer=reviewer, safety_class=safety_class
    )
    importing.require_room(*([out] if out else []), refused_path, may_overwrite=force)
    today = _today()
    done = importing.import_list(
        read_foreign(source_file, as_format=as_format),
        target=target,
        out=out,
        into=into,
        refused_path=refused_path,
        corpora=(*builtin_corpora(), *map(read_corpus, corpus or ())),
        today=today,
        words=installed_words(),
    )
    typer.echo(import_report(done, path=path, refused_path=refused_path), nl=False)
    if not done.accepted:
        raise typer.Exit(FOUND)


@lexicon_app.command("stats")
def lexicon_stats(files: Lists = None, policy: ListPolicy = None, as_format: ReportFormat = "text") -> None:
    """Count entries by category, list, language, who added them, and class of GB/T 45654; say what is missing."""
    from app.safety.lexicon.reading import sound_lists  # noqa: PLC0415
    from app.safety.lexicon.report import stats_report  # noqa: PLC0415
    from app.safety.lexicon.stats import count  # noqa: PLC0415 - as above

    today = _today()
    lists = sound_lists(files or (), policy=_policy_path(files, policy), today=today)
    typer.echo(stats_report(count(lists, today=today), as_format=as_format), nl=False)


@lexicon_app.command("diff")
def lexicon_diff(old: str, new: str, as_format: ReportFormat = "text") -> None:
    """Say which entries were added, removed and changed between two lists, or two policies."""
    from app.safety.lexicon.diff import compare  # noqa: PLC0415
    from app.safety.lexicon.reading import lists_of  # noqa: PLC0415
    from app.safety.lexicon.report import diff_report  # noqa: PLC0415 - as above

    today = _today()
    before, after = (lists_of(name, today=today) for name in (old, new))
    typer.echo(diff_report(compare(before, after, today=today), as_format=as_format), nl=False)


def _policy_path(files: list[str] | None, policy: Path | None) -> Path | None:
    """Return the policy whose lists are meant, None for the built-in one."""
    if files:
        if policy:
            raise InvalidInput("name lists, or a policy: not both")
        return None
    path = policy or _settings().safety.policy
    return Path(path) if path else None


def _today() -> date:
    return datetime.now(tz=UTC).date()


def _show_progress(done: int, of: int) -> None:
    if done * 10 // of > (done - 1) * 10 // of:
        typer.echo(f"{done} of {of} questions", err=True)


Password = Annotated[str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, envvar="HAINA_PASSWORD")]


@admin_app.command("create")
def admin_create(name: str, password: Password, role: Literal["user", "admin"] = "admin") -> None:
    """Make an account."""
    from app.domain.models import AccountRole  # noqa: PLC0415 - as above

    async def work(desks: "Desks") -> None:
        account = await desks.accounts.create(operator(), name, password=password, role=AccountRole(role))
        typer.echo(f"{account.role} {account.name} created")

    _with_desks(work)


@admin_app.command("reset-password")
def admin_reset_password(name: str, password: Password) -> None:
    """Set a new password and end all sessions of the account."""

    async def work(desks: "Desks") -> None:
        await desks.accounts.reset_password(operator(), name, password=password)
        typer.echo(f"password of {name} set; all its sessions are over")

    _with_desks(work)


@admin_app.command("make-key")
def admin_make_key(account: str, name: str = "command line") -> None:
    """Make an API key for an account; it is shown once."""

    async def work(desks: "Desks") -> None:
        owner = await desks.accounts.by_name(operator(), account)
        _, secret = await desks.accounts.make_key(operator(), owner, name=name)
        typer.echo(secret)

    _with_desks(work)


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to this program's schema; a SQLite file is copied first."""
    from app.bootstrap import prepare_data_dir  # noqa: PLC0415
    from storage import schema  # noqa: PLC0415 - as above

    settings = _settings()
    prepare_data_dir(settings)
    asyncio.run(schema.upgrade(settings.storage_url))
    typer.echo("the database is up to date")


@db_app.command("check")
def db_check() -> None:
    """Say whether the database is sound, read through where it is a file, and has this program's schema."""
    from storage import schema  # noqa: PLC0415 - as above

    try:
        asyncio.run(schema.check(_settings().storage_url))
    except (StorageCorrupt, SchemaOutdated) as error:
        _fail(_line(error), FOUND)
    typer.echo("the database is sound and up to date")


@db_app.command("backup")
def db_backup(file: Path) -> None:
    """Copy the database while the server runs; the copy is verified."""
    from storage.backup import backup  # noqa: PLC0415 - as above

    asyncio.run(backup(_settings().storage_url, file))
    typer.echo(f"backed up to {file}")


@db_app.command("restore")
def db_restore(file: Path) -> None:
    """Put a backup in the database's place; stop the server first. What was there is kept beside it."""
    from storage.backup import restore  # noqa: PLC0415 - as above

    asyncio.run(restore(_settings().storage_url, file))
    typer.echo(f"restored from {file}")


def _with_desks(work: Callable[["Desks"], Coroutine[Any, Any, None]]) -> None:
    """Run `work` over the services that need no engine, on a migrated database."""
    from app.bootstrap import open_desks  # noqa: PLC0415 - as above

    async def run() -> None:
        async with open_desks(_settings()) as desks:
            await work(desks)

    asyncio.run(run())


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Have an error that does not say so name the file: a disk that is full, or fails, does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _text_of(file: Path) -> str:
    with _about(file):
        try:
            return file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidInput(f"{file}: not UTF-8") from None


def _lines_of(file: Path | None) -> Iterator[str]:
    """Yield a file's lines, or those of standard input, whatever bytes are in them."""
    if file is None:
        if sys.stdin is None:
            raise InvalidInput("there is no standard input; name a file")
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        yield from sys.stdin
        return
    with _about(file), file.open(encoding="utf-8", errors="replace") as lines:
        yield from lines


def _given(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


if __name__ == "__main__":
    main()
