"""Records as clients read them: files on the server's disk have addresses on the server.

Clients of any version fetch by such an address; a folder of this machine would tell them nothing but where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

from starlette.requests import Request

from tracker.domain.catalogue import AddressAlias
from tracker.domain.records import Checkpoint, Event, Run, RunPage
from tracker.query.comparison import Comparison
from tracker.remote.address import run_path

_LOCAL = "file:"


class OwnAddresses:
    """Of a server as a client calls it: `base` is scheme and host."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")

    @staticmethod
    def of(request: Request) -> OwnAddresses:
        """As whoever sent the request calls the server."""
        return OwnAddresses(str(request.base_url))

    def run(self, run_id: str) -> str:
        """Where a run's files are."""
        return self._base + run_path(run_id, "artifacts")

    @property
    def alias(self) -> AddressAlias:
        """How conditions of a search see a run's address, so that they tell nothing of the folder."""
        return AddressAlias(_LOCAL, self.run("{run}").replace(quote("{run}"), "{run}"), begins=True)

    def file(self, run_id: str, uri: str) -> str:
        """Where a run's file is that is kept at `uri`; any place that is not on this machine's disk is as it was."""
        if not uri.startswith(_LOCAL):
            return uri
        _, found, path = unquote(uri).partition(f"/{run_id}/")
        return f"{self.run(run_id)}/{quote(path if found else unquote(uri).rpartition('/')[2])}"

    def shown(self, answer: Any, run_id: str = "") -> Any:
        """`answer`, a record or a list of records, which are of the run where they do not name one."""
        match answer:
            case Run(id=own, artifact_uri=uri) if uri.startswith(_LOCAL):
                return replace(answer, artifact_uri=self.run(own))
            case Checkpoint(uri=uri):
                return replace(answer, uri=self.file(run_id, uri))
            case Event(detail=Mapping() as detail) if isinstance(place := detail.get("uri"), str):
                return replace(answer, detail={**detail, "uri": self.file(run_id, place)})
            case RunPage(runs=runs) | Comparison(runs=runs):
                return replace(answer, runs=[self.shown(run) for run in runs])
            case list() | tuple() if answer and isinstance(answer[0], Run | Checkpoint | Event):
                return [self.shown(one, run_id) for one in answer]
        return answer
