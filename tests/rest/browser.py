"""Chromium, driven as a person would, and all that it asked for."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import element_to_be_clickable, visibility_of_element_located
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

_PATIENCE = 60  # s; long, so that it only ends what would never come


def missing() -> str:
    """Which of the two programs that are needed is not installed, if one is not (Debian: chromium, chromium-driver)."""
    return ", ".join(name for name in ("chromium", "chromedriver") if not shutil.which(name))


class Page:
    """A page in the browser. What is looked for is waited for."""

    def __init__(self, chrome: Chrome) -> None:
        self._chrome = chrome
        self._wait: WebDriverWait[Chrome] = WebDriverWait(chrome, _PATIENCE, poll_frequency=0.05)

    def open(self, url: str) -> None:
        self._chrome.get(url)

    def find(self, selector: str) -> WebElement:
        """The first element that is visible and matches."""
        found: WebElement = self._wait.until(visibility_of_element_located((By.CSS_SELECTOR, selector)))
        return found

    def click(self, selector: str) -> None:
        self._wait.until(element_to_be_clickable((By.CSS_SELECTOR, selector)))
        # By script: what is clickable may still lie under the page's own header for a moment, while it scrolls.
        self._chrome.execute_script("arguments[0].click()", self.find(selector))

    def fill(self, selector: str, text: str) -> None:
        """Put a text in the place of what is in a field, or choose it."""
        field = self.find(selector)
        if field.tag_name == "select":
            Select(field).select_by_visible_text(text)
            return
        field.clear()
        field.send_keys("")  # goes there
        self._chrome.execute_cdp_cmd("Input.insertText", {"text": text})  # as pasting does
        field.send_keys(Keys.TAB)  # a field that waits until nobody types any more is done when it is left

    def emulate(self, width: int, scheme: str) -> None:
        """Have the width of a phone (a window cannot be so narrow), and a preferred color scheme."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self._chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def evaluate(self, script: str, *arguments: str) -> Any:
        """Run a script in the page and return its value."""
        return self._chrome.execute_script(script, *arguments)

    def evaluate_async(self, script: str) -> Any:
        """Run a script that calls its last argument with its value."""
        self._chrome.set_script_timeout(_PATIENCE)
        return self._chrome.execute_async_script(script)

    def scroll_to(self, selector: str) -> None:
        """Have what matches at the top of the window."""
        self._chrome.execute_script("arguments[0].scrollIntoView(true)", self.find(selector))

    def screenshot(self, path: str) -> None:
        assert self._chrome.save_screenshot(path)

    def said(self) -> list[str]:
        """What the console says, warnings included, since it was last asked."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._log("browser")]

    def asked_for(self) -> list[str]:
        """The URLs of all requests, since it was last asked; what is written into a page (data:) is none."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        urls = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")]

    def _log(self, kind: str) -> list[Any]:
        entries: list[Any] = self._chrome.get_log(kind)  # type: ignore[no-untyped-call]  # selenium gives no types
        return entries


@contextmanager
def browsing(width: int = 1280, height: int = 1000) -> Iterator[Page]:
    """A new browser without a past, until the block is left."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},{height}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to make one for root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield Page(chrome)
    finally:
        chrome.quit()
