"""A policy as a file: TOML, read strictly.

    name = "site"
    base = "builtin:general"                             # what this is laid over: shipped, or a file beside this
    without = ["fraud-en"]                               # lists of it that are left out
    files = ["builtin:drugs-zh", "house-rules.toml"]     # lists of phrases, beside this file or shipped
    by_class = true                                      # the categories are the classes of GB/T 45654, see below
    wording = ["builtin:answers", "house-words.toml"]    # files of replies and answers, `app.safety.wording_tables`

    [[rules]]
    category = "drugs"
    stages = ["input", "history", "output", "export"]
    action = "refuse"                                    # allow, flag, mask, refuse, handoff
    threshold = 0.5                                      # the least score that it is about; phrases have 1
    locked = true                                        # what is laid over this can be stricter, not weaker
    shadow = true                                        # on trial: recorded, nothing else
    unmask = true                                        # of a rule that masks: see docs/safety.md

    [[lists]]                                            # a list may also stand here
    name = "competitors"
    category = "advertising"
    language = "en"
    phrases = ["buy at example corp"]
    allow = ["example corp's annual report"]             # excuses hits that lie within it
    patterns = ["(buy|order) (now |)at example corp"]    # one of each ( | ): four phrases
    score = 0.8                                          # how sure they are; 1 where it is not said
    fold = true                                          # also b0mb, b.o.m.b and Cyrillic letters that look Latin
    homophones = true                                    # also flags other Chinese characters that sound the same
    locked = true                                        # what is laid over this neither drops nor excuses it
    shadow = true                                        # on trial: recorded, nothing else
    class = "A3.e"                                       # the class of GB/T 45654 that it counts in
    review_by = 2027-06-30                               # `haina safety lexicon check` reminds
    short_ok = ["广告"]                                  # Chinese phrases of two characters that were looked at
    redundant_ok = ["buy at example corp now"]           # phrases that hold another one, and are wanted all the same

    [[lists.entries]]                                    # phrases that say who added them; in a file: [[entries]]
    text = "order at example corp"
    added = 2026-11-28
    by = "Ann"
    source = "ticket 12"                                 # may be left out, as all that follows
    class = "A3.e"
    expires = 2027-11-28                                 # from that day on it is not searched any more
    note = "their summer campaign"

`[[replies]]` and `[[answers]]` may stand here as well. The replies that come with the program are part of every policy;
one's own come before them.

    [[guards]]                                           # a model that is asked, in a file of the site only
    name = "qwen"
    kind = "qwen3guard"                                  # llama_guard, shieldlm, judge, moderations, classify
    url = "http://127.0.0.1:8002/v1"
    model = "Qwen/Qwen3Guard-Gen-4B"                     # left out: the first that it lists
    stages = ["input", "output"]
    mode = "strict"                                      # fast: answers are shown at once and cut when it has judged
    on_error = "refuse"                                  # degrade: what it cannot judge passes, and that is told
    input_budget_s = 2.0
    window_budget_s = 1.0
    api_key_file = "qwen.key"                            # beside this file; a key never stands in a policy
    categories = {"Unethical Acts" = ""}                 # its labels, our categories; "" is harmless, "*" any other
    instructions = ["Questions about knives are fine."]  # rules of the house, for shieldlm and judge

A file of a list has the keys of a list at its top, and `source`, `date` and `reviewer` as well; a `.txt` has them as
`# key: value` and then one phrase a line, `+` before those that are allowed; there `short_ok` and `redundant_ok` are
separated by commas, and there are no entries. Nothing unknown is overlooked: whatever is wrong is told with its line,
and the policy is not taken. A layer that would weaken what is locked below it is wrong.

Where a policy goes by class, rules speak of `a1_d` for A1.d, or of `a1` for all of a group (the gravest that speaks of
a class decides), and a list's category is its class – unless a rule speaks of the list's own category: so self-harm,
which is of A4.a, can be handed to a person and the rest of A4.a not.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date as Date  # noqa: N812 — a key is called date
from pathlib import Path
from typing import Final

from app.domain.errors import InvalidPolicy
from app.domain.models import now
from app.domain.verdicts import Action, Stage
from app.safety.answers import Answer
from app.safety.guards.spec import GuardSpec
from app.safety.phrases import squeeze
from app.safety.policy import (
    TEST_LISTS,
    Layer,
    PhraseList,
    Policy,
    Rule,
    guarded,
    in_classes,
    layered,
    make_policy,
    weakened,
)
from app.safety.policy_source import Source
from app.safety.policy_tables import ListFile, PolicyTable
from app.safety.replies import Reply
from app.safety.taxonomy import CATEGORIES, CLASSES, GROUPS, expanded, is_class
from app.safety.wording_tables import WordingFile

_BUILTIN_POLICIES: Final = Path(__file__).parent / "policies"
BUILTIN_POLICY: Final = _BUILTIN_POLICIES / "general.toml"
_BUILTIN: Final = "builtin:"
_BUILTIN_WORDING: Final = Path(__file__).parent / "wording"
_MAX_LAYERS: Final = 8
_BUILTIN_LISTS: Final = Path(__file__).parent / "lists"
MAX_PHRASE_LENGTH: Final = 200
"""Folded characters; bounds what is held back."""
_DETECTED: Final = frozenset({"test", "personal_data", "jailbreak"})
"""Categories that are found without a list."""
_KNOWN: Final = frozenset(
    {*CATEGORIES, *(one.category for one in CLASSES.values()), *(group.lower() for group in GROUPS)}
)
"""Categories that something may be said of, whether this policy finds them or not."""


def load_policy(path: Path | None = None, *, today: Date | None = None) -> Policy:
    """Read a policy file and the lists that it names; without a path the built-in policy.

    Entries of lists that have expired by `today` are left out. Raises InvalidPolicy.
    """
    return PolicyFile(path, today=today).load()


def read_list(path: Path, *, today: Date | None = None) -> PhraseList:
    """Read the file of one list, whatever its phrases are worth: `app.safety.lexicon` says that.

    Raises InvalidPolicy.
    """
    return _list_of(Source.of_file(path), today=today)


class PolicyFile:
    """A policy file that is looked after while a server runs."""

    def __init__(self, path: Path | None = None, *, today: Date | None = None, guard: GuardSpec | None = None) -> None:
        """Without a path the built-in policy; without a day the real one. `guard` is asked as well."""
        self._guard = guard
        self._today = today
        self._day: Date | None = None
        """When the policy was read: entries of lists may expire."""
        self._path = path or BUILTIN_POLICY
        self._looks: dict[Path, tuple[int, int] | None] = {}
        """What was read last, and how those files looked before they were."""
        self._found: Policy | InvalidPolicy | None = None

    def load(self) -> Policy:
        """Return the policy, read anew if one of its files has changed. Raises InvalidPolicy, until that is mended."""
        if self._found is None or self.has_changed():
            self._looks, self._day = {}, now().date()
            try:
                source, folder = self._open(self._path), self._path.parent
                policy = _Loader(source, folder=folder, open_file=self._open, today=self._today).load()
                self._found = self._guarded(policy)
            except InvalidPolicy as error:
                self._found = error
        if isinstance(self._found, InvalidPolicy):
            raise self._found
        return self._found

    def _guarded(self, policy: Policy) -> Policy:
        if self._guard is None:
            return policy
        if any(guard.name == self._guard.name for guard in policy.guards):
            raise InvalidPolicy(f"{policy.name} has a guard named {self._guard.name} already; unset its URL")
        return guarded(policy, self._guard)

    def has_changed(self) -> bool:
        """Whether one of the files, or the day, is not as it was when the policy was read last. Never raises."""
        return self._day != now().date() or any(_look(path) != before for path, before in self._looks.items())

    def _open(self, path: Path) -> "Source":
        self._looks[path] = _look(path)
        return Source.of_file(path)


def _look(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def lay_over(base: Policy, text: str, *, name: str) -> Policy:
    """Return the policy with a layer over it that is no file: its name is given, the files it names are shipped ones.

    Raises InvalidPolicy.
    """
    return _Loader(Source(name, text), folder=None).load(over=base)


def builtin_list(name: str) -> Path:
    """Return the file of a list that is shipped, `builtin:` before its name or not. Raises InvalidPolicy."""
    path = _BUILTIN_LISTS / f"{name.removeprefix('builtin:')}.toml"
    known = sorted(_BUILTIN_LISTS.glob("*.toml"))
    if path not in known:
        raise InvalidPolicy(f"there is no list {name}; there are {', '.join(file.stem for file in known)}")
    return path


def policy_path(name: str) -> Path | None:
    """Return the file of a policy: `builtin:general`, `builtin:gb45654` or a path; None for an empty name.

    Raises InvalidPolicy where no built-in policy has this name.
    """
    if not name.startswith(_BUILTIN):
        return Path(name) if name else None
    files = {path.stem: path for path in _BUILTIN_POLICIES.glob("*.toml")}
    if path := files.get(name.removeprefix(_BUILTIN)):
        return path
    raise InvalidPolicy(f"there is no policy {name}; there are {', '.join(map(_BUILTIN.__add__, sorted(files)))}")


def _list_of(source: Source, *, today: Date | None) -> PhraseList:
    is_plain = source.path is not None and source.path.suffix == ".txt"
    table = source.list_text() if is_plain else source.toml()
    return replace(source.read(ListFile, table).phrase_list(today=today), path=source.path)


class _Loader:
    """Reads a layer and everything that it names, and gathers what is wrong with it."""

    def __init__(
        self,
        source: Source,
        *,
        folder: Path | None,
        above: int = 0,
        open_file: Callable[[Path], Source] = Source.of_file,
        today: Date | None = None,
    ) -> None:
        """`folder` is where files are looked for, None where there are only the shipped ones; `above` counts layers."""
        self._source = source
        self._open = open_file
        self._folder = folder
        self._above = above
        self._today = today
        self._faults: list[str] = []

    def load(self, *, over: Policy | None = None) -> Policy:
        source = self._source
        table = source.toml()
        if over is not None:
            table.setdefault("name", source.name)
        document = source.read(PolicyTable, table)
        base = self._base(document, over=over)
        rules = [table.rule() for table in document.rules]
        lists = [self._read_list(name) for name in document.files]
        for number, one in enumerate(document.lists):
            lists.append(replace(one.phrase_list(today=self._today), path=source.path))
            self._check_phrases(lists[-1], source=source, after=source.line_of_table("lists", number=number))
        by_class = document.by_class or (base is not None and base.is_by_class)
        guards = self._guards(document, base=base)
        if by_class:
            every = [*rules, *(base.rules if base else ())]
            lists = self._by_class(rules=every, lists=lists)
            guards = tuple(in_classes(guard, rules=every) for guard in guards)
        replies, answers = self._read_wording(document, is_bottom=base is None)
        layer = Layer(
            name=document.name,
            rules=tuple(rules),
            lists=tuple(lists),
            without=frozenset(document.without),
            replies=tuple(replies),
            answers=tuple(answers),
            guards=guards,
        )
        self._check_names(lists)
        self._check_rules(layer, base=base, by_class=by_class)
        self._check_guards(layer, base=base)
        self._check_wording(layer, base=base)
        if by_class:
            expand = [replace(rule, category=category) for rule in rules for category in expanded(rule.category)]
            layer = replace(layer, rules=tuple(expand))
        if base is not None:
            self._check_base(layer, base=base)
        if self._faults:
            raise InvalidPolicy(*self._faults)
        if base is not None:
            return layered(base, layer)
        return make_policy(
            layer.name,
            rules=layer.rules,
            lists=layer.lists,
            replies=layer.replies,
            answers=layer.answers,
            is_by_class=by_class,
            guards=layer.guards,
        )

    def _base(self, document: PolicyTable, *, over: Policy | None) -> Policy | None:
        """Return what the layer is laid over; None where it stands alone."""
        source = self._source
        if over is not None:
            if document.base:
                raise InvalidPolicy(source.at("base: is given already", line=source.line_of_key("base")))
            if document.name != source.name:
                raise InvalidPolicy(source.at(f"name: is {source.name}", line=source.line_of_key("name")))
            return over
        if not document.base:
            if document.without:
                raise InvalidPolicy(source.at("without: there is no base", line=source.line_of_key("without")))
            return None
        if self._above >= _MAX_LAYERS:
            raise InvalidPolicy(source.at("base: a policy over itself, or too many layers"))
        path = self._file(document.base, shipped=_BUILTIN_POLICIES, kind="policy")
        below = _Loader(
            self._open(path), folder=path.parent, above=self._above + 1, open_file=self._open, today=self._today
        )
        return below.load()

    def _file(self, name: str, *, shipped: Path, kind: str) -> Path:
        """Return where a list or a policy is that is named in the layer."""
        if name.startswith("builtin:"):
            path = shipped / f"{name.removeprefix('builtin:')}.toml"
            if path.parent == shipped and path.is_file():
                return path
            known = ", ".join(sorted(file.stem for file in shipped.glob("*.toml")))
            reason = f"there is no {kind} {name}; there are {known}"
        elif self._folder is not None:
            return self._folder / name
        else:
            reason = f"{kind} {name}: only shipped ones can be named here, as builtin:NAME"
        raise InvalidPolicy(self._source.at(reason, line=self._source.line_of_phrase(name, occurrence=0)))

    def _read_wording(self, document: PolicyTable, *, is_bottom: bool) -> tuple[list[Reply], list[Answer]]:
        """Return those of the layer and of the files that it names; at the bottom the shipped replies too."""
        source = self._source
        shipped = Source.of_file(_BUILTIN_WORDING / "replies.toml")
        parts: list[tuple[Source, PolicyTable | WordingFile]] = [(source, document)]
        for name in document.wording:
            other = self._open(self._file(name, shipped=_BUILTIN_WORDING, kind="wording"))
            parts.append((other, other.read(WordingFile, other.toml())))
        if is_bottom:
            parts.append((shipped, shipped.read(WordingFile, shipped.toml())))
        replies = [
            table.reply(place=part.place_of("replies", number=number), is_shipped=part is shipped)
            for part, words in parts
            for number, table in enumerate(words.replies)
        ]
        answers = [
            table.answer(place=part.place_of("answers", number=number))
            for part, words in parts
            for number, table in enumerate(words.answers)
        ]
        return replies, answers

    def _check_wording(self, layer: Layer, *, base: Policy | None) -> None:
        replies, answers = layer.replies, layer.answers
        lists = (*layer.lists, *(base.lists if base else ()))
        ruled = {rule.category for rule in (*layer.rules, *(base.rules if base else ()))}
        known = ruled | {one.category for one in lists if one.category} | _KNOWN
        spoken = [(one.place, one.category) for one in replies if one.category]
        spoken += [(one.place, category) for one in answers for category in sorted(one.categories)]
        self._faults += [
            f"{place}: nothing finds the category {category}" for place, category in spoken if category not in known
        ]
        seen: set[str] = set()
        for one in answers:
            if one.name in seen:
                self._faults.append(f"{one.place}: a second answer named {one.name}")
            seen.add(one.name)
            for phrase in (*one.all, *one.any):
                if reason := _fault_in(squeeze(phrase)):
                    self._faults.append(f"{one.place}: answer {one.name}: {reason}")

    def _read_list(self, name: str) -> PhraseList:
        path = self._file(name, shipped=_BUILTIN_LISTS, kind="list")
        source = self._open(path)
        phrase_list = _list_of(source, today=self._today)
        self._check_phrases(phrase_list, source=source)
        return phrase_list

    def _check_names(self, lists: Sequence[PhraseList]) -> None:
        seen = {phrase_list.name for phrase_list in TEST_LISTS}
        for phrase_list in lists:
            if phrase_list.name in seen:
                self._faults.append(self._source.at(f"a second list named {phrase_list.name}"))
            seen.add(phrase_list.name)

    def _by_class(self, *, rules: Sequence[Rule], lists: Sequence[PhraseList]) -> list[PhraseList]:
        """Put each list into the category of its class, but for those of whose own category a rule speaks."""
        ruled = {rule.category for rule in rules}
        sorted_lists: list[PhraseList] = []
        for one in lists:
            own_class = CLASSES[one.safety_class] if one.safety_class else None
            if own_class and one.category and (one.category not in ruled or is_class(one.category)):
                sorted_lists.append(replace(one, category=own_class.category))
                continue
            if one.category and one.category not in ruled and not is_class(one.category):
                self._faults.append(
                    self._source.at(f"list {one.name}: this policy goes by class, and it does not name one")
                )
            sorted_lists.append(one)
        return sorted_lists

    def _check_rules(self, layer: Layer, *, base: Policy | None, by_class: bool) -> None:
        source = self._source
        lists = (*layer.lists, *(base.lists if base else ()))
        found = {phrase_list.category for phrase_list in lists if phrase_list.category} | _DETECTED
        if by_class:
            found |= {one.category for one in CLASSES.values()}  # the operator's lists are still to come
            found |= {group.lower() for group in GROUPS}
        for guard in (*layer.guards, *(base.guards if base else ())):
            found |= guard.found
        seen: set[tuple[str, Stage, float, bool]] = set()
        for number, rule in enumerate(layer.rules):
            line = source.line_of_table("rules", number=number)
            if rule.category not in found:
                self._faults.append(source.at(f"nothing finds the category {rule.category}", line=line))
            for stage in sorted(rule.stages):
                key = rule.category, stage, rule.threshold, rule.is_shadow
                if key in seen:
                    self._faults.append(source.at(f"a second rule for {rule.category} in {stage}", line=line))
                seen.add(key)
        rules = (*layer.rules, *(base.rules if base else ()))
        ruled = {category for rule in rules for category in expanded(rule.category)}
        for phrase_list in layer.lists:
            if phrase_list.category and phrase_list.action is None and phrase_list.category not in ruled:
                self._faults.append(
                    source.at(f"list {phrase_list.name}: no rule speaks of the category {phrase_list.category}")
                )

    def _guards(self, document: PolicyTable, *, base: Policy | None) -> tuple[GuardSpec, ...]:
        """Return the layer's guards; a name that is taken, or a key that cannot be read, is a fault."""
        source = self._source
        if document.guards and self._folder is None:
            raise InvalidPolicy(
                source.at("guards: stand in files of the site only", line=source.line_of_table("guards", number=0))
            )
        seen = {guard.name for guard in base.guards} if base else set()
        specs = []
        for number, table in enumerate(document.guards):
            line = source.line_of_table("guards", number=number)
            if table.name in seen:
                self._faults.append(source.at(f"a second guard named {table.name}", line=line))
            seen.add(table.name)
            spec = table.spec(folder=self._folder or Path())
            if spec.api_key_file is not None and (reason := _fault_in_key(spec.api_key_file)):
                line = source.line_of_key("api_key_file", after=line) or line
                self._faults.append(source.at(f"api_key_file: {reason}", line=line))
            specs.append(spec)
        return tuple(specs)

    def _check_guards(self, layer: Layer, *, base: Policy | None) -> None:
        """See that a rule speaks of all that the layer's guards may find, and that none wants a guard to say where."""
        source = self._source
        rules = (*layer.rules, *(base.rules if base else ()))
        ruled = {(name, stage) for rule in rules for name in expanded(rule.category) for stage in rule.stages}
        for number, guard in enumerate(layer.guards):
            missing = sorted(
                category for category in guard.found if not any((category, stage) in ruled for stage in guard.stages)
            )
            if missing:
                line = source.line_of_table("guards", number=number)
                reason = f"no rule speaks of {', '.join(missing)}; map labels that do not matter to nothing"
                self._faults.append(source.at(f"guard {guard.name}: {reason}", line=line))
        lists = (*layer.lists, *(base.lists if base else ()))
        places = {phrase_list.category for phrase_list in lists} | _DETECTED
        guards = (*layer.guards, *(base.guards if base else ()))
        for number, rule in enumerate(layer.rules):
            is_guards_own = rule.category not in places and any(rule.category in guard.found for guard in guards)
            if rule.action is Action.MASK and is_guards_own:
                line = source.line_of_table("rules", number=number)
                reason = f"only a guard finds {rule.category}, and it cannot say what to mask: flag or refuse"
                self._faults.append(source.at(reason, line=line))

    def _check_base(self, layer: Layer, *, base: Policy) -> None:
        source = self._source
        known = {phrase_list.name for phrase_list in base.lists}
        for name in sorted(layer.without - known):
            self._faults.append(
                source.at(f"without: there is no list {name} below", line=source.line_of_key("without"))
            )
        for kind, name in weakened(base, layer):
            if kind == "rule":
                numbers = [n for n, rule in enumerate(layer.rules) if rule.category == name and not rule.is_shadow]
                line: int | None = source.line_of_table("rules", number=numbers[0])
                reason = f"the rule for {name} is locked below; here it can only be stricter"
            else:
                line = source.line_of_key("without") if name in layer.without else None
                reason = f"list {name} is locked below; it can be neither left out nor replaced"
            self._faults.append(source.at(reason, line=line or None))

    def _check_phrases(self, phrase_list: PhraseList, *, source: Source, after: int = 0) -> None:
        seen: dict[str, int] = {}
        spelled: dict[str, int] = {}
        every = (*phrase_list.phrases, *phrase_list.allowed)
        for number, (phrase, squeezed) in enumerate(zip(every, phrase_list.squeezed, strict=True), 1):
            occurrence = spelled[phrase] = spelled.get(phrase, -1) + 1
            reason = _fault_in(squeezed)
            if squeezed in seen:
                reason = f"the same as entry {seen[squeezed]}"
            if reason:
                line = source.line_of_phrase(phrase, occurrence=occurrence, after=after)
                self._faults.append(source.at(f"list {phrase_list.name}, entry {number}: {reason}", line=line))
            seen.setdefault(squeezed, number)


_REASONS: Final[Sequence[tuple[Callable[[str], bool], str]]] = (
    (lambda squeezed: not squeezed, "empty, or without a letter"),
    (lambda squeezed: len(squeezed) == 1, "a single character would stop too much"),
    (lambda squeezed: len(squeezed) > MAX_PHRASE_LENGTH, f"longer than {MAX_PHRASE_LENGTH} characters"),
)


def _fault_in_key(path: Path) -> str:
    try:
        key = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        return "not a key"
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    return "" if key and key.isprintable() and " " not in key else f"{path.name}: there is not one key in it"


def _fault_in(squeezed: str) -> str | None:
    return next((reason for is_wrong, reason in _REASONS if is_wrong(squeezed)), None)
