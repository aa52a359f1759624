"""Where a run took place: real repositories, real processes, and everything that git could do to a training."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import preloaded
import pytest
from e2e.children import eventually
from e2e.server_lab import Server

import tracker
from tracker import compose
from tracker.domain.ports import RunStore
from tracker_system.git import DIFF_BYTES, GitFailed, state_of

TRAIN = """import tracker
tracker.start_run(name="place").finish()
"""


def git(folder: Path, *arguments: str) -> str:
    mine = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *mine, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A repository with one commit: a script, a text in Latin-1, a picture."""
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "trunk")
    (folder / "train.py").write_text(TRAIN)
    (folder / "latin.txt").write_bytes("größe\n".encode("latin-1"))
    (folder / "picture.bin").write_bytes(bytes(range(256)))
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "remote", "add", "origin", "https://ann:t0ken@example.org/code.git")
    return folder


@pytest.fixture
def store(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunStore]:
    monkeypatch.setenv("TRACKER_PLUGINS", "environment")
    with closing(compose.open_store(store_url)) as store:
        yield store


def train(code: Path, *arguments: str, **environment: str) -> str:
    """Run the script as a user does; what it says on standard error."""
    command = [sys.executable, str(code / "train.py"), *arguments]
    done = preloaded.run(command, env={**os.environ, **environment}, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


def facts(store: RunStore) -> tuple[dict[str, str], dict[str, Any], Path]:
    """The run's tags, environment.json and its folder."""
    (run,) = store.find_runs("place")
    folder = Path(run.artifact_uri.removeprefix("file://")) / "environment"
    return dict(store.tags(run.id)), json.loads((folder / "environment.json").read_text()), folder


def test_code_and_machine_are_recorded(store: RunStore, code: Path) -> None:
    """Commit, branch, remote without credentials, user, script, machine and packages; a clean tree has no diff."""
    assert train(code, "--lr", "0.1") == ""
    tags, found, folder = facts(store)
    assert tags == {
        "mlflow.user": found["user"],
        "mlflow.source.name": str(code / "train.py"),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git(code, "rev-parse", "HEAD"),
        "mlflow.source.git.branch": "trunk",
        "mlflow.source.git.repoURL": "https://example.org/code.git",
        "tracker.git.dirty": "false",
    }
    assert found["git"] == {
        "root": str(code), "commit": tags["mlflow.source.git.commit"], "branch": "trunk", "dirty": False,
        "remote": "https://example.org/code.git", "untracked": [], "diff_bytes": 0, "diff_is_whole": True,
    }  # fmt: skip
    assert found["command"][-2:] == ["--lr", "0.1"]
    assert found["working_directory"] == os.getcwd()
    assert found["host"] == os.uname().nodename
    assert found["cpus"] == os.cpu_count()
    assert found["memory_gigabytes"] > 0
    assert found["python"].count(".") == 2
    packages = (folder / "requirements.txt").read_text().splitlines()
    assert {f"{name}=={version(name)}" for name in ("numpy", "sqlalchemy", "pluggy")} <= {p.lower() for p in packages}
    assert packages == sorted(
        packages, key=lambda line: line.partition("==")[0].lower().replace("_", "-").replace(".", "-")
    )
    assert not (folder / "diff.patch").exists()


def test_what_is_not_committed_can_be_applied_again(store: RunStore, code: Path, tmp_path: Path) -> None:
    """The diff has what is staged and what is not, to the byte, and applied to the commit it makes the tree that ran."""
    (code / "train.py").write_text(TRAIN + "# changed\n")
    (code / "latin.txt").write_bytes("Länge\n".encode("latin-1"))
    (code / "picture.bin").write_bytes(bytes(range(255, -1, -1)))
    (code / "new.py").write_text("staged = True\n")
    git(code, "add", "new.py")
    (code / "größe.txt").write_text("unknown to git\n")
    train(code)
    tags, found, folder = facts(store)
    assert tags["tracker.git.dirty"] == "true"
    assert found["git"]["untracked"] == ["größe.txt"]
    again = tmp_path / "again"
    git(tmp_path, "clone", "--quiet", str(code), str(again))
    git(again, "apply", str(folder / "diff.patch"))
    for name in ("train.py", "latin.txt", "picture.bin", "new.py"):
        assert (again / name).read_bytes() == (code / name).read_bytes()


def test_the_diff_can_be_left_out(store: RunStore, code: Path) -> None:
    """With TRACKER_GIT_DIFF=off it is recorded that there are changes, and not which."""
    (code / "train.py").write_text(TRAIN + "PASSWORD = 'hunter2'\n")
    train(code, TRACKER_GIT_DIFF="off")
    tags, _, folder = facts(store)
    assert tags["tracker.git.dirty"] == "true"
    assert not (folder / "diff.patch").exists()


def test_secrets_are_not_recorded(store: RunStore, code: Path) -> None:
    """No password of the command line, no variable of the environment and no credential of a remote gets out."""
    train(code, "--password", "hunter2", "--api-key=hunter3", "postgresql://ann:hunter4@host/db", HUNTER="hunter5")
    (run,) = store.find_runs("place")
    kept = [path for path in Path(run.artifact_uri.removeprefix("file://")).rglob("*") if path.is_file()]
    written = "".join(path.read_text(errors="replace") for path in kept) + repr(store.tags(run.id))
    assert kept
    assert "hunter" not in written
    assert "t0ken" not in written
    assert "postgresql://ann:***@host/db" in written


def test_tags_of_the_user_stay(store: RunStore) -> None:
    """The user and source that the script set are not replaced by detected ones."""
    with tracker.start_run(tags={"mlflow.user": "team", "mlflow.source.name": "pipeline"}) as run:
        pass
    tags = store.tags(run.id)
    assert (tags["mlflow.user"], tags["mlflow.source.name"], tags["mlflow.source.type"]) == (
        "team",
        "pipeline",
        "LOCAL",
    )


def test_a_run_taken_up_again_has_both_places(store: RunStore) -> None:
    """The environment of a later process is stored next to that of the first."""
    tracker.start_run(run_id="both").finish()
    tracker.start_run(run_id="both", resume="must").finish()
    root = Path(store.get_run("both").artifact_uri.removeprefix("file://")) / "environment"
    first, later = sorted(root.rglob("environment.json"), key=lambda path: len(path.parts))
    assert first.parent == root
    assert later.parent.name.startswith("resumed-")


def test_nothing_of_a_repository_is_run(store: RunStore, code: Path, tmp_path: Path) -> None:
    """Programs that a repository's configuration names (pager, monitor, diff driver, hooks) are not started."""
    trap, sprung = tmp_path / "trap", tmp_path / "sprung"
    trap.write_text(f"#!/bin/sh\necho $0 $@ >> {sprung}\nexit 1\n")
    trap.chmod(trap.stat().st_mode | stat.S_IXUSR)
    for name in (
        "core.pager",
        "core.fsmonitor",
        "diff.external",
        "diff.trap.textconv",
        "diff.trap.command",
        "core.askPass",
    ):
        git(code, "config", name, str(trap))
    (code / ".git" / "hooks" / "post-index-change").write_text(trap.read_text())
    (code / ".git" / "hooks" / "post-index-change").chmod(0o755)
    (code / ".git" / "info" / "attributes").write_text("*.txt diff=trap\n*.py diff=trap\n")
    (code / "train.py").write_text(TRAIN + "# changed\n")
    (code / "latin.txt").write_bytes(b"changed\n")
    index = (code / ".git" / "index").read_bytes()
    os.utime(code / "picture.bin", (1, 1))  # git would like to note that in its index
    train(code)
    _, found, folder = facts(store)
    assert found["git"]["dirty"]
    assert b"# changed" in (folder / "diff.patch").read_bytes()
    assert not sprung.exists(), sprung.read_text()
    assert (code / ".git" / "index").read_bytes() == index


def test_without_git_the_rest_is_recorded(store: RunStore, code: Path, tmp_path: Path) -> None:
    """A machine without git says so in environment.json; a folder that is no repository has nothing to say."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert train(code, PATH=str(empty)) == ""
    tags, found, folder = facts(store)
    assert found["git_failed"] == "git cannot be run: No such file or directory"
    assert "mlflow.source.git.commit" not in tags
    assert (folder / "requirements.txt").exists()
    (tmp_path / "train.py").write_text('import tracker\ntracker.start_run(name="bare").finish()\n')
    train(tmp_path)
    (run,) = store.find_runs("bare")
    folder = Path(run.artifact_uri.removeprefix("file://")) / "environment"
    found = json.loads((folder / "environment.json").read_text())
    assert "git" not in found
    assert "git_failed" not in found


def test_a_git_that_hangs_is_ended(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git, and what it started, is killed when its time is over, and whoever asked hears why."""
    pids = tmp_path / "pids"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\nsleep 300 &\necho $$ $! > {pids}\nwait\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    began = time.monotonic()
    with pytest.raises(GitFailed, match="git rev-parse was not done in time"):
        state_of(code, with_diff=True, budget=0.5)
    assert time.monotonic() - began < 30
    for pid in pids.read_text().split():
        eventually(lambda pid=pid: not _is_alive(int(pid)))


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_diff_is_bounded(code: Path) -> None:
    """Of a diff that is too large whole files are kept, and it is said that it is not all."""
    (code / "latin.txt").write_text("small\n")
    (code / "picture.bin").write_bytes(os.urandom(DIFF_BYTES))
    found = state_of(code, with_diff=True)
    assert found is not None
    assert not found.diff_is_whole
    assert b"Binary files a/picture.bin and b/picture.bin differ" in found.diff
    (code / "train.py").write_text("# line\n" * (DIFF_BYTES // 6))
    found = state_of(code, with_diff=True)
    assert found is not None
    assert not found.diff_is_whole
    assert found.diff.startswith(b"diff --git a/latin.txt")
    assert b"train.py" not in found.diff
    assert found.diff.endswith(b"\n")


def test_repositories_of_every_state(tmp_path: Path, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit yet, no branch, a bare one, a worktree inside, a hook's GIT_DIR: each is described correctly."""
    young = tmp_path / "young"
    young.mkdir()
    git(young, "init", "--quiet", "--initial-branch", "first")
    found = state_of(young, with_diff=True)
    assert found is not None
    assert (found.commit, found.branch, found.remote, found.dirty) == (None, "first", None, False)
    git(code, "checkout", "--quiet", "--detach")
    found = state_of(code, with_diff=True)
    assert found is not None
    assert (found.commit, found.branch) == (git(code, "rev-parse", "HEAD"), None)
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(code), str(bare))
    with pytest.raises(GitFailed, match="work tree"):
        state_of(bare, with_diff=True)
    monkeypatch.setenv("GIT_DIR", str(bare))
    found = state_of(young, with_diff=True)
    assert found is not None
    assert found.root == str(young)


def test_mlflow_shows_user_and_source(store: RunStore, store_url: str, code: Path) -> None:
    """MLflow's clients find who ran what at which commit where they look for it."""
    train(code)
    (run,) = store.find_runs("place")
    with Server(store_url) as server:
        found = server.get(f"/api/2.0/mlflow/runs/get?run_id={run.id}")["run"]
    tags = {tag["key"]: tag["value"] for tag in found["data"]["tags"]}
    assert found["info"]["user_id"] == tags["mlflow.user"] != ""
    assert tags["mlflow.source.name"] == str(code / "train.py")
    assert tags["mlflow.source.git.commit"] == git(code, "rev-parse", "HEAD")
