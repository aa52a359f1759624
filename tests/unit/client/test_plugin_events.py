"""What a run tells its plugins, when they are slow, away or failing."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from tracker.client.plugin_events import MOST, PluginEvents


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
    events, listener, begun = PluginEvents(reports), Listener("b", "c"), threading.Event()
    listener.gate.set()

    def find() -> Listener:
        assert begun.wait(60)
        return listener

    events.begin(find)
    for hook in "abca":
        events.put(hook, x=1)
    begun.set()
    assert events.close(20.0) > 10
    assert listener.told == [("b", {"x": 1}), ("c", {"x": 1})]
    assert reports == []


def test_a_plugin_slower_than_the_training_is_bounded(reports: Reports) -> None:
    """So many events wait and no more; what on top of them is not told is reported."""
    events, listener = PluginEvents(reports), Listener("epoch")
    events.begin(lambda: listener)
    for number in range(MOST + 20):
        events.put("epoch", number=number)
    assert set(reports) == {"plugins"}
    assert 18 <= len(reports) <= 20
    listener.gate.set()
    events.close(20.0)
    assert [told["number"] for _, told in listener.told[:MOST]] == list(range(MOST))


def test_after_the_end_nothing_is_told(reports: Reports) -> None:
    """A plugin that hangs is left behind, and when it comes back it hears of nothing more."""
    events, listener = PluginEvents(reports), Listener("epoch")
    events.begin(lambda: listener)
    events.put("epoch", number=1)
    events.put("epoch", number=2)
    assert events.close(0.2) >= 0.1
    assert reports == ["plugins"]
    listener.gate.set()
    events.put("epoch", number=3)
    for thread in threading.enumerate():
        if thread.name == "tracker-plugins":
            thread.join(60)
    assert [told["number"] for _, told in listener.told] == [1]


def test_plugins_that_cannot_be_found_tell_nothing(reports: Reports) -> None:
    """If looking for plugins fails, that is reported, and the run goes on without."""
    events = PluginEvents(reports)

    def find() -> Listener:
        raise ZeroDivisionError

    events.begin(find)
    events.put("epoch")
    events.close(20.0)
    assert reports == ["ZeroDivisionError"]
