"""python -m fastrnn: run a trained model over a chapter of Moby-Dick, then a notebook's cell, beside plain NumPy."""

import importlib.resources
import statistics
import sys
import time
from collections.abc import Callable

import numba
import numpy as np

from . import RNN, Dense, Sequential, __version__, reference, rnn_forward
from .arguments import Array

EXPECTED_BITS = 2.135948712  # the NumPy loop in float64: data/README.txt
BITS_TOLERANCE = 1e-6
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}  # of a probability


def notebook(inputs: Array, U: Array, W: Array, V: Array, b: Array) -> Array:
    """The cell that rnn_forward replaces."""
    state_t = np.zeros(len(W))
    outputs = []
    for x_t in inputs:
        state_t = np.tanh(U @ x_t + W @ state_t + b)
        outputs.append(reference.softmax(V @ state_t))
    return np.concatenate(outputs, axis=0)


def load_example() -> tuple[dict[str, Array], Array]:
    """Read the model's weights, and the chapter as the numbers of the model's characters."""
    data = importlib.resources.files("fastrnn") / "data"
    with (data / "moby_dick_elman.npz").open("rb") as file, np.load(file) as arrays:
        weights = {name: arrays[name] for name in "UWbVc"}
        numbers = {character: number for number, character in enumerate(arrays["vocab"].tolist())}
    text = (data / "moby_dick_chapter_135.txt").read_text(encoding="ascii")
    return weights, np.array([numbers[character] for character in text])


def bits_per_character(probs: Array, characters: Array) -> float:
    """Mean of -log2 p over every character but the first, which is given."""
    given = probs[np.arange(len(characters) - 1), characters[1:]]
    return float(-np.log2(given.astype(np.float64)).mean())


def timed(call: Callable[[], Array]) -> tuple[float, Array]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def measure(fast: Callable[[], Array], loop: Callable[[], Array], rounds: int) -> tuple[float, float]:
    """Median seconds of either, run in turns so that whatever slows the machine meets both."""
    pairs = [(timed(fast)[0], timed(loop)[0]) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"


def show(name: str, fast: str, loop: str = "", note: str = "") -> None:
    print(f"  {name:<28}{fast:>14}{loop:>14}  {note}".rstrip())


def show_times(fast: float, loop: float, rounds: int, first: float) -> None:
    show(f"time, median of {rounds}", duration(fast), duration(loop), f"{loop / fast:.1f} times as fast")
    show("first call, before that", duration(first), "", "compiles, or loads what an earlier run compiled")


def show_difference(fast: Array, loop: Array) -> bool:
    """Print how far the probabilities part, and return whether that is allowed; NaN is not."""
    difference, allowed = float(np.abs(fast - loop).max()), TOLERANCES[str(fast.dtype)]
    good = difference <= allowed
    show("largest difference", f"{difference:.1e}", "", f"{'at most' if good else 'WRONG: more than'} {allowed:.0e}")
    return good


def run_chapter() -> bool:
    """Run the chapter through the example model, and return whether the results agree."""
    weights, characters = load_example()
    x = np.zeros((len(characters), len(weights["c"])), np.float32)
    x[np.arange(len(characters)), characters] = 1
    recurrent, head = (weights["U"], weights["W"], weights["b"]), (weights["V"], weights["c"])
    model = Sequential(RNN(*recurrent), Dense(*head, activation="softmax"))
    slow = reference.Sequential(reference.RNN(*recurrent), reference.Dense(*head, activation="softmax"))
    first, _ = timed(lambda: model(x[:1])[0])
    fast_probs, loop_probs = model(x)[0], slow(x)[0]
    fast_bits, loop_bits = (bits_per_character(probs, characters) for probs in (fast_probs, loop_probs))
    good = all(abs(fast_bits - bits) <= BITS_TOLERANCE for bits in (loop_bits, EXPECTED_BITS))

    print(f"The last chapter of Moby-Dick, {len(characters):,} characters, through a model trained on the others:")
    print(f"I {x.shape[1]} (one-hot), H {len(weights['b'])}, O {len(weights['c'])}, {x.dtype}, model(x)")
    show("", "fastrnn", "NumPy loop")
    show("bits per character", f"{fast_bits:.9f}", f"{loop_bits:.9f}", f"{EXPECTED_BITS} in float64" + ("" if good else ", WRONG"))
    good &= show_difference(fast_probs, loop_probs)
    show_times(*measure(lambda: model(x)[0], lambda: slow(x)[0], 3), 3, first)
    return good


def run_notebook() -> bool:
    """Run the notebook's cell in the notebook's shape, and return whether the results agree."""
    rng = np.random.default_rng(0)
    inputs, U, W, V, b = (rng.random(shape) for shape in ((100, 32), (64, 32), (64, 64), (64, 64), (64,)))
    first, _ = timed(lambda: rnn_forward(inputs[:1], U, W, V, b))
    fast_probs, loop_probs = rnn_forward(inputs, U, W, V, b), notebook(inputs, U, W, V, b)

    print("A notebook's cell, uniform random numbers:")
    print(f"T {len(inputs)}, I {U.shape[1]}, H {len(b)}, O {len(V)}, {inputs.dtype}, rnn_forward(inputs, U, W, V, b)")
    show("", "fastrnn", "NumPy loop")
    good = show_difference(fast_probs.reshape(-1), loop_probs)
    show_times(*measure(lambda: rnn_forward(inputs, U, W, V, b), lambda: notebook(inputs, U, W, V, b), 101), 101, first)
    return good


def main() -> int:
    print(f"fastrnn {__version__}, numpy {np.__version__}, numba {numba.__version__}\n")
    chapter = run_chapter()
    print()
    cell = run_notebook()
    print("\nThe results agree." if chapter and cell else "\nThe results DIFFER.")
    return 0 if chapter and cell else 1


if __name__ == "__main__":
    sys.exit(main())
