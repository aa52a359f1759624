"""Cache of runs encoded as MLflow's JSON, valid while the run's version is unchanged; searches answer from it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

import msgspec

from tracker.mlflow_bridge import record_entities
from tracker.mlflow_bridge.base import BridgeBase, lifecycle_of
from tracker.mlflow_bridge.bridge_errors import as_bridge_errors
from tracker.mlflow_bridge.mlflow_limits import check_max_results, experiment_key

if TYPE_CHECKING:
    from tracker.domain.catalogue import RunDetail
    from tracker.store.read.run_cache import RunVersion

MOST_BYTES = 64 * 1024 * 1024
"""Approximate size of a cache; a run of ten parameters and ten metrics takes about two thousand bytes."""
_BESIDE = 300
"""Approximate overhead of the cache for a run."""


class RunFragments:
    """LRU cache of encoded runs. Thread-safe.

    No entry goes stale: a run is found only by its version in the caller's snapshot (see `RunVersion`), whichever
    process changed it.
    """

    def __init__(self, encode: Callable[[RunDetail], bytes], *, most_bytes: int = MOST_BYTES) -> None:
        self._encode = encode
        self._most = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, tuple[RunVersion, bytes]] = OrderedDict()
        self._lock = Lock()

    def get(self, of: RunVersion) -> bytes | None:
        with self._lock:
            kept = self._kept.get(of.run_id)
            if kept is None or kept[0] != of:
                return None
            self._kept.move_to_end(of.run_id)
            return kept[1]

    def add(self, of: RunVersion, detail: RunDetail) -> bytes:
        fragment = self._encode(detail)
        with self._lock:
            before = self._kept.pop(of.run_id, None)
            if before is not None:
                self._bytes -= len(before[1]) + _BESIDE
            self._kept[of.run_id] = of, fragment
            self._bytes += len(fragment) + _BESIDE
            while self._bytes > self._most:
                _, (_, oldest) = self._kept.popitem(last=False)
                self._bytes -= len(oldest) + _BESIDE
        return fragment


class Fragments(BridgeBase):
    """The part of the bridge about pages of encoded runs."""

    def search_fragments(
        self,
        experiment_ids: Sequence[str],
        filter: str | None = None,
        run_view_type: str = "ACTIVE_ONLY",
        max_results: int | None = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> tuple[Sequence[bytes], str | None]:
        """`search_runs` with each run as JSON."""
        limit = check_max_results(max_results)
        ids = [experiment_key(one) for one in experiment_ids]
        with as_bridge_errors():
            return self.store.catalogue.runs.search_encoded(
                ids,
                filter or "",
                lifecycle=lifecycle_of(run_view_type),
                order_by=order_by or (),
                limit=limit,
                page_token=page_token or None,
                alias=self.locations.alias,
                encoded=self._fragments,
            )

    @cached_property
    def _fragments(self) -> RunFragments:
        encode = msgspec.json.encode
        return RunFragments(lambda detail: encode(record_entities.run(detail, self.locations)))
