"""The command line over a tracking server: the same commands, the same words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cli_lab import invoke, record
from e2e.server_lab import Server, free_port, on_server

import tracker

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def url(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server over the test's SQLite store; it is TRACKER_STORE."""
    with Server(store_url) as server:
        monkeypatch.setenv("TRACKER_STORE", server.url)
        yield server.url


@pytest.fixture
def recorded(url: str) -> list[str]:
    """The ids of three runs that were recorded through the server."""
    return [
        record("wide", [0.5, 0.2, float("nan")], params={"width": 64}, tags={"team": "ü"}),
        record("narrow", [0.9, 0.8], params={"width": 8}, planned=5),
        record("other", experiment="else"),
    ]


@pytest.mark.parametrize("arguments", [
    "runs --format csv", "runs --format json", "runs --filter params.width=64", "runs --experiment else --format json",
    "runs --order-by metrics.val_loss.best --limit 1 --format csv", "show wide --format json", "show other --format json",
    "history wide val_loss --format csv", "history wide val_loss --raw --format json", "compare wide narrow",
    "compare wide narrow --format json", "runs --filter params.width=",  "runs --experiment nowhere", "show nobody",
    "history wide nothing", "runs --order-by nonsense",
])  # fmt: skip
def test_a_command_says_what_it_says_of_the_database(
    recorded: list[str], url: str, store_url: str, arguments: str
) -> None:
    """Data, messages and exit code are those of the database's own URL, but for where files are: on the server."""
    through = invoke(*arguments.split())
    direct = invoke(*arguments.split(), "--store", store_url)
    told = on_server(direct.stdout, url)
    assert (through.exit_code, through.stdout, through.stderr) == (direct.exit_code, told, direct.stderr)
    assert through.stdout or through.stderr


def test_deleted_and_had_back(recorded: list[str], url: str) -> None:
    """`delete` hides a run from the list, `undelete` shows it again."""
    assert invoke("delete", "narrow", "--store", url).exit_code == 0
    names = [run["name"] for run in json.loads(invoke("runs", "--format", "json").stdout)]
    assert names == ["other", "wide"]
    assert invoke("undelete", recorded[1]).exit_code == 0
    assert len(json.loads(invoke("runs", "--format", "json").stdout)) == 3


def test_compare_from_python(recorded: list[str], url: str) -> None:
    """`tracker.compare` takes a server's address."""
    compared = tracker.compare(["wide", "narrow"], store=url)
    assert [run.name for run in compared.runs] == ["wide", "narrow"]


def test_db_needs_the_database(url: str) -> None:
    """Commands of the database say that a server's address is not one."""
    for command in ("upgrade", "current", "check"):
        done = invoke("db", command)
        assert done.exit_code == 2
        assert url in done.stderr
        assert "the database behind it" in done.stderr


def test_doctor_asks_the_server(url: str, home: Path) -> None:
    """With a server that answers there is no problem; without one there is, and what to do."""
    assert invoke("doctor").exit_code == 0
    away = f"http://127.0.0.1:{free_port()}"
    done = invoke("doctor", "--store", away, "--format", "json")
    assert done.exit_code == 1
    [problem] = [one for one in json.loads(done.stdout)["findings"] if one["status"] == "problem"]
    assert "does not answer" in problem["found"]
    assert f"curl {away}/readyz" in problem["advice"]


def test_no_server() -> None:
    """A server that is not there is one sentence and exit code 1."""
    away = f"http://127.0.0.1:{free_port()}"
    done = invoke("runs", "--store", away)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"tracker: {away} does not answer: ")
    assert len(done.stderr.splitlines()) == 1
