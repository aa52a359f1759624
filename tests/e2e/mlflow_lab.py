"""What the tests of MLflow over HTTP share: the genuine server, and requests that are made of several servers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from e2e.children import eventually
from e2e.server_lab import DEADLINE_S, Answer, free_port

API = "/api/2.0/mlflow/"
AJAX = "/ajax-api/2.0/mlflow/"


class Genuine:
    """`mlflow server` on a SQLite file of its own, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={**os.environ, **quiet},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._answers, within=2 * DEADLINE_S, said=(self._folder / "log").read_text)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            return ask(self.url, "GET", "/health").status == 200
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        # Its workers are children of their own, which outlive it if they are not told.
        os.killpg(self._process.pid, 9)
        self._process.wait(DEADLINE_S)


def ask(
    url: str, method: str, path: str, body: Any = None, query: Any = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request; `body` is bytes, or what is sent as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} if data is not None else {}
    target = url + path + (f"?{urlencode(query, doseq=True)}" if query else "")
    request = Request(target, data, {**sent, **(headers or {})}, method=method)
    try:
        with urlopen(request, timeout=DEADLINE_S) as response:
            return Answer(response.status, _lower(response.headers), response.read())
    except HTTPError as error:
        with error:
            return Answer(error.code, _lower(error.headers), error.read())


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A request of a scenario. `$name` in it is what an earlier step's `keep` found in its answer at a dotted place."""

    name: str
    method: str = "POST"
    path: str
    body: Any = None
    query: Any = None
    keep: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    ours: str = ""
    """Why the message of the error is in our words."""


def play(url: str, steps: Sequence[Step]) -> dict[str, tuple[int, Any]]:
    """The status and the answer of each step; ids that were kept are written as their names again."""
    known: dict[str, str] = {}
    answers: dict[str, tuple[int, Any]] = {}
    for step in steps:
        reply = ask(
            url,
            step.method,
            _filled(step.path, known),
            _filled(step.body, known),
            _filled(step.query, known),
            step.headers,
        )
        try:
            found = json.loads(reply.body)
        except ValueError:
            found = reply.body.decode("utf-8", "replace")
        for name, place in (step.keep or {}).items():
            value = found
            for part in place.split("."):
                value = value[int(part) if part.isdecimal() else part]
            known[name] = str(value)
        assert step.name not in answers
        answers[step.name] = reply.status, _plain(found, {value: f"${name}" for name, value in known.items()})
    return answers


def _ours(key: str) -> bool:
    return key.startswith("tracker.") or key == "mlflow.experimentKind"


def _filled(given: Any, known: Mapping[str, str]) -> Any:
    if isinstance(given, str):
        return re.sub(r"\$(\w+)", lambda found: known[found[1]], given)
    if isinstance(given, dict):
        return {key: _filled(value, known) for key, value in given.items()}
    if isinstance(given, list):
        return [_filled(value, known) for value in given]
    return given


_WITHOUT = {"workspace"}
_LARGEST = 1.7976931348623157e308
_TIMES_AND_TOKENS = {
    "creation_time": "TIME",
    "last_update_time": "TIME",
    "creation_timestamp_ms": "TIME",
    "last_updated_timestamp_ms": "TIME",
    "next_page_token": "TOKEN",
}


def _plain(found: Any, names: Mapping[str, str]) -> Any:
    """An answer without what differs from server to server: ids, times of the server's clock, tokens, our own tags."""
    if isinstance(found, dict):
        plain = {
            key: _TIMES_AND_TOKENS.get(key)
            or (names.get(value) if key == "experiment_id" else None)
            or _plain(value, names)
            for key, value in found.items()
            if key not in _WITHOUT
        }
        # Empty is what our own tags were all of; and MLflow says {} where a run has no outputs, but not always.
        return {
            key: value
            for key, value in plain.items()
            if not (value == [] and found[key]) and not (key == "outputs" and value == {})
        }
    if isinstance(found, list):
        kept = [one for one in found if not (isinstance(one, dict) and _ours(str(one.get("key"))))]
        plain_list = [_plain(one, names) for one in kept]
        # The order of what has keys, but for points of one metric, means nothing.
        keys = [one.get("key") for one in plain_list if isinstance(one, dict)]
        return sorted(plain_list, key=lambda one: str(one["key"])) if all(keys) and len(set(keys)) > 1 else plain_list
    if isinstance(found, float) and abs(found) == _LARGEST:
        return "Infinity" if found > 0 else "-Infinity"  # MLflow's SQL store knows no infinity
    if isinstance(found, str):
        for value, name in names.items():
            if len(value) > 8:
                found = found.replace(value, name)
            else:
                found = re.sub(rf"(mlflow-artifacts:/|experiment ){value}\b", rf"\1{name}", found)
    return found
