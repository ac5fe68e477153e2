"""What sources of weights have in common: numbers of other types, gates in other orders, and activations on their own."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..arguments import Array
from ..layers import Dense

# The orders of the gates as this package, like PyTorch, stacks them.
LSTM_GATES = "ifgo"
GRU_GATES = "rzn"


def as_numbers(name: str, weight: Any, dtype: DTypeLike | None) -> Array:
    """Give a weight as float32 or float64: the one that is asked for, or float64 for a long type and float32 for a short one."""
    array = np.asarray(weight)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} must hold floats, got dtype {array.dtype}")
    if dtype is not None:
        return array.astype(dtype, copy=False)
    return array.astype(np.float64 if array.dtype.itemsize >= 8 else np.float32, copy=False)


def check_dtype(dtype: DTypeLike | None) -> None:
    try:
        given = None if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(f"dtype must be float32, float64 or None, got {dtype!r}") from error
    if given is not None and given not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32, float64 or None, got {given}")


def reordered(weight: Array, given: str, wanted: str) -> Array:
    """Give a weight whose rows are stacked gate by gate in one order, a letter each, in another."""
    if given == wanted:
        return weight
    gates = np.split(weight, len(given))
    return np.concatenate([gates[given.index(gate)] for gate in wanted])


def gru_biases(bias_ih: Array, bias_hh: Array) -> tuple[Array, Array]:
    """Make a GRU's two biases, in the order r, z, n, what `fastrnn.GRU` takes: their sum, but for n, and the second's part for n."""
    candidate = 2 * len(bias_hh) // 3
    bias = bias_ih.copy()
    bias[:candidate] += bias_hh[:candidate]
    return bias, bias_hh[candidate:]


def activate(layers: list[Any], activation: Any) -> None:
    """Apply an activation to the last layer's output: in a Dense that has none yet, or in one of its own, whose weight is the identity."""
    last = layers[-1]
    if isinstance(last, Dense) and last.activation == "identity":
        layers[-1] = Dense(last.weight, last.bias, activation=activation)
    else:
        layers.append(Dense(np.eye(last.output_size, dtype=last.dtype), activation=activation))
