"""The clock, run ids, and default names of runs."""

from __future__ import annotations

import os
import time

_FIRST = (
    "amber bold brave bright calm clear coral crisp dapper eager early fair fleet gentle glad golden "
    "happy honest jolly keen kind light lively lucid mellow merry modest noble proud quick quiet ready "
    "royal sharp silver steady sunny swift tidy vivid warm wise witty young"
).split()
_SECOND = (
    "alder badger beech birch brook cedar cliff comet condor crane delta dune eagle elm ember falcon fern "
    "finch fjord fox glade grove harbor hawk heron hill island jay lark linden lynx maple meadow moon oak "
    "otter owl peak pine plover reef ridge river robin sparrow spruce star swan tern tide valley willow "
    "wren"
).split()


def now_ms() -> int:
    """Milliseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1_000_000


def new_run_id(ms: int | None = None) -> str:
    """32 hex digits of a UUID version 7 (RFC 9562): sorted by creation time, made without asking any server."""
    random = int.from_bytes(os.urandom(10), "big")
    bits = (now_ms() if ms is None else ms) << 80 | random
    bits = bits & ~(0xF << 76) | 0x7 << 76
    return f"{bits & ~(0x3 << 62) | 0x2 << 62:032x}"


def new_run_name(run_id: str) -> str:
    """A pronounceable name derived from `run_id`, so that the same run always gets the same one."""
    number = int.from_bytes(run_id.encode(), "big") % (2**61 - 1)
    first, rest = number % len(_FIRST), number // len(_FIRST)
    return f"{_FIRST[first]}-{_SECOND[rest % len(_SECOND)]}-{rest // len(_SECOND) % 1000:03d}"


def local_time(ms: int) -> str:
    """A time in ms since the Unix epoch as local time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000))
