"""`python -m tracker_keras.demo`: train, record, compare, and print what to try next."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import tracker
from tracker import compose
from tracker.domain.errors import RunNotFound
from tracker.domain.extras import how_to_install
from tracker.settings import Settings
from tracker_keras.demo import report

# Import names and the packages that install them; the fifth training writes files for TensorBoard.
_NEEDED = {"sklearn": "scikit-learn", "keras": "Keras", "tensorboard": "TensorBoard"}
_BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Return 0; 1 if the store fails and 2 if the demo cannot run, with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    _prepare_environment()
    if missing := _missing():
        print(
            f"The demo needs {' and '.join(missing)}, not installed for {sys.executable}.\n"
            f"Install what it needs with: {how_to_install('demo')}",
            file=sys.stderr,
        )
        return 2
    if os.environ.get("TRACKER_MODE") == "disabled":
        print("TRACKER_MODE is disabled, so there would be nothing to show; unset it for the demo.", file=sys.stderr)
        return 2
    try:
        settings = Settings.from_environment()
        # Report a wrong URL before Keras takes seconds to load.
        compose.open_store(options.store or settings.store, settings.token).close()
        _train(options)
    except RunNotFound as error:  # TRACKER_MODE=offline, or a store that is away
        print(f"The runs are recorded, but not in the store yet ({error}); `tracker sync` ships them.", file=sys.stderr)
        return 1
    except tracker.TrackerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _train(options: argparse.Namespace) -> None:
    # Imported late: these imports choose the backend and start TensorFlow's messages.
    from tracker_keras.demo.trainings import TRAININGS, Digits

    digits = Digits.load()
    report.opening(digits.described(), len(TRAININGS), options.epochs)
    runs = []
    for number, training in enumerate(TRAININGS, start=1):
        report.training_begins(number, training.title, training.callbacks_text)
        trained = training.run(digits, epochs=options.epochs, store=options.store, folder=options.dir / training.name)
        report.training_ended(trained.seconds, trained.saved)
        runs.append(trained.run_id)
    report.closing(runs, options.store, options.dir)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tracker_keras.demo",
        description="Train a classifier of handwritten digits five times with the tutorials' callbacks, and compare.",
    )
    parser.add_argument("--epochs", type=_positive, default=10, help="epochs of each training (default: 10)")
    parser.add_argument("--store", help="store URL (default: TRACKER_STORE, else sqlite:///tracker.db)")
    parser.add_argument(
        "--dir", type=Path, default=Path("demo"), help="where checkpoint files and TensorBoard logs go (default: demo/)"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of epochs, 1 or more")
    return int(text)


def _prepare_environment() -> None:
    """Choose the backend and silence TensorFlow's start-up messages, unless the environment says otherwise."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def _missing() -> list[str]:
    backend = os.environ["KERAS_BACKEND"]
    needed = {**_NEEDED, backend: _BACKENDS.get(backend, backend)}
    return [name for module, name in needed.items() if find_spec(module) is None]


if __name__ == "__main__":
    sys.exit(main())
