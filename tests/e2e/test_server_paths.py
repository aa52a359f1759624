"""What a viewer reads over HTTP, errors included, names no folder of the server's machine."""

from __future__ import annotations

import json
import re
import site
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from e2e.children import eventually
from e2e.mlflow_lab import API, ask
from e2e.server_lab import DEADLINE_S, Answer, Server, batch, points, start_of

import tracker
from tracker.domain.access import may
from tracker.domain.frames import CheckpointLogged, EventLogged, HistogramLogged, Params, Staged, Tags
from tracker.server.roles import Rules
from tracker.store.store import SqlRunStore

pytestmark = pytest.mark.timeout(240)
FOLDER = "9q-the-servers-own-folder"
PLACES = [FOLDER, site.getsitepackages()[0], str(Path(tracker.__file__).parent), "site-packages", "dist-packages"]
"""What no answer has: the folder of the store, the files, the home and the working directory; where modules are."""
FILES = "/api/2.0/mlflow-artifacts/artifacts"
_ENOUGH = 4
"""Different requests of a route, among them those of a run with broken rows and of a folder."""
LOCATION = re.compile(r"<[^>]*>|\{[^}]*\}")


@dataclass(frozen=True)
class Place:
    """A server with runs, some of them with broken rows and files, and who asks it."""

    server: Server
    token: dict[str, str]
    fields: dict[str, Any]

    def ask(self, method: str, path: str, given: dict[str, Any] | None) -> Answer:
        """Ask as the viewer; `given` is the body, or the query of a GET."""
        if given is None or method in ("GET", "HEAD"):
            plain = {
                key: value if isinstance(value, str) else json.dumps(value) for key, value in (given or {}).items()
            }
            return ask(
                self.server.url,
                method,
                f"{path}?{urlencode(plain, errors='replace')}" if plain else path,
                headers=self.token,
            )
        return ask(self.server.url, method, path, given, headers=self.token)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("walk") / FOLDER
    (folder / "user").mkdir(parents=True)
    url = f"sqlite:///{folder / 'tracker.db'}"
    arguments = (url, "--artifacts", str(folder / "files"))
    with Server(*arguments, cwd=folder, HOME=str(folder / "user"), TMPDIR=str(folder / "user")) as server:
        fields = recorded(server)
        broken(folder)
        with closing(SqlRunStore.open(url)) as store:
            token = store.tokens.create("viewer", "viewer")
        yield Place(server, {"Authorization": f"Bearer {token}"}, fields)


def recorded(server: Server) -> dict[str, Any]:
    """Record something of each kind; return fields of requests that find it."""
    for run in ("r", "broken"):
        digest = server.ask("PUT", f"/api/v1/runs/{run}/artifacts/checkpoints/x.keras", b"weights").json["sha256"]
        server.ask("PUT", f"/api/v1/runs/{run}/artifacts/notes/text.txt", b"words")
        file = Staged(path="checkpoints/x.keras", name="x", size=7)
        frames = [
            start_of(run), points(1, loss=0.5), Params(1, 0, {"lr": 0.1}), Tags(1, {"team": "vision"}),
            EventLogged(1, "thing", 1, None, 0, {}), HistogramLogged(1, "kernel", "step", 3, 0, [0.0, 1.0], [3]),
            CheckpointLogged(1, 1, None, 1, ".keras", {}, None, {}, file, digest, "file:///x"),
        ]  # fmt: skip
        assert server.post(batch(run, 1, *frames)).status == 200

    def loaded() -> bool:
        try:
            return bool(ask(server.url, "GET", API + "registered-models/search").status == 200)
        except OSError:
            return False

    def post(path: str, body: Any) -> Any:
        answer = ask(server.url, "POST", API + path, body)
        assert answer.status == 200, (path, answer.body)
        return answer.json

    eventually(loaded, within=3 * DEADLINE_S)
    model = post("logged-models", {"experiment_id": "0", "name": "net", "source_run_id": "r"})["model"]["info"]
    assert (
        ask(server.url, "PUT", f"{FILES}/0/models/{model['model_id']}/artifacts/MLmodel", b"flavors: {}").status == 200
    )
    for name, source in (
        ("m", "mlflow-artifacts:/0/r/artifacts/notes"),
        ("gone", "mlflow-artifacts:/0/r/artifacts/no"),
    ):
        post("registered-models/create", {"name": name})
        post("model-versions/create", {"name": name, "source": source, "run_id": "r"})
    data = {"name": "digits", "digest": "d", "source_type": "local", "source": "{}"}
    post("runs/log-inputs", {"run_id": "r", "datasets": [{"dataset": data, "tags": []}]})
    return {
        "run_id": "r", "run_uuid": "r", "run_ids": ["r"], "experiment_id": "0", "experiment_ids": ["0"],
        "experiment_name": "Default", "metric_key": "loss", "key": "loss", "path": "notes/text.txt", "name": "m",
        "version": "1", "model_id": model["model_id"], "artifact_path": "notes", "text": "r", "max_results": 5,
        "artifact_file_path": "MLmodel", "query": "{ mlflowGetRun(input: {runId: \"r\"}) { run { info { artifactUri } } } }",
        "experimentId": "0", "filter": "", "order_by": [],
    }  # fmt: skip


def broken(folder: Path) -> None:
    """Change rows and files as nothing of ours does."""
    with closing(sqlite3.connect(folder / "tracker.db", isolation_level=None)) as connection:
        [(row,)] = connection.execute("SELECT id FROM runs WHERE uid = 'broken'").fetchall()
        connection.execute("UPDATE params SET text = '{', type = 'json' WHERE run_id = ?", (row,))
        connection.execute("UPDATE checkpoints SET state = '{' WHERE run_id = ?", (row,))
        connection.execute("UPDATE histograms SET edges = 'x' WHERE run_id = ?", (row,))
        connection.execute("UPDATE events SET detail = '[' WHERE run_id = ?", (row,))
        connection.execute(
            "UPDATE metric_points SET value = 'x' WHERE series_id IN (SELECT id FROM series WHERE run_id = ?)", (row,)
        )
    text = folder / "files" / "broken" / "notes" / "text.txt"
    text.unlink()
    text.mkdir()
    (text.parent / "link").symlink_to(folder)
    (text.parent / "locked").write_bytes(b"x")


def routes(place: Place) -> list[tuple[str, str]]:
    """Methods and paths that a viewer may ask, one of MLflow's prefixes each; `<name>` and `{name}` are parameters."""
    from mlflow.server import app

    rules = Rules()
    theirs = {
        (m, rule.rule)
        for rule in app.url_map.iter_rules()
        for m in (rule.methods or ())
        if m not in ("OPTIONS", "HEAD")
    }
    theirs = {
        (method, path)
        for method, path in theirs
        if (method, path.replace("/ajax-api/", "/api/", 1)) not in theirs or "/ajax-api/" not in path
    }
    described = place.ask("GET", "/api/v1/openapi.json", None).json["paths"]
    own = {(method.upper(), path) for path, methods in described.items() for method in methods}
    return sorted(
        (method, path) for method, path in theirs | own if may("viewer", rules.of(method, LOCATION.sub("x", path)).role)
    )


def asked(place: Place, path: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Paths and fields of requests of one route: that find something, that find what is broken, and that fail."""
    proxied = "0/r/artifacts/notes/text.txt"
    good = {**place.fields, **(dict.fromkeys(("path", "artifact_path"), proxied) if "mlflow-artifacts" in path else {})}

    def filled(fields: dict[str, Any]) -> str:
        def value(found: re.Match[str]) -> str:
            name = re.split(r"[:=]", found[0].strip("<>{}"))[-1]
            return quote(str(fields.get(name, "notes/text.txt" if "path" in name else "1")))

        return LOCATION.sub(value, path)

    native = path.startswith("/api/v1/")
    of_native: dict[str, Any] = {"key": "loss"} if path.endswith("/history") else {}
    if path.endswith((":find", ":compare")):
        of_native = {"text": "r"} if path.endswith(":find") else {"run_id": "r"}
    yield filled(good), of_native if native else good
    for more in ({"run_id": "broken", "run_uuid": "broken", "run_ids": ["broken"], "name": "gone"},
                 {"path": "notes", "artifact_file_path": "x"}, {"path": "notes/link/tracker.db"},
                 {"path": "notes/" + 300 * "x"}, {"run_id": "none", "run_ids": ["none"], "model_id": "m-none", "name": "none"}):  # fmt: skip
        yield filled({**good, **more}), of_native if native else {**good, **more}
    yield filled(good), None
    yield filled(good), dict.fromkeys(good, 7)
    yield filled(good), {key: [{"a": None}] for key in good}
    yield filled(good), dict.fromkeys(good, "%' OR")


def test_no_answer_names_a_folder(place: Place) -> None:
    """Of every route that a viewer may ask, whatever is asked."""
    told, statuses = [], set()
    for method, path in routes(place):
        answers = []
        for target, given in asked(place, path):
            if len(answers) == _ENOUGH and len(set(answers)) == 1:
                break  # it answers the same whatever is asked
            answer = place.ask(method, target, given)
            statuses.add(answer.status)
            answers.append((answer.status, len(answer.body)))
            said = answer.body.decode("utf-8", "replace") + str(answer.headers)
            told += [(method, target, answer.status, said[:2000]) for name in PLACES if name in said]
    assert told == []
    assert {200, 400, 404, 500, 501} <= statuses


def test_files_have_addresses_on_the_server(place: Place) -> None:
    """A viewer fetches by what records say: of a run, of a checkpoint, of the event that tells of it."""
    run = place.ask("GET", "/api/v1/runs/r", None).json["artifact_uri"]
    [checkpoint] = place.ask("GET", "/api/v1/runs/r/checkpoints", None).json
    [saved] = [one for one in place.ask("GET", "/api/v1/runs/r/events", None).json if one["kind"] == "checkpoint_saved"]
    assert run == f"{place.server.url}/api/v1/runs/r/artifacts"
    assert checkpoint["uri"] == saved["detail"]["uri"] == f"{run}/checkpoints/x.keras"
    assert ask("", "GET", checkpoint["uri"], headers=place.token).body == b"weights"


def test_a_filter_compares_the_address_that_is_shown(place: Place) -> None:
    """A condition on `artifact_uri` finds a run by its address on the server, and no folder can be guessed by one."""
    shown = place.ask("GET", "/api/v1/runs/r", None).json["artifact_uri"]

    def found(condition: str) -> list[str]:
        return [run["id"] for run in place.ask("GET", "/api/v1/runs", {"filter": condition}).json["runs"]]

    assert found(f"artifact_uri = '{shown}'") == ["r"]
    assert set(found("artifact_uri LIKE 'http%'")) >= {"r", "broken"}
    assert found("artifact_uri LIKE 'file:%'") == found(f"artifact_uri LIKE '%{FOLDER}%'") == []
