"""Every route is sent wrong types, hostile texts and swelling bodies by every role: the server is never at fault.

FUZZ_SECONDS=n asks for so long (`make fuzz`: three minutes); FIELD_SEED=n draws the same requests again.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import pytest
import zstandard
from draws import SEED, databases
from e2e.mlflow_lab import API
from e2e.server_lab import Server

from tracker.store.store import SqlRunStore
from tracker.store.tokens import Role

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 12)
ROLES: tuple[Role | None, ...] = (None, "viewer", "writer", "admin")
pytestmark = pytest.mark.timeout(120 + 3 * SECONDS)

TEXTS = ("", "x", "0", "-1", "9" * 30, "../../etc/passwd", "%2e%2e", "a\x00b", "é", "\ud800", "%" * 50 + "z", "' OR 1=1",
         "s3://a/b", "file:///etc", "x" * 100_000, "{}", "nan")  # fmt: skip
FIELDS = """name run_id run_uuid experiment_id experiment_ids key value metric_key tags tag params metrics version alias
    source filter max_results page_token order_by model_id status stage path run_ids datasets inputs outputs dataset_id
    request_id trace_id start_time end_time view_type user_id query variables operationName limit format run
    timestamp step""".split()
"""What MLflow's clients and ours send; a wrong type of something known goes further than an unknown name."""


_SWELLS = zstandard.compress(bytes(80_000_000))


class Draws:
    """Requests at random."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        kind = self._random.randrange(9 if depth < 3 else 6)
        if kind < 2:
            return self._random.choice(TEXTS)
        if kind < 6:
            return self._random.choice((None, True, 0, 1, -1, 2**63, 1e308, 1.5))
        if kind < 8:
            return [self.value(depth + 1) for _ in range(self._random.randrange(4))]
        return self.fields(depth + 1)

    def fields(self, depth: int = 0) -> dict[str, Any]:
        return {name: self.value(depth) for name in self._random.sample(FIELDS, self._random.randrange(8))}

    def path(self, template: str) -> str:
        """A route's path with its parameters filled."""
        return re.sub(r"<[^>]*>|\{[^}]*\}", lambda _: quote(self.text(200), safe="", errors="replace") or "x", template)

    def text(self, most: int) -> str:
        return str(self._random.choice(TEXTS))[:most]

    def query(self) -> str:
        fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.fields().items()}
        return urlencode({name: value[:2000] for name, value in fields.items()}, errors="replace")

    def body(self) -> tuple[bytes, dict[str, str]]:
        kind = self._random.randrange(12)
        if kind == 0:
            return _SWELLS, {"Content-Encoding": "zstd", "Content-Type": "application/msgpack"}
        if kind == 1:
            return self._random.randbytes(300), {
                "Content-Type": self._random.choice(("application/json", "text/plain"))
            }
        if kind == 2:
            return b"[" * 100_000, {"Content-Type": "application/json"}
        given = self.fields() if kind > 3 else self.value()
        return json.dumps(given).encode(), {"Content-Type": "application/json"}

    def one(self, routes: list[tuple[str, str]]) -> tuple[str, str, bytes | None, dict[str, str]]:
        """Method, path, body and headers."""
        method, template = self._random.choice(routes)
        path = self.path(template)
        if method in ("GET", "HEAD"):
            return method, f"{path}?{self.query()}", None, {}
        return method, path, *self.body()


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, str]]:
    """The methods and paths of MLflow's own application."""
    from mlflow.server import app

    return sorted({(m, rule.rule) for rule in app.url_map.iter_rules() for m in (rule.methods or ()) if m != "OPTIONS"})


@pytest.fixture
def server(any_url: str, tmp_path: Path) -> Iterator[Server]:
    """A server with one run."""
    with Server(any_url, cwd=tmp_path) as server:
        yield server


def told(store: SqlRunStore) -> list[Any]:
    """What the store has, as far as a list of its runs tells."""
    return [(run, store.params(run.id), store.tags(run.id)) for run in store.search_runs(limit=1000).runs]


@pytest.mark.parametrize("any_url", databases("fuzz"), indirect=True)
def test_no_request_is_the_servers_fault(server: Server, any_url: str, routes: list[tuple[str, str]]) -> None:
    """No 5xx but for what MLflow has and we have not; the health check answers in a second; memory comes back.

    What strangers and viewers ask changes nothing.
    """
    with closing(SqlRunStore.open(any_url)) as store:
        tokens = {role: store.tokens.create(str(role), role) for role in ROLES if role is not None}
        admin = {"Authorization": f"Bearer {tokens['admin']}"}
        described = server.ask("GET", "/api/v1/openapi.json", headers=admin).json["paths"]
        own = [(method.upper(), path) for path, methods in described.items() for method in methods]
        assert own
        assert server.ask("POST", API + "registered-models/create", b'{"name": "m"}',
                          {"Content-Type": "application/json", **admin}).status == 200  # fmt: skip
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        everything = own * 4 + routes
        first = None
        for role in ROLES:
            draws, before = Draws(f"{SEED} {role}"), told(store)
            token = {} if role is None else {"Authorization": f"Bearer {tokens[role]}"}
            ends, asked = time.monotonic() + SECONDS / len(ROLES), 0
            while time.monotonic() < ends or not asked:
                method, path, body, headers = draws.one(everything)
                answer = server.ask(method, path, body, {**headers, **token})
                allowed = answer.status < 500 or answer.status == 501 or "/workspaces" in path
                assert allowed, (role, method, path[:500], (body or b"")[:500], answer.status, answer.body[:500])
                if (asked := asked + 1) % 50 == 0:
                    began = time.monotonic()
                    assert server.ask("GET", "/healthz").status == 200
                    assert time.monotonic() - began < 1
            if role in (None, "viewer"):
                assert told(store) == before
            first = first or process.memory_info().rss
        assert process.memory_info().rss < 1.5 * first + 200e6
