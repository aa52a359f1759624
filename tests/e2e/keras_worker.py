"""One worker of a training that several processes do together: `keras_worker.py KIND INDEX PORT PORT`.

KIND is "tensorflow" (MultiWorkerMirroredStrategy, from TF_CONFIG) or "jax" (`jax.distributed`, DataParallel). Standard output's last
line is what this worker's Keras said, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

KIND, INDEX, PORTS = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
os.environ["KERAS_BACKEND"] = "jax" if KIND == "jax" else "tensorflow"
if KIND != "jax":
    # With a chief in the cluster worker 0 is none; both count their own kind from 0.
    cluster = {"chief": [f"127.0.0.1:{PORTS[0]}"], "worker": [f"127.0.0.1:{PORTS[1]}"]}
    task = {"type": "worker" if INDEX else "chief", "index": 0}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})


def main() -> None:
    if KIND == "jax":
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{PORTS[0]}", num_processes=len(PORTS), process_id=INDEX)
        import keras

        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        print(json.dumps(train(None)), flush=True)
        jax.distributed.shutdown()
        return
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    refused = ""
    try:
        train(strategy)
    except ValueError as error:
        refused = str(error)
        mend(strategy)
    print(json.dumps({**train(strategy), "refused": refused}), flush=True)


def mend(strategy: Any) -> None:
    """Keras 3 cannot train under this strategy (keras-team/keras#20585): give it the two reductions that it lacks."""
    import keras
    from keras.src.backend.tensorflow import trainer

    def build(model: Any, iterator: Any = None, data_batch: Any = None) -> None:
        for _, _, batches in iterator or ():
            data_batch = keras.tree.map_structure(
                lambda one: strategy.experimental_local_results(one)[0], next(batches)
            )
            break
        with strategy.scope():
            model._symbolic_build(data_batch=data_batch)

    def mean(values: Any, strategy: Any, reduction: str) -> Any:
        return keras.tree.map_structure(lambda one: strategy.reduce("MEAN", one, axis=None), values)

    trainer.TensorFlowTrainer._maybe_symbolic_build = build
    trainer.reduce_per_replica = mean


def train(strategy: Any) -> dict[str, Any]:
    """The script as its user would type it, the same in every worker: only the callback is added."""
    import contextlib

    import keras
    import numpy as np
    from keras_bench import anywhere, verbose

    from tracker_keras import TrackerCallback

    x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    data: Any = (x[INDEX :: len(PORTS)], y[INDEX :: len(PORTS)])  # with JAX each worker brings its part of the data
    if strategy is not None:
        import tensorflow as tf

        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        data = (tf.data.Dataset.from_tensor_slices((x, y)).batch(8).with_options(options),)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model = keras.Sequential(
            [keras.layers.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")]
        )  # the same in all workers
        model.compile("sgd", "mse")
    ours = TrackerCallback(log_batches=2)
    # Each worker a file of its own: all run every callback, and Keras writes without looking who else does.
    saves = keras.callbacks.ModelCheckpoint(f"worker-{INDEX}.keras")
    loaded: list[bool] = []
    looks = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: loaded.append("tensorflow" in sys.modules)
    )
    history = model.fit(*data, epochs=3, verbose=verbose(), callbacks=anywhere([ours, looks, saves]))
    return {
        "loss": history.history["loss"],
        "tensorflow": loaded[0],
        "run": ours.run.id if ours.run else None,
        "errors": ours.guard.errors,
    }


if __name__ == "__main__":
    main()
