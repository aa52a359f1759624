"""The server's lines."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from typing import IO

import pytest

from tracker.server.logs import Format, Log


@pytest.fixture
def pipe() -> Iterator[tuple[int, IO[str]]]:
    read, write = os.pipe()
    with os.fdopen(read) as reader:
        yield write, reader
    os.close(write)


def lines(pipe: tuple[int, IO[str]]) -> list[str]:
    """What was written by now."""
    return os.read(pipe[1].fileno(), 1_000_000).decode().splitlines()


@pytest.mark.parametrize("format_", ["text", "json"])
def test_messages_and_errors(pipe: tuple[int, IO[str]], format_: Format) -> None:
    """What the server's loggers say comes in the log's format, with its traceback; from the level that was asked for."""
    logger = logging.getLogger("tracker.server")
    with Log("warning", format_, target=pipe[0]).running():
        logger.info("not worth a line")
        logger.warning("a %s of\nlines", "message")
        try:
            raise ZeroDivisionError("why")
        except ZeroDivisionError:
            logger.exception("failed")
    logger.warning("after the log has ended")
    found = lines(pipe)
    if format_ == "json":
        first, second = map(json.loads, found)
        assert (first["level"], first["logger"], first["message"]) == (
            "warning",
            "tracker.server",
            "a message of\nlines",
        )
        assert second["message"] == "failed"
        assert second["traceback"].endswith("ZeroDivisionError: why\n")
    else:
        assert found[0].endswith(r'level=warning logger=tracker.server message="a message of\nlines"')
        assert found[-1] == "ZeroDivisionError: why"


def test_requests_in_order_and_complete(pipe: tuple[int, IO[str]]) -> None:
    """When the log ends, every request that was noted has its line, in order, before what is said later."""
    with Log("info", target=pipe[0]).running() as log:
        for number in range(100):
            log.answered("GET", f"/{number}", 200, 0.001, 5, f"id{number}", {})
        logging.getLogger("tracker").warning("later")
    found = lines(pipe)
    assert [line.split(" path=")[1].split()[0] for line in found[:-1]] == [f"/{number}" for number in range(100)]
    assert found[-1].endswith("message=later")


def test_levels(pipe: tuple[int, IO[str]]) -> None:
    """Requests are of level info, failures of the server of level error, health checks of level debug."""
    for level, expected in (("debug", 3), ("info", 2), ("error", 1)):
        with Log(level, target=pipe[0]).running() as log:
            log.answered("GET", "/healthz", 200, 0.1, 0, "a", {})
            log.answered("GET", "/x", 404, 0.1, 0, "b", {})
            log.answered("GET", "/x", 503, 0.1, 0, "c", {})
        assert len(lines(pipe)) == expected


def test_nobody_reads(pipe: tuple[int, IO[str]]) -> None:
    """A log that nobody reads any more harms nothing."""
    read, write = os.pipe()
    os.close(read)
    with Log("info", target=write).running() as log:
        log.answered("GET", "/x", 200, 0.1, 0, "a", {})
        log.say("words")
    os.close(write)
