"""Whether this process is the chief of a multi-worker training, the only one that records."""

from __future__ import annotations

import json
import os
import sys

import keras


def is_chief() -> bool:
    """Whether this process is the training's chief; True outside multi-worker training.

    It is read from `TF_CONFIG` for TensorFlow (the task `chief`, else worker 0), the process index for JAX, the rank
    for torch. Only the backend that Keras has loaded is used; none is imported here.
    """
    backend = keras.backend.backend()
    if backend == "jax" and (jax := sys.modules.get("jax")) is not None:
        return bool(jax.process_index() == 0)
    if backend == "torch" and (torch := sys.modules.get("torch")) is not None:
        distributed = torch.distributed
        return not (distributed.is_available() and distributed.is_initialized()) or bool(distributed.get_rank() == 0)
    return backend != "tensorflow" or _is_tensorflow_chief(os.environ.get("TF_CONFIG", ""))


def is_alone() -> bool:
    """Whether this process is the only one of its training."""
    backend = keras.backend.backend()
    if backend == "jax" and (jax := sys.modules.get("jax")) is not None:
        return bool(jax.process_count() == 1)
    if backend == "torch" and (torch := sys.modules.get("torch")) is not None:
        distributed = torch.distributed
        return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "")).get("cluster") or {}
        return sum(len(tasks) for tasks in cluster.values()) < 2
    except (ValueError, TypeError, AttributeError):  # none, or nothing that TensorFlow would take for one
        return True


def _is_tensorflow_chief(config: str) -> bool:
    try:
        cluster = json.loads(config)
        task, index = cluster["task"]["type"], int(cluster["task"]["index"])
        others = cluster.get("cluster") or {}
    except (ValueError, TypeError, KeyError):  # none, or nothing that TensorFlow would take for one
        return True
    return bool(
        task in ("chief", "master") or (task == "worker" and index == 0 and not {"chief", "master"} & set(others))
    )
