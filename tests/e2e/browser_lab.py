"""What the browser tests share: a real Chromium, and a page that remembers everything that went wrong on it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""Where the pictures go that the tests take; they are output, not compared."""
SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)

# Features of MLflow that a tracking server of runs does not have; its pages ask for them anyhow and take a 404.
_ABSENT = re.compile(r"/(users/current|assistant/)")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, else the one that Playwright installed."""
    path = next((found for name in SYSTEM if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--use-gl=swiftshader"])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page, and what went wrong on it: error messages, failed requests, answers that say failure."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self._base = base
        self.troubles: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        page.on("response", self._look_at)
        page.on("requestfailed", lambda request: self._failed(request.url, request.failure or ""))
        page.on("console", lambda message: self._console(message.type, message.text))

    def _look_at(self, response: Response) -> None:
        absent = response.status == 404 and _ABSENT.search(response.url)
        if response.status >= 400 and not absent:
            self.troubles.append(f"{response.status} {response.request.method} {response.url}")

    def _failed(self, url: str, why: str) -> None:
        # A page that is left aborts what it was loading; what is outside this machine is not the server's.
        if "ERR_ABORTED" not in why and url.startswith(self._base):
            self.troubles.append(f"failed: {url} {why}")

    def _console(self, kind: str, text: str) -> None:
        # That a resource was not found is said of the request itself, by its address; that a chart was resized while
        # it was drawn is Chromium's remark, and no error.
        if kind == "error" and "Failed to load resource" not in text and "ResizeObserver loop" not in text:
            self.troubles.append(f"console: {text}")

    def go(self, route: str) -> Page:
        """Open a route of the UI."""
        self.page.goto(f"{self._base}/#{route}")
        return self.page

    def shot(self, name: str) -> None:
        """Keep a picture of the page as it is."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def check(self) -> None:
        """Nothing went wrong, and no box on the page says that something did."""
        assert not self.troubles, "\n".join(self.troubles)
        text = self.page.inner_text("body")
        found = re.search(
            r".*(load error|can't load|failed to|went wrong|server error|an error|not valid JSON).*", text, re.I
        )
        found = found or re.search(
            r".*[A-Z]+_(NOT_FOUND|ERROR|VALUE|EXIST|DENIED|IMPLEMENTED|STATE|UNAVAILABLE)\b.*", text
        )
        assert found is None, found and found[0]


@contextmanager
def visit(browser: Browser, base: str) -> Iterator[Visit]:
    """A new page in a browser context of its own."""
    context = browser.new_context(viewport={"width": 1500, "height": 950}, base_url=base)
    page = context.new_page()
    try:
        yield Visit(page, base)
    finally:
        context.close()
