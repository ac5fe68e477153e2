"""The named shapes of the benchmarks, their arrays, and how a call is compared and timed."""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np

from fastrnn import reference
from tests.cases import TOLERANCES

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Shape:
    """The sizes of one model and its input. Without outputs the model has no head; without a batch x has no batch axis."""

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
)
RECURRENCES = tuple(Shape(f"recurrence {hidden}", 1000, 1, hidden) for hidden in (64, 128, 256))

STREAM = Shape("stream", 100, 32, 64)

WORDS = Shape("words", 1000, 80, 192, 80)  # the sizes of the example model
GENERATED = (Shape("few words", 1000, 32, 64, 32), WORDS)
TOKENS = (WORDS, Shape("large vocabulary", 200, 10_000, 128))

LONG_TAILS = (
    Shape("long tail of small", 400, 64, 128, batch=256),
    Shape("long tail of medium", 400, 128, 256, batch=256),
    Shape("long tail of few", 400, 64, 128, batch=16),
)


@dataclass(frozen=True)
class Problem:
    """A shape's arrays, and the result that every way of computing it must give."""

    x: np.ndarray  # (T, I) or (N, T, I)
    U: np.ndarray
    W: np.ndarray
    V: np.ndarray | None
    b: np.ndarray
    h0: np.ndarray
    expected: np.ndarray  # float64

    def exact(self) -> "Problem":
        """The same in float64."""
        return dataclasses.replace(self, **{name: a.astype(np.float64) for name, a in vars(self).items() if a is not None})


@functools.lru_cache(maxsize=1)
def problem(shape: Shape, dtype: str) -> Problem:
    """Draw the arrays and run the reference in float64. Weights are uniform in +-1/sqrt(H); the notebook's (0, 1) would saturate."""
    rng = np.random.default_rng(0)
    leading = (shape.batch,) if shape.batch else ()
    bound = shape.hidden**-0.5

    def draw(*sizes: int) -> np.ndarray:
        return rng.uniform(-bound, bound, sizes).astype(dtype)

    U, W, b = draw(shape.hidden, shape.inputs), draw(shape.hidden, shape.hidden), draw(shape.hidden)
    V = draw(shape.outputs, shape.hidden) if shape.outputs else None
    x, h0 = rng.random((*leading, shape.steps, shape.inputs)).astype(dtype), draw(*leading, shape.hidden)
    drawn = Problem(x, U, W, V, b, h0, x)
    exact = drawn.exact()
    expected, _ = reference.RNN(exact.U, exact.W, exact.b)(exact.x, exact.h0)
    if exact.V is not None:
        expected = reference.Dense(exact.V, activation="softmax")(expected)
    return dataclasses.replace(drawn, expected=expected)


def draw_tokens(shape: Shape) -> np.ndarray:
    """One token for each step, below the shape's inputs."""
    return np.random.default_rng(1).integers(shape.inputs, size=shape.steps)


def draw_lengths(shape: Shape) -> np.ndarray:
    """Lengths distributed as those of sentences: half are below a tenth of the steps, and the longest has all steps."""
    lengths = np.random.default_rng(1).lognormal(np.log(shape.steps / 10), 1.0, shape.batch).astype(int).clip(1, shape.steps)
    lengths[lengths.argmax()] = shape.steps
    return lengths


def compare_and_time(benchmark, group, way, call, expected):
    """Compare the result with the reference first, then time the call."""
    result = call()
    if expected.dtype.kind == "f":
        tolerance = TOLERANCES[result.dtype] * max(1, np.abs(expected).max())
        np.testing.assert_allclose(result.reshape(-1), expected.reshape(-1), rtol=0, atol=tolerance)
    else:
        np.testing.assert_array_equal(result[: len(expected)], expected)
    benchmark.group, benchmark.name = group, way
    benchmark(call)
