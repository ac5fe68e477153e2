"""What all loaders need: converting weights to float32 or float64, reordering gates, and appending activations."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..arguments import Array
from ..layers import Dense

# The order in which this package, like PyTorch, stacks the gates.
LSTM_GATES = "ifgo"
GRU_GATES = "rzn"


def as_numbers(name: str, weight: Any, dtype: DTypeLike | None) -> Array:
    """Return a weight in `dtype`. If that is None, return float64 for types of 8 bytes or more, float32 for shorter ones."""
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
    """Return a weight with its gates, blocks of rows, in another order. The orders have one letter for each gate."""
    if given == wanted:
        return weight
    gates = np.split(weight, len(given))
    return np.concatenate([gates[given.index(gate)] for gate in wanted])


def gru_biases(bias_ih: Array, bias_hh: Array) -> tuple[Array, Array]:
    """Return the bias and bias_hn of a `fastrnn.GRU` from two biases, both in the order r, z, n.

    The bias is their sum, but for n bias_ih alone; bias_hn is bias_hh's part for n.
    """
    candidate = 2 * len(bias_hh) // 3
    bias = bias_ih.copy()
    bias[:candidate] += bias_hh[:candidate]
    return bias, bias_hh[candidate:]


def activate(layers: list[Any], activation: Any) -> None:
    """Apply an activation to the last layer's output: in that layer if it is a Dense without one, else in a new Dense that applies it."""
    last = layers[-1]
    if isinstance(last, Dense) and last.activation == "identity":
        layers[-1] = Dense(last.weight, last.bias, activation=activation)
    else:
        layers.append(Dense(np.eye(last.output_size, dtype=last.dtype), activation=activation))
