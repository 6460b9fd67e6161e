"""The browser of the page tests sees what a reader would see."""

import time
from pathlib import Path

from browser import Browser

PAGE = """<!doctype html><meta name="color-scheme" content="light dark"><title>page</title>
<p id="scheme"></p><button onclick="missing()">press</button>
<script>
const dark = matchMedia("(prefers-color-scheme: dark)");
const show = () => { document.getElementById("scheme").textContent = dark.matches ? "at night" : "by day"; };
dark.addEventListener("change", show); show();
</script>
"""


def test_it_shows_a_page_by_day_and_at_night_and_hears_of_a_script_that_fails(tmp_path: Path, browser: Browser) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE)
    browser.open(page)
    browser.wait_for("by day")
    assert browser.errors() == []
    browser.dark()
    browser.wait_for("at night")
    browser.resize(390, 844)
    assert browser.driver.execute_script("return innerWidth") == 390
    browser.find("button")[0].click()
    assert "missing is not defined" in " ".join(browser.errors())


def test_what_a_page_asks_the_network_for_is_an_error(tmp_path: Path, browser: Browser) -> None:
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><title>page</title><script src="https://example.org/script.js"></script>')
    browser.open(page)
    # the console hears of it after the page has opened
    until = time.monotonic() + 30
    while not browser.errors() and time.monotonic() < until:
        time.sleep(0.2)
    assert "https://example.org/script.js" in " ".join(browser.errors())
