"""Pairs of measurements taken in turns: `rnn_forward` beside a model, and a NumPy product after a call on one thread or on all."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import fastrnn
from bench.cases import DTYPES, SHAPES, Shape, problem
from bench.contestants import WARM_UP, check, time_warm
from bench.results import OURS, Results, rounded
from bench.rivals import Way, load
from bench.rows import Task
from bench.timing import settle
from fastrnn.threads import processors

ROUNDS = 31
CALLS = 200  # in a block: some milliseconds
SIDE = 1000  # of the matrices that NumPy multiplies
BATCH, SEQUENCE = (next(shape for shape in SHAPES if shape.name == name) for name in ("batch of small", "medium"))

Sample = Callable[[], float]  # gives seconds


@dataclass(frozen=True)
class Pair:
    """Two measurements. The second one is given as a multiple of the first one."""

    name: str
    names: tuple[str, str]
    prepare: Callable[[], tuple[Sample, Sample]]


def rnn_forward_and_model(dtype: str) -> tuple[Sample, Sample]:
    """A call of each at the notebook's shape, checked."""
    p = problem(SHAPES[0], dtype)
    model = fastrnn.Sequential(fastrnn.RNN(p.U, p.W, p.b), fastrnn.Dense(p.V, activation="softmax"))
    ways = (
        Way("model(x)", lambda: model(p.x, p.h0)[0], np.array),
        Way("rnn_forward(x, U, W, V, b)", lambda: fastrnn.rnn_forward(p.x, p.U, p.W, p.V, p.b, h0=p.h0), np.array),
    )
    for way in ways:
        check(way, Task(**vars(p)))
    return lambda: time_warm(ways[0], CALLS), lambda: time_warm(ways[1], CALLS)


def products_after(shape: Shape) -> tuple[Sample, Sample]:
    """NumPy's product on all threads, right after calls of fastrnn on one thread, and right after calls on all."""
    p = problem(shape, "float32")
    rnn, out, matrix = fastrnn.RNN(p.U, p.W, p.b), np.empty((*p.x.shape[:-1], shape.hidden), np.float32), np.ones((SIDE, SIDE))
    product = np.empty_like(matrix)

    def sample(threads: int) -> float:
        with load(OURS).running(threads, "float32"):
            start = time.perf_counter()
            while time.perf_counter() - start < WARM_UP:
                rnn(p.x, p.h0, out=out)
            start = time.perf_counter()
            np.dot(matrix, matrix, out=product)
            return time.perf_counter() - start

    return lambda: sample(1), lambda: sample(processors())


PAIRS = (
    *(
        Pair(f"notebook's shape, {dtype}", ("model(x)", "rnn_forward(x, U, W, V, b)"), lambda dtype=dtype: rnn_forward_and_model(dtype))
        for dtype in DTYPES
    ),
    *(
        Pair(
            f"NumPy's product of two {SIDE:,} x {SIDE:,} float64 matrices, after fastrnn's {kind}",
            ("after one thread", "after all threads"),
            lambda shape=shape: products_after(shape),
        )
        for kind, shape in (("batch", BATCH), ("single sequence", SEQUENCE))
    ),
)


def measure_pairs(rounds: int = ROUNDS) -> list[Results]:
    """Measure every pair: the median seconds of the first and of the second measurement."""
    measured = []
    with tqdm(total=len(PAIRS) * rounds, disable=None) as progress:
        for pair in PAIRS:
            progress.set_postfix_str(pair.name)
            samples, seconds = pair.prepare(), ([], [])
            for turn in range(rounds):
                for i in (turn % 2, 1 - turn % 2):
                    settle()
                    seconds[i].append(samples[i]())
                progress.update()
            medians = [rounded(statistics.median(taken)) for taken in seconds]
            measured.append({"name": pair.name, "first": pair.names[0], "second": pair.names[1], "seconds": medians})
    return measured
