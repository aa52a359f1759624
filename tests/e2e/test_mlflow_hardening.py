"""What was once possible against MLflow's servers, and what else nobody may do here: each is one request."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.children import eventually
from e2e.mlflow_lab import API, ask
from e2e.server_lab import Server

from tracker.mlflow_bridge.plugin import make_registry_store

AJAX = "/ajax-api/2.0/mlflow/"
V3 = "/ajax-api/3.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
SECRET = b"the secret of this machine"


@dataclass(frozen=True)
class Place:
    """A server with one run, and a secret next to its artifacts; the run's folder has a link to it."""

    server: Server
    run: str
    folder: Path

    @property
    def home(self) -> str:
        return f"{FILES}/0/{self.run}/artifacts"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hardening")
    (folder / "secret").write_bytes(SECRET)
    with Server(f"sqlite:///{folder / 'tracker.db'}", "--artifacts", str(folder / "files"), cwd=folder) as server:
        made = ask(server.url, "POST", API + "runs/create", {"experiment_id": "0", "start_time": 1}).json
        run = made["run"]["info"]["run_id"]
        assert ask(server.url, "PUT", f"{FILES}/0/{run}/artifacts/fine.txt", b"fine").status == 200
        (folder / "files" / run / "link").symlink_to(folder / "secret")
        (folder / "files" / run / "up").symlink_to(folder)
        ask(server.url, "POST", API + "registered-models/create", {"name": "m"})
        yield Place(server, run, folder)


def put(path: str) -> tuple[str, str, Any]:
    return "PUT", path, b"x"


def post(path: str, body: Any) -> tuple[str, str, Any]:
    return "POST", path, body


def source(given: str) -> tuple[str, str, Any]:
    return post(AJAX + "model-versions/create", {"name": "m", "source": given})


def location(given: str) -> tuple[str, str, Any]:
    return post(AJAX + "experiments/create", {"name": f"at {given[:100]}", "artifact_location": given})


REFUSED = {
    # paths that lead elsewhere, in every spelling
    "CVE-2023-30172 up": ("GET", "/get-artifact?run_id={run}&path=../../etc/passwd"),
    "up, encoded": ("GET", "/get-artifact?run_id={run}&path=%2e%2e%2f%2e%2e%2fsecret"),
    "up, encoded twice": ("GET", "/get-artifact?run_id={run}&path=%252e%252e%252fsecret"),
    "up, by uuid": ("GET", "/get-artifact?run_uuid={run}&path=a/../../secret"),
    "absolute": ("GET", "/get-artifact?run_id={run}&path=/etc/passwd"),
    "absolute, encoded twice": ("GET", "/get-artifact?run_id={run}&path=%252fetc%252fpasswd"),
    "NUL": ("GET", "/get-artifact?run_id={run}&path=fine.txt%00.png"),
    "NUL, encoded twice": ("GET", "/get-artifact?run_id={run}&path=fine.txt%2500.png"),
    "backslash": ("GET", "/get-artifact?run_id={run}&path=..%5C..%5Csecret"),
    "a file's URI": ("GET", "/get-artifact?run_id={run}&path=file:///etc/passwd"),
    "CVE-2023-3765 drive": ("GET", "/ajax-api/2.0/mlflow-artifacts/artifacts?path=C:/"),
    "drive of a run": ("GET", "/get-artifact?run_id={run}&path=C:%5CWindows%5Cwin.ini"),
    "over-long": ("GET", "/get-artifact?run_id={run}&path=" + "a/" * 400 + "a"),
    "over-long name": ("GET", "/get-artifact?run_id={run}&path=" + "a" * 300),
    "link": ("GET", "/get-artifact?run_id={run}&path=link"),
    "through a link": ("GET", "/get-artifact?run_id={run}&path=up/secret"),
    "list up": ("GET", AJAX + "artifacts/list?run_id={run}&path=.."),
    "list up, encoded twice": ("GET", AJAX + "artifacts/list?run_id={run}&path=%252e%252e"),
    "list through a link": ("GET", AJAX + "artifacts/list?run_id={run}&path=up"),
    "list the root": ("GET", FILES + "?path="),
    "list above": ("GET", FILES + "?path=../"),
    "list of another shape": ("GET", FILES + "?path=0/{run}/elsewhere"),
    "get up": ("GET", "{home}/..%2f..%2f..%2fsecret"),
    "get up, twice": ("GET", "{home}/%252e%252e%252fsecret"),
    "get a link": ("GET", "{home}/link"),
    "get through a link": ("GET", "{home}/up/secret"),
    "CVE-2023-6015 put up": put("{files}/..%2f..%2fx"),
    "CVE-2026-2033 put up": put("{files}/..%2f..%2fx.txt"),
    "CVE-2023-6753 put backslashes": put("{files}/..%5c..%5cx"),
    "put up from a run": put("{home}/..%2f..%2fx"),
    "put plainly up": put("{home}/../../x"),
    "put absolute": put("{home}//etc/x"),
    "put through a link": put("{home}/up/x"),
    "put onto a link": put("{home}/link"),
    "put NUL": put("{home}/a%00b"),
    "put at the run": put("{home}/"),
    "put in no run": put("{files}/x"),
    "put in a strange run": put("{files}/0/.incoming/artifacts/x"),
    "CVE-2023-6831 delete up": ("DELETE", "{files}/%252E%252E%252F%252E%252E%252Ftmp"),
    "delete up": ("DELETE", "{home}/..%2f..%2fsecret"),
    "delete through a link": ("DELETE", "{home}/up/secret"),
    "delete everything": ("DELETE", "{files}/"),
    "CVE-2024-8859 upload": post(AJAX + "upload-artifact?run_uuid={run}&path=..%2Fx", b"x"),
    "upload twice encoded": post(AJAX + "upload-artifact?run_uuid={run}&path=%252e%252e%252fx", b"x"),
    "upload of nothing": post(AJAX + "upload-artifact?run_uuid={run}&path=x", b""),
    "upload too large": post(AJAX + "upload-artifact?run_uuid={run}&path=x", b"x" * (10 * 1024 * 1024 + 1)),
    # places that a client names
    "CVE-2023-6909 location with a query": location("http:///?/../../../etc/"),
    "CVE-2024-1483 location with a fragment": location("http://host#/../../../etc/"),
    "CVE-2024-1594 location with a fragment": location("http:///#/../../etc"),
    "CVE-2024-1593 location with a parameter": location("dbfs:/a;/../../etc"),
    "GHSA-mr9f-g8qf-4w4j location elsewhere": location("http://169.254.169.254/mlflow-artifacts/x"),
    "location on this machine": location("file:///etc"),
    "location up": location("mlflow-artifacts:/../../etc"),
    "location in words": location("/etc"),
    "CVE-2024-6838 long location": location("a" * 100_000),
    "CVE-2024-6838 long name": post(AJAX + "experiments/create", {"name": "a" * 100_000}),
    "CVE-2023-1177 source": source("file:///etc/"),
    "CVE-2023-1177 source with a host": source("file://./etc"),
    "CVE-2023-2780 source": source("/etc/"),
    "CVE-2023-2356 source": source("//proc/self/root/../etc"),
    "CVE-2023-6977 source": source("//proc/self/root"),
    "CVE-2023-43472 source": source("http://169.254.169.254/"),
    "CVE-2024-1558 source": source("http://host/%2e%2e/%2e%2e/etc"),
    "CVE-2024-1558 source here": source("mlflow-artifacts:/../../etc"),
    "CVE-2024-3573 source": source("file://localhost/etc"),
    "CVE-2024-8859 source": source("dbfs:/R/artifacts/a%3f/../../../"),
    "CVE-2025-11201 source": source("mlflow-artifacts:/0/../../../etc"),
    "source in a bucket": source("s3://other/model"),
    "source in another store": source("gs://other/model"),
    "source in a file system": source("dbfs:/other/model"),
    "source by a credential": source("https://user:key@host/model"),
    "CVE-2026-2614 source of a prompt": post(
        AJAX + "model-versions/create",
        {"name": "m", "source": "file:///etc/", "tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}]},
    ),
    "name of a model": post(AJAX + "registered-models/create", {"name": "../../x"}),
    "CVE-2023-43472 form": post(AJAX + "experiments/create", b'{"name": "form"}'),
}
"""Answered 400, every one."""

DENIED = {
    "assistant config": ("PUT", V3 + "assistant/config", {}),
    "assistant": post(V3 + "assistant/message", {}),
    "CVE-2026-0545 job": post("/ajax-api/3.0/jobs/", {"job_name": "run_task", "params": {}}),
    "job cancelled": ("PATCH", V3 + "jobs/cancel/1", {}),
    "CVE-2025-52967 gateway proxy": post(AJAX + "gateway-proxy", {"gateway_path": "http://169.254.169.254"}),
    "gateway": post("/gateway/x/mlflow/invocations", {}),
    "gateway secrets": post(V3 + "gateway/secrets/create", {}),
    "CVE-2026-116692 scorer": post(V3 + "scorer/invoke", {"serialized_scorer": "{}"}),
    "scorer, by the API": post("/api/3.0/mlflow/scorer/invoke", {"serialized_scorer": "{}"}),
    "scorer, other slashes": post("/ajax-api/3.0//mlflow/scorer/invoke", {"serialized_scorer": "{}"}),
    "scorer, other case": post("/ajax-api/3.0/MLFLOW/Scorer/invoke", {"serialized_scorer": "{}"}),
    "evaluation": post(V3 + "genai/evaluate/invoke", {}),
    "issues": post(V3 + "issues/invoke", {}),
    "demo": post(V3 + "demo/generate", {}),
    "CVE-2026-64849 webhook": post("/api/2.0/mlflow/webhooks", {"name": "w", "url": "https://169.254.169.254/"}),
    "webhook tested": post("/api/2.0/mlflow/webhooks/1/test", {}),
    "CVE-2023-6014 user": post(API + "users/create", {"username": "a", "password": "b"}),
    "CVE-2025-1473 signup": post("/signup", {}),
    "prompt optimization": post(V3 + "prompt-optimization/jobs", {}),
    "promptlab": post(AJAX + "runs/create-promptlab-run", {}),
}
"""Answered 403, every one."""

ABSENT = {
    "assistant config": V3 + "assistant/config",
    "assistant providers": V3 + "assistant/providers",
    "users": "/ajax-api/2.0/mlflow/users/current",
    "gateway secrets": V3 + "gateway/secrets/list",
    "job": V3 + "jobs/1",
    "webhooks": AJAX + "webhooks",
    "CVE-2023-43472": "/api/2.0/preview/mlflow/experiments/list",
    "nothing": AJAX + "never/was",
}
"""Answered 404, every one: the UI asks about features that may be absent."""


def sent(place: Place, case: Any, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    method, path, body = (*case, None)[:3]
    path = path.replace("{run}", place.run).replace("{home}", place.home).replace("{files}", FILES)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"} if not isinstance(body, (bytes, type(None))) else {}
    answer = place.server.ask(method, path, data, {**kind, **headers})
    return answer.status, answer.body, dict(answer.headers)


def test_gateway_proxy_asks_nobody(place: Place) -> None:
    """CVE-2025-52967: whatever address it is given, it says that there is no gateway."""
    path = AJAX + "gateway-proxy?gateway_path=http://169.254.169.254"
    status, body, _ = sent(place, ("GET", path))
    assert (status, json.loads(body)) == (200, {"endpoints": []})


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(place: Place, name: str) -> None:
    """A request that would reach beyond what is the run's is answered 400 in MLflow's words, and does nothing."""
    before = sorted(str(path) for path in place.folder.rglob("*") if "tracker.db" not in path.name)
    status, body, _ = sent(place, REFUSED[name])
    assert (status, SECRET in body) == (400, False), body
    assert json.loads(body)["error_code"] in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
    assert sorted(str(path) for path in place.folder.rglob("*") if "tracker.db" not in path.name) == before
    assert (place.folder / "secret").read_bytes() == SECRET


@pytest.mark.parametrize("elsewhere", ["s3://other/model", "http://127.0.0.1:9/model", "file:///etc"])
def test_a_version_that_lies_elsewhere_is_not_read_by_the_server(place: Place, elsewhere: str) -> None:
    """Who may read versions cannot have the server ask other stores with its own credentials, whoever registered it."""
    registry = make_registry_store(f"tracker+sqlite:///{place.folder / 'tracker.db'}")
    version = registry.create_model_version("m", elsewhere).version
    status, body, _ = sent(place, ("GET", f"/model-versions/get-artifact?name=m&version={version}&path=x"))
    assert (status, json.loads(body)["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert b"--allow-artifacts" in body


MISREAD = {
    "graphql of nothing": post("/graphql", {}),
    "graphql of a number": post("/graphql", {"query": 3}),
    "graphql that is none": post("/graphql", {"query": "x"}),
    "page of versions": ("GET", AJAX + "model-versions/search?page_token=%C3%A9"),
    "page of datasets": post(V3 + "datasets/search", {"experiment_ids": [], "max_results": [], "order_by": 3}),
    "records by a word": ("GET", V3 + "datasets/x/records?max_results=x"),
    "tags of a dataset": ("PATCH", V3 + "datasets/x/tags", {"tags": "x"}),
    "a version without a path": ("GET", "/model-versions/get-artifact"),
    "a version without its number": ("GET", "/model-versions/get-artifact?name=m&path=x"),
}


@pytest.mark.parametrize("name", MISREAD)
def test_what_mlflow_cannot_read(place: Place, name: str) -> None:
    """A value of a wrong type, on which MLflow's own code fails, is the client's fault, never the server's."""
    status, body, _ = sent(place, MISREAD[name])
    assert 400 <= status < 500 or (status == 501 and b"NOT_IMPLEMENTED" in body), (status, body)


@pytest.mark.parametrize("name", DENIED)
def test_what_is_denied(place: Place, name: str) -> None:
    """What runs code or asks other servers on a client's word is switched off."""
    status, body, _ = sent(place, DENIED[name])
    assert (status, json.loads(body)["error_code"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_absent(place: Place, name: str) -> None:
    """What the UI may ask of features that are switched off is not there."""
    status, body, _ = sent(place, ("GET", ABSENT[name]))
    assert (status, json.loads(body)["error_code"]) == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize(
    "path",
    [
        API + "runs/search",
        FILES + "/0/{run}/artifacts/x",
        "/graphql",
        AJAX + "registered-models/create",
        "/get-artifact",
        "/",
    ],
)
def test_other_hosts_and_origins(place: Place, path: str) -> None:
    """CVE-2025-14279: another host's name, or a page from elsewhere, gets nothing on any of MLflow's routes."""
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert sent(place, ("POST", path, {}), **headers)[0] == 403


def test_many_aliases(place: Place) -> None:
    """CVE-2025-0453: a query of very many parts is not worked on."""
    many = " ".join(
        f'a{n}: mlflowSearchRuns(input: {{experimentIds: ["0"]}}) {{ runs {{ info {{ runId }} }} }}' for n in range(60)
    )
    status, body, _ = sent(place, ("POST", "/graphql", {"query": f"query {{ {many} }}", "operationName": None}))
    assert status == 200
    assert json.loads(body)["errors"]


@pytest.mark.parametrize("name", ["page.html", "image.svg", "MLmodel", "data.xml", "code.js", "page.xhtml"])
def test_no_file_can_script_the_page(place: Place, name: str) -> None:
    """CVE-2024-27132 and others: what a run left cannot do anything in the browser under the server's name."""
    assert sent(place, put(place.home + "/" + name))[0] == 200
    for path in (f"{place.home}/{name}", f"/get-artifact?run_id={place.run}&path={name}"):
        status, _, headers = sent(place, ("GET", path))
        assert status == 200
        assert headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in headers["content-security-policy"]
        assert "attachment" in headers["content-disposition"]


def test_half_a_file(place: Place) -> None:
    """A file whose sender goes away is not there, and nothing is left of it."""
    before = sorted(place.folder.rglob("*"))
    with closing(socket.create_connection((place.server.host, place.server.port))) as connection:
        head = f"PUT {place.home}/half HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 10)
    eventually(lambda: sorted(place.folder.rglob("*")) == before)
    assert sent(place, ("GET", place.home + "/half"))[0] == 404


def test_methods(place: Place) -> None:
    """A method that a path does not take is refused, and nothing is done."""
    for method, path in (
        ("PUT", "/"),
        ("DELETE", "/static-files/favicon.ico"),
        ("PUT", API + "runs/create"),
        ("POST", "{home}/fine.txt"),
    ):
        assert sent(place, (method, path, b""))[0] in (404, 405)


@pytest.mark.parametrize(
    "path",
    ["runs/log-batch", "runs/create", "runs/search", "experiments/create", "logged-models", "registered-models/create"],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"',
        b"\xff\xfe\x00",
        b'{"run_id": {}}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"run_id": "\\ud800"}',
        b'{"run_id": "a\\u0000b"}',
        b'{"name": "a\\u0000b", "experiment_id": "0\\u0000"}',
        b'{"experiment_ids": ["99999999999999999999999"], "max_results": -1}',
    ],
)
def test_garbage(place: Place, path: str, body: bytes) -> None:
    """Whatever a body is, the answer is the client's fault in MLflow's words, never the server's."""
    for prefix in (API, AJAX):
        status, answer, _ = sent(place, ("POST", prefix + path, body), **{"Content-Type": "application/json"})
        assert status in (200, 400, 404), answer
        json.loads(answer)


LONG = "x" * 70_000
TOO_LARGE: dict[str, tuple[str, Any, str]] = {
    "user": ("runs/create", {"experiment_id": "0", "user_id": LONG}, "'user_id' exceeds the maximum length of 256"),
    "name": ("runs/create", {"experiment_id": "0", "run_name": LONG}, "'run_name' exceeds the maximum length of 250"),
    "start": ("runs/create", {"experiment_id": "0", "start_time": 2**62}, "parameter 'start_time'"),
    "end": ("runs/update", {"run_id": "{run}", "end_time": -(2**62)}, "parameter 'end_time'"),
    "parameter": ("runs/log-parameter", {"run_id": "{run}", "key": "k", "value": LONG}, "'value' exceeds"),
    "parameters": ("runs/log-batch", {"run_id": "{run}", "params": [{"key": "k", "value": LONG}]}, "'value' exceeds"),
    "tag": ("runs/set-tag", {"run_id": "{run}", "key": LONG, "value": "v"}, "'key' exceeds the maximum length of 250"),
    "metric": ("runs/log-metric", {"run_id": "{run}", "key": LONG, "value": 1, "timestamp": 1}, "'Metric name' exceeds"),
    "experiment": ("experiments/create", {"name": LONG}, "'name' exceeds the maximum length of 500"),
    "input": ("runs/log-inputs", {"run_id": "{run}", "models": [{"model_id": LONG}]}, "'model_id' exceeds the maximum length of 64"),
    "output": ("runs/outputs", {"run_id": "{run}", "models": [{"model_id": LONG, "step": 1}]}, "'model_id' exceeds"),
    "data set": ("runs/log-inputs", {"run_id": "{run}", "datasets": [{"dataset": {
        "name": LONG, "digest": "d", "source_type": "local", "source": "s"}}]}, "'name' exceeds the maximum length of 500"),
    "model": ("logged-models", {"experiment_id": "0", "name": LONG}, "'model_name' exceeds the maximum length of 500"),
    "kind": ("logged-models", {"experiment_id": "0", "name": "n", "model_type": LONG}, "'model_type' exceeds"),
    "registered": ("registered-models/create", {"name": LONG}, "'name' exceeds the maximum length of 256"),
    "described": ("registered-models/create", {"name": "d", "description": LONG}, "'description' exceeds the maximum length of 5000"),
    "renamed": ("registered-models/rename", {"name": "m", "new_name": LONG}, "'new_name' exceeds the maximum length of 256"),
    "registered tag": ("registered-models/set-tag", {"name": "m", "key": LONG, "value": "v"}, "'key' exceeds"),
    "version": ("model-versions/create", {"name": "m", "source": "{source}", "run_id": "{run}", "description": LONG}, "'description' exceeds"),
}  # fmt: skip


@pytest.mark.parametrize("what", TOO_LARGE)
def test_what_is_too_large_is_refused_by_name(place: Place, what: str) -> None:
    """Every text and time over its limit is a 400 that names the field and the limit; nothing of it is stored."""
    path, body, said = TOO_LARGE[what]
    uri = f"mlflow-artifacts:/0/{place.run}/artifacts"
    body = {key: {"{run}": place.run, "{source}": uri}.get(one, one) if isinstance(one, str) else one
            for key, one in body.items()}  # fmt: skip
    answer = ask(place.server.url, "POST", API + path, body)
    assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert said in answer.json["message"]
    assert len(answer.body) < 12_000


@pytest.mark.parametrize(
    "location",
    [
        "file://{folder}",
        "{folder}",
        "file://{folder}/files/../",
        "s3://bucket/x",
        "http://127.0.0.1:9/x",
        "file:///x\x00",
    ],
)
def test_rows_lead_the_server_to_no_other_files(place: Place, location: str) -> None:
    """Whatever location another program wrote into a run's or a logged model's row, its files are not read."""
    given = {"experiment_id": "0", "name": "net", "source_run_id": place.run}
    model = ask(place.server.url, "POST", API + "logged-models", given).json["model"]["info"]["model_id"]
    with closing(sqlite3.connect(place.folder / "tracker.db", isolation_level=None)) as database:
        before = database.execute("SELECT artifact_uri FROM runs WHERE uid = ?", (place.run,)).fetchone()
        for table in ("runs", "models"):
            database.execute(f"UPDATE {table} SET artifact_uri = ?", (location.format(folder=place.folder),))
        database.execute("UPDATE runs SET version = version + 1")
        try:
            for path in (
                f"/get-artifact?run_id={place.run}&path=secret",
                f"/api/2.0/mlflow/artifacts/list?run_id={place.run}",
                f"/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files?artifact_file_path=secret",
                f"/api/2.0/mlflow/logged-models/{model}/artifacts/directories",
            ):
                answer = ask(place.server.url, "GET", path)
                assert (answer.status, SECRET in answer.body) == (400, False), (path, answer.body)
        finally:
            database.execute(
                "UPDATE runs SET artifact_uri = ?, version = version + 1 WHERE uid = ?", (*before, place.run)
            )
