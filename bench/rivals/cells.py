"""One step of a gated or a leaky cell, in NumPy or in a library with its interface."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.rows import Task


def make_step(task: Task, library: Any = np) -> Callable[..., tuple[Any, ...]]:
    """Make the function that gives the state after x_t, whose first array is the output, from x_t and the state before."""
    UT, WT, b = (library.asarray(array.copy()) for array in (task.U.T, task.W.T, task.b))
    b_hn = None if task.bias_hn is None else library.asarray(task.bias_hn)
    leak = task.leak

    def sigmoid(z):
        return 1 / (1 + library.exp(-z))

    def gru(x_t, h):
        x_r, x_z, x_n = library.split(x_t @ UT + b, 3, axis=-1)
        h_r, h_z, h_n = library.split(h @ WT, 3, axis=-1)
        z = sigmoid(x_z + h_z)
        n = library.tanh(x_n + sigmoid(x_r + h_r) * (h_n + b_hn))
        return ((1 - z) * n + z * h,)

    def lstm(x_t, h, c):
        i, f, g, o = library.split(x_t @ UT + h @ WT + b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * library.tanh(g)
        return sigmoid(o) * library.tanh(c), c

    def leaky(x_t, h):
        return ((1 - leak) * h + leak * library.tanh(x_t @ UT + h @ WT + b),)

    return {"GRU": gru, "LSTM": lstm, "leaky": leaky}[task.cell]
