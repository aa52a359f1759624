"""Writers and a compaction of one series are killed at random moments: every acknowledged point is there, once."""

from __future__ import annotations

import random
from contextlib import ExitStack

from contracts.test_blocks import KEY, Trainer, stored
from draws import SEED, examples
from e2e.children import Child

from tracker.store.store import SqlRunStore

AT_ONCE = 25
JOURNAL = """
from tracker.client.batch_builder import make_batch
from tracker.domain.frames import Points
from tracker.store.store import SqlRunStore

with SqlRunStore.open({url!r}, block_points=8) as store:
    for at in range({begin}, 10**6):
        steps = range({at_once} * at, {at_once} * (at + 1))
        frames = [Points(2000, "step", step, 0, {{"of-journal": float(step)}}) for step in steps]
        store.append(make_batch("r", "w", list(enumerate(frames, steps[0] + 2))))
        say(at + 1)
"""
CALLS = """
from tracker.domain.calls import batch_of_call
from tracker.store.store import SqlRunStore

with SqlRunStore.open({url!r}, block_points=8) as store:
    for at in range({begin}, 10**6):
        places = list(range({at_once} * at, {at_once} * (at + 1)))
        steps = [place if place % 3 else place // 2 for place in places]
        batch = batch_of_call("r", [{key!r}] * {at_once}, steps, places, [float(place) for place in places])
        store.append(batch)
        say(at + 1)
"""
COMPACTION = """
from tracker.store.store import SqlRunStore

with SqlRunStore.open({url!r}, block_points=16) as store:
    say("begins")
    while True:
        wait()
        list(store.compaction.compact())
"""


def test_killed_while_points_are_sealed(any_url: str) -> None:
    """A journal and a client without one that write, and `tracker db compact`, which orders blocks: all are killed."""
    draw = random.Random(SEED)
    begins = {KEY: 0, "of-journal": 0}
    with SqlRunStore.open(any_url, block_points=8) as store:
        Trainer(store, "r").start()
        for _ in range(examples(4)):
            with ExitStack() as stack:
                compaction = stack.enter_context(Child(COMPACTION.format(url=any_url)))
                compaction.expect("begins")
                writers = {
                    key: stack.enter_context(
                        Child(code.format(url=any_url, begin=begins[key], at_once=AT_ONCE, key=key))
                    )
                    for key, code in ((KEY, CALLS), ("of-journal", JOURNAL))
                }
                acknowledged = dict(begins)
                for _ in range(draw.randint(1, 30)):
                    if draw.random() < 0.3:
                        compaction.go_on()
                    key = draw.choice(list(writers))
                    acknowledged[key] = int(writers[key].line())
                for child in draw.sample([compaction, *writers.values()], 3):
                    child.kill()
            for key, count in acknowledged.items():
                if not count:
                    continue
                raw = store.history("r", key, raw=True)
                values = sorted(raw.values.tolist())
                assert values == [float(place) for place in range(len(values))]
                assert len(values) >= AT_ONCE * count
                assert store.metrics("r")[key].count == len(values)
                begins[key] = len(values) // AT_ONCE
                if key == KEY:
                    stored(any_url, "r", raw)
