"""`haina safety lexicon`: lists of phrases."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.shared import (
    FOUND,
    settings_of,
)
from app.domain.errors import (
    InvalidInput,
)

if TYPE_CHECKING:
    pass

app = typer.Typer(help="Lists of phrases: a gate for them, importers, counts.", no_args_is_help=True)

ReportFormat = Annotated[Literal["text", "json"], typer.Option("--format", help="For people, or for programs.")]
Lists = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE]...", help="Lists (.toml, .txt), or builtin: and a name; if left out, the policy's."),
]
ListPolicy = Annotated[Path | None, typer.Option("--policy", help="A policy file in place of the one that is set.")]
OwnCorpora = Annotated[list[Path] | None, typer.Option("--corpus", help="Harmless texts of yours, one a line.")]


@app.command("check")
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


@app.command("import")
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


@app.command("stats")
def lexicon_stats(files: Lists = None, policy: ListPolicy = None, as_format: ReportFormat = "text") -> None:
    """Count entries by category, list, language, who added them, and class of GB/T 45654; say what is missing."""
    from app.safety.lexicon.reading import sound_lists  # noqa: PLC0415
    from app.safety.lexicon.report import stats_report  # noqa: PLC0415
    from app.safety.lexicon.stats import count  # noqa: PLC0415 - as above

    today = _today()
    lists = sound_lists(files or (), policy=_policy_path(files, policy), today=today)
    typer.echo(stats_report(count(lists, today=today), as_format=as_format), nl=False)


@app.command("diff")
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
    from app.safety.policy_file import policy_path  # noqa: PLC0415 - as above

    return policy or policy_path(settings_of().safety.policy)


def _today() -> date:
    return datetime.now(tz=UTC).date()
