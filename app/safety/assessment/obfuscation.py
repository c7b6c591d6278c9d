"""What people do to a phrase so that a filter does not know it any more.

Each kind is a function of a phrase and a source of chance; the chance of a phrase depends on nothing but the phrase, so
a pair stays the same when others come or go. Some kinds the filter undoes, some it does not: `haina safety eval` says
which, by trying.
"""

import random
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from app.domain.verdicts import Action, Stage
from app.safety.assessment.bank import Bank, Expectation, Question
from app.safety.policy import Policy

OBFUSCATED: Final = "obfuscated"
"""The name of the bank that is made of a policy's lists."""

_LEET: Final = str.maketrans({"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7"})
_LOOK_ALIKES: Final = str.maketrans("aceiopxy", "асеіорху")
"""Latin letters and the Cyrillic ones that look the same."""
_TRADITIONAL: Final = str.maketrans(
    "测语试纳炼买现货贩发运药购话钱钞币证联办伪护骗术诈脚写帮杀猪盘盗银车抢该犹恋残应灭贱视频载资说爱萝个样无会"
    "烧约书遗迹处击袭动规绑弹枪纸图体划里台制后国门东这们为产业见长电马龙头儿号网页赌党独习战军恶乱学气卖进边过还"
    "时对开关机问间听让谁请计订认识设访诉评词译详调谈谋谢"
    "乡传农别务单历员实岁录换数检滚环码穷窃组织给络绝编脱脸虚记账贿赛软轻远钓键韩验鱼黄卫",
    "測語試納煉買現貨販發運藥購話錢鈔幣證聯辦偽護騙術詐腳寫幫殺豬盤盜銀車搶該猶戀殘應滅賤視頻載資說愛蘿個樣無會"
    "燒約書遺跡處擊襲動規綁彈槍紙圖體劃裡臺製後國門東這們為產業見長電馬龍頭兒號網頁賭黨獨習戰軍惡亂學氣賣進邊過還"
    "時對開關機問間聽讓誰請計訂認識設訪訴評詞譯詳調談謀謝"
    "鄉傳農別務單歷員實歲錄換數檢滾環碼窮竊組織給絡絕編脫臉虛記賬賄賽軟輕遠釣鍵韓驗魚黃衛",
)
"""The characters of our lists and the commonest others; not a whole table."""
_ALIKE: Final = """
    杀沙sha 毒独du 炸诈zha 弹蛋dan 枪腔qiang 冰兵bing 死丝si 尸诗shi 骗片pian 钱前qian 币必bi 证正zheng
    假甲jia 色瑟se 情晴qing 裸洛luo 幼诱you 童桐tong 抢墙qiang 劫杰jie 偷投tou 盗到dao 刷耍shua 洗西xi
    药要yao 麻马ma 因音yin 芬分fen 买麦mai 贩饭fan 运晕yun 语雨yu 禁金jin 绑榜bang 架嫁jia 恐孔kong 怖布bu
    袭习xi 腕碗wan 割哥ge 炭碳tan 烧梢shao 遗仪yi 书叔shu 燃然ran 瓶平ping 雇故gu 凶兄xiong 黑嘿hei 犹由you
    穆木mu 斯司si 残惨can 劣列lie 贱件jian 诈炸zha 伪为wei 盘攀pan 猪朱zhu 卡咖ka 恋链lian 炼练lian
    听厅ting 迷谜mi 自字zi 图土tu 外歪wai 地弟di 女钕nv 同铜tong 白百bai 车扯che 灭篾mie 沙纱sha
    人仁ren 配佩pei 嫖瓢piao 衣依yi 性姓xing
"""
_SOUNDS: Final[Mapping[str, tuple[str, str]]] = {entry[0]: (entry[2:], entry[1]) for entry in _ALIKE.split()}
"""A character, its syllable without the tone, and another character that sounds like it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A phrase, and what somebody may write instead of it."""

    kind: str
    plain: str
    text: str


_Disguise = Callable[[str, random.Random], str]


def _is_han(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff"


def _each(phrase: str, change: Callable[[str], str]) -> str:
    """Change every character but the blanks."""
    return "".join(char if char == " " else change(char) for char in phrase)


def _between(phrase: str, *, what: Callable[[], str], only_han: bool = False) -> str:
    """Put something between neighbours, words left apart."""
    pieces = [phrase[:1]]
    for before, char in pairwise(phrase):
        fits = before != " " != char and (not only_han or (_is_han(before) and _is_han(char)))
        pieces += [what() if fits else "", char]
    return "".join(pieces)


def _spaced(phrase: str, _: random.Random) -> str:
    return _between(phrase, what=lambda: " ", only_han=True)


def _spaced_letters(phrase: str, _: random.Random) -> str:
    """Leave Chinese alone: `spaced` is its kind."""
    return _between(phrase.replace(" ", "   "), what=lambda: " ") if phrase.isascii() else phrase


def _in_words(phrase: str, change: Callable[[str, int], str]) -> str:
    """Change each word of two characters and more, given a place within it; Chinese is one word."""
    return " ".join(change(word, len(word) // 2) if len(word) > 1 else word for word in phrase.split(" "))


def _upper(phrase: str, draw: random.Random) -> str:
    return _each(phrase, lambda char: char.upper() if draw.random() < 0.5 else char)  # noqa: PLR2004 — half of them


def _line_breaks(phrase: str, _: random.Random) -> str:
    return _between(phrase, what=lambda: "\n", only_han=True).replace(" ", "\n")


def _styled(char: str) -> str:
    """Return a letter as mathematics has it in bold."""
    return chr(0x1D41A + ord(char) - ord("a")) if "a" <= char <= "z" else char


KINDS: Final[Mapping[str, _Disguise]] = {
    "full_width": lambda phrase, _: _each(phrase, lambda char: chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char),
    "mixed_case": _upper,
    "styled_letters": lambda phrase, _: _each(phrase, _styled),
    "accents": lambda phrase, _: unicodedata.normalize(
        "NFC", _each(phrase, lambda char: f"{char}\u0301" if char in "aeiou" else char)
    ),
    "combining_marks": lambda phrase, draw: _each(phrase, lambda char: char + draw.choice("\u0301\u0334\u0489\u20dd")),
    "zero_width": lambda phrase, draw: _between(phrase, what=lambda: draw.choice("\u200b\u200c\u200d\u2060\u00ad")),
    "variation_selectors": lambda phrase, draw: _each(
        phrase, lambda char: char + draw.choice("\ufe0e\ufe0f\U000e0100")
    ),
    "bidi_marks": lambda phrase, draw: _between(
        phrase, what=lambda: draw.choice("\u200e\u200f\u202a\u202c\u2066\u2069")
    ),
    "separators": lambda phrase, draw: _between(phrase, what=lambda: draw.choice("-·/|、.~"), only_han=True),
    "line_breaks": _line_breaks,
    "markdown": lambda phrase, _: _in_words(phrase, lambda word, at: f"{word[:at]}**{word[at:]}**"),
    "traditional": lambda phrase, _: phrase.translate(_TRADITIONAL),
    "spaced": _spaced,
    "spaced_letters": _spaced_letters,
    "dotted_letters": lambda phrase, _: _in_words(phrase, lambda word, _: ".".join(word) if word.isascii() else word),
    "leet": lambda phrase, _: phrase.translate(_LEET),
    "look_alikes": lambda phrase, _: phrase.translate(_LOOK_ALIKES),
    "html_entities": lambda phrase, _: _each(phrase, lambda char: f"&#{ord(char)};"),
    "html_tags": lambda phrase, _: _in_words(phrase, lambda word, at: f"{word[:at]}<b></b>{word[at:]}"),
    "bidi_reversed": lambda phrase, _: f"\u202e{phrase[::-1]}\u202c",
    "homophones": lambda phrase, _: _each(phrase, lambda char: _SOUNDS[char][1] if char in _SOUNDS else char),
    "pinyin": lambda phrase, _: _each(phrase, lambda char: _SOUNDS[char][0] if char in _SOUNDS else char),
}
"""What is done, by name."""


def pairs(phrases: Iterable[str]) -> Iterator[Pair]:
    """Yield each phrase in every kind that changes it."""
    for phrase in phrases:
        for kind, disguise in KINDS.items():
            text = disguise(phrase, random.Random(f"{kind}:{phrase}"))  # noqa: S311 — no secret hangs on it
            if text != phrase:
                yield Pair(kind, phrase, text)


def refused_phrases(policy: Policy) -> list[str]:
    """Return the phrases that the policy refuses in a question, each once, in order."""
    refused: set[str] = set()
    for phrase in policy.phrases():
        by_rules = policy.action(phrase.category, stage=Stage.INPUT, score=phrase.score)
        action = by_rules if phrase.action is None else phrase.action
        if action >= Action.REFUSE:
            refused.add(phrase.text)
    return sorted(refused)


def obfuscated_bank(policy: Policy) -> Bank:
    """Return a bank of all that the policy's lists refuse in a question, disguised."""
    return Bank(
        name=OBFUSCATED,
        questions=tuple(Question(pair.text, pair.kind, Expectation.REFUSE) for pair in pairs(refused_phrases(policy))),
        source="made from the policy's lists",
        is_made=True,
    )
