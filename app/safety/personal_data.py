"""Personal data with a form of its own: numbers, addresses, keys.

That is numbers of identity cards, mobile phones, bank cards and passports of China, e-mail addresses, keys and tokens.
A number or an address is part of a *run*: characters that such things are made of, without a gap, or with the single
blanks that phone and card numbers are written with. A run is held back while it grows and read once when it ends. What
is read is 256 characters at most, and each pattern is bounded: plain `re` is linear enough, and on such short texts
quicker than RE2 (docs/measurements.md).

Any English word may be the beginning of an address. To hold each of them back would delay every answer by a word, so in
an answer a word is held only behind what announces an address (`mail:`, `write to`, 邮箱是), or as the beginning of a
key. Elsewhere the mask begins at its first character that is no letter: of `ask bob.li@corp.cn` it leaves `ask bob`.
In every other stage, where nobody waits, the whole is held and masked.

How sure a match is, is its score. A check digit that one number in ten has by chance is no proof, so a card number far
from the word "card", and a phone number behind the words "order no.", have UNSURE: a policy may flag them.

Sources: GB 11643-1999 (identity numbers; ISO 7064 MOD 11-2), ISO/IEC 7812-1 (card numbers: length, first digit, Luhn),
the Ministry of Industry's numbering plan (mobile numbers: 11 digits, 13 to 19), the issuers' pages for keys.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from app.domain.verdicts import Action, Stage
from app.safety.detector import Match
from app.safety.normalise import PLAIN

TEST_NUMBER: Final = "11010519491231002X"
"""Made up; masked by every policy, so that an operator can see the filter work."""
CATEGORY: Final = "personal_data"
MAX_RUN: Final = 256
"""Characters that are held back at most, invisible ones aside. A longer run is read in parts."""
UNSURE: Final = 0.4
"""The score of what only looks like it."""

_KEPT: Final = 128
"""What of a long run is read again with what follows it."""
_NEAR: Final = 32
"""Characters before a number in which a word says what it is."""
_MAX_SKIPPED: Final = 1000
_MAX_BLANKS: Final = 4
_WORD: Final = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz@._%+-")
_KEY_LINE: Final = _WORD | frozenset("/=")
_QUIET: Final = r"\u2010-\u203b\u3001-\u30ff\u3400-\u9fff\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
"""Chinese, its punctuation and kana, none of which is folded into a run."""


@dataclass(frozen=True, slots=True)
class _Alphabet:
    """What a run is made of."""

    chars: frozenset[str]
    run: re.Pattern[str]
    starts: re.Pattern[str]
    """What may begin a run, folded or not; searched in whole pieces, so that most texts go no further."""


def _alphabet(chars: frozenset[str]) -> _Alphabet:
    others = "".join(re.escape(chr(code)) for code in range(0x80) if chr(code) not in chars)
    return _Alphabet(
        chars=chars,
        run=re.compile(f"[{''.join(map(re.escape, sorted(chars)))}]+"),
        starts=re.compile(f"[^{others}{_QUIET}]"),
    )


_WORDS: Final = _alphabet(_WORD)
_KEY_LINES: Final = _alphabet(_KEY_LINE)
_GAPPED: Final = re.compile(
    r"(?:^|[^0-9])(?:(?:\+|00)?86|(?:(?:\+|00)?86[ -]?)?1[3-9][0-9](?:[ -]?[0-9]{4})?|[0-9]{4}(?:[ -][0-9]{4}){0,3})$"
    r"|-----(?:BEGIN|END)(?: [A-Z0-9]+){0,4}$"
)
"""A run that may go on behind one blank."""
_ANNOUNCING: Final = ("@", "mail", "contact", "邮", "联系", "信箱")
_ANNOUNCING_LAST: Final = (":", "：", "=", " to", " at", " via", "地址是", "发给", "发到", "发至", "寄给", "寄到")
"""Where these stand shortly, or directly, before a word, it may be an address."""
_KEY_HEADS: Final = frozenset(
    head[:end] for head in ("AKIA", "ASIA", "AKID", "AIza", "LTAI", "eyJ") for end in range(1, 5)
)
"""How keys begin that begin with letters as words do."""
_LETTERS: Final = re.compile("[A-Za-z]*")
_HINT: Final = re.compile(r"[0-9@]|hf_|-----")
"""Without one of these a run is a word."""

_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS: Final = "10X98765432"
_CARD: Final = re.compile(
    r"银行卡|信用卡|借记卡|储蓄卡|银联|卡号|账号|帐号|账户|\b(?:cards?|visa|mastercard|unionpay|amex)\b", re.IGNORECASE
)
_PASSPORT: Final = re.compile(r"护照|passport", re.IGNORECASE)
_NOT_A_PHONE: Final = re.compile(
    r"(?:单号|编号|流水|序列号|工号|\b(?:order|invoice|tracking|serial|ticket|sku|ref|version|build)\b)[^0-9]*$"
    r"|(?:\b(?:id|no)\b\.?|#)[ :：=]*$|[0-9][.-]$|[*×÷^$€£¥￥] ?$",
    re.IGNORECASE,
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_NOBODYS: Final = re.compile(
    # RFC 2606 and RFC 6761 keep these for documentation; git@host is a repository's address, 1.2 a version.
    r"@(?:[^@]+\.)?(?:example(?:\.(?:com|org|net))?|test|invalid|localhost|local)$|^(?:git|hg|svn)@|@v?[0-9]+\.[0-9]",
    re.IGNORECASE,
)


def is_id_number(text: str) -> bool:
    """Whether 18 digits, the last of which may be X, are an identity number: a day that existed, the check digit."""
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, text, strict=False))
    return text[-1].upper() == _CHECK_DIGITS[total % 11]


def is_card_number(digits: str) -> bool:
    """Whether the last digit is the check digit after Luhn, ISO/IEC 7812-1 annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)  # noqa: PLR2004 - the digits of a number below 19, added
    return total % 10 == 0


@dataclass(frozen=True, slots=True)
class _Place:
    """A candidate, and the text around it as far as it is known."""

    text: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class _Form:
    """What a kind of personal data looks like; `weigh` returns how sure it is, 0 where it is none."""

    rule: str
    pattern: re.Pattern[str]
    weigh: Callable[[_Place], float]


def _weigh_id_number(place: _Place) -> float:
    return float(is_id_number(place.text))


def _weigh_mobile(place: _Place) -> float:
    head = _TAIL_OF_TOKEN.search(place.before)
    rest = _HEAD_OF_TOKEN.match(place.after)
    left, right = head.group() if head else "", rest.group() if rest else ""
    token = left + place.text + right
    if any(place.text in found.group() for found in _UUID.finditer(token)):
        return 0.0
    left, right = left.rpartition("-")[2], right.partition("-")[0]
    if left and right:
        return 0.0  # within a hash, a key, a name
    before, after = place.before, place.after
    if before.endswith("*") and after.startswith("*"):  # bold, and no product
        before, after = before.rstrip("*"), ""
    is_figure = after.startswith("*") or re.match(r"[.-][0-9]", after) is not None
    is_doubtful = is_figure or _NOT_A_PHONE.search(before) or len(left + right) > _LONGEST_LABEL
    return UNSURE if is_doubtful else 1.0


_LONGEST_LABEL: Final = 9
"""Letters that may stand directly at a phone number: `telephone138…`."""
_TAIL_OF_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]*$")
_HEAD_OF_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]*")


def _weigh_card(place: _Place) -> float:
    if not is_card_number(re.sub("[ -]", "", place.text)) or re.search(r"[A-Z]{2}[0-9]{2} ?$", place.before):
        return 0.0  # behind a country's letters and two digits it is the rest of an IBAN
    return 1.0 if _CARD.search(place.before) else UNSURE


def _weigh_passport(place: _Place) -> float:
    return 1.0 if _PASSPORT.search(place.before) else UNSURE


def _weigh_email(place: _Place) -> float:
    is_call = place.after.startswith("(")
    return 0.0 if is_call or _NOBODYS.search(place.text) or _NOBODYS.search("x" + place.text) else 1.0


def _weigh_key(place: _Place) -> float:
    """A placeholder (`sk-xxxx…`) has no digit, and a name of many words no long part with one."""
    return float(
        any(re.search("[0-9]", part) and re.search("[A-Za-z]", part) for part in _KEY_PART.findall(place.text))
    )


_KEY_PART: Final = re.compile("[A-Za-z0-9_]{12,}")


def _sure(_: _Place) -> float:
    return 1.0


def _form(rule: str, pattern: str, weigh: Callable[[_Place], float] = _sure) -> _Form:
    return _Form(rule, re.compile(pattern), weigh)


_NUMBERS: Final = (
    _form("id-number:cn", r"(?<![0-9])[1-9][0-9]{5}(?:18|19|20)[0-9]{9}(?:[0-9](?![0-9])|[Xx])", _weigh_id_number),
    _form(
        "mobile:cn",
        r"(?<![0-9])(?:(?:\+|00)?86[ -]?)?1[3-9][0-9](?:[0-9]{8}|[ -][0-9]{4}[ -]?[0-9]{4})(?![0-9])",
        _weigh_mobile,
    ),
    _form(
        "bank-card",
        r"(?<![0-9A-Za-z.])(?<![0-9]-)[3-6](?:[0-9]{12,18}|[0-9]{3}(?:[ -][0-9]{4}){2,3}(?:[ -][0-9]{1,4})?)"
        r"(?![0-9A-Za-z]|[.-][0-9])",
        _weigh_card,
    ),
    _form(
        "passport:cn",
        r"(?<![A-Za-z0-9_.-])(?:[EG][0-9]{8}|E[A-HJ-NP-Z][0-9]{7}|[DSP]E[0-9]{7})(?![A-Za-z0-9_]|[.-][A-Za-z0-9])",
        _weigh_passport,
    ),
)
_EMAIL: Final = _form(
    "email",
    r"[A-Za-z0-9_%+-][A-Za-z0-9._%+-]{0,63}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9@-])",
    _weigh_email,
)
_JWT: Final = r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"
_KEYS: Final = (
    _form("key:openai", r"(?<![A-Za-z0-9_-])sk-[A-Za-z0-9_-]{20,}", _weigh_key),
    _form("key:stripe", r"(?<![A-Za-z0-9_-])[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _form("key:github", r"(?<![A-Za-z0-9_-])(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"),
    _form("key:gitlab", r"(?<![A-Za-z0-9_-])glpat-[A-Za-z0-9_-]{20,}"),
    _form("key:huggingface", r"(?<![A-Za-z0-9_-])hf_[A-Za-z0-9]{30,}"),
    _form("key:aws", r"(?<![A-Za-z0-9_-])A(?:KIA|SIA)[0-9A-Z]{16}(?![A-Za-z0-9])"),
    _form("key:aliyun", r"(?<![A-Za-z0-9_-])LTAI[0-9A-Za-z]{12,26}(?![A-Za-z0-9])", _weigh_key),
    _form("key:tencent", r"(?<![A-Za-z0-9_-])AKID[0-9A-Za-z]{32,}", _weigh_key),
    _form("key:google", r"(?<![A-Za-z0-9_-])AIza[0-9A-Za-z_-]{35}"),
    _form("key:slack", r"(?<![A-Za-z0-9_-])xox[abeoprs]-[0-9A-Za-z-]{10,}", _weigh_key),
    _form("token:jwt", _JWT),
    _form("key:private", r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----"),
)
_BEGINS_KEY: Final = re.compile(r"eyJ[A-Za-z0-9_-]{10,}")
_LONG_NUMBER: Final = re.compile(r"[0-9](?:[ -]?[0-9]){6}")
_LEAST_KEY: Final = 16
FORMS: Final = tuple((form.rule, form.pattern.pattern) for form in (*_NUMBERS, _EMAIL, *_KEYS))
"""What decides, for a policy's id."""


class PersonalDataScan:
    """A text that is searched for personal data."""

    def __init__(self, *, may_leave_words: bool = False) -> None:
        """Start before the first character. With `may_leave_words` a word that nothing announces is not held back."""
        self._may_leave_words = may_leave_words
        self._offset = 0
        self._recent = ""
        """The end of the text that was fed, as it was."""
        self._before = ""
        """What stands before the run."""
        self._run = ""
        self._places: list[int] = []
        """The offset of each character of the run."""
        self._is_whole = True
        """Whether the whole run is held back, even if it is a word so far."""
        self._may_be_key = True
        self._skipped = 0
        """Invisible characters since the last one of the run."""
        self._going_on: str | None = None
        """The rule of a key that is longer than a run: the rest of it is masked as it comes."""
        self._alphabet = _WORDS
        self._has_lines = False
        """Within a private key: whether a line of it was read."""
        self._final: list[Match] = []

    @property
    def safe_upto(self) -> int:
        """Where the run starts, or what of it is held back."""
        if not self._run:
            return self._offset
        place = self._held_from()
        return self._places[place] if place < len(self._run) else self._offset

    def take(self) -> Sequence[Match]:
        """Return what was found in the runs that ended."""
        if not self._final:
            return ()
        final, self._final = self._final, []
        return final

    def feed(self, text: str) -> None:
        """Read on."""
        place, end = 0, len(text)
        while place < end:
            if not self._run:
                start = self._alphabet.starts.search(text, place)
                if self._alphabet is _KEY_LINES and not _KEY_GAP.fullmatch(
                    text, place, start.start() if start else end
                ):
                    self._alphabet = _WORDS
                    continue
                if start is None:
                    break
                place = start.start()
                self._before = (self._recent + text[:place])[-_NEAR:]
            piece = self._alphabet.run.match(text, place)
            if piece:
                self._extend(piece.group(), self._offset + place)
                place = piece.end()
            else:
                self._read(text[place], self._offset + place)
                place += 1
        self._offset += end
        self._recent = (self._recent + text)[-_NEAR:]

    def finish(self) -> None:
        """Read the run that the text ends with."""
        self._close("")

    def _extend(self, piece: str, offset: int) -> None:
        """Add characters of the alphabet to the run."""
        if self._run.endswith(" ") and not _goes_on(self._run, piece[0]):
            self._close(" ")
        self._skipped = 0
        while piece:
            room = MAX_RUN - len(self._run)
            if not self._run:
                self._begin()
            self._run += piece[:room]
            self._places += range(offset, offset + min(room, len(piece)))
            if room <= len(piece):
                self._shed()
            piece, offset = piece[room:], offset + room

    def _begin(self) -> None:
        is_word = self._may_leave_words and self._alphabet is _WORDS and self._going_on is None
        self._is_whole = not is_word or _announces(self._before)
        self._may_be_key = True

    def _held_from(self) -> int:
        """Return the place in the run from where on it is held back: its length, while it is a word that may go."""
        run = self._run
        if self._is_whole or not run:
            return 0
        if self._may_be_key and (run[:4] in _KEY_HEADS or run.startswith("eyJ")):
            return 0
        if run.isalpha() and run.isascii():
            return len(run)
        letters = _LETTERS.match(run)
        return letters.end() if letters else 0

    def _read(self, char: str, offset: int) -> None:
        """Take a character that is none of the alphabet as it stands, but may count as some of it."""
        spelled = PLAIN[char]
        if not spelled:
            self._skipped += 1
            if self._skipped > _MAX_SKIPPED:
                self._close(char)
        for c in spelled:
            if c in self._alphabet.chars:
                self._extend_by(c, offset)
            elif c == " " and char != "\n" and self._may_gap():
                self._run += c
                self._places.append(offset)
            else:
                self._close(c)

    def _extend_by(self, char: str, offset: int) -> None:
        if not self._run:
            self._places = []
        self._extend(char, offset)

    def _may_gap(self) -> bool:
        run = self._run
        return (
            0 < len(run) < _KEPT
            and (run[-1].isdigit() or run.startswith("-----"))
            and self._going_on is None
            and run.count(" ") < _MAX_BLANKS
            and _GAPPED.search(run) is not None
        )

    def _close(self, following: str) -> None:
        """Read the run, which ends before this character."""
        run, places = self._run, self._places
        held_from = self._held_from()
        if run.endswith(" "):
            run, following = run[:-1], " "
        self._run, self._places, self._skipped = "", [], 0
        if not run:
            return
        if self._going_on is not None:
            self._add(self._going_on, places[0], places[len(run) - 1] + 1)
            self._going_on = None
        elif self._alphabet is _KEY_LINES:
            self._close_key_line(run, places, following)
        elif not (run.isalpha() and len(run) < _LEAST_KEY) and _HINT.search(run):
            self._search(run, places, following, held_from=held_from)

    def _close_key_line(self, run: str, places: list[int], following: str) -> None:
        """Mask a line of a private key; what cannot be one ends the key."""
        is_end = "-----END" in run
        if self._has_lines or is_end or len(run) >= _LEAST_KEY:
            self._has_lines = True
            self._add("key:private", places[0], places[len(run) - 1] + 1)
        else:
            self._search(run, places, following)
            is_end = True
        if is_end or not _KEY_GAP.fullmatch(following):
            self._alphabet = _WORDS

    def _shed(self) -> None:
        """Read a run that grew too long: what it ends with is kept, what began before that is decided."""
        run, places = self._run, self._places
        if self._going_on is None and self._alphabet is _KEY_LINES:
            self._going_on = "key:private"
        if self._going_on is not None:
            self._add(self._going_on, places[0], places[-1] + 1)
            self._run, self._places = "", []
            self._before = run[-_NEAR:]
            return
        cut, held_from = len(run) - _KEPT, self._held_from()
        for rule, start, end, score in self._found(run, "", is_cut=True):
            if start >= cut:
                break
            self._add(rule, places[max(start, held_from)], places[end - 1] + 1, score=score, text=run[start:end])
            if end == len(run):
                self._going_on = rule
            cut = max(cut, end)
        self._before = (self._before + run[:cut])[-_NEAR:]
        self._run, self._places = run[cut:], places[cut:]
        self._is_whole, self._may_be_key = held_from <= cut, False

    def _search(self, run: str, places: list[int], following: str, *, held_from: int = 0) -> None:
        for rule, start, end, score in self._found(run, following):
            self._add(rule, places[max(start, held_from)], places[end - 1] + 1, score=score, text=run[start:end])
            if rule == "key:private":
                self._alphabet, self._has_lines = _KEY_LINES, False

    def _found(self, run: str, following: str, *, is_cut: bool = False) -> list[tuple[str, int, int, float]]:
        """Return what is in a run from left to right: rule, start, end, score; what lies in another one is left out."""
        text, shift = self._before + run + following, len(self._before)
        found = []
        for form in _forms(run):
            for match in form.pattern.finditer(text, shift):
                start, end = match.span()
                if end > shift + len(run):
                    continue
                score = form.weigh(_Place(match.group(), text[max(0, start - _NEAR) : start], text[end:]))
                if score:
                    found.append((form.rule, start - shift, end - shift, score))
        if is_cut:
            begun = _BEGINS_KEY.search(run)
            if begun and begun.start() < len(run) - _KEPT and begun.end() == len(run):
                found.append(("token:jwt", begun.start(), len(run), 1.0))
        kept: list[tuple[str, int, int, float]] = []
        for one in sorted(found, key=lambda one: (one[1], -one[2], one[0])):
            if not kept or one[2] > kept[-1][2] or one[3] > kept[-1][3]:
                kept.append(one)
        return kept

    def _add(self, rule: str, start: int, end: int, *, score: float = 1.0, text: str = "") -> None:
        is_test = text.upper() == TEST_NUMBER
        self._final.append(
            Match(
                category=CATEGORY,
                rule="id-number:test" if is_test else rule,
                start=start,
                end=end,
                action=Action.MASK if is_test else None,
                score=score,
            )
        )


_KEY_GAP: Final = re.compile(r"[\s\\\"',]*")
"""What stands between the lines of a private key, also of one that is quoted."""


def _announces(before: str) -> bool:
    """Whether an address may be expected behind this."""
    if any(word in before for word in _ANNOUNCING):
        return True
    end = before.rstrip(" ([<\"'`")
    return end.endswith(_ANNOUNCING_LAST) or before.endswith(("<", "(", "（"))


def _goes_on(run: str, char: str) -> bool:
    """Whether a run that ends with a blank goes on with this character."""
    return char.isdigit() if run[-2].isdigit() else "A" <= char <= "Z"


def _forms(run: str) -> Iterator[_Form]:
    """Yield what may be in this run."""
    if _LONG_NUMBER.search(run):
        yield from _NUMBERS
    if "@" in run:
        yield _EMAIL
    if len(run) >= _LEAST_KEY:
        yield from _KEYS


class PersonalDataDetector:
    """Finds personal data."""

    name = "personal_data"

    def open(self, *, stage: Stage) -> PersonalDataScan:
        """Start a text."""
        return PersonalDataScan(may_leave_words=stage is Stage.OUTPUT)
