"""Batch logging: at the right steps, and without a hook where nobody asked for it."""

from __future__ import annotations

from e2e.keras_lab import Lab

SCENARIOS = ("steps",)


def test_every_n_steps(keras: Lab) -> None:
    """`log_batches=3` records each metric of the batch logs at every third step of the optimizer, across epochs."""
    run = keras.run("batches.single")
    assert keras.steps(run.id, "batch/loss") == [3, 6, 9, 12, 15, 18]
    assert keras.steps(run.id, "batch/mae") == [3, 6, 9, 12, 15, 18]
    assert keras.store.metrics(run.id)["batch/loss"].axis == "step"


def test_steps_per_execution(keras: Lab) -> None:
    """With three steps an execution, and ten an epoch, steps are the optimizer's own: none lies beyond the tenth."""
    assert keras.said("batches")["several"] == [10, 20]
    assert keras.steps(keras.run("batches.several").id, "batch/loss") == [3, 6, 9, 10, 13, 16, 19, 20]


def test_multiples_that_are_crossed(keras: Lab) -> None:
    """A multiple that falls inside an execution is recorded at its end, not missed."""
    assert keras.steps(keras.run("batches.rarely").id, "batch/loss") == [6, 10, 16, 20]


def test_8_the_last_step_of_data_of_unknown_length(keras: Lab) -> None:
    """Where Keras knows no number of steps, the last execution's overshoot is found out all the same."""
    assert keras.said("batches_of_unknown_length")["iterations"] == [20]
    assert keras.steps(keras.run("batches_of_unknown_length").id, "batch/loss") == [3, 6, 9, 12, 15, 18, 20]


def test_no_batch_hook_unless_asked(keras: Lab) -> None:
    """Neither the class nor an object that logs no batches defines a batch hook, nor is one left after a fit."""
    facts = keras.said("hooks")
    assert (facts["defined"], facts["on the object"], facts["left on the object"]) == ([], [], [])


def test_dispatch_stays_as_asynchronous_as_it_was(keras: Lab) -> None:
    """With us, and even with batch logging, callbacks are dispatched as they are without us."""
    facts = keras.said("hooks")
    assert facts["async without us"] is (keras.backend != "tensorflow")
    assert facts["async with us"] is facts["async with batches"] is facts["async without us"]


def test_the_model_is_not_synchronised_each_batch(keras: Lab) -> None:
    """On JAX, where each look at the model in an epoch costs a synchronisation, batch logging takes none."""
    facts = keras.said("hooks")
    assert facts["syncs with us"] == facts["syncs with batches"] == facts["syncs without us"]


def test_all_batches_arrive_whatever_thread_they_come_in(keras: Lab) -> None:
    """Each of the steps is recorded once, in order, though JAX runs the hooks in a pool of threads."""
    assert keras.steps(keras.run("hooks").id, "batch/loss") == list(range(41, 81))


def test_a_subclass_keeps_its_own_batch_hook(keras: Lab) -> None:
    """A batch hook that a subclass of ours defines is called beside ours, and Keras is not told that it is safe."""
    facts = keras.said("subclass_of_ours")
    assert facts["seen"] == [0, 1, 2, 3]
    assert facts["async safe"] is False
    assert keras.steps(keras.run("subclass_of_ours").id, "batch/loss") == [1, 2, 3, 4]


def test_what_the_data_does_not_say_is_not_invented(keras: Lab) -> None:
    """A stream of unknown length has neither steps an epoch nor a batch size on its record."""
    run = keras.run("batches_of_unknown_length")
    (fit,) = keras.store.fits(run.id)
    assert (fit.steps_per_epoch, fit.batch_size) == (None, None)
    assert not {"steps_per_epoch", "batch_size"} & set(keras.store.params(run.id))
