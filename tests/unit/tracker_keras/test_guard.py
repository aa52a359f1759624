"""The guard keeps errors, says each kind once, and counts."""

from __future__ import annotations

import logging

import pytest

from tracker_keras.recording.guard import Guard, guarded


class Hooked:
    """An object with two hooks, one of which fails."""

    def __init__(self, error: BaseException) -> None:
        self.guard = Guard()
        self.error = error
        self.calls: list[int] = []

    @guarded("counting sheep")
    def fails(self, epoch: int, logs: object = None) -> None:
        """A hook that fails."""
        raise self.error

    @guarded("counting cows")
    def works(self, epoch: int, logs: object = None) -> None:
        """A hook that works."""
        self.calls.append(epoch)


def test_an_error_stays_inside_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first error of a hook is on the log with its traceback, the later ones are counted."""
    hooked = Hooked(ValueError("ours"))
    with caplog.at_level(logging.WARNING, "tracker"):
        for epoch in range(3):
            hooked.fails(epoch, logs=None)
            hooked.works(epoch)
    (record,) = caplog.records
    assert record.name == "tracker"
    assert "Error while counting sheep" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is hooked.error
    assert hooked.guard.errors == 3
    assert hooked.calls == [0, 1, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_what_is_no_error_passes(error: BaseException) -> None:
    """Ctrl-C and exit go through, also where the guard is a `with` block."""
    hooked = Hooked(error)
    with pytest.raises(type(error)):
        hooked.fails(0)
    with pytest.raises(type(error)), hooked.guard("waiting"):
        raise error
    assert hooked.guard.errors == 0


def test_the_sum_is_said_when_there_is_more_than_was_said(caplog: pytest.LogCaptureFixture) -> None:
    """A fit's end tells how many errors there were, once, and only if some were not told."""
    guard = Guard()
    with guard("counting"):
        raise RuntimeError("one")
    guard.sum_up()
    assert len(caplog.records) == 1
    with guard("counting"):
        raise RuntimeError("two")
    guard.sum_up()
    guard.sum_up()
    assert [record.getMessage() for record in caplog.records[1:]] == [
        "2 errors of tracking in all; the first of each kind is logged above"
    ]
