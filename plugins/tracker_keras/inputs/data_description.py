"""Description of a data set as flat parameters and in MLflow's format."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import prod
from pathlib import PurePath
from typing import Any

from tracker_keras.inputs.samples import ArrayInfo, digest

_CLASSES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """The data with which `fit()` trains or validates. `kind` is "arrays", "tf.data", or a class.

    `arrays` are those of one epoch, or the elements of a pipeline; `sources` the arrays that the pipeline slices.
    """

    kind: str
    arrays: tuple[ArrayInfo, ...] = ()
    sources: tuple[ArrayInfo, ...] = ()
    samples: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> tuple[str | None, str | None]:
        """Digests of the data's samples and of its sample weights; None if there are no samples."""
        content = self.sources or self.arrays
        weights = [one for one in content if one.name == "sample_weight"]
        data = [one for one in content if one.name != "sample_weight"]
        return digest(data) if data else None, digest(weights) if weights else None

    def params(self, prefix: str, data: str | None, weights: str | None) -> dict[str, Any]:
        """Parameters below `prefix`, with these digests."""
        found: dict[str, Any] = {"kind": self.kind, "samples": self.samples, "digest": data, **self.facts}
        for one in self.arrays:
            found[f"{one.name}.shape"] = None if one.shape is None else list(one.shape)
            found[f"{one.name}.dtype"] = one.dtype
        found["sample_weight.digest"] = weights
        return {f"{prefix}.{key}": value for key, value in found.items() if value is not None}

    def in_mlflow(self, data: str | None) -> dict[str, str]:
        """`digest`, `source_type`, `source`, `schema` and `profile` in MLflow's format.

        Without a digest of the data it is the description's, as stated in the profile.
        """
        schema = json.dumps({"mlflow_tensorspec": {"features": self._specs("x"), "targets": self._specs("y")}})
        profile = {"kind": self.kind, "num_rows": self.samples, **self._sizes("x"), **self._sizes("y"), **self.facts}
        described = json.dumps([schema, profile], sort_keys=True, default=str)
        profile["digest_of"] = "sample" if data else "description"
        return {
            "digest": data or blake2b(described.encode(), digest_size=16).hexdigest(),
            "source_type": "code",
            "source": json.dumps({"tags": {"mlflow.source.name": PurePath(sys.argv[0] if sys.argv else "").name}}),
            "schema": schema,
            "profile": json.dumps({key: value for key, value in profile.items() if value is not None}, default=str),
        }

    def _specs(self, part: str) -> str | None:
        """An MLflow schema: tensors with -1 for the number of samples, named if there are several."""
        specs = [
            ({"name": name} if name else {})
            | {
                "type": "tensor",
                "tensor-spec": {"dtype": one.dtype, "shape": [-1, *(_side(side) for side in one.shape[1:])]},
            }
            for name, one in self._of(part).items()
            if one.shape
        ]
        return json.dumps(specs) if specs else None

    def _sizes(self, part: str) -> dict[str, Any]:
        """The shapes and sizes of arrays for MLflow's profile, by name if there are several."""
        label = {"x": "features", "y": "targets"}[part]
        shapes = {
            name: [side or 0 for side in one.shape]
            for name, one in self._of(part).items()
            if one.shape and None not in one.shape
        }
        if not shapes:
            return {}
        sizes = {name: prod(shape) for name, shape in shapes.items()}
        one = shapes.keys() == {""}
        return {f"{label}_shape": shapes[""] if one else shapes, f"{label}_size": sizes[""] if one else sizes}

    def _of(self, part: str) -> dict[str, ArrayInfo]:
        """The arrays of x or y by their names within it."""
        return {
            one.name.removeprefix(part).removeprefix("."): one
            for one in self.arrays
            if one.name == part or one.name.startswith(f"{part}.")
        }


def class_weights(given: Any) -> dict[str, float]:
    """The argument `class_weight` of `fit()` as parameters."""
    if not isinstance(given, Mapping):
        return {}
    return {f"class_weight.{name}": float(weight) for name, weight in sorted(given.items(), key=str)[:_CLASSES]}


def _side(side: int | None) -> int:
    return -1 if side is None else side
