"""The proof that nothing leaks, as a person sees it: the page's text at each change, however the answer was cut."""

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conversing import ask, last_answer, open_chat
from tests.fakes.served import Served

MARK = "§§"
PLANTED = ("海纳测试禁语", "haina-blocked-test-phrase", "海 纳 测 试 禁 语", "11010519491231002X")
CUTS = 20
WATCH = f"""
window.seen = [];
document.addEventListener("DOMContentLoaded", () => {{
  const look = () => {{
    const text = document.body.textContent;
    if (text.includes("{MARK}") && window.seen.at(-1) !== text) window.seen.push(text);
  }};
  new MutationObserver(look).observe(document, {{subtree: true, childList: true, characterData: true}});
}});
"""


def script() -> str:
    lines = ["tokens_per_s = 150", "tokens_per_delta = [1, 5]", "seed = 5"]
    for number in range(CUTS):
        planted = PLANTED[number % len(PLANTED)]
        reply = (
            f"{'水' * (number + 1)} and {MARK} {planted} 之后 after."  # each begins one token later, and is cut anew
        )
        lines += ["[[rules]]", f'pattern = "^case {number}$"', f'reply = "{reply}"']
    return "\n".join(lines)


def test_the_page_never_shows_the_beginning_of_what_is_refused_or_masked(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "script.toml"
    file.write_text(script(), encoding="utf-8")
    served = Served(tmp_path / "data", settings={"HAINA_ENGINE__URL": f"scripted:{file}"}).start()
    try:
        page.add_init_script(WATCH)
        for number in range(CUTS):
            open_chat(page, served)
            ask(page, f"case {number}")
            planted = PLANTED[number % len(PLANTED)]
            is_masked = planted.isalnum() and planted.isascii()
            expect(last_answer(page)).to_have_attribute("data-state", "complete" if is_masked else "blocked")
            seen = page.evaluate("window.seen")
            assert seen, number
            for text in seen:
                for rest in text.split(MARK)[1:]:
                    assert not rest.lstrip().startswith(planted[0]), (number, rest[:40])
    finally:
        served.kill()
    assert "Traceback" not in "".join(served.output)
