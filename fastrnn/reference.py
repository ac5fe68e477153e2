"""The same in plain NumPy loops, as short as it can be: the truth for tests and the baseline for benchmarks.

Nothing is checked here, and everything is computed in the weights' dtype.
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


class RNN:
    """s_t = f(weight_ih x_t + weight_hh s_{t-1} + bias), step by step."""

    def __init__(self, weight_ih: Array, weight_hh: Array, bias: Array | None = None, *, nonlinearity: str = "tanh") -> None:
        self.weight_ih, self.weight_hh, self.nonlinearity = weight_ih, weight_hh, nonlinearity
        self.bias = np.zeros(len(weight_hh), weight_hh.dtype) if bias is None else bias

    def __call__(self, x: Array, h0: Array | None = None) -> tuple[Array, Array]:
        f = FUNCTIONS[self.nonlinearity]
        hidden_size, dtype = len(self.weight_hh), self.weight_hh.dtype
        h = np.zeros((*x.shape[:-2], hidden_size), dtype) if h0 is None else h0.astype(dtype)
        output = np.empty((*x.shape[:-1], hidden_size), dtype)
        for t in range(x.shape[-2]):
            h = f(x[..., t, :].astype(dtype) @ self.weight_ih.T + h @ self.weight_hh.T + self.bias)
            output[..., t, :] = h
        return output, h


class Dense:
    """y_t = f(weight x_t + bias)."""

    def __init__(self, weight: Array, bias: Array | None = None, *, activation: str | None = None) -> None:
        self.weight, self.activation = weight, activation
        self.bias = np.zeros(len(weight), weight.dtype) if bias is None else bias

    def __call__(self, x: Array) -> Array:
        output: Array = FUNCTIONS[self.activation](x.astype(self.weight.dtype) @ self.weight.T + self.bias)
        return output


class Sequential:
    """Layers one after the other."""

    def __init__(self, *layers: RNN | Dense) -> None:
        self.layers = layers

    def __call__(self, x: Array, state: tuple[Array | None, ...] | None = None) -> tuple[Array, tuple[Array, ...]]:
        recurrent = [layer for layer in self.layers if isinstance(layer, RNN)]
        before = iter(state or [None] * len(recurrent))
        after = []
        for layer in self.layers:
            if isinstance(layer, RNN):
                x, h_n = layer(x, next(before))
                after.append(h_n)
            else:
                x = layer(x)
        return x, tuple(after)


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
