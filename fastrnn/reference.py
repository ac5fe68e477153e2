"""The same in plain NumPy loops, as short as it can be: the truth for tests and the baseline for benchmarks.

Nothing is checked here, and everything is computed in the weights' dtype, but for probabilities of tokens: those in float64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def sigmoid(z: Array) -> Array:
    small = np.exp(-np.abs(z))
    return np.where(z < 0, small, 1) / (1 + small)


def softmax(z: Array) -> Array:
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(z: Array) -> Array:
    highest = z.max(axis=-1, keepdims=True)
    shifted = z - np.where(np.isfinite(highest), highest, 0)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


FUNCTIONS: dict[str | None, Callable[[Array], Array]] = {
    None: lambda z: z,
    "identity": lambda z: z,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": sigmoid,
    "softmax": softmax,
    "log_softmax": log_softmax,
}


def one_hot(tokens: Array, size: int) -> Array:
    """Make tokens (..., T) vectors (..., T, size)."""
    vectors: Array = tokens[..., None] == np.arange(size)
    return vectors


def cut(output: Array, lengths: Array | None, return_sequences: bool) -> Array:
    """Put zeros past each sequence's end; or keep its last step alone, (..., O), zeros where it has none."""
    if lengths is None and return_sequences:
        return output
    steps = np.arange(output.shape[-2])[:, None]
    ends = len(steps) if lengths is None else np.asarray(lengths)[..., None, None]
    return np.where(steps < ends, output, 0) if return_sequences else np.where(steps == ends - 1, output, 0).sum(axis=-2)


class RNN:
    """s_t = f(weight_ih x_t + weight_hh s_{t-1} + bias), step by step."""

    def __init__(self, weight_ih: Array, weight_hh: Array, bias: Array | None = None, *, nonlinearity: str = "tanh") -> None:
        self.weight_ih, self.weight_hh, self.nonlinearity = weight_ih, weight_hh, nonlinearity
        self.bias = np.zeros(len(weight_hh), weight_hh.dtype) if bias is None else bias

    def __call__(
        self, x: Array, h0: Array | None = None, *, lengths: Array | None = None, return_sequences: bool = True
    ) -> tuple[Array, Array]:
        f = FUNCTIONS[self.nonlinearity]
        hidden_size, dtype = len(self.weight_hh), self.weight_hh.dtype
        h = np.zeros((*x.shape[:-2], hidden_size), dtype) if h0 is None else h0.astype(dtype)
        output = np.empty((*x.shape[:-1], hidden_size), dtype)
        for t in range(x.shape[-2]):
            s_t = f(x[..., t, :].astype(dtype) @ self.weight_ih.T + h @ self.weight_hh.T + self.bias)
            h = s_t if lengths is None else np.where(t < np.asarray(lengths)[..., None], s_t, h)
            output[..., t, :] = h
        return cut(output, lengths, return_sequences), h


class Dense:
    """y_t = f(weight x_t + bias)."""

    def __init__(self, weight: Array, bias: Array | None = None, *, activation: str | None = None) -> None:
        self.weight, self.activation = weight, activation
        self.bias = np.zeros(len(weight), weight.dtype) if bias is None else bias

    def __call__(self, x: Array) -> Array:
        output: Array = FUNCTIONS[self.activation](x.astype(self.weight.dtype) @ self.weight.T + self.bias)
        return output


class Embedding:
    """y_t = weight[token], the first layer of a model of tokens."""

    def __init__(self, weight: Array) -> None:
        self.weight = weight

    @classmethod
    def one_hot(cls, V: int) -> "Embedding":
        return cls(np.eye(V))

    def __call__(self, x: Array) -> Array:
        vectors: Array = self.weight[x]
        return vectors


class Sequential:
    """Layers one after the other."""

    def __init__(self, *layers: Embedding | RNN | Dense) -> None:
        self.layers = layers

    def __call__(
        self,
        x: Array,
        state: tuple[Array | None, ...] | Array | None = None,
        *,
        lengths: Array | None = None,
        return_sequences: bool = True,
    ) -> tuple[Array, tuple[Array, ...]]:
        recurrent = [layer for layer in self.layers if isinstance(layer, RNN)]
        before = iter([state] if isinstance(state, np.ndarray) else state or [None] * len(recurrent))
        after = []
        for layer in self.layers:
            if isinstance(layer, RNN):
                x, h_n = layer(x, next(before), lengths=lengths)
                after.append(h_n)
            else:
                x = layer(x)
        return cut(x, lengths, return_sequences), tuple(after)


def rnn_forward(
    x: Array,
    U: Array,
    W: Array,
    V: Array,
    b: Array,
    *,
    c: Array | None = None,
    h0: Array | None = None,
    nonlinearity: str = "tanh",
) -> Array:
    """softmax(V s_t + c) for every step of s_t = f(U x_t + W s_{t-1} + b)."""
    output, _ = RNN(U, W, b, nonlinearity=nonlinearity)(x, h0)
    return Dense(V, c, activation="softmax")(output)


Model = RNN | Dense | Sequential


def run(model: Model, x: Array, state: Any, **options: Any) -> tuple[Array, Any]:
    """Give any model's output and state; a Dense layer's state is ()."""
    return (Sequential(model) if isinstance(model, Dense) else model)(x, state, **options)


def before_softmax(model: Model) -> Sequential:
    """Give the model whose output are the logits of this one's softmax."""
    *below, head = model.layers if isinstance(model, Sequential) else (model,)
    assert isinstance(head, Dense)
    return Sequential(*below, Dense(head.weight, head.bias))


def log_likelihood(model: Model, tokens: Array, state: Any = None, *, lengths: Array | None = None, per_step: bool = False) -> Array:
    """log P(x_2..x_T | x_1) = log P(x_2 | x_1) + log P(x_3 | x_1, x_2) + ..., zero for what lies past a sequence's end."""
    logits, _ = before_softmax(model)(tokens[..., :-1], state)
    log_probs = log_softmax(logits.astype(np.float64))
    steps = np.where(one_hot(tokens[..., 1:], logits.shape[-1]), log_probs, 0).sum(axis=-1)
    if lengths is not None:
        steps = np.where(np.arange(1, 1 + steps.shape[-1]) < np.asarray(lengths)[..., None], steps, 0)
    return steps if per_step else steps.sum(axis=-1)


def choose(z: Array, u: Array, temperature: float, top_k: int | None) -> Array:
    """Find the token at the fraction u of softmax(z / temperature), its entries put end to end; top_k leaves the others no room."""
    rank = np.argsort(np.argsort(-z, axis=-1, kind="stable"), axis=-1)
    z = z.astype(np.float64)
    powers = np.where(rank < (top_k or z.shape[-1]), np.exp((z - z.max(axis=-1, keepdims=True)) / temperature), 0)
    ends = powers.cumsum(axis=-1)
    return (ends > u[..., None] * ends[..., -1:]).argmax(axis=-1)


def generate(
    model: Model,
    start: Array,
    steps: int,
    state: Any = None,
    *,
    feedback: str = "sample",
    temperature: float = 1.0,
    top_k: int | None = None,
    rng: "np.random.Generator | int | None" = None,
    stop: int | None = None,
) -> tuple[Array, Any]:
    """Make the model's output its next input: the output itself, its argmax, or a token drawn from its softmax.

    The i-th sequence draws all its uniform numbers at once, `rng.spawn(N)[i].random(steps)`, and uses one a step.
    """
    x = np.asarray(start)
    leading = x.shape[:-1] if feedback == "output" else x.shape
    axis = len(leading)
    if feedback == "sample":
        model = before_softmax(model)
        uniform = np.array([child.random(steps) for child in np.random.default_rng(rng).spawn(x.size)]).reshape(*leading, steps)
    nothing, state = run(model, np.expand_dims(x, axis).repeat(0, axis), state)
    generated = np.empty((steps, *x.shape), nothing.dtype if feedback == "output" else np.int64)
    ended = np.zeros(leading, bool)
    for t in range(steps):
        x, state = run(model, np.expand_dims(x, axis), state, lengths=None if stop is None else 1 - ended, return_sequences=False)
        if feedback == "argmax":
            x = x.argmax(axis=-1)
        elif feedback == "sample":
            x = choose(x, uniform[..., t], temperature, top_k)
        if stop is not None:
            x = np.where(ended, stop, x)
            ended = x == stop
        generated[t] = x
    return np.moveaxis(generated, 0, axis), state


def unrolled(x: Array, U: Array, W: Array, b: Array, h0: Array | None = None, *, nonlinearity: str = "tanh") -> str:
    """Write the equations of a sequence (T, I) out, step by step with their numbers: the same U, W and b in each.

    >>> U, W, b = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.0], [0.5, 0.0]]), np.array([0.0, -3.0])
    >>> print(unrolled(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), U, W, b, nonlinearity="relu"))
    s_0 = relu(U x_0 + b) = relu([1. 4.] + [ 0. -3.]) = [1. 1.]
    s_1 = relu(U x_1 + W s_0 + b) = relu([3. 8.] + [1.  0.5] + [ 0. -3.]) = [4.  5.5]
    s_2 = relu(U x_2 + W s_1 + b) = relu([ 5. 12.] + [5.5 2. ] + [ 0. -3.]) = [10.5 11. ]
    """
    lines, f, h, name = [], FUNCTIONS[nonlinearity], h0, "h0"
    for t, x_t in enumerate(x):
        terms = {f"U x_{t}": U @ x_t} | ({} if h is None else {f"W {name}": W @ h}) | {"b": b}
        h, name = f(np.sum(list(terms.values()), axis=0)), f"s_{t}"
        numbers = [np.array2string(value, precision=4, max_line_width=10**9) for value in (*terms.values(), h)]
        lines.append(f"{name} = {nonlinearity}({' + '.join(terms)}) = {nonlinearity}({' + '.join(numbers[:-1])}) = {numbers[-1]}")
    return "\n".join(lines)
