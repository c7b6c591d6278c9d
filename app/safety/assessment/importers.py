"""Question sets that others have made, read where they lie: CSV with a header, or a JSON object a line.

XSTest, COLD, Flames and CValues are known by their columns. For anything else `Columns` says what is what.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.domain.errors import InvalidInput
from app.safety.assessment.bank import BUILTIN, Bank, Expectation, Question, builtin_bank, read_own_bank, read_text
from app.safety.assessment.obfuscation import OBFUSCATED, obfuscated_bank
from app.safety.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where in a row things stand."""

    text: str
    kind: str = ""
    """Left out: all are of one kind, `all`."""
    kind_prefix: str = ""
    """Put before each kind, where a set's words mean something else than the standard's."""
    label: str = ""
    """Left out: `expected` holds for all."""
    refuse: frozenset[str] = frozenset()
    """The labels of what should be refused."""
    answer: frozenset[str] = frozenset()
    """The labels of what should be answered; empty: all others."""
    expected: Expectation = Expectation.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A set that is known by the columns it has."""

    name: str
    has: frozenset[str]
    columns: Columns


KNOWN: Final = (
    _Known(  # github.com/paul-rottger/exaggerated-safety, xstest_v2_prompts.csv
        name="XSTest",
        has=frozenset({"prompt", "type", "label", "focus"}),
        columns=Columns(
            text="prompt",
            kind="type",
            label="label",
            refuse=frozenset({"unsafe"}),
            answer=frozenset({"safe"}),
        ),
    ),
    _Known(  # github.com/thu-coai/COLDataset; comments, not questions: 1 is offensive
        name="COLD",
        has=frozenset({"TEXT", "topic", "label"}),
        columns=Columns(
            text="TEXT",
            kind="topic",
            kind_prefix="comments on ",
            label="label",
            refuse=frozenset({"1"}),
            answer=frozenset({"0"}),
        ),
    ),
    _Known(  # github.com/AIFlames/Flames; an answer has to be good, a refusal need not be
        name="Flames",
        has=frozenset({"prompt", "dimension", "subcomponent"}),
        columns=Columns(text="prompt", kind="subcomponent"),
    ),
    _Known(  # github.com/X-PLUG/CValues, responsibility prompts; as above
        name="CValues",
        has=frozenset({"prompt", "domain_en"}),
        columns=Columns(text="prompt", kind="domain_en"),
    ),
)


def read_banks(names: Sequence[str], *, policy: Policy, columns: Columns | None = None) -> tuple[Bank, ...]:
    """Return the banks of these names: one that comes with the program, `obfuscated`, or a file.

    Raises as `read_bank`, and InvalidInput where two banks have one name.
    """
    banks: dict[str, Bank] = {}
    for name in names:
        if name == OBFUSCATED:
            bank = obfuscated_bank(policy)
        else:
            bank = builtin_bank(name) if name in BUILTIN else read_bank(Path(name), columns)
        if bank.name in banks:
            raise InvalidInput(f"{name}: there is a bank named {bank.name} already")
        banks[bank.name] = bank
    return tuple(banks.values())


def read_bank(path: Path, columns: Columns | None = None) -> Bank:
    """Read a `.toml` as our own banks are, a `.csv` or a `.jsonl`; the latter by `columns`, or as a set that is known.

    Raises InvalidInput with file and line where something is wrong, OSError where the file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".toml":
        if columns:
            raise InvalidInput(f"{path}: a bank in TOML says itself what is what; leave out the names of columns")
        return read_own_bank(path)
    if suffix not in {".csv", ".jsonl"}:
        raise InvalidInput(f"{path}: not a .toml, .csv or .jsonl file, nor one of {', '.join((*BUILTIN, OBFUSCATED))}")
    text = read_text(path)
    rows = _csv_rows(text) if suffix == ".csv" else _json_rows(text)
    source = ""
    questions: list[Question] = []
    line = 1
    try:
        for at, row in rows:
            line = at
            if columns is None:
                known = _known(row)
                columns, source = known.columns, known.name
            questions.append(_question(row, columns))
    except _Fault as fault:
        raise InvalidInput(f"{path}:{fault.line or line}: {fault}") from None
    if not questions:
        raise InvalidInput(f"{path}: there is no question in it")
    return Bank(name=path.stem, questions=tuple(questions), source=source)


class _Fault(Exception):
    """What is wrong with a row, and its line where that is not the present one."""

    def __init__(self, reason: str, *, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


_Rows = Iterator[tuple[int, Mapping[str, str]]]


def _csv_rows(text: str) -> _Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: Sequence[str] | None = None
    line = 1
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise _Fault(f"not CSV: {error}", line=reader.line_num) from None
        if fields is None:
            return
        if header is None:
            header = [name.strip() for name in fields]
            twice = next((name for name in header if name and header.count(name) > 1), None)
            if twice:
                raise _Fault(f"two columns are named {twice}", line=line)
        elif len(fields) > len(header):
            raise _Fault(f"{len(fields)} fields, the header has {len(header)}", line=line)
        elif fields:
            yield line, dict(zip(header, fields, strict=False))
        line = reader.line_num + 1


def _json_rows(text: str) -> _Rows:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _Fault(f"not JSON: {error}", line=number) from None
        if not isinstance(row, dict):
            raise _Fault("not a JSON object", line=number)
        yield number, {key: _spelled(value) for key, value in row.items()}


def _spelled(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _known(row: Mapping[str, str]) -> _Known:
    for known in KNOWN:
        if known.has <= row.keys():
            return known
    raise _Fault(f"not a set that is known; say which column is what (--text …), there are: {', '.join(row)}")


def _question(row: Mapping[str, str], columns: Columns) -> Question:
    text = _field(row, columns.text)
    kind = columns.kind_prefix + _field(row, columns.kind) if columns.kind else "all"
    if not columns.label:
        return Question(text, kind, columns.expected)
    label = _field(row, columns.label)
    if label in columns.refuse:
        return Question(text, kind, Expectation.REFUSE)
    if columns.answer and label not in columns.answer:
        raise _Fault(f"the label is {label}, not one of {', '.join(sorted(columns.refuse | columns.answer))}")
    return Question(text, kind, Expectation.ANSWER)


def _field(row: Mapping[str, str], name: str) -> str:
    if name not in row:
        raise _Fault(f"there is no column {name}; there are: {', '.join(row)}")
    value = row[name].strip()
    if not value:
        raise _Fault(f"{name} is empty")
    return value
