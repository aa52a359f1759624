"""Conditions of the model, and of how it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from e2e.field.condition import Condition

if TYPE_CHECKING:
    from e2e.field.reference import Script

KIND = ("params.model.*", "params.model", "params.layers*")


def compiled(**arguments: Any) -> Callable[[Script], None]:
    """`compile()` gets these too."""

    def change(script: Script) -> None:
        script.compiled |= arguments

    return change


def built(make: Callable[[Script], Any]) -> Callable[[Script], None]:
    """The model is what `make` makes."""

    def change(script: Script) -> None:
        script.model = make

    return change


def functional(script: Script) -> Any:
    """The same layers in a functional model."""
    from e2e.field.reference import layers

    known = script.keras.layers
    hidden, out = layers(script)
    given = known.Input((3,))
    return script.keras.Model(given, out(hidden(given)), name="net")


def nested(script: Script) -> Any:
    """The same layers, the first of them in a model of its own."""
    from e2e.field.reference import layers

    hidden, out = layers(script)
    inner = script.keras.Sequential([script.keras.layers.Input((3,)), hidden], name="inner")
    given = script.keras.layers.Input((3,))
    return script.keras.Model(given, out(inner(given)), name="net")


def deferred(script: Script) -> Any:
    """A Sequential that nobody builds before its first batch."""
    from e2e.field.reference import layers

    return script.keras.Sequential(layers(script), name="net")


def subclassed(script: Script) -> Any:
    """A model with a `call` of its own."""
    from e2e.field.reference import layers

    class Net(script.keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="net")
            self.hidden, self.out = layers(script)

        def call(self, x: Any) -> Any:
            return self.out(self.hidden(x))

    return Net()


def stepping(script: Script) -> Any:
    """A model with a `train_step` of its own, and a `fit` that calls its super's."""
    from e2e.field.reference import layers

    class Net(script.keras.Sequential):  # type: ignore[misc]
        def train_step(self, *given: Any) -> Any:
            return super().train_step(*given)

        def fit(self, *given: Any, **named: Any) -> Any:
            return super().fit(*given, **named)

    return Net([script.keras.layers.Input((3,)), *layers(script)], name="net")


def outputs(script: Script) -> None:
    """Two outputs, each with a loss."""
    from e2e.field.data import XV, YV, Y
    from e2e.field.reference import layers

    def make(_: Script) -> Any:
        known = script.keras.layers
        hidden, out = layers(script)
        given = known.Input((3,))
        inner = hidden(given)
        return script.keras.Model(given, {"a": out(inner), "b": known.Dense(1, name="b")(inner)}, name="net")

    script.model = make
    script.arguments |= {"y": {"a": Y, "b": Y}, "validation_data": (XV, {"a": YV, "b": YV})}
    script.compiled |= {"loss": {"a": "binary_crossentropy", "b": "mse"}, "metrics": {"a": "mae", "b": "mae"}}


def mixed(script: Script) -> None:
    """Mixed precision with loss scaling."""

    @contextmanager
    def policy() -> Iterator[None]:
        script.keras.config.set_dtype_policy("mixed_float16")
        try:
            yield
        finally:
            script.keras.config.set_dtype_policy("float32")

    script.around.append(policy)


def accumulated(script: Script) -> None:
    """Gradients of two steps make one."""
    script.optimizer = lambda: script.keras.optimizers.Adam(0.05, gradient_accumulation_steps=2)


def scheduled(script: Script) -> None:
    """A schedule sets the rate, and nobody else does."""
    known = script.keras
    script.follows_schedule = True
    script.optimizer = lambda: known.optimizers.SGD(known.optimizers.schedules.ExponentialDecay(0.5, 4, 0.9))
    stock = script.beside
    script.beside = lambda made: [
        one
        for one in stock(made)
        if not isinstance(one, (known.callbacks.LearningRateScheduler, known.callbacks.ReduceLROnPlateau))
    ]


def as_tensorflow(script: Script) -> None:
    """`tensorflow.keras`."""
    import tensorflow as tf

    script.keras = tf.keras


MODELS: dict[str, Condition] = {
    "tensorflow.keras": Condition(group="spelling", changes=as_tensorflow, backends=("tensorflow",)),
    "steps_per_execution": Condition(
        group="compiled", changes=compiled(steps_per_execution=3), may=("params.steps_per_execution",)
    ),
    "jit_compile": Condition(group="compiled", changes=compiled(jit_compile=True), may=("params.jit_compile",)),
    "run_eagerly": Condition(
        group="compiled", changes=compiled(run_eagerly=True), may=("params.run_eagerly", "params.jit_compile")
    ),
    "mixed precision": Condition(group="numbers", computes=mixed),
    "accumulation": Condition(group="numbers", computes=accumulated),
    "schedule": Condition(group="optimizer", computes=scheduled),
    "functional": Condition(group="model", changes=built(functional), may=KIND),
    "nested model": Condition(group="model", changes=built(nested), may=KIND),
    "deferred": Condition(group="model", changes=built(deferred), may=KIND),
    "subclassed": Condition(group="model", changes=built(subclassed), may=KIND),
    "train_step": Condition(group="model", changes=built(stepping), may=KIND),
    "outputs": Condition(group="model", computes=outputs),
}
