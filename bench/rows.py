"""The rows of the benchmark, and the arrays of each row."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.cases import DTYPES, SHAPES, Problem, Shape, draw_lengths, problem
from fastrnn import GRU, LSTM, RNN, reference

RAGGED = ("uniform lengths", "long tail")
CELLS = {"GRU": ("GRU", GRU), "LSTM": ("LSTM", LSTM), "LSTM steps": ("LSTM", LSTM), "leaky": ("leaky", RNN)}  # a group's cell and layer
SINGLE = ("single step", "single call")  # stream.step(x_t); rnn(x, h) with one step in x. Rivals run the same step in both.
LEAK = 0.3
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
    cell: str = "RNN"  # or GRU, LSTM, leaky: the gates' weights are stacked in U, W and b; or BiLSTM: with an axis of two directions, too
    bias_hn: np.ndarray | None = None  # a GRU's
    c0: np.ndarray | None = None  # an LSTM's
    leak: float | None = None

    @property
    def tokens(self) -> bool:
        return self.x.dtype.kind == "i"

    @property
    def states(self) -> tuple[np.ndarray, ...]:
        """The arrays of the first state."""
        return (self.h0,) if self.c0 is None else (self.h0, self.c0)

    def layer(self, library: Any) -> Any:
        """The layer in fastrnn, or in its reference."""
        if self.cell == "BiLSTM":
            return library.Bidirectional(*[library.LSTM(*weights) for weights in zip(self.U, self.W, self.b, strict=True)])
        if self.cell == "LSTM":
            return library.LSTM(self.U, self.W, self.b)
        if self.cell == "GRU":
            return library.GRU(self.U, self.W, self.b, self.bias_hn)
        return library.RNN(self.U, self.W, self.b) if self.leak is None else library.RNN(self.U, self.W, self.b, leak=self.leak)


def bidirectional_shapes() -> Iterator[Shape]:
    """Sequences and a batch, which start at zeros."""
    for steps, inputs, hidden, batch in ((100, 64, 64, None), (1000, 64, 128, None), (100, 64, 128, 16)):
        yield Shape(f"two directions of {hidden} units" + (f", batch of {batch}" if batch else ""), steps, inputs, hidden, batch=batch)


def gated_shapes(cell: str) -> Iterator[Shape]:
    """Sequences, batches and single steps."""
    for steps, inputs, hidden, batch in (
        (100, 32, 64, None),
        (1000, 64, 128, None),
        (1000, 128, 256, None),
        (100, 256, 512, None),
        (100, 64, 128, 16),
        (100, 64, 128, 64),
        (100, 128, 256, 64),
        (1, 32, 64, None),
        (1, 64, 256, None),
        (1, 128, 128, 32),
    ):
        name = f"{cell} of {hidden} units" + (f", batch of {batch}" if batch else "") + (", one step" if steps == 1 else "")
        yield Shape(name, steps, inputs, hidden, batch=batch)


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
    *(Row(cell, shape, dtype) for cell in ("GRU", "LSTM") for shape in gated_shapes(cell) for dtype in DTYPES),
    *(Row("Bidirectional LSTM", shape, dtype) for shape in bidirectional_shapes() for dtype in DTYPES),
    *(Row("leaky", Shape(f"leaky, {hidden} units", 1000, 1, hidden), dtype) for hidden in (100, 500, 1000) for dtype in DTYPES),
    *(Row("LSTM steps", Shape(f"{count:,} LSTM state{'s' * (count > 1)}", 1, 64, 128, batch=count)) for count in (1, 16, 256, 4096)),
)


def task(row: Row) -> Task:
    """Draw a row's arrays, and run the reference."""
    shape, rng = row.shape, np.random.default_rng(1)
    if row.group in CELLS:
        return cell_task(row)
    if row.group == "Bidirectional LSTM":
        return bidirectional_task(row)
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


def cell_task(row: Row) -> Task:
    """Draw the arrays of a gated or a leaky layer, and run the reference. "LSTM steps" has single steps, all with the same input."""
    (cell, kind), shape, rng = CELLS[row.group], row.shape, np.random.default_rng(0)
    gates, leading, single = kind._gates, (shape.batch,) if shape.batch else (), row.group == "LSTM steps"

    def draw(*sizes: int) -> np.ndarray:
        return rng.uniform(-(shape.hidden**-0.5), shape.hidden**-0.5, sizes).astype(row.dtype)

    U, W, b = draw(gates * shape.hidden, shape.inputs), draw(gates * shape.hidden, shape.hidden), draw(gates * shape.hidden)
    x, h0 = rng.random((*leading, shape.steps, shape.inputs)).astype(row.dtype), draw(*leading, shape.hidden)
    drawn = Task(x, U, W, None, b, h0, x, single=single, stream=single, cell=cell)
    if cell == "GRU":
        drawn = dataclasses.replace(drawn, bias_hn=draw(shape.hidden))
    elif cell == "LSTM":
        drawn = dataclasses.replace(drawn, c0=draw(*leading, shape.hidden))
    else:
        drawn = dataclasses.replace(drawn, leak=LEAK)
    exact = dataclasses.replace(drawn, **{name: a.astype(np.float64) for name, a in vars(drawn).items() if isinstance(a, np.ndarray)})
    states = exact.states if cell == "LSTM" else exact.h0
    expected, _ = exact.layer(reference)(exact.x.repeat(COMPARED, axis=-2) if single else exact.x, states)
    if single:
        return dataclasses.replace(drawn, x=drawn.x[..., 0, :], expected=np.moveaxis(expected, -2, 0))
    return dataclasses.replace(drawn, expected=expected)


def bidirectional_task(row: Row) -> Task:
    """Draw the arrays of an LSTM's two directions, and run the reference."""
    shape, rng = row.shape, np.random.default_rng(0)
    leading, bound = (shape.batch,) if shape.batch else (), shape.hidden**-0.5
    U, W, b = (
        rng.uniform(-bound, bound, (2, LSTM._gates * shape.hidden, *size)).astype(row.dtype)
        for size in ((shape.inputs,), (shape.hidden,), ())
    )
    x = rng.random((*leading, shape.steps, shape.inputs)).astype(row.dtype)
    drawn = Task(x, U, W, None, b, np.zeros((*leading, shape.hidden), row.dtype), x, cell="BiLSTM")
    exact = dataclasses.replace(drawn, **{name: array.astype(np.float64) for name, array in (("U", U), ("W", W), ("b", b))})
    expected, _ = exact.layer(reference)(x.astype(np.float64))
    return dataclasses.replace(drawn, expected=expected)
