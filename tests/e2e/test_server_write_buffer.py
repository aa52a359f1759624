"""A loaded server keeps points packed for a moment; neither death nor readers find them missing or doubled."""

from __future__ import annotations

import http.client
import json
import threading

import pytest
from draws import databases
from e2e.children import eventually
from e2e.server_lab import DEADLINE_S, Server
from sqlalchemy import create_engine, text

from tracker.store.store import SqlRunStore

JSON = {"Content-Type": "application/json"}
KEYS = [f"m{number}" for number in range(50)]


class Client(threading.Thread):
    """Logs KEYS at one step after the other to a run, as fast as it is answered, until the server is gone."""

    def __init__(self, server: Server, run_id: str) -> None:
        super().__init__(daemon=True)
        self.run_id = run_id
        self.acknowledged = 0
        self.refused: list[int] = []
        self._connection = server.connect()
        self.enough = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            self._log()
        finally:
            self._connection.close()

    def _log(self) -> None:
        while not self.enough.is_set():
            step = self.acknowledged
            metrics = [{"key": key, "value": step / 2, "timestamp": 1_000 + step, "step": step} for key in KEYS]
            body = json.dumps({"run_id": self.run_id, "metrics": metrics})
            try:
                self._connection.request("POST", "/api/2.0/mlflow/runs/log-batch", body, JSON)
                answer = self._connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            if answer.status != 200:
                self.refused.append(answer.status)
                return
            self.acknowledged = step + 1


def new_run(server: Server) -> str:
    answer = server.ask("POST", "/api/2.0/mlflow/runs/create", b'{"experiment_id": "0", "start_time": 1}', JSON)
    return str(answer.json["run"]["info"]["run_id"])


def packed(url: str) -> int:
    """How many groups of points wait to be moved into their series."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM tails")).scalar_one())
    finally:
        engine.dispose()


@pytest.mark.parametrize("any_url", databases("killed with packed points"), indirect=True)
def test_killed_with_packed_points(any_url: str) -> None:
    """After kill -9 under load the next server has every acknowledged point, each once, and the summaries of them."""
    clients: list[Client] = []
    with Server(any_url) as server:
        for _ in range(50):  # until a kill finds points that were not moved yet
            eventually(lambda: packed(any_url) == 0)
            clients.extend(Client(server, new_run(server)) for _ in range(3))
            eventually(lambda: packed(any_url) > 2)
            server.kill()
            for client in clients:
                client.join(DEADLINE_S)
            if packed(any_url):
                break
            server.start()
    assert packed(any_url)
    assert not any(client.refused for client in clients)
    with Server(any_url) as server:
        for client in clients:
            path = f"/api/2.0/mlflow/metrics/get-history?run_id={client.run_id}&metric_key=m7"
            steps = [metric["step"] for metric in server.get(path).get("metrics", [])]
            # What was stored but not answered before the kill may be there as well.
            assert steps in (list(range(client.acknowledged)), list(range(client.acknowledged + 1)))
    with SqlRunStore.open(any_url) as store:
        for client in clients:
            summaries = store.metrics(client.run_id)
            assert {series.count for series in summaries.values()} <= {client.acknowledged, client.acknowledged + 1}
            assert summaries.keys() == (set(KEYS) if client.acknowledged else summaries.keys())


@pytest.mark.parametrize("any_url", databases("readers under load"), indirect=True)
def test_readers_under_load(any_url: str) -> None:
    """Whoever reads while a server is loaded, through it or beside it, sees all that was acknowledged before."""
    with Server(any_url) as server, SqlRunStore.open(any_url) as beside:
        clients = [Client(server, new_run(server)) for _ in range(3)]
        eventually(lambda: packed(any_url) > 2)
        for _ in range(5):
            for client in clients:
                before = client.acknowledged
                assert len(beside.history(client.run_id, "m7")) >= before
                before = client.acknowledged
                run = server.get(f"/api/2.0/mlflow/runs/get?run_id={client.run_id}")["run"]
                last = {metric["key"]: metric["step"] for metric in run["data"]["metrics"]}
                assert last["m7"] + 1 >= before
        for client in clients:
            client.enough.set()
            client.join(DEADLINE_S)
        assert not any(client.refused for client in clients)
        eventually(lambda: packed(any_url) == 0)
