"""What the image runs, run outside a container: its own command, environment and health check, over PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml
from e2e.children import eventually
from e2e.server_lab import DEADLINE_S, free_port
from psycopg import sql

import tracker
from tracker.settings import Settings

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
PASSWORD = "p@ss:w/rd?#%"
BIN = Path(sys.executable).parent


def instructions(stage: int) -> list[tuple[str, str]]:
    """The instructions of a stage of the Dockerfile, 0 the first, -1 the last."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    stages: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, rest.strip()))
    return stages[stage]


def only(name: str) -> str:
    """The one instruction of this name in the image's last stage."""
    [found] = [rest for one, rest in instructions(-1) if one == name]
    return found


def image_environment() -> dict[str, str]:
    pairs = [word.partition("=") for one, rest in instructions(-1) if one == "ENV" for word in shlex.split(rest)]
    return {name: value for name, _, value in pairs if name != "PATH"}


def composed(**given: str) -> Any:
    """The compose file, with the variables that are given, as `docker compose` reads it."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found["name"], found["kind"], found["rest"]
        if given.get(name):
            return given[name]
        if kind == ":?":
            raise KeyError(f"{name}: {rest}")
        return str(rest)

    text = (DOCKER / "compose.yaml").read_text()
    return yaml.safe_load(re.sub(r"\$\{(?P<name>\w+)(?P<kind>:[-?])(?P<rest>[^}]*)\}", value, text))


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """An empty database as the compose file's has it: the same names, and a password that is asked for."""
    settings = composed(POSTGRES_PASSWORD=PASSWORD)["services"]["database"]["environment"]
    user, name = settings["POSTGRES_USER"], settings["POSTGRES_DB"]
    with psycopg.connect(postgres, autocommit=True) as admin:
        rules = Path(str(admin.execute("SHOW hba_file").fetchone()[0]))  # type: ignore[index]
        before = rules.read_text()
        rules.write_text(f"local {name} {user} scram-sha-256\n{before}")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(user), settings["POSTGRES_PASSWORD"])
        )
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(user)))
        try:
            yield f"postgresql://{user}@/{name}?{urlsplit(postgres).query}"
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(user)))
            rules.write_text(before)
            admin.execute("SELECT pg_reload_conf()")


@dataclass(frozen=True)
class Container:
    """What a container of the image would run, with another port, folder and place of the database."""

    command: Sequence[str]
    health: Sequence[str]
    environment: Mapping[str, str]
    port: int

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`docker compose run --rm server ARGUMENTS`."""
        command = [*json.loads(only("ENTRYPOINT")), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=DEADLINE_S)

    @property
    def healthy(self) -> bool:
        return not subprocess.run(self.health, env=self.environment, capture_output=True, timeout=DEADLINE_S).returncode


def container(service: Mapping[str, Any], folder: Path, **environment: str) -> Container:
    """A container with the compose file's `service`, `folder` in the place of its volume."""
    port, [volume] = free_port(), json.loads(only("VOLUME"))
    given = {**image_environment(), **service["environment"]}
    given = {name: value.replace(volume, str(folder), 1) for name, value in given.items()}
    exposed = only("EXPOSE")
    health = only("HEALTHCHECK").partition(" CMD ")[2]
    return Container(
        command=[word.replace(exposed, str(port)) for word in [*json.loads(only("ENTRYPOINT")), *service["command"]]],
        health=[word.replace(f":{exposed}/", f":{port}/") for word in json.loads(health)],
        environment={"PATH": f"{BIN}:{os.environ['PATH']}", **given, **environment},
        port=port,
    )


def test_compose_starts_a_server(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docker/README.md says: without a token it refuses; with one it is healthy, takes a run, and ends well."""
    service = composed(POSTGRES_PASSWORD=PASSWORD)["services"]["server"]
    assert urlsplit(service["environment"]["TRACKER_STORE"])[:3] == (
        "postgresql", f"{urlsplit(database).netloc}database:5432", urlsplit(database).path,
    )  # fmt: skip
    made = container(service, tmp_path, TRACKER_STORE=database)
    refused = subprocess.run(made.command, env=made.environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert refused.returncode != 0
    assert "tracker token create" in refused.stderr
    assert not made.healthy

    [first] = re.findall(r"docker compose run --rm server (token create me .*)", (DOCKER / "README.md").read_text())
    created = made.run(*first.split())
    assert created.returncode == 0, created.stderr
    process = subprocess.Popen(made.command, env=made.environment, stderr=subprocess.PIPE, text=True)
    try:
        eventually(lambda: process.poll() is not None or made.healthy)
        monkeypatch.setenv("TRACKER_TOKEN", created.stdout.strip())
        url = f"http://127.0.0.1:{made.port}"
        with tracker.start_run(name="it", store=url, params={"lr": 0.1}) as run:
            run.log({"loss": 0.5}, step=0)
            run.log_text("words", "notes.txt")
        with closing(tracker.open_store(url)) as store:
            assert store.get_run(run.id).status == "finished"
            assert store.history(run.id, "loss").values.tolist() == [0.5]
        monkeypatch.delenv("TRACKER_TOKEN")
        with pytest.raises(tracker.TrackerError, match="401"):
            tracker.open_store(url).search_runs()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert created.stdout.strip() not in said
    assert not made.healthy
    assert (tmp_path / "artifacts" / run.id / "notes.txt").read_text() == "words"


def test_image_alone(tmp_path: Path) -> None:
    """Without compose the image keeps everything in its volume: store, tokens and files."""
    service = {"environment": {}, "command": json.loads(only("CMD"))}
    made = container(service, tmp_path)
    assert made.run("token", "create", "me").returncode == 0
    process = subprocess.Popen(made.command, env=made.environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        eventually(lambda: process.poll() is not None or made.healthy)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, said
    assert (tmp_path / "tracker.db").is_file()


def test_what_the_image_promises() -> None:
    """It runs as nobody in particular; what it keeps is in its volume; ports and folders agree everywhere."""
    [volume], environment = json.loads(only("VOLUME")), image_environment()
    assert only("USER").split(":")[0].isdecimal()
    assert only("USER").split(":")[0] != "0"
    assert environment["TRACKER_ARTIFACTS"].startswith(f"{volume}/")
    settings = Settings.from_environment(environment)
    assert settings.store == f"sqlite:///{volume}/tracker.db"
    assert settings.home.is_relative_to(volume)
    services = composed(POSTGRES_PASSWORD=PASSWORD)["services"]
    server = services["server"]
    assert server["ports"] == [f"127.0.0.1:5000:{only('EXPOSE')}"]
    assert json.loads(only("CMD")) == server["command"][: len(json.loads(only("CMD")))]
    assert server["volumes"] == [f"artifacts:{volume}"]
    assert server["environment"]["TRACKER_ARTIFACTS"].startswith(f"{volume}/")
    assert int(server["stop_grace_period"].rstrip("s")) > 30
    # Python of the image's own version: what is built in one stage runs in the other.
    assert len({rest.split()[0] for stage in (0, -1) for name, rest in instructions(stage) if name == "FROM"}) == 1


def test_no_password_is_committed() -> None:
    """The compose file has none, and says which one it wants; the file that has one is ignored."""
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        composed()
    assert PASSWORD not in (DOCKER / "compose.yaml").read_text()
    assert "docker/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_docker_is_no_package() -> None:
    """A package of this name would shadow the Docker SDK, which MLflow imports."""
    assert not list(DOCKER.rglob("*.py"))


def test_image_is_built_from_what_it_copies(tmp_path: Path) -> None:
    """The wheel can be built from the files that the first stage copies, and none of them is kept out of the build."""
    kept = [line for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for name, rest in instructions(0):
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                assert any(fnmatch(source, line[1:]) for line in kept), source
                place = tmp_path / target / (Path(source).name if target.endswith("/") else "")
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copyfile(ROOT / source, place)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path / "wheels", tmp_path],
        check=True,
    )  # fmt: skip
    [wheel] = (tmp_path / "wheels").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"tracker/cli/main.py", "tracker_migrations/env.py", "tracker_keras/callback.py"} <= set(names)
