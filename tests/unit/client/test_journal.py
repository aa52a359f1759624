"""Journals that were torn, damaged, made by somebody else or taken over: what is whole is read, nothing is doubled."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from draws import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker import compose
from tracker.api import start_run, sync_journals
from tracker.artifacts.local import LocalArtifacts
from tracker.client.delivery import Delivery
from tracker.client.journal import VERSION, Journal, adopt, folder, is_own
from tracker.client.journal_reader import JournalReader
from tracker.client.sync import Synced
from tracker.client.transport import StoreTransport
from tracker.domain.errors import JournalError, StoreUnavailable
from tracker.domain.frames import Ack, Batch, EventLogged, Params, Points, RunEnded, RunStarted, Tags
from tracker.domain.ports import RunStore
from tracker.wire.frame_codec import HEADER_SIZE, MAX_PAYLOAD, JournalHeader, encode_frame, seal


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(compose.open_store(store_url)) as opened:
        yield opened


def header(store_url: str, run_id: str = "run", *, version: int = 1) -> JournalHeader:
    return JournalHeader(run_id, "writer", store_url, Path("artifacts").absolute().as_uri(), 1000, 1, "host", version)


def write(home: Path, store_url: str, run_id: str = "run", points: int = 20, *, end: bool = True) -> tuple[Path, int]:
    """The journal of a dead process, with so many points, the n-th of value n at step n and 2000 + n ms.

    Returns its path and the size of its last frame.
    """
    journal = Journal.create(home, header(store_url, run_id))
    journal.append(RunStarted(1000, "Default", run_id, "file:///nowhere", "host", 1))
    size = 0
    for number in range(points):
        size = journal.path.stat().st_size
        journal.append(Points(2000 + number, "step", number, 0, {"loss": float(number)}), 1)
    if end:
        size = journal.path.stat().st_size
        journal.append(RunEnded(5000, "finished"))
    journal.close()
    return journal.path, journal.path.stat().st_size - size


def read(path: Path) -> tuple[list[int], bool]:
    """The steps of the points that a reader finds in a journal, in pieces of 100 bytes, and whether all is whole."""
    adopted = adopt(path)
    assert adopted is not None
    with closing(adopted[0]) as journal:
        reader = JournalReader(journal.fd, journal.start)
        steps: list[int] = []
        while frames := reader.read(100):
            steps += [frame.step for _, frame in frames if isinstance(frame, Points)]
        return steps, not (reader.garbage or reader.undecodable or reader.left_over())


def steps_in(store: RunStore, run_id: str = "run") -> list[int]:
    """The steps of all points in the store, those written twice twice."""
    history = store.history(run_id, "loss", raw=True)
    assert list(history.values) == list(history.steps)
    return [int(step) for step in history.steps]


def sync_one() -> Synced:
    [synced] = sync_journals()
    return synced


def left(home: Path) -> list[str]:
    return sorted(path.name for path in folder(home).iterdir())


# -- a writer that died ----------------------------------------------------------------------------------------------


def test_a_frame_torn_anywhere_is_dropped_and_the_rest_ships(store: RunStore, store_url: str, home: Path) -> None:
    """Wherever the last write broke off, the frames before it are stored once and the run is lost as of the last."""
    _, size = write(home, store_url, "whole", end=False)
    assert size > HEADER_SIZE
    for missing in range(1, size + 1):
        path, _ = write(home, store_url, f"run{missing}", end=False)
        os.truncate(path, path.stat().st_size - missing)
    synced = {one.run_id: one for one in sync_journals()}
    assert len(synced) == size + 1
    for run_id, one in synced.items():
        assert (one.error, one.garbage, one.refused) == (None, 0, 0)
        expected = 20 if run_id == "whole" else 19
        assert one.points == expected
        assert steps_in(store, run_id) == list(range(expected))
        run = store.get_run(run_id)
        assert (run.status, run.ended_ms) == ("lost", 2000 + expected - 1)
    assert left(home) == []


def test_a_process_that_died_before_its_first_frame_leaves_no_run(store: RunStore, store_url: str, home: Path) -> None:
    """A journal with nothing but its header, or with a torn first frame behind it, goes without a trace."""
    for missing in (0, 1, 30):
        journal = Journal.create(home, header(store_url, f"run{missing}"))
        if missing:
            journal.append(RunStarted(1000, "Default", "run", "file:///nowhere", "host", 1))
            journal.cut(missing)
        journal.close()
    assert [one.error for one in sync_journals()] == [None, None, None]
    assert list(store.search_runs()) == []
    assert left(home) == []


def test_a_run_that_ended_keeps_its_ending(store: RunStore, store_url: str, home: Path) -> None:
    """The last word of a journal that was not shipped in its process's life is the run's."""
    write(home, store_url)
    assert sync_one().points == 20
    run = store.get_run("run")
    assert (run.status, run.started_ms, run.ended_ms) == ("finished", 1000, 5000)


# -- damage ----------------------------------------------------------------------------------------------------------

DAMAGES: dict[str, tuple[Callable[[bytes, int], bytes], list[int]]] = {
    "garbage in the middle": (lambda data, at: data[:at] + b"\xa5" * 777 + data[at:], list(range(20))),
    "zeros in the middle": (lambda data, at: data[:at] + bytes(5000) + data[at:], list(range(20))),
    "a hole in the middle": (lambda data, at: data[: at - 5] + data[at + 5 :], [*range(9), *range(11, 20)]),
    "bytes twice": (lambda data, at: data[:at] + data[at - 60 :], list(range(20))),
    "garbage at the end": (lambda data, at: data + b"?" * 500, list(range(20))),
    "zeros at the end": (lambda data, at: data + bytes(500), list(range(20))),
    "a number too large": (lambda data, at: data[: at + 14] + b"\x01" + data[at + 15 :], [*range(10), *range(11, 20)]),
    "a length too large": (lambda data, at: data[: at + 2] + b"\x01" + data[at + 3 :], [*range(10), *range(11, 20)]),
    "a length of zero": (lambda data, at: data[:at] + bytes(4) + data[at + 4 :], [*range(10), *range(11, 20)]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "died"])
def test_whole_frames_ship_whatever_stands_between_them(
    store: RunStore, store_url: str, home: Path, caplog: pytest.LogCaptureFixture, damage: str, ended: bool
) -> None:
    """Every whole frame is stored once, the damage is reported, and the journal is kept as `.refused`."""
    path, _ = write(home, store_url, points=20, end=ended)
    spoil, expected = DAMAGES[damage]
    short, _ = write(home, store_url, "short", points=10, end=False)
    at = short.stat().st_size + len("run") * 2 - len("short") * 2  # the run's id stands in two frames
    short.unlink()
    path.write_bytes(spoil(path.read_bytes(), at))

    synced = sync_one()
    assert synced.error is None
    assert synced.garbage > 0
    assert synced.points == len(expected)
    assert steps_in(store) == expected
    assert store.get_run("run").status == ("finished" if ended else "lost")
    assert left(home) == [f"{path.name}.refused"]
    assert "run" in caplog.text
    assert f"{path.name}.refused" in caplog.text
    assert list(sync_journals()) == []


def test_a_damaged_first_frame_costs_only_itself(store: RunStore, store_url: str, home: Path) -> None:
    """Without the frame that began the run its points are stored all the same, under what the header knows."""
    path, _ = write(home, store_url)
    data = bytearray(path.read_bytes())
    data[data.index(b"file:///nowhere")] ^= 1
    path.write_bytes(bytes(data))
    assert sync_one().points == 20
    assert steps_in(store) == list(range(20))
    assert store.get_run("run").status == "finished"
    assert left(home) == [f"{path.name}.refused"]


def test_one_flipped_bit_costs_one_frame(store_url: str, home: Path) -> None:
    """A flip of any single bit behind the header is noticed, and costs no frame but the one that it hit."""
    path, _ = write(home, store_url)
    whole = path.read_bytes()
    assert read(path) == (list(range(20)), True)
    adopted = adopt(path)
    assert adopted is not None
    start = adopted[0].start
    adopted[0].close()
    generator = random.Random(4)
    for position in range(start, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << generator.randrange(8)
        path.write_bytes(bytes(damaged))
        steps, is_whole = read(path)
        lost = set(range(20)) - set(steps)
        assert len(lost) <= 1
        assert steps == sorted(set(steps))
        assert not is_whole


@settings(max_examples=examples(200), deadline=None)
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=6),
    insert=st.tuples(st.floats(0, 1), st.binary(max_size=60)),
)
def test_any_damage_leaves_the_other_frames(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[float, int]], insert: tuple[float, bytes]
) -> None:
    """Whatever flips and insertions do, what is read is what was written, in order, less the frames that were hit."""
    home = tmp_path_factory.mktemp("journals")
    path, size = write(home, "sqlite:////nowhere", points=20, end=False)
    data = bytearray(path.read_bytes())
    body = len(data) - 20 * size
    for where, bit in flips:
        data[body + int(where * 20 * size)] ^= 1 << bit
    at = body + int(insert[0] * 20 * size)
    path.write_bytes(bytes(data[:at]) + insert[1] + bytes(data[at:]))
    steps, _ = read(path)
    hit = {int(where * 20) for where, _ in flips} | {(at - body) // size, (at - body - 1) // size}
    assert steps == sorted(set(steps))
    assert set(range(20)) - hit <= set(steps) <= set(range(20))
    shutil.rmtree(home)


def test_a_wrong_length_does_not_make_the_reader_take_everything_at_once(store_url: str, home: Path) -> None:
    """After damage whose header claims many bytes, pieces are as small as asked for again."""
    path, _ = write(home, store_url, points=2000)
    data = bytearray(path.read_bytes())
    position = len(data) // 2
    data[position : position + 8] = b"\xff\xff\x02\x00\xff\xff\xff\xff"
    path.write_bytes(bytes(data))
    adopted = adopt(path)
    assert adopted is not None
    with closing(adopted[0]) as journal:
        reader = JournalReader(journal.fd, journal.start)
        pieces = []
        while frames := reader.read(1000):
            pieces.append(len(frames))
    assert sum(pieces) >= 1990
    assert max(pieces) <= 1000 // 30


def test_a_frame_of_the_future_is_reported_not_lost(store: RunStore, store_url: str, home: Path) -> None:
    """A whole frame of a kind that this version does not know is skipped, said, and kept with its journal."""
    path, _ = write(home, store_url, end=False)
    adopted = adopt(path)
    assert adopted is not None
    with closing(adopted[0]) as journal:
        os.write(journal.fd, seal(b"\x92\xa6future\x01", 22))
    synced = sync_one()
    assert (synced.points, synced.garbage) == (20, 1)
    assert left(home) == [f"{path.name}.refused"]


def test_a_frame_that_the_store_can_never_take_costs_only_itself(
    store: RunStore, store_url: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However often the store goes away meanwhile, the others are stored once; the refusal is said once and counted."""
    journal = Journal.create(home, header(store_url))
    journal.append(RunStarted(1000, "Default", "run", "file:///nowhere", "host", 1))
    for number in range(64):
        journal.append(Points(1, "step", number, 0, {"loss": float(number)}), 1)
        if number in (20, 50):
            journal.append(Points(1, "step", 2**63, 0, {"loss": 0.0}), 1)
    journal.append(RunEnded(5000, "finished"))

    class Flaky(StoreTransport):
        calls = 0

        def send(self, batch: Batch) -> Ack:
            self.calls += 1
            if self.calls % 3 == 0:
                raise StoreUnavailable("away for a moment")
            return super().send(batch)

    transport = Flaky(lambda: compose.open_store(store_url))
    delivery = Delivery(journal, "run", "writer", transport, LocalArtifacts(home))
    more = True
    while more:
        with suppress(StoreUnavailable):
            more = delivery.deliver()
    assert (delivery.delivered_points, delivery.refused, delivery.refused_points) == (64, 2, 2)
    assert delivery.settled == journal.last_number
    delivery.finish()
    assert steps_in(store) == list(range(64))
    assert store.get_run("run").status == "finished"
    assert caplog.text.count("was refused (logged once, then counted)") == 1
    assert left(home) == ["run.writer.journal.refused"]


def test_damage_to_what_the_store_has_costs_nothing(store: RunStore, store_url: str, home: Path) -> None:
    """When the beginning of a journal is destroyed after it was shipped, the rest is shipped behind it."""
    path, size = write(home, store_url, points=10, end=False)
    adopted = adopt(path)
    assert adopted is not None
    journal, found = adopted
    transport = StoreTransport(lambda: compose.open_store(store_url))
    assert Delivery(journal, "run", found.writer, transport, LocalArtifacts(home)).deliver()
    transport.close()
    journal.last_number = 11
    for number in range(10, 20):
        journal.append(Points(2000 + number, "step", number, 0, {"loss": float(number)}), 1)
    journal.close()
    data = bytearray(path.read_bytes())
    data[adopted[0].start : len(data) - 10 * size] = bytes(300)
    path.write_bytes(bytes(data))
    assert sync_one().error is None
    assert steps_in(store) == list(range(20))


# -- what is no journal ----------------------------------------------------------------------------------------------


def test_what_is_no_journal_is_named_and_left_alone(store: RunStore, store_url: str, home: Path) -> None:
    """Other files, empty ones, folders and damaged headers are reported, stay as they are, and stop nobody."""
    path, _ = write(home, store_url)
    strange = {
        "text.journal": b"these are not the frames you are looking for",
        "empty.journal": b"",
        "zeros.journal": bytes(4096),
        "other.txt": b"somebody's notes",
    }
    for name, content in strange.items():
        (path.parent / name).write_bytes(content)
    (path.parent / "folder.journal").mkdir()
    damaged, _ = write(home, store_url, "damaged")
    damaged.write_bytes(damaged.read_bytes().replace(b"writer", b"Writer", 1))

    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file() and file != path}
    synced = {one.path.name: one for one in sync_journals()}
    assert synced.pop(path.name).error is None
    assert sorted(synced) == ["damaged.writer.journal", "empty.journal", "text.journal", "zeros.journal"]
    for name, one in synced.items():
        assert name in str(one.error)
        assert "does not begin as a journal does" in str(one.error)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()} == before
    assert steps_in(store) == list(range(20))


def test_a_journal_of_a_newer_format_waits_for_a_newer_tracker(store: RunStore, store_url: str, home: Path) -> None:
    """It is not misread: the message says to upgrade, and the file stays."""
    path = Journal.create(home, header(store_url, version=VERSION + 1)).path
    assert path.exists()
    shutil.copy(path, path.with_name("copy.journal"))
    with pytest.raises(JournalError, match="newer Tracker"):
        adopt(path.with_name("copy.journal"))


def test_a_journal_half_made_is_nobodys(store_url: str, home: Path) -> None:
    """Sync never meets a journal before it is locked and begins as one: a start that died leaves nothing to report."""
    folder(home).mkdir(parents=True)
    (folder(home) / "run.writer.new").write_bytes(b"")
    assert list(sync_journals()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, store_url: str) -> None:
    """The message names the folder, the reason and the setting that helps."""
    (tmp_path / "file").write_text("")
    with pytest.raises(
        JournalError, match=r"cannot create a journal in .*file/journals.*Not a directory.*TRACKER_HOME"
    ):
        Journal.create(tmp_path / "file", header(store_url))


# -- who owns it -----------------------------------------------------------------------------------------------------


def test_a_living_owners_journal_is_not_touched(store: RunStore, store_url: str, home: Path) -> None:
    """Neither sync nor another run of the same store takes a journal whose owner lives, be it this very process."""
    journal = Journal.create(home, header(store_url))
    journal.append(RunStarted(1000, "Default", "run", "file:///nowhere", "host", 1))
    before = journal.path.read_bytes()
    assert adopt(journal.path) is None
    assert list(sync_journals()) == []
    with start_run(name="other"):
        pass
    assert journal.path.read_bytes() == before
    assert [run.name for run in store.search_runs()] == ["other"]
    journal.close()
    assert sync_one().run_id == "run"


def test_only_one_takes_over(store_url: str, home: Path) -> None:
    """Of two that adopt a journal one gets it; who comes after it was set aside gets nothing."""
    path, _ = write(home, store_url)
    first = adopt(path)
    assert first is not None
    assert adopt(path) is None
    first[0].finish(keep=True)
    assert adopt(path) is None
    assert left(home) == [f"{path.name}.refused"]


@pytest.mark.parametrize("fate", ["removed", "renamed"])
def test_who_gets_the_lock_too_late_gets_nothing(
    store_url: str, home: Path, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    """A journal that somebody else ships between our opening and our locking it is not shipped again."""
    path, _ = write(home, store_url)
    lock = fcntl.flock

    def lock_late(fd: int, how: int) -> None:
        path.unlink() if fate == "removed" else path.rename(path.with_suffix(".refused"))
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    assert adopt(path) is None


@pytest.mark.parametrize(
    ("owner", "folders", "user", "ours"),
    [(7, 7, 7, True), (7, 0, 7, True), (0, 7, 7, False), (8, 7, 7, False), (8, 0, 0, False), (65534, 65534, 0, True)],
)
def test_whose_journals_are_shipped(owner: int, folders: int, user: int, ours: bool) -> None:
    """Those of this user, and of the owner of the folder, whom some network file systems give another id."""
    assert is_own(owner, folder=folders, user=user) is ours


# -- appending -------------------------------------------------------------------------------------------------------


def test_append_refuses_alone_what_cannot_be_written(store: RunStore, store_url: str, home: Path) -> None:
    """A frame that cannot be encoded, or is larger than any may be, is refused with a reason; the next one is taken."""
    refused: list[Exception] = []
    journal = Journal.create(home, header(store_url))
    journal.on_refusal = refused.append
    assert journal.append(RunStarted(1000, "Default", "run", "file:///nowhere", "host", 1))
    assert not journal.append(EventLogged(1, "odd", None, None, 0, {"x": object()}))
    assert not journal.append(Params(1, 0, {"big": "x" * MAX_PAYLOAD}))
    assert journal.append(Tags(1, {"k": "v"}))
    assert [type(error).__name__ for error in refused] == ["TypeError", "InvalidValue"]
    assert f"limit: {MAX_PAYLOAD} bytes" in str(refused[1])
    journal.close()
    assert not journal.append(Tags(1, {"late": "v"}))
    assert isinstance(refused[2], JournalError)
    assert sync_one().garbage == 0
    assert store.tags("run") == {"k": "v"}


def test_the_largest_frame_is_read(store: RunStore, store_url: str, home: Path) -> None:
    """A frame far larger than a piece, and those around it, are read in order."""
    journal = Journal.create(home, header(store_url))
    journal.append(RunStarted(1000, "Default", "run", "file:///nowhere", "host", 1))
    values = {f"key{i}": "x" * 60_000 for i in range(50)}
    journal.append(Params(1, 0, values))
    journal.append(Points(1, "step", 0, 0, {"loss": 0.0}), 1)
    journal.close()
    assert sync_one().points == 1
    assert store.params("run") == values


def test_numbers_identify_frames(store_url: str, home: Path) -> None:
    """The checksum covers the number: a frame is not valid under another one."""
    payload = encode_frame(Tags(1, {"k": "v"}))
    assert seal(payload, 1)[:HEADER_SIZE] != seal(payload, 2)[:HEADER_SIZE]
    path, size = write(home, store_url, end=False)
    data = bytearray(path.read_bytes())
    data[-size + 8] += 1
    path.write_bytes(bytes(data))
    assert read(path)[0] == list(range(19))
