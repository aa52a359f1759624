"""Run ids and the names that runs get."""

from __future__ import annotations

import uuid

from tracker.domain.identity import new_run_id, new_run_name, now_ms


def test_run_id_is_a_uuid7() -> None:
    """32 hex digits of a UUID of version 7 and RFC 9562's variant, with the time of birth in front."""
    before = now_ms()
    made = uuid.UUID(hex=new_run_id())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= now_ms()


def test_run_ids_sort_by_time() -> None:
    """A later millisecond is a greater id."""
    assert new_run_id(1) < new_run_id(2) < new_run_id(2**47)


def test_run_ids_differ() -> None:
    """Ids of one millisecond differ."""
    assert len({new_run_id(5) for _ in range(1000)}) == 1000


def test_name_is_of_the_id() -> None:
    """A run's name is made of its id: the same again, and different for others."""
    ids = [new_run_id() for _ in range(200)]
    assert [new_run_name(i) for i in ids] == [new_run_name(i) for i in ids]
    assert len({new_run_name(i) for i in ids}) > 190
