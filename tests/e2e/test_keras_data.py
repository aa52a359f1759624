"""What a fit was trained with, in parameters and in MLflow's data sets."""

from __future__ import annotations

import json
from typing import Any

from e2e.keras_lab import BACKENDS, Lab, lab


def recorded(backend: str) -> Lab:
    """The records with a certain backend."""
    made = lab(backend)
    made.record("test_keras_data")
    return made


def data(keras: Lab, name: str) -> dict[str, Any]:
    """The parameters of a run's data."""
    params = keras.store.params(keras.run(name).id)
    return {key.removeprefix("data."): value for key, value in params.items() if key.startswith("data.")}


def test_arrays_have_shapes_counts_and_a_digest(keras: Lab) -> None:
    """Shape, dtype and number of samples of training and validation data, and the weights of classes, are parameters."""
    keras.said("data_arrays")
    found = data(keras, "data_arrays")
    assert (found["kind"], found["samples"], found["validation.samples"]) == ("arrays", 20, 8)
    assert (found["x.shape"], found["x.dtype"], found["y.shape"]) == ([20, 3], "float32", [20, 1])
    assert (found["class_weight.0"], found["class_weight.1"]) == (1.0, 2.5)
    assert len(found["digest"]) == 32
    assert found["digest"] != found["validation.digest"]


def test_equal_data_has_one_digest_wherever_it_comes_from(keras: Lab) -> None:
    """The digest is the same as arrays or tensors, through a shuffled pipeline, in another process and backend."""
    digests = {
        data(recorded(backend), name)["digest"] for backend in BACKENDS for name in ("data_arrays", "data native")
    }
    digests.add(data(recorded("tensorflow"), "data slices True")["digest"])
    assert len(digests) == 1


def test_other_data_in_a_second_fit_is_that_fits(keras: Lab) -> None:
    """The same data again adds nothing; changed data is recorded under the fit that used it."""
    params = keras.store.params(keras.run("data_arrays").id)
    assert "fit.2.data.digest" not in params
    assert params["fit.3.data.digest"] != params["data.digest"]
    assert "fit.3.data.samples" not in params


def test_what_is_split_off_and_how_samples_weigh_is_known(keras: Lab) -> None:
    """`validation_split` is what Keras made of it; sample weights have a shape and a digest of their own."""
    found = data(keras, "data weights")
    assert (found["validation_split"], found["samples"], found["validation.samples"]) == (0.25, 15, 5)
    assert (found["sample_weight.shape"], found["validation.sample_weight.shape"]) == ([15], [5])
    assert found["sample_weight.digest"] != found["digest"]


def test_data_is_what_it_was_when_the_fit_began(keras: Lab) -> None:
    """Arrays that change under the training have the digest that they had at its beginning."""
    keras.said("data_changed")
    assert data(keras, "data_changed")["digest"] == data(keras, "data_arrays")["digest"]


def test_named_inputs_and_tables(keras: Lab) -> None:
    """Inputs by name are recorded separately; a pandas table has its columns' dtype and a digest."""
    keras.said("data_structures")
    found = data(keras, "data by name")
    assert (found["x.left.shape"], found["x.right.shape"]) == ([20, 3], [20, 1])
    found = data(keras, "data table")
    assert (found["x.shape"], found["x.dtype"], found["y.shape"], len(found["digest"])) == (
        [20, 3],
        "float32",
        [20],
        32,
    )


def test_streams_are_not_asked_for_more(keras: Lab) -> None:
    """A PyDataset is asked as often as without us; what Keras has seen of a generator is known, and no digest is made."""
    without, with_ours = keras.said("data_streams")["asked"]
    assert without == with_ours
    params = keras.store.params(keras.run("data streams True").id)
    assert params["data.kind"] == "generator endless"
    assert (params["data.x.shape"], params["data.x.dtype"]) == ([None, 3], "float32")
    assert (params["fit.2.data.kind"], params["data.batches"], params["data.batch"]) == ("Batches", 4, 5)
    assert not any(key.endswith("digest") for key in params)


def test_pipelines_are_read_without_running_them() -> None:
    """A pipeline's steps, elements and samples are known, and its generator ran as often as without us."""
    facts = recorded("tensorflow").said("data_pipelines")
    without, with_ours = facts["ran"]
    assert without == with_ours == 20
    found = data(recorded("tensorflow"), "data slices True")
    assert found["pipeline"] == "TensorSlice > Shuffle > Map > Batch > Prefetch"
    assert (found["kind"], found["samples"], found["batches"]) == ("tf.data", 20, 4)
    assert (found["x.shape"], found["y.dtype"]) == ([None, 3], "float32")
    made = data(recorded("tensorflow"), "data made True")
    assert made["pipeline"].startswith("Tensor > FlatMap")
    assert not {"digest", "samples"} & set(made)


def test_mlflow_shows_and_finds_the_data_sets(keras: Lab) -> None:
    """MLflow's client reads the data sets of a run with their contexts, and filters find the run by their digest."""
    from mlflow.tracking import MlflowClient

    run = keras.run("data_arrays")
    digest = data(keras, "data_arrays")["digest"]
    found = keras.store.search_runs(f"dataset.digest = '{digest}' AND name = 'data_arrays'")
    assert [one.id for one in found.runs] == [run.id]
    client = MlflowClient(f"tracker+{keras.store.url}")
    (seen,) = client.search_runs(["0"], f"dataset.digest = '{digest}' AND attributes.run_name = 'data_arrays'")
    inputs = {(one.tags[0].value, one.dataset.name): one.dataset for one in seen.inputs.dataset_inputs}
    assert {context for context, _ in inputs} == {"train", "validation"}
    assert len(seen.inputs.dataset_inputs) == 3
    dataset = next(one.dataset for one in seen.inputs.dataset_inputs if one.dataset.digest == digest)
    spec = json.loads(dataset.schema)["mlflow_tensorspec"]
    assert json.loads(spec["features"]) == [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]
    assert json.loads(dataset.profile)["num_rows"] == 20


# -- the trainings ------------------------------------------------------------------------------------------------------


def scenarios() -> None:
    """Scenarios of what fits are trained with: arrays of several libraries, pipelines, generators, weights."""
    from collections.abc import Iterator

    import keras
    import numpy as np
    from keras_bench import BATCH, STEPS, Facts, X, Y, fit, linear, scenario

    import tracker
    from tracker_keras import TrackerCallback

    @scenario
    def data_arrays() -> Facts:
        """NumPy, native tensors and (with TensorFlow) a pipeline over the same arrays; then others."""
        native = keras.ops.convert_to_tensor
        weights = np.linspace(1, 2, len(X)).astype("float32")
        with tracker.start_run(name="data_arrays") as run:
            callback, model = TrackerCallback(run), linear()
            fit(model, callback, validation_data=(X[:8], Y[:8]), class_weight={0: 1.0, 1: 2.5}, epochs=1)
            fit(model, callback, x=native(X), y=native(Y), epochs=1)
            fit(model, callback, x=X + 1, epochs=1)
        with tracker.start_run(name="data weights") as run:
            fit(linear(), TrackerCallback(run), sample_weight=weights, validation_split=0.25, epochs=1)
        with tracker.start_run(name="data native") as run:
            fit(linear(), TrackerCallback(run), x=native(X), y=native(Y), epochs=1)
        return {}

    @scenario
    def data_changed() -> Facts:
        """The user's own callback changes the arrays as soon as the fit has begun."""

        class Changes(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                x[:] = 0.0

        x = X.copy()
        with tracker.start_run(name="data_changed") as run:
            fit(linear(), TrackerCallback(run), Changes(), x=x, epochs=1)
        return {}

    @scenario
    def data_structures() -> Facts:
        """Inputs by name, and a pandas table."""
        import pandas as pd

        left, right = keras.Input((3,), name="left"), keras.Input((1,), name="right")
        model = keras.Model(
            {"left": left, "right": right}, keras.layers.Dense(1)(keras.layers.Concatenate()([left, right]))
        )
        model.compile("sgd", "mse")
        with tracker.start_run(name="data by name") as run:
            fit(model, TrackerCallback(run), x={"left": X, "right": Y}, epochs=1)
        with tracker.start_run(name="data table") as run:
            table = pd.DataFrame(X, columns=["a", "b", "c"])
            fit(linear(), TrackerCallback(run), x=table, y=pd.Series(Y[:, 0]), epochs=1)
        return {}

    @scenario
    def data_streams() -> Facts:
        """What is only known as it is used: a generator, a PyDataset. How often they are asked, with ours and without."""

        class Batches(keras.utils.PyDataset):
            def __init__(self) -> None:
                super().__init__()
                self.batch_size, self.asked = BATCH, 0

            def __len__(self) -> int:
                return STEPS

            def __getitem__(self, index: int) -> Any:
                self.asked += 1
                return X[index * BATCH : (index + 1) * BATCH], Y[index * BATCH : (index + 1) * BATCH]

        def endless() -> Iterator[Any]:
            while True:
                pulled.append(1)
                yield X[:BATCH], Y[:BATCH]

        asked: list[list[int]] = []
        for with_ours in (False, True):
            pulled: list[int] = []
            batches = Batches()
            with tracker.start_run(name=f"data streams {with_ours}") as run:
                ours = [TrackerCallback(run)] if with_ours else []
                fit(linear(), *ours, x=endless(), y=None, batch_size=None, steps_per_epoch=STEPS, epochs=1)
                fit(linear(), *ours, x=batches, y=None, batch_size=None, epochs=1)
            asked.append([batches.asked])
        return {"asked": asked}

    @scenario
    def data_pipelines() -> Facts:
        """Pipelines of `tf.data`, where TensorFlow is the backend: their generators and maps run as often as without us."""
        if keras.backend.backend() != "tensorflow":
            return {"ran": None}
        import tensorflow as tf

        ran: list[list[int]] = []
        for with_ours in (False, True):
            pulled: list[int] = []

            def rows(pulled: list[int] = pulled) -> Iterator[Any]:
                for index in range(len(X)):
                    pulled.append(1)
                    yield X[index], Y[index]

            slices = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(7).map(lambda x, y: (x * 1.0, y)).batch(BATCH)
            signature = (tf.TensorSpec((3,), tf.float32), tf.TensorSpec((1,), tf.float32))
            made = tf.data.Dataset.from_generator(rows, output_signature=signature).batch(BATCH)
            for name, dataset in (("slices", slices.prefetch(2)), ("made", made)):
                with tracker.start_run(name=f"data {name} {with_ours}") as run:
                    ours = [TrackerCallback(run)] if with_ours else []
                    fit(linear(), *ours, x=dataset, y=None, batch_size=None, epochs=1)
            ran.append(pulled)
        return {"ran": [len(one) for one in ran]}
