"""Every check and every error text."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[Any]
NamedWeight = tuple[str, ArrayLike, tuple[str, ...]]  # name, value, axes

REAL_KINDS = "biuf"


def is_nested_list(value: object) -> bool:
    return isinstance(value, (list, tuple, int, float))


def as_array(name: str, value: ArrayLike) -> Array:
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray and isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array; pass {name}.filled(value)")
    try:
        array = np.asarray(value)
    except ValueError as error:
        if not isinstance(value, (list, tuple)):
            raise
        raise ValueError(f"{name} must be an array or a rectangular nested list, got rows of different lengths") from error
    if array.dtype.kind not in REAL_KINDS:
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array


def check_weights(named: Iterable[NamedWeight]) -> list[Array]:
    """Convert weights, each given with its name and axes, to one dtype; the same letter must mean the same size."""
    arrays, dtype, decided_by = [], "", ""
    for name, value, axes in named:
        array = as_array(name, value)
        arrays.append((name, array, axes))
        kind = array.dtype.char
        if is_nested_list(value) or kind == dtype:
            continue
        if kind not in "fd":
            raise TypeError(f"{name} must be float32 or float64, got {array.dtype}; convert it with .astype(numpy.float32)")
        if dtype:
            raise TypeError(f"{decided_by} and {name} must have the same dtype, got {np.dtype(dtype)} and {np.dtype(kind)}")
        dtype, decided_by = kind, name
    sizes: dict[str, tuple[int, str]] = {}
    for name, array, axes in arrays:
        if array.ndim != len(axes):
            raise ValueError(f"{name} must have {len(axes)} axes ({', '.join(axes)}), got shape {array.shape}")
        if axes[0] == axes[-1] and array.shape[0] != array.shape[-1]:
            raise ValueError(f"{name} must be square ({', '.join(axes)}), got shape {array.shape}")
        for axis, size in zip(axes, array.shape, strict=True):
            if size == 0:
                raise ValueError(f"{name} must have no empty axis, got shape {array.shape} for ({', '.join(axes)})")
            known, other = sizes.setdefault(axis, (size, name))
            if known != size:
                raise ValueError(f"{other} and {name} must agree in {axis}, got {known} and {size}")
    common = np.dtype(dtype or "d")
    return [array if array.dtype == common and array.flags.c_contiguous else convert(array, common) for _, array, _ in arrays]


def convert(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return array.astype(dtype, order="C")


def check_choice(name: str, value: object, known: Sequence[object]) -> None:
    if not isinstance(value, (str, type(None))) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")


def check_layers(layers: Sequence[Any], kinds: tuple[type, ...]) -> None:
    """Check that layers can follow one another."""
    if not layers:
        raise ValueError("layers must be at least one, got none")
    for i, layer in enumerate(layers):
        if not isinstance(layer, kinds):
            raise TypeError(f"layers[{i}] must be an RNN or a Dense layer, got {type(layer).__name__}")
    for i, (below, above) in enumerate(itertools.pairwise(layers)):
        if above.dtype != below.dtype:
            raise TypeError(f"layers[{i}] and layers[{i + 1}] must have the same dtype, got {below.dtype} and {above.dtype}")
        if above.input_size != below.output_size:
            raise ValueError(
                f"layers[{i + 1}] must have input_size={below.output_size}, the output_size of layers[{i}], got {above.input_size}"
            )


def check_data(name: str, value: ArrayLike, input_size: int, *, integers: bool = False) -> Array:
    """Check x; integers are numbers to rnn_forward, and to a layer not accepted."""
    x = as_array(name, value)
    if x.dtype.kind in "iu" and not integers:
        raise TypeError(f"{name} must be floating or boolean, got {x.dtype}; for numbers pass {name}.astype(float)")
    if x.ndim < 2:
        raise ValueError(f"{name} must have shape (..., T, {input_size}), got {x.shape}")
    if x.shape[-1] != input_size:
        raise ValueError(f"{name} must have shape (..., T, {input_size}) for input_size={input_size}, got {x.shape}")
    return x


def check_state(name: str, value: ArrayLike, x: Array, hidden_size: int) -> Array:
    state = as_array(name, value)
    expected = (*x.shape[:-2], hidden_size)
    if state.shape != expected:
        raise ValueError(f"{name} must have shape {expected} for x of shape {x.shape} and hidden_size={hidden_size}, got {state.shape}")
    return state


def check_states(value: object, count: int) -> list[Any]:
    """Split a Sequential's state into one entry, perhaps None, for each recurrent layer."""
    if value is None:
        return [None] * count
    if isinstance(value, (tuple, list)):
        if len(value) != count:
            raise ValueError(f"state must have {count} entries, one for each recurrent layer, got {len(value)}")
        return list(value)
    if count != 1:
        raise ValueError(f"state must be None or a tuple with {count} entries, one for each recurrent layer, got {type(value).__name__}")
    return [value]


def check_out(out: object, shape: tuple[int, ...], dtype: DTypeLike, inputs: Iterable[tuple[str, Array]]) -> Array:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out must have dtype {np.dtype(dtype)}, the weights' dtype in native byte order, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    flags = out.flags
    for holds, meaning in ((flags.c_contiguous, "C-contiguous"), (flags.aligned, "aligned"), (flags.writeable, "writable")):
        if not holds:
            raise ValueError(f"out must be {meaning}, got an array that is not")
    for name, array in inputs:
        if np.may_share_memory(out, array) and np.shares_memory(out, array):
            raise ValueError(f"out must share no memory with {name}, got an overlapping array; pass {name}.copy()")
    return out


def frozen_error(layer: object, name: str, verb: str) -> AttributeError:
    return AttributeError(f"{type(layer).__name__} is frozen: {name} can't be {verb}; make a new layer")
