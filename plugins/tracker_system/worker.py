"""The name of this process among the workers of a distributed training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "JAX_PROCESS_ID", "SLURM_PROCID")


def worker_name(environment: Mapping[str, str] | None = None) -> str:
    """`worker-1` … in all workers but the chief; "" in the chief, or if there is only one process.

    It is read from the launcher's environment variables: `TF_CONFIG`, else the rank that torchrun, MPI or Slurm set.
    """
    env = os.environ if environment is None else environment
    try:
        config = json.loads(env.get("TF_CONFIG", ""))
        kind, index = str(config["task"]["type"]), int(config["task"]["index"])
        has_chief = bool({"chief", "master"} & set(config.get("cluster") or {}))
    except (ValueError, TypeError, KeyError, AttributeError):
        rank = next((env[name] for name in _RANKS if env.get(name, "").isdecimal()), "0")
        return f"worker-{int(rank)}" if int(rank) else ""
    is_chief = kind in ("chief", "master") or (kind == "worker" and index == 0 and not has_chief)
    return "" if is_chief else f"{kind}-{index}"
