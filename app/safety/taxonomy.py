"""The 31 classes of GB/T 45654-2025, in five groups.

A frame for lists, banks and reports; the filter acts by categories. Source: TC260-003, annex A, whose classes the
standard kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class SafetyClass:
    """One class, such as `A1.d`."""

    id: str
    group: str
    """`A1` to `A5`."""
    zh: str
    en: str


_CLASSES: Final = (
    ("A1.a", "煽动颠覆国家政权、推翻社会主义制度", "subversion"),
    ("A1.b", "危害国家安全和利益、损害国家形象", "national security and image"),
    ("A1.c", "煽动分裂国家、破坏国家统一和社会稳定", "separatism, stability"),
    ("A1.d", "宣扬恐怖主义、极端主义", "terrorism, extremism"),
    ("A1.e", "宣扬民族仇恨", "ethnic hatred"),
    ("A1.f", "宣扬暴力、淫秽色情", "violence, obscenity"),
    ("A1.g", "传播虚假有害信息", "false harmful information"),
    ("A1.h", "其他法律、行政法规禁止的内容", "otherwise prohibited"),
    ("A2.a", "民族歧视内容", "ethnicity"),
    ("A2.b", "信仰歧视内容", "belief"),
    ("A2.c", "国别歧视内容", "nationality"),
    ("A2.d", "地域歧视内容", "region"),
    ("A2.e", "性别歧视内容", "gender"),
    ("A2.f", "年龄歧视内容", "age"),
    ("A2.g", "职业歧视内容", "occupation"),
    ("A2.h", "健康歧视内容", "health"),
    ("A2.i", "其他方面歧视内容", "other discrimination"),
    ("A3.a", "侵犯他人知识产权", "intellectual property"),
    ("A3.b", "违反商业道德", "business ethics"),
    ("A3.c", "泄露他人商业秘密", "trade secrets"),
    ("A3.d", "利用算法、数据、平台等优势，实施垄断和不正当竞争行为", "monopoly, unfair competition"),
    ("A3.e", "其他商业违法违规行为", "other commercial offences"),
    ("A4.a", "危害他人身心健康", "physical and mental health"),
    ("A4.b", "侵害他人肖像权", "portrait"),
    ("A4.c", "侵害他人名誉权", "reputation"),
    ("A4.d", "侵害他人荣誉权", "honour"),
    ("A4.e", "侵害他人隐私权", "privacy"),
    ("A4.f", "侵害他人个人信息权益", "personal information"),
    ("A4.g", "侵犯他人其他合法权益", "other rights"),
    ("A5.a", "内容不准确，严重不符合科学常识或主流认知", "inaccurate"),
    ("A5.b", "内容不可靠，虽然不包含严重错误的内容，但无法对使用者形成帮助", "unreliable"),
)

CLASSES: Final[Mapping[str, SafetyClass]] = MappingProxyType(
    {name: SafetyClass(name, name.partition(".")[0], zh, en) for name, zh, en in _CLASSES}
)
"""By id, in the order of the standard."""
