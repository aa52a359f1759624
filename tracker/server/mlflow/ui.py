"""MLflow's web pages, served from the installed package's folder, so that they work before MLflow is loaded."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from tracker.domain.extras import how_to_install
from tracker.server.mlflow import mlflow_errors

STATIC = "/static-files/"
_HASHED = re.compile(r"\.[0-9a-f]{8,}\.")
_YEAR = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"

# Defaults of the page in the browser's storage, unless the user chose otherwise: it opens on trainings rather than on
# traces of language models, and without the panel of an assistant that this server does not have.
_DEFAULTS = b"""<script>for (const [key, value] of [["mlflow.workflowType_v1", '"machine_learning"'],
["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"]])
try { localStorage.getItem(key) ?? localStorage.setItem(key, value) } catch {}</script>"""

_MISSING = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Tracker</title>
<body style="font: 16px/1.5 sans-serif; max-width: 40em; margin: 4em auto">
<h1>The server runs. Its pages are not installed.</h1>
<p>The web pages are MLflow's. Install them where the server runs, and start it again:</p>
<pre>{how_to_install("mlflow")}</pre>
<p>Until then runs are recorded, and the API and the command <code>tracker</code> work:
<a href="api/v1/runs">runs</a>, <a href="api/v1/openapi.json">API</a>.</p>
""".encode()


@cache
def build_folder() -> Path | None:
    """The folder of MLflow's pages, None if MLflow is not installed. MLflow is not imported."""
    try:
        found = importlib.util.find_spec("mlflow")
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "server" / "js" / "build"
    return folder if (folder / "index.html").is_file() else None


class Pages:
    """Serves `/` and `/static-files/…`. `opened` is called when a user opens the page."""

    def __init__(self, opened: Callable[[], None]) -> None:
        self._opened = opened
        folder = build_folder()
        self._files = None if folder is None else StaticFiles(directory=folder)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            document = mlflow_errors.document("BAD_REQUEST", f"{path} is only for GET")
            await mlflow_errors.ErrorBody(405, document).send(send)
        elif self._files is None:
            page: Response = HTMLResponse(_MISSING, 200 if path == "/" else 404, {"Cache-Control": _ASK_AGAIN})
            await page(scope, receive, send)
        else:
            if path == "/":
                self._opened()
            response = _page() if path == "/" else await self._file(self._files, path, scope)
            response.headers["X-Content-Type-Options"] = "nosniff"
            await response(scope, receive, send)

    async def _file(self, files: StaticFiles, path: str, scope: Scope) -> Response:
        name = path.removeprefix(STATIC)
        try:
            response = await files.get_response(os.path.normpath(name), scope)
        except HTTPException as error:
            return Response(status_code=error.status_code)
        response.headers["Cache-Control"] = _YEAR if _HASHED.search(name) else _ASK_AGAIN
        return response


def _page() -> Response:
    folder = build_folder()
    assert folder is not None
    page = (folder / "index.html").read_bytes().replace(b"<head>", b"<head>" + _DEFAULTS, 1)
    framing = {"X-Frame-Options": "SAMEORIGIN", "Content-Security-Policy": "frame-ancestors 'self'"}
    return HTMLResponse(page, headers={"Cache-Control": _ASK_AGAIN, **framing})
