"""The named shapes that every benchmark goes over, and their arrays."""

import functools
from dataclasses import dataclass

import numpy as np

from fastrnn import reference

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Shape:
    """The sizes of one model and its input; no outputs: no head, and no batch: one sequence without a batch axis."""

    name: str
    steps: int
    inputs: int
    hidden: int
    outputs: int | None = None
    batch: int | None = None

    def __str__(self) -> str:
        sizes = f"T {self.steps}, I {self.inputs}, H {self.hidden}"
        sizes += f", O {self.outputs}" if self.outputs else ""
        sizes += f", batch {self.batch}" if self.batch else ""
        return f"{self.name} ({sizes})"


SHAPES = (
    Shape("notebook", 100, 32, 64, 64),
    Shape("small", 1000, 16, 16, 16),
    Shape("wide head", 1000, 64, 128, 1000),
    Shape("medium", 1000, 128, 256, 256),
    Shape("large", 200, 512, 1024, 1024),
    Shape("batch of small", 100, 64, 128, batch=64),
    Shape("batch of medium", 100, 128, 256, batch=64),
    Shape("batch of large", 50, 256, 512, batch=256),
    Shape("recurrence 64", 1000, 1, 64),
    Shape("recurrence 128", 1000, 1, 128),
    Shape("recurrence 256", 1000, 1, 256),
)

STREAM = Shape("stream", 1, 32, 64)


@dataclass(frozen=True)
class Problem:
    """A shape's arrays, and what every way of computing it must give."""

    x: np.ndarray  # (T, I) or (N, T, I)
    U: np.ndarray
    W: np.ndarray
    V: np.ndarray | None
    b: np.ndarray
    h0: np.ndarray
    expected: np.ndarray  # float64


@functools.lru_cache(maxsize=1)
def problem(shape: Shape, dtype: str) -> Problem:
    """Draw weights uniform in +-1/sqrt(H), the notebook's (0, 1) saturate, and run the reference in float64."""
    rng = np.random.default_rng(0)
    leading = (shape.batch,) if shape.batch else ()
    bound = shape.hidden**-0.5

    def draw(*sizes: int) -> np.ndarray:
        return rng.uniform(-bound, bound, sizes).astype(dtype)

    U, W, b = draw(shape.hidden, shape.inputs), draw(shape.hidden, shape.hidden), draw(shape.hidden)
    V = draw(shape.outputs, shape.hidden) if shape.outputs else None
    x, h0 = rng.random((*leading, shape.steps, shape.inputs)).astype(dtype), draw(*leading, shape.hidden)
    exact = [None if array is None else array.astype(np.float64) for array in (x, U, W, V, b, h0)]
    expected, _ = reference.RNN(exact[1], exact[2], exact[4])(exact[0], exact[5])
    if V is not None:
        expected = reference.Dense(exact[3], activation="softmax")(expected)
    return Problem(x, U, W, V, b, h0, expected)
