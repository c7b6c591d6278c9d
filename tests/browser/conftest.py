"""A served Haina and a real Chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.fakes.served import Served

SCRIPT = """
default = "All rivers run into the sea."
tokens_per_s = 60

[[rules]]
pattern = "long"
reply = "LONG"

[[rules]]
pattern = "leak"
reply = "Before it: haina-blocked-test-phrase and after it."

[[rules]]
pattern = "die"
reply = "one two three four"
fault = "died"
fault_after = 2

[[rules]]
pattern = "markup"
reply = '''<img src=x onerror="document.title='owned'"> and <script>document.title='owned'</script>

Inline $a^2$ and \\(b^2\\), then:

$$c^2$$

\\[d^2\\]

```python
print("hi")
```
'''
"""
expect.set_options(timeout=30_000)
LONG = " ".join(f"word{n}" for n in range(120))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium, gone with its module: Playwright keeps a loop running in this thread for as long as it lives."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no Chromium; tests/system-packages installs it")
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-background-networking", "--disable-gpu"]
        )
        yield one
        one.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A scripted Haina for all tests that leave it alive; each test is a guest of its own."""
    one = scripted(tmp_path_factory.mktemp("served")).start()
    yield one
    one.kill()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Served]:
    """A scripted Haina that may be killed."""
    one = scripted(tmp_path).start()
    yield one
    one.kill()


def scripted(folder: Path) -> Served:
    script = folder / "script.toml"
    script.write_text(SCRIPT.replace("LONG", LONG), encoding="utf-8")
    return Served(folder / "data", settings={"HAINA_ENGINE__URL": f"scripted:{script}"})


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a page of a fresh visitor who reads English."""
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 800})
    one = context.new_page()
    one.set_default_timeout(30_000)
    yield one
    context.close()
