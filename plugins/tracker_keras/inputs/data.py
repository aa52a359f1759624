"""Records the data of a fit: shapes, sizes and fingerprint, weights of classes and samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from tracker.client.clock import now_ms
from tracker.client.run import recorder_of
from tracker_keras.inputs.data_description import DataSet, class_weights
from tracker_keras.inputs.pipelines import arrays_of, is_pipeline, read_pipeline
from tracker_keras.inputs.samples import ArrayInfo, describe_arrays, leaves
from tracker_keras.recording.fit_observers import FitObserver
from tracker_keras.recording.guard import Guard

if TYPE_CHECKING:
    from tracker.client.run import Run
    from tracker_keras.recording.fit_state import FitState

PREFIXES = {"train": "data", "validation": "data.validation"}


class Data(FitObserver):
    """Records the data of a fit as Keras trains with it, without the part for `validation_split`.

    A few rows are copied when the fit begins; hashing and writing happen in the background.
    """

    def __init__(self, fit: FitState) -> None:
        super().__init__(fit)
        call = fit.call
        given = call.data or {}
        self._facts = class_weights(given.get("class_weight"))
        if split := given.get("validation_split"):
            self._facts["validation_split"] = float(split)
        self._sets: dict[str, DataSet] = {}
        if given:
            adapter = getattr(call.epoch_iterator(), "data_adapter", None)
            self._sets["train"] = see(given.get("x"), given.get("y"), given.get("sample_weight"), adapter)
        if given and call.has_validation:
            self._sets["validation"] = see(given.get("val_x"), given.get("val_y"), given.get("val_sample_weight"))

    def begin(self, initial_epoch: int) -> None:
        """Record the data, now that the fit has a number."""
        recorder, run, ms = self.fit.recorder, self.fit.run, now_ms()
        sets, self._sets = self._sets, {}
        facts = {f"data.{key}": value for key, value in self._facts.items()}
        if recorder is None or not sets:
            return
        number = recorder.number

        def record() -> None:
            recorder_of(run).params(facts | _record(run, sets, ms), fit=number, ms=ms)

        run.in_background(record)


def log_data(run: Run, x: Any, y: Any = None, sample_weight: Any = None, *, context: str = "train") -> None:
    """Record the data of a custom training loop: `x` and `y` as for `fit()`.

    `context` is "train" or "validation". Nothing is raised: read errors are logged on the logger `tracker`.
    """
    with Guard()("describing the data"):
        run.log_params(_record(run, {context: see(x, y, sample_weight)}, now_ms()))


def see(x: Any, y: Any = None, sample_weight: Any = None, adapter: Any = None) -> DataSet:
    """A description of the data without iterating over it; `adapter` is Keras' data adapter for it."""
    if is_pipeline(x):
        return _pipeline(x)
    if _is_array(x):
        arrays = describe_arrays([*leaves("x", x), *leaves("y", y), *leaves("sample_weight", sample_weight)])
        return DataSet(kind="arrays", arrays=tuple(arrays), samples=arrays[0].rows if arrays else None)
    if isinstance(x, keras.utils.PyDataset):
        size = getattr(x, "batch_size", None)
        return DataSet(
            kind=type(x).__name__, facts={"batches": x.num_batches, "batch": size if isinstance(size, int) else None}
        )
    if type(x).__module__.partition(".")[0] == "torch" and hasattr(x, "dataset"):
        return _loader(x)
    return _stream(x, adapter)


def _pipeline(dataset: Any) -> DataSet:
    found = read_pipeline(dataset)
    facts = {"pipeline": " > ".join(found.steps), "batches": "infinite" if found.is_infinite else found.batches}
    return DataSet(
        kind="tf.data",
        arrays=tuple(describe_arrays(found.elements)),
        sources=tuple(describe_arrays(found.sources)),
        samples=found.samples,
        facts=facts,
    )


def _loader(loader: Any) -> DataSet:
    """A torch DataLoader; the tensors of a TensorDataset are described."""
    samples = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
    tensors = getattr(loader.dataset, "tensors", None)
    arrays = tuple(describe_arrays(arrays_of(tuple(tensors)))) if tensors else ()
    return DataSet(kind="torch.DataLoader", arrays=arrays, samples=samples, facts={"batch": loader.batch_size})


def _stream(x: Any, adapter: Any) -> DataSet:
    """A generator or other object, described by the first batches that Keras has already read."""
    batches = getattr(adapter, "_first_batches", None) or ()
    arrays = [
        ArrayInfo(name=one.name, shape=(None, *one.shape[1:]) if one.shape else None, dtype=one.dtype)
        for one in describe_arrays(arrays_of(batches[0]) if batches else ())
    ]
    name = getattr(x, "__name__", None)
    return DataSet(
        kind=f"{type(x).__name__} {name}" if isinstance(name, str) else type(x).__name__, arrays=tuple(arrays)
    )


def _is_array(x: Any) -> bool:
    """Whether `x` is an array, or a structure of arrays."""
    first = next((one for _, one in leaves("", x)), None)
    if first is None or isinstance(first, keras.utils.PyDataset):
        return False
    return hasattr(first, "shape") and (hasattr(first, "dtype") or hasattr(first, "dtypes"))


def _record(run: Run, sets: Mapping[str, DataSet], ms: int) -> dict[str, Any]:
    """Record the data sets; return their description as parameters."""
    params: dict[str, Any] = {}
    for context, one in sets.items():
        data, weights = one.fingerprint()
        params |= one.params(PREFIXES.get(context, f"data.{context}"), data, weights)
        recorder_of(run).dataset(context, context=context, ms=ms, **one.in_mlflow(data))
    return params
