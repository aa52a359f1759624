"""Who may ask a server that has tokens: with our client, with MLflow's, and with a browser's habits."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator, Mapping

import preloaded
import pytest
from e2e.children import eventually
from e2e.cli_lab import installed
from e2e.server_lab import MSGPACK, Answer, Server, batch, start_of

import tracker
from tracker.cli.main import cli
from tracker.domain.access import Role
from tracker.domain.errors import StoreError
from tracker.store.store import SqlRunStore
from tracker.wire.batch_codec import encode_batch

MLFLOW = "/api/2.0/mlflow"
JSON = {"Content-Type": "application/json"}
SEARCH = b'{"experiment_ids": ["0"]}'
HEEDED_S = 5.0
"""How soon a server heeds tokens that come and go."""


class Guarded:
    """A server whose store has a token of each role."""

    def __init__(self, server: Server, store: str, tokens: Mapping[Role, str]) -> None:
        self.server = server
        self.store = store
        self.tokens = tokens

    def ask(self, role: Role, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        given = {"Authorization": f"Bearer {self.tokens[role]}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return self.server.ask(method, path, body, given)

    def url(self, role: Role) -> str:
        return self.server.url.replace("://", f"://someone:{self.tokens[role]}@")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    store = f"sqlite:///{tmp_path_factory.mktemp('guarded') / 'tracker.db'}"
    with SqlRunStore.open(store) as opened:
        kept = opened.tokens
        tokens: dict[Role, str] = {
            "viewer": kept.create("eve", "viewer"),
            "writer": kept.create("ci", "writer"),
            "admin": kept.create("root", "admin"),
        }
    with Server(store) as server:
        yield Guarded(server, store, tokens)


@pytest.mark.parametrize("path", [
    "/", "/metrics", "/nothing", "/api/v1/runs", "/api/v1/openapi.json", "/api/v1/runs/r/artifacts/x", "/graphql", "/get-artifact",
    f"{MLFLOW}/experiments/get?experiment_id=0", "/ajax-api/2.0/mlflow/experiments/search?max_results=1", "/ajax-api/3.0/mlflow/server-info",
    "/static-files/x", "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts/x", "/health", "/version",
])  # fmt: skip
def test_nothing_without_a_token(guarded: Guarded, path: str) -> None:
    """Every route, MLflow's included, asks for a token, on 127.0.0.1 too; only health checks get by without."""
    for headers in ({}, {"Authorization": "Bearer trk_wrong"}, {"Cookie": f"token={guarded.tokens['admin']}"}):
        answer = guarded.server.ask("GET", path, headers=headers)
        assert answer.status == 401
        assert answer.headers["content-type"] == "application/problem+json"
    assert guarded.server.get("/healthz") == {"status": "ok"}
    assert guarded.server.get("/readyz") == {"status": "ready"}


def test_roles_on_real_routes(guarded: Guarded) -> None:
    """A viewer reads, a writer records and deletes runs, an admin deletes experiments; nothing changes on a refusal."""
    started = encode_batch(batch("roles", 1, start_of()))
    assert guarded.ask("viewer", "POST", "/api/v1/batches", started, **MSGPACK).status == 403
    assert guarded.ask("writer", "POST", "/api/v1/batches", started, **MSGPACK).status == 200
    assert guarded.ask("viewer", "DELETE", "/api/v1/runs/roles").status == 403
    assert guarded.ask("viewer", "GET", "/api/v1/runs/roles").json["deleted_ms"] is None
    assert guarded.ask("viewer", "POST", f"{MLFLOW}/runs/search", SEARCH, **JSON).status == 200
    created = guarded.ask("writer", "POST", f"{MLFLOW}/experiments/create", b'{"name": "mine"}', **JSON)
    number = created.json["experiment_id"]
    away = b'{"experiment_id": "%s"}' % number.encode()
    refused = guarded.ask("writer", "POST", f"{MLFLOW}/experiments/delete", away, **JSON)
    assert (refused.status, refused.json["error_code"]) == (403, "PERMISSION_DENIED")
    shown = guarded.ask("viewer", "GET", f"{MLFLOW}/experiments/get?experiment_id={number}").json
    assert shown["experiment"]["lifecycle_stage"] == "active"
    assert guarded.ask("admin", "POST", f"{MLFLOW}/experiments/delete", away, **JSON).status == 200
    assert guarded.ask("writer", "DELETE", "/api/v1/runs/roles").status == 204


def test_browsers_password_is_no_way_for_other_pages(guarded: Guarded) -> None:
    """A browser adds the password to what a page elsewhere sends: Origin and Sec-Fetch-Site give it away."""
    password = base64.b64encode(f"me:{guarded.tokens['admin']}".encode()).decode()
    for path, body in (
        ("/graphql", b"{}"),
        (f"{MLFLOW}/experiments/create", b'{"name": "forged"}'),
        ("/api/v1/batches", b"x"),
    ):
        for page in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = guarded.server.ask("POST", path, body, {"Authorization": f"Basic {password}", **JSON, **page})
            assert answer.status == 403, (path, page)
    own = {"Origin": guarded.server.url, "Sec-Fetch-Site": "same-origin", "Authorization": f"Basic {password}"}
    assert guarded.server.ask("POST", f"{MLFLOW}/runs/search", SEARCH, {**JSON, **own}).status == 200


def test_mlflow_client(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock client gets in with MLFLOW_TRACKING_TOKEN and with a password, and is told why it does not."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = MlflowClient(guarded.server.url)
    with pytest.raises(MlflowException, match="no access token came with the request") as nobody:
        client.get_experiment("0")
    assert nobody.value.error_code == "UNAUTHENTICATED"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", guarded.tokens["viewer"])
    assert client.get_experiment("0").name == "Default"
    with pytest.raises(MlflowException, match="needs the role writer; the token 'eve' has viewer") as viewer:
        client.create_run("0")
    assert viewer.value.error_code == "PERMISSION_DENIED"
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "whoever")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", guarded.tokens["writer"])
    run = client.create_run("0")
    client.log_metric(run.info.run_id, "loss", 0.5)
    assert client.get_run(run.info.run_id).data.metrics == {"loss": 0.5}


def test_our_client(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRACKER_TOKEN, or a password in the URL, lets runs, files, reads and the command line in."""
    monkeypatch.setenv("TRACKER_STORE", guarded.server.url)
    monkeypatch.setenv("TRACKER_TOKEN", guarded.tokens["writer"])
    with tracker.start_run(name="ours") as run:
        run.log({"loss": 0.25}, step=1)
        run.log_text("text", "note.txt")
    assert guarded.tokens["writer"] not in repr(run.store_url)
    assert guarded.ask("viewer", "GET", f"/api/v1/runs/{run.id}/artifacts/note.txt").body == b"text"
    assert run.id in installed("runs", "--format", "csv").stdout
    monkeypatch.delenv("TRACKER_TOKEN")
    with tracker.open_store(guarded.url("viewer")) as store:  # type: ignore[attr-defined]
        assert store.get_run(run.id).status == "finished"
        with pytest.raises(StoreError, match=r"answered 403: .* needs the role writer"):
            store.delete_run(run.id)
    done = installed("runs")
    assert (done.returncode, done.stdout) == (1, "")
    assert "answered 401: no access token came with the request" in done.stderr
    assert "TRACKER_TOKEN" in done.stderr
    doctor = installed("doctor")
    assert doctor.returncode == 1
    assert "answered 401" in doctor.stdout + doctor.stderr


_TRAINING = """
import tracker
run = tracker.start_run(name="unwelcome", run_id="{run_id}")
for step in range(10):
    run.log({{"loss": float(step)}}, step=step)
    run.flush(0.1)
run.finish()
"""


@pytest.mark.parametrize("wrong", ["trk_wrong", "", "viewer"])
def test_wrong_token_costs_no_frame(guarded: Guarded, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token that does not let it in, a training goes on, says so once and keeps its journal; sync ships it all."""
    monkeypatch.setenv("TRACKER_STORE", guarded.server.url)
    given = {"TRACKER_TOKEN": guarded.tokens["viewer"] if wrong == "viewer" else wrong}
    run_id = f"unwelcome-{wrong}"
    script = _TRAINING.format(run_id=run_id)
    done = preloaded.run([sys.executable, "-c", script], env={**os.environ, **given}, timeout=60)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "does not take" in line]
    assert len(said) == 1
    assert ("answered 403" if wrong == "viewer" else "answered 401") in said[0]
    assert "refused" not in done.stderr
    left = installed("sync", **given)
    assert left.returncode == 1
    assert "could not be" in left.stderr
    assert installed("sync", TRACKER_TOKEN=guarded.tokens["writer"]).returncode == 0
    assert guarded.ask("viewer", "GET", f"/api/v1/runs/{run_id}").json["status"] == "finished"
    history = guarded.ask("viewer", "GET", f"/api/v1/runs/{run_id}/history?key=loss").json
    assert history["values"] == [float(step) for step in range(10)]


def test_tokens_come_and_go_while_it_runs(store_url: str) -> None:
    """Within seconds of the first token everybody needs one; a revoked one is out within five; a new one is in at once."""
    with Server(store_url) as server:
        assert server.ask("GET", "/api/v1/runs").status == 200
        first = installed("token", "create", "first", "--role", "admin").stdout.strip()
        eventually(lambda: server.ask("GET", "/api/v1/runs").status == 401, within=HEEDED_S)
        given = {"Authorization": f"Bearer {first}"}
        assert server.ask("GET", "/api/v1/runs", headers=given).status == 200
        second = {"Authorization": f"Bearer {installed('token', 'create', 'second').stdout.strip()}"}
        assert server.ask("GET", "/api/v1/runs", headers=second).status == 200
        assert installed("token", "revoke", "first").returncode == 0
        eventually(lambda: server.ask("GET", "/api/v1/runs", headers=given).status == 401, within=HEEDED_S)
        assert server.ask("GET", "/api/v1/runs", headers=second).status == 200
        for name in ("first", "second"):
            assert installed("token", "revoke", name, "--forget").returncode == 0
        eventually(lambda: server.ask("GET", "/api/v1/runs").status == 200, within=HEEDED_S)


def test_other_addresses_with_tokens(store_url: str) -> None:
    """A store with a token in force may be served to other machines; one whose last token was revoked may not."""
    token = installed("token", "create", "a", "--role", "viewer").stdout.strip()
    with Server(store_url, "--host", "0.0.0.0") as server:
        assert server.ask("GET", "/api/v1/runs").status == 401
        given = {"Authorization": f"Bearer {token}", "Host": "192.0.2.1:5000"}
        assert server.ask("GET", "/api/v1/runs", headers=given).status == 200
        # Unlike on loopback, it asks even when there is none left.
        installed("token", "revoke", "a", "--forget")
        eventually(lambda: server.ask("GET", "/api/v1/runs", headers=given).status == 401, within=HEEDED_S)
    refused = installed("server", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    assert "no access token in force" in refused.stderr


def test_no_secret_is_on_the_log(guarded: Guarded) -> None:
    """Whatever way a token comes, right or wrong, no line of the log has it, nor a query."""
    secrets = [*guarded.tokens.values(), "trk_typed_wrong"]
    for token in secrets:
        encoded = base64.b64encode(f"me:{token}".encode()).decode()
        for header in (f"Bearer {token}", f"Basic {encoded}", token):
            guarded.server.ask(
                "GET", f"/api/v1/runs?token={token}", headers={"Authorization": header, "Cookie": f"t={token}"}
            )
    guarded.ask("viewer", "GET", "/last-of-all")
    eventually(lambda: "/last-of-all" in guarded.server.errors)
    for token in secrets:
        assert token[4:] not in guarded.server.errors
        assert base64.b64encode(f"me:{token}".encode()).decode()[6:] not in guarded.server.errors
    assert "token=" not in guarded.server.errors
    assert "user=eve" in guarded.server.errors


def test_token_commands_are_there() -> None:
    """The three commands of `tracker token`."""
    assert set(cli.commands["token"].commands) == {"create", "list", "revoke"}  # type: ignore[attr-defined]


def test_store_is_not_touched_by_refusals(guarded: Guarded) -> None:
    """After all of these refusals the store has what was let in, and nothing else."""
    with SqlRunStore.open(guarded.store) as store:
        assert {one.name for one in store.experiments()} <= {"Default", "mine"}
