"""Passwords and tokens of stores in what real trainings, servers and commands leave behind: nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from e2e.children import run_child
from e2e.cli_lab import installed, invoke
from e2e.server_lab import Server, free_port

import tracker

pytestmark = pytest.mark.timeout(180)
SECRET = "hunter2Zq"
TRAIN = """
    import logging
    logging.basicConfig(level=logging.DEBUG)
    sys.argv += ["--store", os.environ["TRACKER_STORE"], "--db=" + os.environ["TRACKER_STORE"].replace("Zq", "Zq/x@y")]
    run = tracker.start_run("digits", name="long", resume="auto")
    run.log({"loss": 0.5}, step=1)
    run.log_text("x", "notes.txt")
    run.finish(timeout=%s)
    print(run.store_url, run.problems, file=sys.stderr)
"""


def kept_below(*folders: Path) -> bytes:
    """The bytes of all files there, and their names."""
    files = [file for folder in folders for file in folder.rglob("*")]
    return b"".join(str(file).encode() + (file.read_bytes() if file.is_file() else b"") for file in files)


def with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugins too: one of them records the command line."""
    monkeypatch.delenv("TRACKER_PLUGINS")


@pytest.mark.parametrize("url", [
    "postgresql://u:{}@127.0.0.1:1/db", "postgresql://u@127.0.0.1:1/db?password={}&sslpassword={}", "http://u:{}@127.0.0.1:1", "http://{}@127.0.0.1:1",
])  # fmt: skip
def test_a_training_whose_store_is_away(url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its log nor its journal, nor what waits beside it, nor what commands say of them."""
    with_everything(monkeypatch)
    monkeypatch.setenv("TRACKER_STORE", url.replace("{}", SECRET))
    child = run_child(TRAIN % 0.2)
    assert "127.0.0.1:1" in child.errors
    said = child.errors
    for command in ("doctor", "sync", "runs", "show long", "db current", "db upgrade", "token list", "gc"):
        done = invoke(*command.split())
        assert done.exit_code != 0
        assert len(done.stderr) < 2000
        said += done.stdout + done.stderr
    assert SECRET not in said
    kept = kept_below(home)
    assert b"notes.txt" in kept
    assert SECRET.encode() not in kept


@pytest.mark.parametrize("url", [
    "postgresql://u:{}@127.0.0.1:port/db", "postgresql://u:{}@h/db?sslmod=on", "postgresql://h/db?password={}&nothing=1", "http://u:{}@h:99999",
    "http://u:{}@h?x", "mysql://u:{}@h/db", "postgresql://u:{}/x@h/db", "u:{}@h/db", "postgresql://u:{}@[h/db",
])  # fmt: skip
def test_an_address_that_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback of the training, which does not begin, and the command line; the reason is one line."""
    monkeypatch.setenv("TRACKER_STORE", url.replace("{}", SECRET))
    code = """
    import traceback
    for start in (tracker.start_run, tracker.open_store, lambda: tracker.start_run(resume="auto")):
        try:
            start()
        except tracker.TrackerError:
            traceback.print_exc()
        else:
            raise AssertionError
    """
    said = run_child(code).errors
    for command in ("runs", "doctor", "server", "sync"):
        done = invoke(*command.split())
        assert done.exit_code in (1, 2)
        said += done.stdout + done.stderr
    assert said.count("store: ") >= 6
    assert SECRET not in said


def test_a_server_and_its_trainers(store_url: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is in no log of the server's, nor in its database or files, nor with the trainer or reader."""
    with_everything(monkeypatch)
    token = invoke("token", "create", "ana", "--role", "admin").stdout.strip()
    with Server(store_url, "--log-level", "debug") as server:
        address = server.url.replace("http://", f"http://ana:{token}@")
        monkeypatch.setenv("TRACKER_STORE", address)
        said = run_child(TRAIN.replace('.replace("Zq", "Zq/x@y")', "") % 30).errors
        for command in ("runs", "show long", "doctor", "sync", "checkpoints long"):
            done = invoke(*command.split())
            assert done.exit_code == 0, done.stderr
            said += done.stdout + done.stderr
        assert json.loads(invoke("runs", "--format", "json").stdout)[0]["name"] == "long"
        server.end()
        said += server.errors
    assert token not in said
    kept = kept_below(tmp_path)
    assert b"notes.txt" in kept
    assert token.encode() not in kept


def test_the_doctor_tells_a_refused_token_from_a_server_that_is_down(store_url: str) -> None:
    """In the first case the server is up and a token is missing; in the second it does not answer."""
    invoke("token", "create", "ana", "--role", "viewer")
    with Server(store_url) as server:
        for given in ({}, {"TRACKER_TOKEN": f"trk_{SECRET}"}):
            done = installed("doctor", "--store", server.url, **given)
            assert done.returncode == 1
            assert "answered 401" in done.stdout
            assert "the server is up: set TRACKER_TOKEN" in done.stdout
            assert "tracker token create" in done.stdout
            assert SECRET not in done.stdout + done.stderr
    away = invoke("doctor", "--store", f"http://127.0.0.1:{free_port()}")
    assert "does not answer" in away.stdout
    assert "is the address right, and the server up?" in away.stdout
    assert "TRACKER_TOKEN" not in away.stdout


def test_mlflow_s_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors and MLflow's tracebacks around them, where the store is away and where the address is refused."""
    monkeypatch.setenv("TRACKER_STORE", f"http://u:{SECRET}@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code = f"""
    import traceback
    from mlflow import MlflowClient
    for uri in (
        "tracker+postgresql://u:{SECRET}@127.0.0.1:1/db", "tracker+postgresql://u:{SECRET}@127.0.0.1:port/db",
        "tracker+postgresql://u:{SECRET}@h/db?nothing=1", "tracker://u:{SECRET}@h", "tracker://",
    ):
        for ask in (MlflowClient.search_experiments, MlflowClient.search_registered_models):
            try:
                ask(MlflowClient(uri))
            except Exception as error:
                print(str(error), file=sys.stderr)
            else:
                raise AssertionError(uri)
    """
    said = run_child(code).errors
    assert "127.0.0.1:1" in said
    assert SECRET not in said


def test_store_url_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the address without who asks, and without the password."""
    monkeypatch.setenv("TRACKER_MODE", "offline")
    with tracker.start_run(store=f"postgresql://u:{SECRET}@h/db?password={SECRET}&application_name=x") as run:
        assert run.store_url == "postgresql://u@h/db?application_name=x"
    with tracker.start_run(store=f"http://u:{SECRET}@h:5000") as run:
        assert run.store_url == "http://h:5000"
