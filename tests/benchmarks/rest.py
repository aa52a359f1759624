"""MLflow's REST API, as much of it as setting up and checking a server takes."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

API = "/api/2.0/mlflow/"


class Refused(Exception):
    """The server answered with a status that is no success."""


class Rest:
    """A server on this machine; every call opens a connection of its own and returns the answer's JSON."""

    def __init__(self, port: int, timeout_s: float = 120.0) -> None:
        self.port = port
        self._timeout_s = timeout_s

    def post(self, route: str, body: Mapping[str, Any]) -> Any:
        return self._ask("POST", API + route, json.dumps(body))

    def get(self, route: str, **query: object) -> Any:
        return self._ask("GET", path(route, **query), None)

    def _ask(self, method: str, target: str, body: str | None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self._timeout_s)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise Refused(f"{method} {target} answered {response.status}: {content[:200].decode(errors='replace')}")
        return json.loads(content)

    def create_experiment(self, name: str) -> str:
        return str(self.post("experiments/create", {"name": name})["experiment_id"])

    def create_run(self, experiment: str) -> str:
        body = {"experiment_id": experiment, "start_time": 1_700_000_000_000}
        return str(self.post("runs/create", body)["run"]["info"]["run_id"])

    def last_steps(self, run: str) -> dict[str, int]:
        """The last step of each metric of a run."""
        found = self.get("runs/get", run_id=run)["run"]["data"].get("metrics", [])
        return {metric["key"]: int(metric["step"]) for metric in found}

    def steps(self, run: str, key: str) -> list[int]:
        """The steps of one metric's points, in the order in which they come, all pages of them."""
        found: list[int] = []
        page: dict[str, object] = {}
        while True:
            answer = self.get("metrics/get-history", run_id=run, metric_key=key, **page)
            found += [int(point["step"]) for point in answer.get("metrics", [])]
            if not answer.get("next_page_token"):
                return found
            page = {"page_token": answer["next_page_token"]}


def path(route: str, **query: object) -> str:
    """The path of a GET, with its query."""
    return API + route + ("?" + urlencode(query) if query else "")
