"""Names of files: what is accepted comes back through every way to a run's files, and what cannot is refused at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from draws import examples
from e2e.mlflow_lab import ask
from e2e.server_lab import Server
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.tracking.artifact_utils import _get_root_uri_and_artifact_path
from mlflow.utils.uri import validate_path_is_safe

import tracker
from tracker.compose import open_artifacts
from tracker.domain.file_names import file_name, folder_path
from tracker.domain.limits import is_artifact_path

REFUSED = [
    "confusion #1.txt", "a#", "what?.txt", "a%2eb", "%23", "%2Fetc", "a%41", " a", "d/ a", "a;", "a;/b", "file:x", "FILE:x",
    "http:x", "Note: x.txt", "d/Val:x", "it's/a.txt", ".part-x", "d/.part-x", ".artifact.uploading.x", "a\\b", "a\x07b",
    "a\ud800b", "é" * 128, "..", "d/../a", "/etc", "C:x", "a//b",
]  # fmt: skip
ACCEPTED = [
    "a b.txt", "100%.txt", "50% é.txt", "a%zz", "12:30.txt", "run at 12:30.txt", "it's.txt", "d/it's/a.txt", "a;b", "a & b=c+d,e",
    "[1]{2}(3)", "-x", "--help", "x..", "...", "x ", "con", "nul.txt", "日本.txt", "e\u0301", "\u00e9", "\u00a0x", "x\u200bx", "\U0001f600",
    "é" * 127, "~", "!@$^*`\"<>|", "m-0123456789abcdef0123456789abcdef", ".hidden", "a.b.c",
]  # fmt: skip

_pieces = st.sampled_from(
    [*"#%?:;\\'\"&+=@!$*()[]{}<>|^`~,. -_abXé日/", "%2e", "%41", "..", "file:", "Val:", " ", "e\u0301"]
)
_names = st.one_of(
    st.lists(_pieces, min_size=1, max_size=6).map("".join),
    st.text(st.characters(), min_size=1, max_size=12),
    st.sampled_from(ACCEPTED + REFUSED),
)


def test_what_is_accepted_and_what_is_refused() -> None:
    assert [one for one in ACCEPTED if not is_artifact_path(one)] == []
    assert [one for one in REFUSED if is_artifact_path(one)] == []


@settings(max_examples=examples(2000), deadline=None)
@given(_names)
@example("50% é/20 b")
def test_accepted_names_are_read_unchanged_by_mlflow(path: str) -> None:
    """MLflow's own checks of a listing, its URIs, and the requests that it makes leave an accepted name as it is."""
    if not is_artifact_path(path):
        return
    assert validate_path_is_safe(path) == path
    for name in path.split("/"):
        assert validate_path_is_safe(name) == name
    folder, _, name = f"runs:/id/{path}".rpartition("/")
    assert _get_root_uri_and_artifact_path(f"runs:/id/{path}") == (folder, name)
    asked = requests.Request("GET", f"http://host/artifacts/{path}").prepare().url
    assert asked is not None
    assert unquote(urlsplit(asked).path) == f"/artifacts/{path}"


@settings(deadline=None)
@given(st.one_of(_names, st.text(max_size=12)))
@example(" led by a space")
@example(".part-x")
def test_names_that_are_made_of_keys_are_accepted(key: str) -> None:
    """Whatever a tag or an image's key is, files that are named for it can be stored."""
    assert is_artifact_path(f"images/{file_name(key, separator='~')}+step+0.png")
    assert is_artifact_path(f"tensorboard/{folder_path(key)}/0.md")


@pytest.fixture
def server(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose store is also TRACKER_STORE."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with Server(store_url) as started:
        monkeypatch.setenv("TRACKER_STORE", started.url)
        yield started


@settings(max_examples=examples(6), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(_names, min_size=4, max_size=8, unique=True))
@example(names=ACCEPTED)
@example(names=REFUSED)
def test_what_is_logged_comes_back(server: Server, store_url: str, tmp_path: Path, names: list[str]) -> None:
    """Each name at the top, in a folder and as a folder: listed, read and fetched through every way, the rest refused."""
    given_files = {}
    for index, name in enumerate(names):
        at_top = {name: f"top {name!r}"} if "/" not in name else {}
        deeper = {f"f{index}/{name}": f"inner {name!r}"} if index % 2 else {f"g{index}/{name}/x": f"folder {name!r}"}
        given_files |= at_top | deeper
    files = {path: text for path, text in given_files.items() if is_artifact_path(path)}
    with tracker.start_run() as run:
        for path, text in given_files.items():
            run.log_text(text, path)
    assert run.problems.get("path", 0) == len(given_files) - len(files)

    home = open_artifacts(server.url)
    assert sorted(home.list(run.id)) == sorted(files)
    for number, (path, text) in enumerate(files.items()):
        # As records name files, and as users write them.
        for place in (f"{home.uri(run.id)}/{quote(path)}", (tmp_path / "tracker-artifacts" / run.id / path).as_uri()):
            assert home.fetch(place, tmp_path / f"got {number}").read_text() == text
        shown = ask(server.url, "GET", "/get-artifact", query={"run_id": run.id, "path": path})
        assert (shown.status, shown.body.decode()) == (200, text)

    folders = {""} | {path.rpartition("/")[0] for path in files} | {path.split("/")[0] for path in files if "/" in path}
    for tracking in (server.url, f"tracker+{store_url}"):
        client = MlflowClient(tracking)
        listed = {
            one.path for folder in folders for one in client.list_artifacts(run.id, folder or None) if not one.is_dir
        }
        assert listed == set(files), tracking
        for path, text in files.items():
            got = client.download_artifacts(run.id, path, str(_empty(tmp_path / "one")))
            assert Path(got).read_text() == text, (tracking, path)
        whole = Path(
            mlflow.artifacts.download_artifacts(
                run_id=run.id, tracking_uri=tracking, dst_path=str(_empty(tmp_path / "all"))
            )
        )
        found = {one.relative_to(whole).as_posix(): one.read_text() for one in whole.rglob("*") if one.is_file()}
        assert found == files, tracking


def _empty(folder: Path) -> Path:
    number = len(list(folder.parent.glob(f"{folder.name}*")))
    made = folder.with_name(f"{folder.name} {number}")
    made.mkdir()
    return made


def test_a_refusal_says_why_and_costs_nothing_else(store_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each kind of call that names a file says what is wrong with the name; the rest of the call is kept."""
    folder = Path("tree")
    folder.mkdir()
    for name in ("fine.txt", "bad #1.txt"):
        (folder / name).write_text(name)
    with caplog.at_level(logging.WARNING, "tracker"), tracker.start_run() as run:
        run.log_text("x", "confusion #1.txt")
        run.log_artifact("tree")
        run.log({"loss": 1.0}, step=0)
    assert run.problems["path"] == 2
    assert "'confusion #1.txt' has '#', at which the path of an address ends" in caplog.text
    assert "log it under another name" in caplog.text
    with closing(tracker.open_store()) as store:
        assert list(store.metrics(run.id)) == ["loss"]
        root = Path(unquote(urlsplit(store.get_run(run.id).artifact_uri).path))
    assert [one.relative_to(root).as_posix() for one in root.rglob("*") if one.is_file()] == ["tree/fine.txt"]


def test_what_mlflow_clients_upload(server: Server, tmp_path: Path) -> None:
    """A name that could not come back is refused with MLflow's error code, whichever route it comes by."""
    client = MlflowClient(server.url)
    run_id = client.create_run("0").info.run_id
    for name in ("a%2eb", "Note: x", ".part-x", "a;"):
        for method, path, query in (
            ("PUT", f"/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/{quote(name)}", None),
            ("POST", "/ajax-api/2.0/mlflow/upload-artifact", {"run_uuid": run_id, "path": name}),
        ):
            answer = ask(server.url, method, path, b"x", query=query)
            assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (name, path)
            assert "MLflow's clients" in answer.json["message"]
    for name in ("Note: x", ".part-x", "a;"):
        (tmp_path / name).write_text("x")
        with pytest.raises(requests.HTTPError, match="400"):
            client.log_artifact(run_id, str(tmp_path / name))
    assert client.list_artifacts(run_id) == []


def test_a_run_of_an_earlier_version(server: Server, store_url: str, tmp_path: Path) -> None:
    """A name that was accepted once hides nothing else from MLflow's client, and can still be read by all others."""
    with tracker.start_run() as run:
        run.log_text("fine", "fine.txt")
    (tmp_path / "tracker-artifacts" / run.id / "confusion #1.txt").write_text("old")
    assert [one.path for one in MlflowClient(server.url).list_artifacts(run.id)] == ["fine.txt"]
    home = open_artifacts(server.url)
    assert sorted(home.list(run.id)) == ["confusion #1.txt", "fine.txt"]
    place = f"{home.uri(run.id)}/{quote('confusion #1.txt')}"
    assert home.fetch(place, tmp_path / "got").read_text() == "old"
    listed = ask(server.url, "GET", "/ajax-api/2.0/mlflow/artifacts/list", query={"run_id": run.id}).json
    assert [one["path"] for one in listed["files"]] == ["confusion #1.txt", "fine.txt"]
    shown = ask(server.url, "GET", "/get-artifact", query={"run_id": run.id, "path": "confusion #1.txt"})
    assert shown.body == b"old"
