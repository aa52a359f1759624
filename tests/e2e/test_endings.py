"""How runs end: every way out of a real process, with and without `with`."""

from __future__ import annotations

import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from textwrap import indent

import pytest
from draws import EVERYTHING, SEED
from e2e.children import Child, run_child

from tracker import compose
from tracker.api import start_run, sync_journals
from tracker.domain.ports import RunStore
from tracker.domain.records import Run
from tracker.domain.vocabulary import LEASE_MS
from tracker.store.engine import make_engine
from tracker.store.store import SqlRunStore

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def store(store_url: str) -> Iterator[RunStore]:
    """The store of the test, with its schema."""
    with closing(compose.open_store(store_url)) as opened:
        yield opened


def journals(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "journals").iterdir())


def the_run(store: RunStore, name: str = "it") -> Run:
    [run] = [run for run in store.search_runs().runs if run.name == name]
    return run


OPENINGS = {
    "with": "with tracker.start_run(name='it') as run:\n    run.log({'loss': 1.0}, step=0)\n",
    "without": "run = tracker.start_run(name='it')\nrun.log({'loss': 1.0}, step=0)\n",
}


def script(way: str, body: str) -> str:
    return OPENINGS[way] + indent(body, "    " if way == "with" else "")


@pytest.mark.parametrize("way", OPENINGS)
@pytest.mark.parametrize(
    ("body", "number", "status", "code"),
    [
        ("pass", None, "finished", 0),
        ("sys.exit(0)", None, "finished", 0),
        # Flushed, since CPython exits with 1 after a Ctrl-C when it imports what uses `exec` on its way out.
        ("run.flush(); say('ready'); wait()", signal.SIGINT, "interrupted", -signal.SIGINT),
        ("say('ready'); wait()", signal.SIGTERM, "preempted", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGTERM)", None, "preempted", -signal.SIGTERM),
    ],
    ids=["plain end", "exit 0", "Ctrl-C", "SIGTERM while waiting", "SIGTERM while computing"],
)
def test_status_says_how_the_process_ended(
    store: RunStore, home: Path, way: str, body: str, number: signal.Signals | None, status: str, code: int
) -> None:
    """The run has the status of this way out, the exit status is what it would have been without us, and nothing is left."""
    with Child(script(way, body)) as child:
        if number is not None:
            child.expect("ready")
            child.send(number)
        assert child.end() == code, child.errors
    run = the_run(store)
    assert run.status == status
    assert run.ended_ms is not None
    assert run.ended_ms >= run.started_ms
    assert list(store.history(run.id, "loss").values) == [1.0]
    assert journals(home) == []


HOOKS = {
    "none": ("", ""),
    "before, silent": ("sys.excepthook = lambda *error: None", ""),
    "before, chaining": ("old = sys.excepthook; sys.excepthook = lambda *error: old(*error)", ""),
    "after, silent": ("", "sys.excepthook = lambda *error: None"),
    "after, chaining": ("", "old = sys.excepthook; sys.excepthook = lambda *error: old(*error)"),
    "after, failing": ("", "sys.excepthook = lambda *error: 1 / 0"),
}


@pytest.mark.parametrize(
    ("way", "hooks"), [("with", "none"), *(("without", hooks) for hooks in HOOKS)], ids=lambda value: value
)
def test_an_uncaught_exception_fails_the_run(store: RunStore, way: str, hooks: str) -> None:
    """Type, message and traceback are kept, whoever else hooks exceptions and in whatever order."""
    before, after = HOOKS[hooks]
    body = f"{after}\ndef train():\n    raise ValueError('boom ä')\ntrain()"
    with Child(f"{before}\n{script(way, body)}") as child:
        assert child.end() == 1
        assert ("boom" in child.errors) is ("silent" not in hooks)
    run = the_run(store)
    assert run.status == "failed"
    [event] = [event for event in store.events(run.id) if event.kind == "run_failed"]
    assert event.detail["type"] == "ValueError"
    assert event.detail["message"] == "boom ä"
    assert "in train" in event.detail["traceback"]


def test_an_exit_status_fails_the_run_inside_with(store: RunStore) -> None:
    """`sys.exit(3)` inside `with` is a failure; the process still exits with 3."""
    with Child(script("with", "sys.exit(3)")) as child:
        assert child.end() == 3
    assert the_run(store).status == "failed"


def test_an_exception_that_was_caught_fails_nothing(store: RunStore) -> None:
    """A reported exception of before the run, or one that was handled, is not the run's end."""
    run_child("""
        import code
        code.InteractiveInterpreter().runcode("1 / 0")      # reported, and set as the last exception
        run = tracker.start_run(name="it")
        try:
            raise ValueError
        except ValueError:
            pass
    """)
    assert the_run(store).status == "finished"


KILLS: dict[str, Callable[[Child], None]] = {
    "os._exit": lambda child: child.go_on(),
    "kill -9": lambda child: child.send(signal.SIGKILL),
}


@pytest.mark.parametrize("kill", KILLS)
def test_a_silent_death_is_found_by_the_lease(store: RunStore, store_url: str, home: Path, kill: str) -> None:
    """A run whose process died without a word runs on until its lease ends, then is lost as of its last sign of life."""
    with Child("""
        run = tracker.start_run(name="it")
        run.start_fit(epochs=3)
        run.log({"loss": 1.0}, step=0)
        run.flush()
        say("ready")
        wait()
        os._exit(7)
    """) as child:
        child.expect("ready")
        KILLS[kill](child)
        assert child.end() in (7, -signal.SIGKILL)
    run = the_run(store)
    assert run.status == "running"
    with closing(SqlRunStore(make_engine(store_url), clock=lambda: run.alive_ms + LEASE_MS)) as just_before:
        assert just_before.get_run(run.id).status == "running"
    with closing(SqlRunStore(make_engine(store_url), clock=lambda: run.alive_ms + LEASE_MS + 1)) as after:
        lost = after.get_run(run.id)
        assert (lost.status, lost.ended_ms) == ("lost", run.alive_ms)
        assert after.fits(run.id)[0].outcome == "lost"


@pytest.mark.parametrize("finder", ["the next start_run", "sync"])
def test_a_silent_death_is_found_by_who_comes_next(store: RunStore, home: Path, finder: str) -> None:
    """The next process makes the run lost as of its last frame, and ships what had not been shipped."""
    with Child("""
        run = tracker.start_run(name="it")
        run.flush()
        say("ready")
        for step in range(100):
            run.log({"loss": float(step)}, step=step)
        say("logged")
        wait()
    """) as child:
        child.expect("logged")
        child.send(signal.SIGKILL)
        child.end()
    if finder == "sync":
        [synced] = sync_journals()
        assert synced.error is None
    else:
        run_child("tracker.start_run(name='next').finish()")
    run = the_run(store)
    history = store.history(run.id, "loss")
    assert run.status == "lost"
    assert list(history.steps) == list(range(100))
    assert run.ended_ms == history.ms[-1]
    assert journals(home) == []


HANDLERS = {
    "sets a flag": ("seen.append(number)", "preempted", 0),
    "exits": ("seen.append(number); sys.exit(143)", "preempted", 143),
    "interrupts": ("seen.append(number); raise KeyboardInterrupt", "preempted", -signal.SIGINT),
    "finishes the run": ("seen.append(number); run.finish('preempted'); sys.exit(9)", "preempted", 9),
}


@pytest.mark.parametrize("way", OPENINGS)
@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_of_before_is_called_once(store: RunStore, way: str, handler: str) -> None:
    """A SIGTERM handler that was there decides what happens, is called once, and the run is preempted all the same."""
    act, status, code = HANDLERS[handler]
    body = "run.flush()\nos.kill(os.getpid(), signal.SIGTERM)\nassert seen == [signal.SIGTERM]\n"
    with Child(f"""
import atexit
seen = []
atexit.register(lambda: say(f"called {{len(seen)}} times"))
def handle(number, frame):
    {act}
signal.signal(signal.SIGTERM, handle)
{script(way, body)}
run.finish()
assert signal.getsignal(signal.SIGTERM) is handle
""") as child:
        child.expect("called 1 times")
        assert child.end() == code, child.errors
    assert the_run(store).status == status


INTERRUPTED_WRITE = """
from tracker.client import journal

class Interrupting:
    number = None                       # the signal to send in the midst of the next write
    late = False                        # after the bytes are written rather than before
    def __getattr__(self, name):
        return getattr(os, name)
    def write(self, fd, data):
        number, self.number = self.number, None
        written = os.write(fd, data) if self.late else 0
        if number is not None:
            signal.raise_signal(number)
        return written or os.write(fd, data)

journal.os = Interrupting()
run = tracker.start_run(name="it")
run.flush()
"""


@pytest.mark.parametrize(("late", "status"), [(False, "interrupted"), (True, "finished")], ids=["before", "after"])
def test_a_run_interrupted_while_it_finishes_has_an_end(store: RunStore, home: Path, late: bool, status: str) -> None:
    """Ctrl-C at the very moment when a run's last word is written leaves it with one: the first that was written."""
    with Child(f"""{INTERRUPTED_WRITE}
journal.os.number, journal.os.late = signal.SIGINT, {late}
run.finish()
""") as child:
        assert child.end() == -signal.SIGINT, child.errors
    run = the_run(store)
    assert run.status == status
    assert journals(home) == []


def test_sigterm_in_the_midst_of_a_write_does_not_wait_for_it(store: RunStore, home: Path) -> None:
    """The handler ships and ends though it interrupted who holds the journal's lock; what was written is stored."""
    with Child(f"""{INTERRUPTED_WRITE}
run.log({{"loss": 0.0}}, step=0)
journal.os.number, journal.os.late = signal.SIGTERM, True
run.log({{"loss": 1.0}}, step=1)
""") as child:
        assert child.end() == -signal.SIGTERM
        assert child.errors == ""  # not a word of time that was over
    run = the_run(store)
    assert run.status == "preempted"
    assert list(store.history(run.id, "loss").steps) == [0, 1]
    assert journals(home) == []


def test_a_genuine_failure_after_sigterm_is_a_failure(store: RunStore) -> None:
    """What goes wrong after a SIGTERM that the process survived is not hidden by it."""
    with Child("""
        signal.signal(signal.SIGTERM, lambda *_: None)
        with tracker.start_run(name="it"):
            os.kill(os.getpid(), signal.SIGTERM)
            raise ValueError
    """) as child:
        assert child.end() == 1
    assert the_run(store).status == "failed"


def test_a_handler_of_after_may_pass_on_to_ours(store: RunStore) -> None:
    """A later handler that chains reaches ours, also when runs ended and began below it; every run is preempted."""
    with Child("""
        first = tracker.start_run(name="first")
        ours = signal.getsignal(signal.SIGTERM)
        def later(number, frame):
            say("later")
            ours(number, frame)
        signal.signal(signal.SIGTERM, later)
        first.finish()
        assert signal.getsignal(signal.SIGTERM) is later
        second, third = tracker.start_run(name="second"), tracker.start_run(name="third")
        os.kill(os.getpid(), signal.SIGTERM)
    """) as child:
        child.expect("later")
        assert child.end() == -signal.SIGTERM, child.errors
    assert the_run(store, "first").status == "finished"
    assert the_run(store, "second").status == "preempted"
    assert the_run(store, "third").status == "preempted"


def test_the_handler_is_put_back(store_url: str) -> None:
    """While a run is open SIGTERM has our handler; after the last one exactly what stood there before."""

    def mine(number: int, frame: object) -> None:
        raise AssertionError

    for before in (signal.SIG_DFL, signal.SIG_IGN, mine):
        old = signal.signal(signal.SIGTERM, before)
        try:
            one, two = start_run(), start_run()
            assert (signal.getsignal(signal.SIGTERM) is before) is (before is signal.SIG_IGN)
            one.finish()
            assert (signal.getsignal(signal.SIGTERM) is before) is (before is signal.SIG_IGN)
            two.finish()
            assert signal.getsignal(signal.SIGTERM) is before
        finally:
            signal.signal(signal.SIGTERM, old)


def test_sigterm_amid_logging_neither_hangs_nor_loses(store: RunStore, home: Path) -> None:
    """SIGTERM at any point of a tight loop of log calls, or of flushes, ends the process; every point is stored once."""
    far = [1 + (number if number % 4 == 0 else number**3) for number in range(20)]
    fours = range(5) if EVERYTHING else (SEED % 4, 4)

    def loop(number: int) -> Child:
        return Child(f"""
            run = tracker.start_run(name="run {number}", tags={{"far": {far[number]}}})
            {"run.flush()" if number % 2 else ""}
            step = 0
            while True:
                run.log({{"loss": float(step)}}, step=step)
                step += 1
                if step == {far[number]}:
                    say("far enough")
                {"run.flush()" if number % 4 == 0 else ""}
        """)

    for number in (4 * four + pair for four in fours for pair in (0, 2)):
        with loop(number) as one, loop(number + 1) as other:
            for child in (one, other):
                child.expect("far enough")
                child.send(signal.SIGTERM)
            for child in (one, other):
                assert child.end() == -signal.SIGTERM, child.errors
                assert child.errors == ""  # nothing that waited in vain for what the signal had interrupted
    runs = store.search_runs().runs
    assert len(runs) == 4 * len(fours)
    for run in runs:
        assert run.status == "preempted"
        history = store.history(run.id, "loss", raw=True)
        assert len(history) >= int(store.tags(run.id)["far"])
        assert list(history.steps) == list(range(len(history)))
    assert journals(home) == []


def test_logging_in_a_signal_handler_keeps_the_order(store: RunStore, home: Path) -> None:
    """A handler may log to the run that it interrupts: every frame is in the journal, whole and in order."""
    run_child("""
        import itertools
        run = tracker.start_run(name="it")
        steps, count = itertools.count(), 0
        def tick(number, frame):
            global count
            run.log({"tick": 1.0}, step=next(steps))
            count += 1                                  # for the loop below; a tick may interrupt a tick
        signal.signal(signal.SIGALRM, tick)
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        step = 0
        while count < 3000:
            run.log({"loss": 1.0}, step=step)
            step += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        run.log_params({"steps": step, "ticks": next(steps)})
    """)
    run = the_run(store)
    params = store.params(run.id)
    assert store.metrics(run.id)["loss"].count == params["steps"]
    assert store.metrics(run.id)["tick"].count == params["ticks"]
    assert journals(home) == []


def test_runs_of_threads_end_with_the_process(store: RunStore) -> None:
    """A run opened in a thread, where no signal handler can be set, still ends as the process does."""
    with Child("""
        import threading
        def train():
            global run
            run = tracker.start_run(name="of a thread")
            run.log({"loss": 1.0}, step=0)
            with tracker.start_run(name="in a thread"):
                pass
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        raise RuntimeError
    """) as child:
        assert child.end() == 1
    assert the_run(store, "of a thread").status == "failed"
    assert the_run(store, "in a thread").status == "finished"


def test_two_runs_end_together(store: RunStore) -> None:
    """Two runs open at once in one process both end as it does; the inner of two `with` may fail alone."""
    with Child("""
        left, right = tracker.start_run(name="left"), tracker.start_run(name="right")
        with tracker.start_run(name="outer"):
            try:
                with tracker.start_run(name="inner"):
                    raise ValueError
            except ValueError:
                pass
        raise KeyboardInterrupt
    """) as child:
        assert child.end() == -signal.SIGINT
    statuses = {run.name: run.status for run in store.search_runs().runs}
    assert statuses == {"left": "interrupted", "right": "interrupted", "outer": "finished", "inner": "failed"}


def test_forked_children_leave_the_run_to_their_parent(store: RunStore, home: Path) -> None:
    """Children that log, finish, fail, exit or get SIGTERM change nothing; a child may have a run of its own."""
    run_child("""
        import multiprocessing, threading, time

        run = tracker.start_run(name="parent")
        run.log({"loss": 0.0}, step=0)

        def fork(act):
            pid = os.fork()
            if pid == 0:
                act()
                os._exit(0)
            return os.waitpid(pid, 0)[1]

        def write():
            run.log({"loss": 9.0}, step=9)
            run.log_text("x", "child.txt")
            run.log_params({"child": True})
            assert run.flush() == 0 or True
            run.finish("failed")

        def fail():
            with run:
                run.log({"loss": 8.0}, step=8)
                sys.stderr = open(os.devnull, "w")
                raise ValueError("in a child")

        def own():
            with tracker.start_run(name="child") as mine:
                mine.log({"loss": 1.0}, step=0)

        def die():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGTERM)

        assert fork(write) == 0
        assert fork(lambda: sys.exit(0)) == 0
        assert os.waitstatus_to_exitcode(fork(die)) == -signal.SIGTERM
        assert fork(own) == 0
        from_thread = []
        thread = threading.Thread(target=lambda: from_thread.append(fork(die)))
        thread.start(); thread.join()
        assert os.waitstatus_to_exitcode(from_thread[0]) == -signal.SIGTERM

        with multiprocessing.get_context("fork").Pool(2) as pool:       # leaves by terminate(), which sends SIGTERM
            assert pool.map(abs, [-1, -2]) == [1, 2]

        pid = os.fork()
        if pid == 0:
            fail()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1

        assert run.status == "running"
        run.log({"loss": 1.0}, step=1)
    """)
    parent = the_run(store, "parent")
    assert parent.status == "finished"
    assert list(store.history(parent.id, "loss").values) == [0.0, 1.0]
    assert store.params(parent.id) == {}
    assert [event.kind for event in store.events(parent.id)] == []
    child = the_run(store, "child")
    assert child.status == "finished"
    assert store.metrics(child.id)["loss"].count == 1
    assert journals(home) == []


def test_a_forked_child_does_not_keep_the_journal_of_its_dead_parent(store: RunStore) -> None:
    """The parent is known to be dead though a child that it forked lives on, whether its run had ended or not."""
    with Child("""
        run = tracker.start_run(name="it")
        run.flush()
        gone = tracker.start_run(name="gone", store="postgresql://me@localhost:1/away")
        gone.finish()
        pid = os.fork()
        if pid == 0:
            say("ready")
            wait()
            os._exit(0)
        os.waitpid(pid, 0)
    """) as child:
        child.expect("ready")
        child.kill()
        synced = {one.run_id: one for one in sync_journals()}
        assert synced.pop(the_run(store).id).error is None
        [other] = synced.values()
        assert "set TRACKER_STORE to this store" in str(other.error)
        child.go_on()
        child.end()
    assert the_run(store).status == "lost"


RAISED = {
    "raise SystemExit(3)": "raise SystemExit(3)",
    "in a function": "def main():\n    raise SystemExit('no data')\nmain()",
    "through finally": "try:\n    raise SystemExit(3)\nfinally:\n    pass",
}


@pytest.mark.parametrize("code", RAISED.values(), ids=RAISED)
def test_an_exit_that_is_raised_is_said_to_be_unknown(store: RunStore, code: str) -> None:
    """Python tells nobody the status of a SystemExit that was raised: the log says so, and what to write instead."""
    with Child(f"{script('without', 'run.flush()')}\n{code}") as child:
        assert child.end() in (1, 3)
    assert "its status cannot be known here" in child.errors
    assert the_run(store).status == "finished"


def test_a_fit_that_was_left_open_fails_the_run(store: RunStore) -> None:
    """Whoever leaves a fit by an exception that somebody catches has no finished run; one whose last epoch came has."""
    run_child("""
        one, two = tracker.start_run(name="died"), tracker.start_run(name="done")
        for run in (one, two):
            fit = run.start_fit(epochs=2)
            fit.log_epoch(0, {"loss": 1.0})
        try:
            raise MemoryError
        except MemoryError:
            pass
        fit.log_epoch(1, {"loss": 1.0})
    """)
    died, done = the_run(store, "died"), the_run(store, "done")
    assert (died.status, store.fits(died.id)[0].outcome) == ("failed", "failed")
    assert (done.status, store.fits(done.id)[0].outcome) == ("finished", "completed")


def test_an_exit_status_is_kept_and_the_run_is_found_again(store: RunStore) -> None:
    """The event `run_failed` has the code and what led to it, and `resume="auto"` goes on with the run."""
    with Child("""
        run = tracker.start_run("E", name="it")
        run.log_epoch(0, {"loss": 1.0})
        try:
            raise ValueError("boom")
        except Exception:
            sys.exit(7)
    """) as child:
        assert child.end() == 7
    failed = the_run(store)
    [event] = [event for event in store.events(failed.id) if event.kind == "run_failed"]
    assert (failed.status, event.detail["type"], event.detail["message"]) == ("failed", "SystemExit", "7")
    assert "ValueError: boom" in event.detail["traceback"]
    with start_run("E", name="it", resume="auto") as again:
        assert again.id == failed.id


def test_what_was_wrapped_is_put_back(store_url: str) -> None:
    """While runs are open, and no longer; a wrapper that came later stays, and passes on to what was there."""
    import threading

    before, hook = sys.exit, threading.excepthook
    one, two = start_run(), start_run()
    assert sys.exit is not before
    one.finish()
    wrapped = sys.exit
    seen: list[object] = []

    def later(code: object = None) -> None:
        seen.append(code)
        wrapped(code)  # type: ignore[arg-type]

    sys.exit = later  # type: ignore[assignment]
    try:
        with pytest.raises(SystemExit) as caught:
            sys.exit(3)
        assert (caught.value.code, repr(caught.value), pickle.loads(pickle.dumps(caught.value)).code) == (
            3,
            "SystemExit(3)",
            3,
        )
        two.finish()
        assert sys.exit is later
        with pytest.raises(SystemExit, match="4"):
            sys.exit("4")
        assert seen == [3, "4"]
    finally:
        sys.exit = before
    assert threading.excepthook is hook


def test_a_hangup_is_ignored_under_nohup(store: RunStore) -> None:
    """A process that ignores SIGHUP goes on, and its run is finished."""
    run_child("""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        run = tracker.start_run(name="it")
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    """)
    assert the_run(store).status == "finished"


@pytest.mark.parametrize(("ending", "status"), [("pass", "finished"), ("raise ValueError('boom')", "failed")])
@pytest.mark.parametrize("before", ["signal.SIG_DFL", "lambda *_: None"])
def test_a_child_that_is_terminated_on_its_way_out_ends_as_its_training_did(
    store: RunStore, home: Path, ending: str, status: str, before: str
) -> None:
    """A pool that is closed sends SIGTERM to workers that are leaving already; the training is over by then."""
    run_child(f"""
        import multiprocessing
        from multiprocessing.util import Finalize

        def train():
            signal.signal(signal.SIGTERM, {before})
            run = tracker.start_run(name="it")
            run.log({{"loss": 1.0}}, step=0)
            Finalize(None, os.kill, args=(os.getpid(), signal.SIGTERM), exitpriority=1)  # before the run's own
            sys.stderr = open(os.devnull, "w")
            {ending}

        process = multiprocessing.get_context("fork").Process(target=train)
        process.start()
        process.join()
    """)
    run = the_run(store)
    assert (run.status, list(store.history(run.id, "loss").values)) == (status, [1.0])
    assert journals(home) == []


def test_a_child_of_multiprocessing_ends_its_own_run_only(store: RunStore, home: Path) -> None:
    """What the child left open ends as the child did; the run that it inherited goes on in the parent."""
    run_child("""
        import multiprocessing
        parent = tracker.start_run(name="parent")

        def train():
            parent.log({"loss": 9.0}, step=9)
            child = tracker.start_run(name="child")
            child.log({"loss": 1.0}, step=0)
            sys.stderr = open(os.devnull, "w")
            raise ValueError("boom")

        process = multiprocessing.get_context("fork").Process(target=train)
        process.start()
        process.join()
        assert process.exitcode == 1
        parent.log({"loss": 2.0}, step=0)
    """)
    parent, child = the_run(store, "parent"), the_run(store, "child")
    assert (parent.status, list(store.history(parent.id, "loss").values)) == ("finished", [2.0])
    assert (child.status, list(store.history(child.id, "loss").values)) == ("failed", [1.0])
    [event] = [event for event in store.events(child.id) if event.kind == "run_failed"]
    assert event.detail["message"] == "boom"
    assert "in train" in event.detail["traceback"]
    assert journals(home) == []
