"""A guarded server in a real browser, which remembers the password and adds it to whatever a page sends there."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
from e2e.browser_lab import Visit, chromium
from e2e.server_lab import Server, batch, points, start_of
from playwright.sync_api import Page, expect

from tracker.store.store import SqlRunStore


class Guarded(NamedTuple):
    server: Server
    store: str
    page: Page


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with tokens, and a page of a browser in which somebody gave an admin's token as the password."""
    store = f"sqlite:///{tmp_path_factory.mktemp('browser') / 'tracker.db'}"
    with SqlRunStore.open(store) as runs:
        runs.append(batch("seen", 1, start_of("seen-run"), points(1, loss=0.5)))
        token = runs.tokens.create("me", "admin")
    with Server(store) as server, chromium() as browser:
        context = browser.new_context(http_credentials={"username": "anybody", "password": token})
        yield Guarded(server, store, context.new_page())


@contextmanager
def elsewhere(html: str) -> Iterator[str]:
    """The address of a page of another origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            """Tests say enough."""

    with ThreadingHTTPServer(("127.0.0.2", 0), Handler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.2:{other.server_port}/"
        finally:
            other.shutdown()
            thread.join()


def test_pages_work_with_a_password(guarded: Guarded) -> None:
    """With a token as the password, MLflow's pages show the store's runs, and nothing on them goes wrong."""
    visit = Visit(guarded.page, guarded.server.url)
    visit.go("/experiments/0")
    expect(guarded.page.get_by_text("seen-run").first).to_be_visible()
    visit.check()


def test_pages_elsewhere_get_and_do_nothing(guarded: Guarded) -> None:
    """A page of another origin can neither send a form nor read anything by script, frame or picture; a link may lead here."""
    visit, page, url = Visit(guarded.page, guarded.server.url), guarded.page, guarded.server.url
    html = f"""
        <form id="form" method="POST" action="{url}/api/v1/runs/seen/stop"></form><a href="{url}/">link</a>
        <iframe src="{url}/"></iframe><script src="{url}/api/v1/runs"></script><img src="{url}/metrics">
        <script>
            fetch("{url}/api/v1/runs/seen", {{method: "DELETE", credentials: "include"}}).catch(() => document.title = "refused")
        </script>"""
    with elsewhere(html) as address:
        page.goto(address)
        expect(page).to_have_title("refused")
        with page.expect_navigation():
            page.evaluate("document.getElementById('form').submit()")
        expect(page.locator("body")).to_contain_text("its pages may not ask here")
        assert f"403 GET {url}/" in visit.troubles  # the frame
        page.goto(address)
        page.get_by_text("link").click()
        expect(page).to_have_title(re.compile("MLflow"))
    with SqlRunStore.open(guarded.store) as store:
        run = store.get_run("seen")
        assert (run.deleted_ms, run.stop_requested) == (None, False)
