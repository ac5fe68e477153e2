"""python -m fastrnn: run a trained model over a chapter of Moby-Dick, and a notebook's loop, beside plain NumPy."""

import importlib.resources
import statistics
import sys
import time
from collections.abc import Callable

import numba
import numpy as np

from . import RNN, Dense, Sequential, __version__, reference, rnn_forward
from .arguments import Array

EXPECTED_BITS = 2.135948712  # the NumPy loop in float64; data/README.txt
BITS_TOLERANCE = 1e-6
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}  # of a probability
ROUNDS = 5


def notebook(inputs: Array, U: Array, W: Array, V: Array, b: Array) -> Array:
    """Compute what rnn_forward does in the loop that it replaces."""
    state_t = np.zeros(len(W))
    outputs = []
    for x_t in inputs:
        state_t = np.tanh(U @ x_t + W @ state_t + b)
        outputs.append(reference.softmax(V @ state_t))
    return np.concatenate(outputs, axis=0)


def load_model() -> tuple[dict[str, Array], list[str], str]:
    """Read the weights, the model's characters and the chapter from the package."""
    data = importlib.resources.files(__package__) / "data"
    with (data / "moby_dick_elman.npz").open("rb") as file, np.load(file) as arrays:
        weights = {name: arrays[name] for name in "UWbVc"}
        vocabulary = arrays["vocab"].tolist()
    return weights, vocabulary, (data / "moby_dick_chapter_135.txt").read_text(encoding="ascii")


def bits_per_character(probs: Array, tokens: Array) -> float:
    """Mean -log2 of the probability given to each character but the first, which nothing predicts."""
    given = probs[np.arange(len(tokens) - 1), tokens[1:]]
    return float(-np.log2(given.astype(np.float64)).mean())


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare_speed(*calls: Callable[[], object]) -> list[float]:
    """Median seconds of each call, in turns so that a busy moment meets them all."""
    rounds = [[seconds(call) for call in calls] for _ in range(ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def duration(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} us"


def show(*cells: str) -> None:
    print("  " + cells[0].ljust(36) + "".join(cell.rjust(18) for cell in cells[1:]))


def show_check(name: str, difference: float, allowed: float) -> bool:
    """Print a difference, and tell whether it is allowed; NaN is not."""
    good = bool(difference <= allowed)
    show(name, f"{difference:.1e}", f"at most {allowed:.0e}", "ok" if good else "WRONG")
    return good


def show_times(compiled: float, fast: float, loop: float) -> None:
    print()
    show("time", "fastrnn", "NumPy loop", "ratio")
    show(f"median of {ROUNDS}", duration(fast), duration(loop), f"{loop / fast:.1f}")
    show("compiling, or loading the cache, once", duration(compiled))


def run_text() -> bool:
    """Run the packaged model over the chapter; tell whether its results are right."""
    weights, vocabulary, text = load_model()
    codes = {character: code for code, character in enumerate(vocabulary)}
    tokens = np.array([codes[character] for character in text])
    x = np.zeros((len(tokens), len(vocabulary)), weights["U"].dtype)
    x[np.arange(len(tokens)), tokens] = 1

    def make(kind):
        rnn = kind.RNN(weights["U"], weights["W"], weights["b"])
        return kind.Sequential(rnn, kind.Dense(weights["V"], weights["c"], activation="softmax"))
    return True


if __name__ == "__main__":
    sys.exit(0)
