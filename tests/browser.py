"""Chromium without a window, for the tests of pages: a fresh profile each time, and no network but this machine's own.

What a page asks for elsewhere fails and stands among its errors, so a page without errors is one that works offline.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

NAMES = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"
ABSENT = "no Chromium with its driver on this machine: apt-get install chromium chromium-driver"
SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # for root, as whom continuous integration runs
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have a small one
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


class Browser:
    """A tab of Chromium; `driver` is Selenium's own handle, for what has no method here."""

    def __init__(self, program: str, driver: str, width: int = 1400, height: int = 1000) -> None:
        options = ChromeOptions()
        options.binary_location = program
        for switch in (*SWITCHES, f"--window-size={width},{height}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options=options, service=Service(driver))
        self._errors: list[str] = []

    def open(self, page: str | Path) -> None:
        """Load an address, or a file of this machine."""
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def errors(self) -> list[str]:
        """What the console has called an error since the start: of scripts, and of files that could not be loaded."""
        found = self.driver.get_log("browser")
        self._errors += [str(entry["message"]) for entry in found if entry["level"] == "SEVERE"]
        return list(self._errors)

    def dark(self, on: bool = True) -> None:
        """Prefer dark pages, or light ones; a page that is open changes at once."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def resize(self, width: int, height: int) -> None:
        """The page's own size in CSS pixels: 390 x 844 is a phone's, and no window can be that narrow."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def find(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self) -> str:
        """All that can be read on the page now."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def wait_for(self, *words: str, seconds: float = 60) -> str:
        """Wait until all words stand on the page; its text.

        Raises:
            AssertionError: not in time; it shows what stands there.
        """
        wait = WebDriverWait(self.driver, seconds, poll_frequency=0.2)
        try:
            wait.until(lambda _: all(word in self.text() for word in words))
        except Exception as trouble:
            missing = [word for word in words if word not in self.text()]
            raise AssertionError(f"no {missing} within {seconds} s on:\n{self.text()}\n{self.errors()}") from trouble
        return self.text()

    def picture(self, file: Path) -> None:
        """What the window shows, as PNG."""
        assert self.driver.save_screenshot(str(file)), file


def programs() -> tuple[str, str] | None:
    """The paths of Chromium and of its driver; None where one is absent."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which(DRIVER)
    return (found, driver) if found and driver else None


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A fresh profile; the test is skipped where there is no Chromium."""
    paths = programs()
    if paths is None:
        pytest.skip(ABSENT)
    browser = Browser(*paths)
    yield browser
    browser.driver.quit()
