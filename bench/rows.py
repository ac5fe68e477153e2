"""The rows of the benchmark, and the arrays of each row."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from bench.cases import DTYPES, SHAPES, Problem, Shape, draw_lengths, problem
from fastrnn import reference

RAGGED = ("uniform lengths", "long tail")
SINGLE = ("single step", "single call")  # stream.step(x_t); rnn(x, h) with one step in x. Rivals run the same step in both.
COMPARED = 20  # single steps, one after the other


@dataclass(frozen=True)
class Row:
    """A shape and a dtype. The group says what the input is, and which figure shows the row."""

    group: str
    shape: Shape
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.group}: {self.shape}, {self.dtype}"


@dataclass(frozen=True)
class Task(Problem):
    """A row's arrays. x has the shape (..., T, I), for tokens (T,), for single steps (I,): every step has the same input."""

    lengths: np.ndarray | None = None
    single: bool = False  # one step, with the state of the step before
    stream: bool = False  # fastrnn keeps the state in a stream; otherwise the state goes in and comes out

    @property
    def tokens(self) -> bool:
        return self.x.dtype.kind == "i"


ROWS = (
    *(Row("shapes", shape, dtype) for shape in SHAPES for dtype in DTYPES),
    *(Row("steps", Shape(f"{steps:,} step{'s' * (steps > 1)}", steps, 32, 64, 64)) for steps in (1, 10, 100, 1000, 10_000, 100_000)),
    *(Row("batch", Shape(f"batch of {batch}", 50, 64, 128, batch=batch)) for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)),
    *(Row("hidden", Shape(f"{hidden} units", 100, max(8, hidden // 2), hidden)) for hidden in (8, 16, 32, 64, 128, 256, 512, 1024, 2048)),
    Row("tokens", Shape("tokens of characters", 1000, 80, 192, 80)),
    Row("tokens", Shape("tokens of words", 1000, 1000, 256, 1000)),
    *(Row(group, Shape(f"{group} of {batch}", 200, 64, 128, batch=batch)) for group in RAGGED for batch in (64, 256)),
    *(Row("single step", Shape(f"single step of {hidden} units", 1, 32, hidden), dtype) for hidden in (64, 256) for dtype in DTYPES),
    *(Row("single call", Shape("single call of 64 units", 1, 32, 64), dtype) for dtype in DTYPES),
)


def task(row: Row) -> Task:
    """Draw a row's arrays, and run the reference."""
    shape, rng = row.shape, np.random.default_rng(1)
    drawn = problem(shape, row.dtype)
    if row.group == "tokens":
        return expect(dataclasses.replace(drawn, x=rng.integers(shape.inputs, size=shape.steps)))
    if row.group in SINGLE:
        repeated = dataclasses.replace(drawn, x=drawn.x.repeat(COMPARED, axis=0))
        return dataclasses.replace(expect(repeated), x=drawn.x[0], single=True, stream=row.group == "single step")
    if row.group in RAGGED:
        lengths = draw_lengths(shape) if row.group == "long tail" else rng.integers(1, shape.steps + 1, shape.batch)
        valid = np.arange(shape.steps) < lengths[:, None]
        return Task(**{**vars(drawn), "expected": np.where(valid[..., None], drawn.expected, 0)}, lengths=lengths)
    return Task(**vars(drawn))


def expect(changed: Problem) -> Task:
    """Run the reference over another x."""
    exact = changed.exact()
    x = reference.one_hot(changed.x, exact.U.shape[1]) if changed.x.dtype.kind == "i" else exact.x
    expected, _ = reference.RNN(exact.U, exact.W, exact.b)(x, exact.h0)
    if exact.V is not None:
        expected = reference.Dense(exact.V, activation="softmax")(expected)
    return Task(**{**vars(changed), "expected": expected})
