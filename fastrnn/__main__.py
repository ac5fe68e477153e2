"""python -m fastrnn: run a trained model over a chapter of Moby-Dick, let it write, then run a notebook's cell, beside plain NumPy."""

import argparse
import collections
import importlib.resources
import logging
import statistics
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import RNN, Dense, Embedding, Sequential, __version__, generate, log_likelihood, reference, rnn_forward
from . import compile as fastrnn_compile
from .arguments import Array
from .engine.threads import get_num_threads
from .native import machine_code

EXPECTED_BITS = 2.135948712  # the NumPy loop in float64: data/README.txt
BITS_TOLERANCE = 1e-6
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}  # of a probability
SEED = 77
PROMPT = "\n\nCall me Ishmael. I "
LONGEST = 600  # characters
ORIGINS = {"wheel": "from the wheel", "cache": "from the cache", "compiled now": "compiled now"}
BAR = 40  # characters
# Operations that the examples run, by dtype. They are compiled together, for one by one takes twice the time. TO_SHARE is needed for more
# than one thread, and TO_WRITE for the paragraph.
OPERATIONS = {
    "": ["call", "checked_call", "pack_and_run", "run", "run_serial"],
    "float32": ["elman", "embed", "log_softmax", "pack", "product", "project", "score", "softmax", "tanh"],
}
TO_SHARE = ["barrier", "divide", "run_shared", "share", "work"]
TO_WRITE = {"": ["leave"], "float32": ["sample"]}
TEMPERATURE = 0.6  # from 0.7 on every third word is not English, below 0.5 no sentence ends


def notebook(inputs: Array, U: Array, W: Array, V: Array, b: Array) -> Array:
    """Run the notebook's cell, the loop that rnn_forward replaces."""
    state_t = np.zeros(len(W), W.dtype)
    outputs = []
    for x_t in inputs:
        state_t = np.tanh(U @ x_t + W @ state_t + b)
        outputs.append(reference.softmax(V @ state_t))
    return np.concatenate(outputs, axis=0)


class Example(NamedTuple):
    """A trained model, which predicts each character from those before it; the same as a NumPy loop; and a text for both."""

    model: Sequential
    loop: reference.Sequential
    vocabulary: str
    chapter: Array

    def encode(self, text: str) -> Array:
        return np.array([self.vocabulary.index(character) for character in text])

    def decode(self, tokens: Array) -> str:
        return "".join(self.vocabulary[token] for token in tokens)


def load_example() -> Example:
    data = importlib.resources.files("fastrnn") / "data"
    with (data / "moby_dick_elman.npz").open("rb") as file, np.load(file) as arrays:
        U, W, b, V, c = (arrays[name] for name in "UWbVc")
        vocabulary = "".join(arrays["vocab"].tolist())
    example = Example(
        Sequential(Embedding.one_hot(len(vocabulary)), RNN(U, W, b), Dense(V, c, activation="softmax")),
        reference.Sequential(
            reference.Embedding.one_hot(len(vocabulary)), reference.RNN(U, W, b), reference.Dense(V, c, activation="softmax")
        ),
        vocabulary,
        np.empty(0, np.int64),
    )
    return example._replace(chapter=example.encode((data / "moby_dick_chapter_135.txt").read_text(encoding="ascii")))


def bits_per_character(probs: Array, characters: Array) -> float:
    """Return the mean of -log2 p over every character but the first, which is given."""
    given = probs[np.arange(len(characters) - 1), characters[1:]]
    return float(-np.log2(given.astype(np.float64)).mean())


def timed(call: Callable[[], Array]) -> tuple[float, Array]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def measure(fast: Callable[[], Array], loop: Callable[[], Array], rounds: int) -> tuple[float, float]:
    """Return the median seconds of both. They run in turns, so that whatever slows the machine slows both."""
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
    show("first call, before that", duration(first))


def show_difference(fast: Array, loop: Array) -> bool:
    """Print the largest difference of the probabilities, and return whether it is allowed; NaN is not."""
    difference, allowed = float(np.abs(fast - loop).max()), TOLERANCES[str(fast.dtype)]
    good = difference <= allowed
    show("largest difference", f"{difference:.1e}", "", f"{'at most' if good else 'WRONG: more than'} {allowed:.0e}")
    return good


def run_chapter(example: Example) -> bool:
    """Run the chapter through the example model, and return whether the results agree."""
    model, loop, characters = example.model, example.loop, example.chapter
    first, _ = timed(lambda: model(characters[:1])[0])
    fast_probs, loop_probs = model(characters)[0], loop(characters)[0]
    fast_bits, loop_bits = (bits_per_character(probs, characters) for probs in (fast_probs, loop_probs))
    scored_bits = -float(log_likelihood(model, characters)) / np.log(2) / (len(characters) - 1)
    good = all(abs(bits - EXPECTED_BITS) <= BITS_TOLERANCE for bits in (fast_bits, scored_bits, loop_bits))

    print(f"The last chapter of Moby-Dick, {len(characters):,} characters, through a model trained on the others:")
    print(f"I {model.input_size} (tokens), H {model.layers[1].output_size}, O {model.output_size}, {model.dtype}, model(tokens)")
    show("", "fastrnn", "NumPy loop")
    show("bits per character", f"{fast_bits:.9f}", f"{loop_bits:.9f}", f"{EXPECTED_BITS} in float64" + ("" if good else ", WRONG"))
    show("from log_likelihood", f"{scored_bits:.9f}")
    good &= show_difference(fast_probs, loop_probs)
    show_times(*measure(lambda: model(characters)[0], lambda: loop(characters)[0], 3), 3, first)
    return good


def run_paragraph(example: Example, seed: int) -> bool:
    """Let the example model write a paragraph, and return whether NumPy writes the same."""
    model, loop, prompt, end = example.model, example.loop, example.encode(PROMPT), int(example.encode("\n")[0])
    options: dict[str, Any] = {"temperature": TEMPERATURE, "rng": seed, "stop": end}
    _, state = model(prompt[:-1])
    _, loop_state = loop(prompt[:-1])
    generate(model, prompt[-1], 1, state, **options)  # compiles
    seconds, generated = timed(lambda: generate(model, prompt[-1], LONGEST, state, **options)[0])
    expected, _ = reference.generate(loop, prompt[-1], LONGEST, loop_state, **options)
    good = np.array_equal(generated, expected)
    text = (PROMPT + example.decode(generated)).strip()
    if generated[-1] != end:
        text = text[: text.rindex(" ")] + " ..."

    print(f"A paragraph in Ishmael's voice, seed {seed}, temperature {TEMPERATURE}; --seed {seed + 1} gives another:\n")
    print(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="  "))
    print(f"\n  {len(text)} characters in {duration(seconds)}; NumPy's loop writes {'the same' if good else 'another: WRONG'}")
    return good


def run_notebook() -> bool:
    """Run the notebook's cell in the notebook's shape, and return whether the results agree.

    It runs in float32, like the chapter: with float64, a newcomer would wait a third longer for machine code.
    """
    rng = np.random.default_rng(0)
    inputs, U, W, V, b = (rng.random(shape, np.float32) for shape in ((100, 32), (64, 32), (64, 64), (64, 64), (64,)))
    first, _ = timed(lambda: rnn_forward(inputs[:1], U, W, V, b))
    fast_probs, loop_probs = rnn_forward(inputs, U, W, V, b), notebook(inputs, U, W, V, b)

    print("A notebook's cell, uniform random numbers:")
    print(f"T {len(inputs)}, I {U.shape[1]}, H {len(b)}, O {len(V)}, {inputs.dtype}, rnn_forward(inputs, U, W, V, b)")
    show("", "fastrnn", "NumPy loop")
    good = show_difference(fast_probs.reshape(-1), loop_probs)
    show_times(*measure(lambda: rnn_forward(inputs, U, W, V, b), lambda: notebook(inputs, U, W, V, b), 101), 101, first)
    return good


def show_origins() -> None:
    """Print where the machine code came from."""
    counts = collections.Counter(machine_code.loaded.origins.values())
    print("Machine code: " + ", ".join(f"{count} operations {ORIGINS[origin]}" for origin, count in counts.items()) + "\n")


def show_progress(done: int, count: int) -> None:
    bar = "#" * (BAR * done // count)
    print(f"\r  [{bar:<{BAR}}] {done} of {count}", end="\n" if done == count else "", flush=True)


def run_compile(progress: machine_code.Progress | None) -> int:
    """Make all machine code that is missing. Return 1 if later processes would not find it."""
    try:
        fastrnn_compile(progress)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    show_origins()
    return 0


def operations(seed: int | None) -> list[machine_code.Wanted]:
    """Return the operations that the examples run, with their dtypes."""
    tables = [OPERATIONS, *([{"": TO_SHARE}] if get_num_threads() > 1 else []), *([] if seed is None else [TO_WRITE])]
    return [(name, dtype) for table in tables for dtype, names in table.items() for name in names]


def run_examples(seed: int | None) -> int:
    example = load_example()
    good = run_chapter(example)
    print()
    if seed is not None:
        good &= run_paragraph(example, seed)
        print()
    good &= run_notebook()
    if seed is None:
        print(f"\nWith --seed {SEED}, or any other number, the model also writes a paragraph.")
    print("\nThe results agree." if good else "\nThe results DIFFER.")
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fastrnn", description="Run an example, checked and timed beside plain NumPy.")
    parser.add_argument("--seed", type=int, help=f"also write a paragraph in Ishmael's voice from this seed, such as {SEED}")
    commands = parser.add_subparsers(dest="command", metavar="[compile]")
    commands.add_parser("compile", help="make all machine code for this machine now, so that no later process compiles")
    arguments = parser.parse_args()
    if arguments.seed is not None and arguments.seed < 0:
        parser.error(f"--seed must be at least 0, got {arguments.seed}")
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    machine_code.log.setLevel(logging.INFO)
    print(f"fastrnn {__version__}, numpy {np.__version__}", flush=True)
    progress = show_progress if sys.stdout.isatty() else None
    if arguments.command == "compile":
        return run_compile(progress)
    machine_code.provide(operations(arguments.seed), progress)
    show_origins()
    return run_examples(arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
