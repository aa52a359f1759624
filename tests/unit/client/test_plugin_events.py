"""What a run tells its plugins, when they are slow, away or failing."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from tracker.client.plugin_events import MOST, Notices


class Listener:
    """Remembers what it is told, once `gate` is open."""

    def __init__(self, *wanted: str) -> None:
        self.gate = threading.Event()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._wanted = wanted

    def __call__(self, hook: str, arguments: Mapping[str, Any]) -> None:
        assert self.gate.wait(60)
        self.told.append((hook, dict(arguments)))

    def wanted(self) -> Collection[str]:
        return self._wanted


class Reports(list[str]):
    """The kinds of problems that were reported."""

    def __call__(self, kind: str, problem: object) -> None:
        self.append(kind)


@pytest.fixture
def reports() -> Reports:
    return Reports()


def test_what_nobody_wants_is_not_told(reports: Reports) -> None:
    """Also what happened before it was known who wants what is told in order, and only what is wanted."""
    notices, listener, begun = Notices(reports), Listener("b", "c"), threading.Event()
    listener.gate.set()

    def find() -> Listener:
        assert begun.wait(60)
        return listener

    notices.begin(find)
    for hook in "abca":
        notices.put(hook, x=1)
    begun.set()
    assert notices.close(20.0) > 10
    assert listener.told == [("b", {"x": 1}), ("c", {"x": 1})]
    assert reports == []


def test_a_plugin_slower_than_the_training_is_bounded(reports: Reports) -> None:
    """So many notices wait and no more; what on top of them is not told is reported."""
    notices, listener = Notices(reports), Listener("epoch")
    notices.begin(lambda: listener)
    for number in range(MOST + 20):
        notices.put("epoch", number=number)
    assert set(reports) == {"plugins"}
    assert 18 <= len(reports) <= 20
    listener.gate.set()
    notices.close(20.0)
    assert [told["number"] for _, told in listener.told[:MOST]] == list(range(MOST))


def test_after_the_end_nothing_is_told(reports: Reports) -> None:
    """A plugin that hangs is left behind, and when it comes back it hears of nothing more."""
    notices, listener = Notices(reports), Listener("epoch")
    notices.begin(lambda: listener)
    notices.put("epoch", number=1)
    notices.put("epoch", number=2)
    assert notices.close(0.2) >= 0.1
    assert reports == ["plugins"]
    listener.gate.set()
    notices.put("epoch", number=3)
    for thread in threading.enumerate():
        if thread.name == "tracker-plugins":
            thread.join(60)
    assert [told["number"] for _, told in listener.told] == [1]


def test_plugins_that_cannot_be_found_tell_nothing(reports: Reports) -> None:
    """If looking for plugins fails, that is reported, and the run goes on without."""
    notices = Notices(reports)

    def find() -> Listener:
        raise ZeroDivisionError

    notices.begin(find)
    notices.put("epoch")
    notices.close(20.0)
    assert reports == ["ZeroDivisionError"]
