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
    array = value if type(value) is np.ndarray else other_as_array(name, value)
    if array.dtype.kind not in REAL_KINDS:
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array


def other_as_array(name: str, value: ArrayLike) -> Array:
    if isinstance(value, np.ndarray) and isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array; pass {name}.filled(value)")
    try:
        return np.asarray(value)
    except ValueError as error:
        if not isinstance(value, (list, tuple)):
            raise
        raise ValueError(f"{name} must be an array or a rectangular nested list, got rows of different lengths") from error


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


def check_layers(layers: Sequence[Any], kinds: tuple[type, ...], embedding: type) -> None:
    """Check that layers can follow one another."""
    if not layers:
        raise ValueError("layers must be at least one, got none")
    for i, layer in enumerate(layers):
        if not isinstance(layer, (*kinds, embedding)):
            raise TypeError(f"layers[{i}] must be an Embedding, a recurrent or a Dense layer, got {type(layer).__name__}")
        if i and isinstance(layer, embedding):
            raise ValueError(f"layers[{i}] must be no Embedding: it reads tokens, so it comes first and only there; got {layer!r}")
    for i, (below, above) in enumerate(itertools.pairwise(layers)):
        if below.dtype is not None and above.dtype != below.dtype:  # one-hot vectors have none; None equals float64 to NumPy
            raise TypeError(f"layers[{i}] and layers[{i + 1}] must have the same dtype, got {below.dtype} and {above.dtype}")
        if above.input_size != below.output_size:
            raise ValueError(
                f"layers[{i + 1}] must have input_size={below.output_size}, the output_size of layers[{i}], got {above.input_size}"
            )


def check_vocabulary_size(value: object) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"V must be an integer from 1 up, got {value!r}")
    return int(value)


def check_not_alone(layer: object, size: int, *, alone: bool) -> None:
    if alone:
        remedy = f"make it the first of others: Sequential({layer!r}, ...)"
        raise ValueError(f"{layer!r} must have a layer after it, of input_size={size}, whose weights it selects from; {remedy}")


def for_tokens(x: Array, input_size: int) -> str:
    """Say what to do with tokens where numbers are expected."""
    return f"; for tokens make a Sequential(Embedding.one_hot({input_size}), ...)" if x.dtype.kind in "iu" else ""


def check_numbers(name: str, x: Array, input_size: int) -> Array:
    if x.ndim < 2:
        raise ValueError(f"{name} must have shape (..., T, {input_size}), got {x.shape}{for_tokens(x, input_size)}")
    if x.shape[-1] != input_size:
        given = f"{x.shape}{for_tokens(x, input_size)}"
        raise ValueError(f"{name} must have shape (..., T, {input_size}) for input_size={input_size}, got {given}")
    return x


def place(wrong: Array) -> tuple[tuple[int, ...], str]:
    """Where the first wrong element is, and how a text says so."""
    position = tuple(map(int, np.unravel_index(np.argmax(wrong), wrong.shape)))
    return position, f" at position {position}" if position else ""


def check_tokens(name: str, tokens: Array, size: int, *, axes: int = 1, lengths: ArrayLike | None = None) -> Array:
    """Check integers (..., T), as far as lengths say, and return them as (..., T, 1)."""
    if tokens.dtype.kind not in "iu" and tokens.size:
        raise TypeError(f"{name} must be integers, the tokens of an Embedding, got dtype {tokens.dtype}")
    if tokens.ndim < axes:
        raise ValueError(f"{name} must have shape (..., T) where it holds tokens, got {tokens.shape}")
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < size:
        wrong = (tokens < 0) | (tokens >= size)
        if lengths is not None and np.shape(lengths) == tokens.shape[:-1]:
            wrong &= np.arange(tokens.shape[-1]) < np.asarray(lengths)[..., np.newaxis]
        if wrong.any():
            position, at = place(wrong)
            raise ValueError(f"{name} must hold integers from 0 to {size - 1} for a vocabulary of {size}, got {tokens[position]}{at}")
    return tokens[..., np.newaxis]


def check_data(name: str, value: ArrayLike, input_size: int, *, tokens: bool, lengths: ArrayLike | None = None) -> Array:
    """Check a model's input: numbers, or tokens, which are returned as (..., T, 1)."""
    x = as_array(name, value)
    return check_tokens(name, x, input_size, lengths=lengths) if tokens else check_numbers(name, x, input_size)


def check_step(name: str, value: ArrayLike, input_size: int, *, tokens: bool) -> Array:
    """Check the input of a single step, and return it as a sequence of one."""
    x = as_array(name, value)
    if tokens:
        return check_tokens(name, x, input_size, axes=0)[..., np.newaxis]
    if x.shape[-1:] != (input_size,):
        given = f"{x.shape}{for_tokens(x, input_size)}"
        raise ValueError(f"{name} must have shape (..., {input_size}) for input_size={input_size}, got {given}")
    return x[..., np.newaxis, :]


def check_batch(name: str, leading: tuple[int, ...], fixed: tuple[int, ...]) -> None:
    if leading != fixed:
        raise ValueError(f"{name} must have the leading axes {fixed} that this stream began with, got {leading}; start another stream")


def no_lengths(lengths: object) -> None:
    if lengths is not None:
        raise TypeError("lengths must not be given to a stream, whose sequences advance together")


def check_lengths(value: ArrayLike, leading: tuple[int, ...], steps: int) -> Array:
    """Check lengths, and return a copy in C order; what is checked is the copy, which no other thread changes."""
    lengths = np.array(as_array("lengths", value))
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, got dtype {lengths.dtype}")
    if lengths.shape != leading:
        raise ValueError(f"lengths must have shape {leading}, one for each sequence, got {lengths.shape}")
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= steps:
        position, at = place((lengths < 0) | (lengths > steps))
        raise ValueError(f"lengths must be from 0 to T={steps}, got {lengths[position]}{at}")
    return lengths.reshape(-1).astype(np.int64, copy=False)


def check_state(name: str, value: ArrayLike, expected: tuple[int, ...], *, given: str, shape: tuple[int, ...]) -> Array:
    """Check a state against the input that it was given with, named and of such a shape."""
    state = as_array(name, value)
    if state.shape != expected:
        sizes = f"{given} of shape {shape} and hidden_size={expected[-1]}"
        raise ValueError(f"{name} must have shape {expected} for {sizes}, got {state.shape}")
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


def check_model(model: object) -> Any:
    if not hasattr(model, "_packed"):
        raise TypeError(f"model must be an RNN, a Dense or a Sequential, got {type(model).__name__}")
    return model


def check_padding(arrays: Sequence[Array]) -> tuple[int, ...]:
    """Check sequences that are to be padded, and return the shape of one of their steps."""
    if not arrays:
        raise ValueError("sequences must be at least one, got none")
    own: tuple[int, ...] | None = None
    for i, array in enumerate(arrays):
        if array.shape == (0,):
            continue
        if array.ndim != 2 and not (array.ndim == 1 and array.dtype.kind in "iu"):
            raise ValueError(f"sequences[{i}] must be vectors (T, I) or integers (T,), got {array.dtype} of shape {array.shape}")
        if own is not None and array.shape[1:] != own:
            raise ValueError(f"sequences[{i}] must have steps of shape {own} as those before it, got {array.shape[1:]}")
        own = array.shape[1:]
    return own or ()


def check_unpad(output: Array, axes: int) -> None:
    if output.ndim <= axes:
        raise ValueError(f"output must have more axes than lengths, got {output.ndim} and {axes}")


def check_reads_tokens(purpose: str, reads: bool, model: object, input_size: int) -> None:
    if not reads:
        remedy = f"make it Sequential(Embedding.one_hot({input_size}), ...)"
        raise ValueError(f"model must begin with an Embedding for {purpose}, got {model!r}; {remedy}")


def check_reads_numbers(purpose: str, reads: bool, model: object) -> None:
    if not reads:
        raise ValueError(f"model must have no Embedding for {purpose}, which makes vectors the next input, got {model!r}")


def check_probabilities(purpose: str, given: bool, model: object) -> None:
    if not given:
        needed = "a Dense layer with activation 'softmax' or 'log_softmax'"
        raise ValueError(f"model must end in {needed} for {purpose}, got {model!r}")


def check_vocabulary(purpose: str, input_size: int, output_size: int) -> None:
    if input_size != output_size:
        sizes = f"input_size={input_size} and output_size={output_size}"
        raise ValueError(f"model must have as many outputs as inputs for {purpose}, got {sizes}")


def check_start(value: ArrayLike, input_size: int, *, vectors: bool) -> Array:
    start = as_array("start", value)
    if not vectors:
        return check_tokens("start", start, input_size, axes=0)
    if start.shape[-1:] != (input_size,):
        raise ValueError(f"start must have shape (..., {input_size}) for feedback='output', got {start.shape}")
    return start


def check_sampling(steps: object, temperature: object, top_k: object, stop: object, vocabulary: int, *, vectors: bool) -> None:
    if not isinstance(steps, (int, np.integer)) or steps < 0:
        raise ValueError(f"steps must be an integer from 0 up, got {steps!r}")
    if not isinstance(temperature, (int, float, np.number)) or not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature!r}; for the likeliest token use feedback='argmax'")
    if top_k is not None and (not isinstance(top_k, (int, np.integer)) or not 0 < top_k <= vocabulary):
        raise ValueError(f"top_k must be an integer from 1 to {vocabulary}, got {top_k!r}")
    if stop is not None and vectors:
        raise ValueError(f"stop must be None for feedback='output', which generates no tokens, got {stop!r}")
    if stop is not None and (not isinstance(stop, (int, np.integer)) or not 0 <= stop < vocabulary):
        raise ValueError(f"stop must be a token from 0 to {vocabulary - 1}, got {stop!r}")


def check_thread_count(name: str, n: object) -> int:
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"{name} must be an integer from 1 up, got {n!r}")
    return int(n)


def nothing_to_choose(nothing: Array) -> None:
    if nothing.any():
        position = tuple(map(int, np.unravel_index(np.argmax(nothing), nothing.shape)))
        raise ValueError(f"model must give finite outputs for a token to be chosen, got NaN or infinity at position {position}")
