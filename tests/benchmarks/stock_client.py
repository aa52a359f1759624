"""One script with the stock MLflow client, timed: `python stock_client.py URL RESULT`, run where MLflow is installed.

It logs parameters and 1000 metrics as a training loop does, then finds its run and reads what it logged. RESULT is a
file of JSON: seconds by step, or {"failed": why} where an answer is wrong.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

METRICS = 1000


def main() -> None:
    """Run the script against the server at URL."""
    import mlflow

    mlflow.set_tracking_uri(sys.argv[1])
    Path(sys.argv[2]).write_text(json.dumps(script(mlflow)))


def script(mlflow: Any) -> dict[str, Any]:
    """Seconds by step; the first call to the server, which sets up the client's connection, is not in them."""
    mlflow.set_experiment("Default")
    client = mlflow.MlflowClient()
    taken: dict[str, Any] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        answer = step()
        taken[name] = time.perf_counter() - start
        return answer

    params = {f"param_{number}": number * 0.5 for number in range(10)}
    run = timed("start_run", lambda: mlflow.start_run(run_name="stock"))
    timed("log_params", lambda: mlflow.log_params(params))
    timed("log_metric", lambda: [mlflow.log_metric("loss", 1.0 / (step + 1), step=step) for step in range(METRICS)])
    timed("end_run", mlflow.end_run)
    best = {"filter_string": "metrics.metric_1 > 0.5", "order_by": ["metrics.metric_1 DESC"], "max_results": 100}
    found = timed("search_runs", lambda: mlflow.search_runs(output_format="list", **best))
    newest = timed("search_own", lambda: mlflow.search_runs(output_format="list", filter_string="metrics.loss < 1"))
    history = timed("get_metric_history", lambda: client.get_metric_history(run.info.run_id, "loss"))
    stored = client.get_run(run.info.run_id).data
    whole = (
        stored.params == {key: str(value) for key, value in params.items()}
        and [point.step for point in sorted(history, key=lambda point: point.step)] == list(range(METRICS))
        and stored.metrics["loss"] == 1.0 / METRICS
        and len(found) == 100
        and [one.info.run_id for one in newest].count(run.info.run_id) == 1
    )
    taken["total"] = sum(taken.values())
    return taken if whole else {"failed": "an answer was wrong"}


if __name__ == "__main__":
    main()
