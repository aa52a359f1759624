"""The file of a state checkpoint: Keras' weights file with an additional HDF5 group for what else a resume needs."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from keras import ops

from tracker.domain.errors import InvalidValue

SUFFIX = ".weights.h5"
GROUP = "tracker"
"""The HDF5 group of our data; Keras reads only its own groups."""
_NATIVE = "biufc"
_BYTES, _EACH, _SPARE = 8, 16 * 1024, 4 * 1024 * 1024
"""Bytes for a number, for HDF5's description of an array, and for what other processes write meanwhile."""
_NAMED = 5
"""How many differing variables a message lists."""
Arrays = Mapping[str, Any]


def variables_of(model: Any) -> list[tuple[str, list[int | None], str]]:
    """Path, shape and type of each weight, then of each variable of the optimizer, in Keras' order."""
    optimizer = getattr(model, "optimizer", None)
    every = [*model.weights, *(optimizer.variables if optimizer is not None else ())]
    return [(one.path, [*one.shape], str(one.dtype)) for one in every]


def seeds_of(model: Any) -> list[Any]:
    """The variables of seed generators (such as Dropout's), which Keras does not save with the weights."""
    others = {id(one) for one in (*model.weights, *model.metrics_variables)}
    return [one for one in model.variables if id(one) not in others]


def values_of(variables: Sequence[Any]) -> list[Any]:
    """The variables' current values, one array each."""
    return [np.array(ops.convert_to_numpy(one)) for one in variables]


def assign(variables: Sequence[Any], values: Sequence[Any]) -> bool:
    """Assign `values` to variables; False, and nothing is assigned, if number or shapes differ."""
    if [tuple(one.shape) for one in variables] != [tuple(one.shape) for one in values]:
        return False
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return True


def room_for(variables: Sequence[Any]) -> int:
    """Upper bound in bytes of a file with the variables of `variables_of`."""
    numbers: int = sum(math.prod(shape) for _, shape, _ in variables)
    return _BYTES * numbers + _EACH * len(variables)


def require_room(folder: Path, size: int) -> None:
    """Raise InvalidValue unless the disk of `folder` has room for `size` bytes, and some more.

    Check this before HDF5 writes: on a full disk it crashes the process (SIGSEGV).
    """
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise InvalidValue(
            "checkpoint", f"{folder} has {free} bytes free", limit=f"{size + _SPARE}, for the state to resume from"
        )


def add_arrays(file: Path, arrays: Arrays, variables: Any) -> None:
    """Add arrays, with `/` in their names for groups, and the result of `variables_of` to a weights file."""
    require_room(file.parent, sum(np.asarray(one).nbytes for one in arrays.values()) + _EACH * len(arrays))
    # No other writer exists, but a child that another thread just forked may still hold the lock of Keras' write.
    with h5py.File(file, "a", locking=False) as opened:
        group = opened.create_group(GROUP)
        group.create_dataset("variables", data=np.frombuffer(json.dumps(variables).encode(), np.uint8))
        for name, array in arrays.items():
            _write(group, f"arrays/{name}", np.asarray(array))


def read_arrays(file: Path) -> tuple[dict[str, Any], list[Any]]:
    """The arrays and variables that `add_arrays` wrote; InvalidValue for a file that has none."""
    arrays: dict[str, Any] = {}

    def take(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            arrays[name] = _read(found)

    elsewhere: list[str] = []

    def look(name: str, link: Any) -> None:  # must not raise: HDF5 is in the middle of a call
        found = opened[name] if isinstance(link, h5py.HardLink) else None
        if found is None or (isinstance(found, h5py.Dataset) and (found.external or found.is_virtual)):
            elsewhere.append(name)

    with h5py.File(file, "r") as opened:
        opened.visititems_links(look)
        if elsewhere:
            what = f"{elsewhere[0]} in {file.name} is the content of another file, which is not read"
            raise InvalidValue("checkpoint", what)
        if GROUP not in opened:
            raise InvalidValue("checkpoint", f"{file.name} is not a state to resume from")
        variables = json.loads(opened[GROUP]["variables"][()].tobytes())
        if "arrays" in opened[GROUP]:
            opened[GROUP]["arrays"].visititems(take)
    return arrays, variables


def listed(arrays: Arrays, name: str) -> list[Any]:
    """The arrays `name/0`, `name/1` …, in order."""
    found: list[Any] = []
    while (array := arrays.get(f"{name}/{len(found)}")) is not None:
        found.append(array)
    return found


def below(arrays: Arrays, name: str) -> dict[str, Any]:
    """The arrays whose names begin with `name/`, by the rest."""
    return {key.removeprefix(f"{name}/"): one for key, one in arrays.items() if key.startswith(f"{name}/")}


def differences(model: Any, saved: Sequence[Any]) -> list[str]:
    """Differences between `model` and its `saved` variables, one phrase each; names are ignored.

    In another script, or a second model of the same process, equal layers have other names.
    """
    now = variables_of(model)
    found = [
        f"variable {number} was {_described(was)} and is {_described(one)}"
        for number, (was, one) in enumerate(zip(saved, now, strict=False))
        if list(was[1]) != list(one[1]) or was[2] != one[2]
    ]
    for number, what, lacking in ((len(now), "is missing", saved), (len(saved), "is new", now)):
        found += [f"{_described(one)} {what}" for one in lacking[number:]]
    more = len(found) - _NAMED
    return found[:_NAMED] + ([f"{more} more"] if more > 0 else [])


def load(model: Any, file: Path) -> None:
    """Load weights and optimizer from `file`; InvalidValue if Keras skips the optimizer's variables."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.load_weights(str(file))
    for one in said:
        if "Skipping variable loading" in str(one.message):
            raise InvalidValue("resume", str(one.message))
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _described(variable: Sequence[Any]) -> str:
    path, shape, kind = variable
    return f"{path} {kind}({', '.join(map(str, shape))})"


def _write(group: Any, name: str, array: Any) -> None:
    if array.dtype.kind in _NATIVE:
        group.create_dataset(name, data=array)
        return
    # bfloat16 and similar types, which HDF5 does not have
    kept = group.create_dataset(name, data=np.frombuffer(array.tobytes(), np.uint8))
    kept.attrs["dtype"], kept.attrs["shape"] = str(array.dtype), array.shape


def _read(found: Any) -> Any:
    array = found[()]
    if "dtype" not in found.attrs:
        return np.asarray(array)
    return np.frombuffer(array.tobytes(), np.dtype(found.attrs["dtype"])).reshape(found.attrs["shape"])
