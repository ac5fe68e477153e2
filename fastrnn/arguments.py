"""Check arguments and convert them to arrays. A wrong one raises an error that names it, what it must be, and what was given."""

import math
import numbers
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .kernels.layout import FREE, ROW_STATE

Array = NDArray[Any]
NamedWeight = tuple[str, ArrayLike, tuple[str, ...]]  # name, value, axes

# What a state may be given as: an array, or one entry for each recurrent layer, or for h and c, or for two directions.
State = ArrayLike | Sequence["State"] | None
# What `numpy.random.default_rng` takes for a seed.
Seed: TypeAlias = "int | np.integer[Any] | Sequence[int] | np.random.SeedSequence | np.random.BitGenerator | np.random.Generator | None"

REAL_KINDS = "biuf"
MOST_AXES = 64  # that NumPy allows an array
GATHERED = 1 << 16  # at most so many tokens of short sequences are copied into one array, to be checked together
SHORT_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")  # ml_dtypes', which become float32; float16 is NumPy's own
# Error texts for arrays of other libraries, by the library's name. NumPy would load them unasked, or read them wrongly.
REFUSED = {
    "dask": "{name} must be an array in memory, got a Dask {type}; pass {name}.compute(), or call fastrnn.dask.forward",
    "scipy": "{name} must be dense, got a SciPy {type}; pass {name}.toarray()",
    "xarray": "{name} must not be an xarray {type}, whose dimensions may be in any order; "
    "call xarray.apply_ufunc(model.predict, ...), or pass {name}.transpose(..., time, feature).values",
    "zarr": "{name} must be an array in memory, got a zarr {type}; pass {name}[:], or call fastrnn.dask.forward on a Dask array of it",
}

# An activation that any layer can apply, a function of a number: its name, or a tuple of its name and its parameters.
Name = Literal["tanh", "relu", "sigmoid", "identity", "hard_sigmoid", "softplus", "softsign"]
Activation = Name | tuple[Literal["leaky_relu", "elu"], float] | tuple[Literal["hard_sigmoid"], float, float]
# An activation that only a Dense layer can apply: a function of a whole row.
RowActivation = Literal["softmax", "log_softmax"]
DenseActivation = Activation | RowActivation

ROW_ACTIVATIONS: tuple[str, ...] = get_args(RowActivation)
# The forms of activations for `check_activation`: a name and the names of its parameters.
ACTIVATIONS: tuple[tuple[str, ...], ...] = (
    *[(name,) for name in get_args(Name)],
    ("leaky_relu", "alpha"),
    ("elu", "alpha"),
    ("hard_sigmoid", "alpha", "beta"),
)
DENSE_ACTIVATIONS = (*ACTIVATIONS, *[(name,) for name in ROW_ACTIVATIONS])


def is_nested_list(value: object) -> bool:
    return isinstance(value, (list, tuple, int, float))


def as_array(name: str, value: ArrayLike, *, widen: bool = True, pad: str = "") -> Array:
    """Return a value as an array of real numbers. With `widen`, floats shorter than NumPy's own become float32.

    `pad` is added to the error's text if the value may be a list of sequences of different lengths.
    """
    array = value if type(value) is np.ndarray else other_as_array(name, value, widen=widen, pad=pad)
    if array.dtype.kind not in REAL_KINDS:
        if array.dtype.name in SHORT_FLOATS:
            return array.astype(np.float32) if widen else array
        got = "None" if value is None else f"dtype {array.dtype}"
        raise TypeError(f"{name} must hold real numbers, got {got}{for_objects(name, value)}{pad if holds_sequences(value) else ''}")
    return array


def other_as_array(name: str, value: Any, *, widen: bool = True, pad: str = "") -> Array:
    """Convert a value of any other type to a NumPy array."""
    refuse_masked(name, value)
    refuse_others(name, value)
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, ArithmeticError) as error:
        if library_of(value) == "torch":
            return tensor_as_array(name, value, error, widen=widen)
        if isinstance(value, (list, tuple)) and isinstance(error, ValueError):
            raise ValueError(f"{name} must be an array or a rectangular nested list, got rows of different lengths{pad}") from error
        raise TypeError(f"{name} must be something that NumPy makes an array of, got {type(value).__name__}: {error}") from error


def library_of(value: object) -> str:
    """Return the name of the package that a value's type comes from."""
    return type(value).__module__.partition(".")[0]


def refuse_others(name: str, value: object) -> None:
    """Raise TypeError for an array of a library in `REFUSED`."""
    library = library_of(value)
    if library in REFUSED and hasattr(value, "shape"):
        raise TypeError(REFUSED[library].format(name=name, type=type(value).__name__))


def tensor_as_array(name: str, tensor: Any, error: Exception, *, widen: bool) -> Array:
    """Return a PyTorch tensor as an array if NumPy refused it only because it is bfloat16; else raise TypeError with the remedy."""
    short = str(tensor.dtype) == "torch.bfloat16"
    remedies = {
        ".detach()": tensor.requires_grad,
        ".cpu()": tensor.device.type not in ("cpu", "meta"),
        ".to_dense()": tensor.is_sparse,
        ".resolve_conj()": tensor.is_conj(),
    }
    remedy = "".join(call for call, needed in remedies.items() if needed)
    if short and widen and not remedy:
        return np.asarray(tensor.float())
    remedy += ".float()" * short
    advice = f"; pass {name}{remedy}" if remedy else ""
    raise TypeError(f"{name} must be a tensor that NumPy can read, got one that it can't{advice}: {error}") from error


def for_objects(name: str, value: Any) -> str:
    """Return the remedy for pandas numbers that NumPy reads as Python objects, because values may be missing; else ""."""
    dtypes: Any = getattr(value, "dtypes", getattr(value, "dtype", None))  # an index or a column has one, a table one for each column
    kinds = [getattr(dtype, "kind", "O") for dtype in np.atleast_1d(dtypes)]
    several = len(kinds) > 1 and not hasattr(value, "columns")  # an index of tuples
    if library_of(value) != "pandas" or several or not all(kind in REAL_KINDS for kind in kinds):
        return ""
    return f"; pass {name}.to_numpy(numpy.float64, na_value=numpy.nan)"


def holds_sequences(value: Any) -> bool:
    """Return whether a value is an array whose elements are arrays or lists."""
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.size > 0 and isinstance(value[0], (np.ndarray, list, tuple))


def to_pad(name: str) -> str:
    """Return the remedy for sequences of different lengths."""
    return f"; pad them: {name}, lengths = fastrnn.pad({name})"


def detached(value: Any) -> Any:
    """Return a PyTorch weight without its gradient, in the CPU's memory; other values as they are."""
    return value.detach().cpu() if hasattr(value, "detach") else value


def refuse_masked(name: str, value: object) -> None:
    """Raise TypeError for a masked array, or a list that holds one: a conversion would drop the mask."""
    masked = getattr(vars(np).get("ma"), "MaskedArray", ())  # `np.ma` would import it, which fails while Python shuts down
    if isinstance(value, masked):
        raise TypeError(f"{name} must not be a masked array; pass {name}.filled(value)")
    if masked and isinstance(value, (list, tuple)):
        for i, entry in enumerate(value):
            if isinstance(entry, (list, tuple, np.ndarray)):
                refuse_masked(f"{name}[{i}]", entry)


def check_axes(name: str, array: Array, added: int) -> None:
    """Check that an array with `added` more axes has no more than NumPy allows."""
    if array.ndim > MOST_AXES - added:
        reason = f"since NumPy allows {MOST_AXES} and the call adds {added}"
        raise ValueError(f"{name} must have at most {MOST_AXES - added} axes, {reason}, got {array.ndim}")


def extent(array: Array) -> tuple[Any, Any]:
    """Return the lowest and the highest element. array.min() imports a module at its first use, which fails while Python shuts down."""
    return np.minimum.reduce(array, axis=None), np.maximum.reduce(array, axis=None)


def as_integer(value: object) -> int | None:
    """Return an integer scalar as a Python int, whose arithmetic can't overflow; None if the value is no integer."""
    integers = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))
    return int(value) if integers else None  # type: ignore[call-overload]


def as_number(value: object) -> float | None:
    """Return a real scalar as a float, infinite if it is beyond any float; None if the value is no real number."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.timedelta64))
    if not real:
        return None
    try:
        with np.errstate(all="ignore"):
            number = float(value)  # type: ignore[arg-type]
            return math.ulp(0) if number == 0 and value > 0 else number  # type: ignore[operator]  # a long double too small for a float
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def check_weights(named: Iterable[NamedWeight]) -> list[Array]:
    """Check weights and return them in one dtype, C-contiguous. Each comes with its name and axes; equal axes must have equal sizes."""
    arrays, dtype, decided_by = [], "", ""
    for name, value, axes in named:
        array = as_array(name, detached(value), widen=False)
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
        if array.ndim != len(axes) == 1:
            raise ValueError(wrong_bias(name, array, axes[0], {meaning: size for meaning, (size, _) in sizes.items()}))
        if array.ndim != len(axes):
            raise ValueError(f"{name} must have {len(axes)} axes ({', '.join(axes)}), got shape {array.shape}")
        if axes[0] == axes[-1] and array.shape[0] != array.shape[-1]:
            raise ValueError(f"{name} must be square ({', '.join(axes)}), got shape {array.shape}")
        for axis, length in zip(axes, array.shape, strict=True):
            if length == 0:
                raise ValueError(f"{name} must have no empty axis, got shape {array.shape} for ({', '.join(axes)})")
            gates, _, meaning = axis.rpartition(" * ")
            size, rest = divmod(length, int(gates or 1))
            if rest or (meaning.isdigit() and size != int(meaning)):
                raise ValueError(f"{name} must have shape ({', '.join(axes)}), got {array.shape}")
            known, other = sizes.setdefault(meaning, (size, name))
            if known != size:
                raise ValueError(f"{other} and {name} must agree in {meaning}, got {known} and {size}")
    common = np.dtype(dtype or "d")
    return [array if array.dtype == common and array.flags.c_contiguous else convert(array, common) for _, array, _ in arrays]


def wrong_bias(name: str, array: Array, axis: str, sizes: dict[str, int]) -> str:
    """Return the error text for a bias of a wrong shape, with the remedy if it is a row or a column."""
    gates, _, meaning = axis.rpartition(" * ")
    known = f" for {meaning}={sizes[meaning]}" if meaning in sizes else ""
    remedy = f"; pass numpy.ravel({name})" if array.size == int(gates or 1) * sizes.get(meaning, -1) > 1 else ""
    return f"{name} must have shape ({axis},){known}, got {array.shape}{remedy}"


def convert(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return array.astype(dtype, order="C")


def check_choice(name: str, value: object, known: Sequence[object]) -> None:
    if not isinstance(value, (str, type(None))) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")


def check_activation(name: str, value: object, known: Sequence[tuple[str, ...]] = ACTIVATIONS) -> Any:
    """Check an activation. Return it as a str, or as a tuple of a str and Python floats."""
    given: tuple[Any, ...] = (value,) if isinstance(value, str) else ()
    if isinstance(value, tuple) and len(value) > 1 and isinstance(value[0], str):
        given = value
    form = next((form for form in known if form[:1] == given[:1] and len(form) == len(given)), None)
    if form is None:
        remedy = "; pass a tuple" if isinstance(value, list) else ""
        raise ValueError(f"{name} must be one of {', '.join(map(form_text, known))}, got {value!r}{remedy}")
    if len(form) == 1:
        return form[0]
    wanted = f"{name} must be {form_text(form)} with finite real numbers, got {value!r}"
    if any(isinstance(parameter, bool) or not isinstance(parameter, numbers.Real) for parameter in given[1:]):
        raise TypeError(wanted)
    try:
        parameters = [float(parameter) for parameter in given[1:]]
    except OverflowError:
        parameters = [math.inf]
    if not all(map(math.isfinite, parameters)):
        raise ValueError(wanted)
    return (form[0], *parameters)


def form_text(form: tuple[str, ...]) -> str:
    """Return the text of an activation's form: 'tanh', ('elu', alpha)."""
    name, *parameters = form
    return f"({', '.join([repr(name), *parameters])})" if parameters else repr(name)


def check_not_alone(layer: object, size: int, *, alone: bool) -> None:
    """Check that a layer follows an Embedding of one-hot vectors."""
    if alone:
        remedy = f"make it the first of others: Sequential({layer!r}, ...)"
        raise ValueError(f"{layer!r} must have a layer after it, of input_size={size}, whose weights it selects from; {remedy}")


def for_tokens(x: Array, input_size: int) -> str:
    """Return the remedy if an input that must hold vectors may hold tokens."""
    return f"; for tokens make a Sequential(Embedding.one_hot({input_size}), ...)" if x.dtype.kind in "iu" else ""


def check_numbers(name: str, x: Array, input_size: int) -> Array:
    """Check the shape of an input of vectors, and return the input."""
    if x.ndim < 2:
        raise ValueError(f"{name} must have shape (..., T, {input_size}), got {x.shape}{for_tokens(x, input_size)}")
    if x.shape[-1] != input_size:
        given = f"{x.shape}{for_tokens(x, input_size)}"
        raise ValueError(f"{name} must have shape (..., T, {input_size}) for input_size={input_size}, got {given}")
    return x


def place(wrong: Array) -> tuple[tuple[int, ...], str]:
    """Return the position of the first True element, and its text for an error."""
    return said(map(int, np.unravel_index(np.argmax(wrong), wrong.shape)))


def said(numbers: Iterable[int]) -> tuple[tuple[int, ...], str]:
    """Return a position as a tuple, and its text for an error."""
    position = tuple(numbers)
    return position, f" at position {position}" if position else ""


class Span(NamedTuple):
    """Tokens of one sequence, or of several short ones, concatenated."""

    tokens: Array
    sequence: tuple[Any, ...]  # an index for each leading axis: integers for a single sequence, else an array for each axis
    steps: Any  # the step of each token

    def place(self, wrong: Array) -> tuple[tuple[int, ...], str]:
        at, count = int(np.argmax(wrong)), len(wrong)
        return said(int(numbers[at]) for numbers in (*[np.broadcast_to(axis, count) for axis in self.sequence], self.steps))


def within(tokens: Array, lengths: Array) -> Iterator[Span]:
    """Yield the tokens within each sequence's length. Those beyond are not read: they may be a terabyte of a memory-mapped file."""
    leading, ends, first = tokens.shape[:-1], lengths.cumsum(), 0
    sequence: Any
    while first < len(lengths):
        own, done = lengths[first:], ends[first] - lengths[first]
        count = int(ends[first:].searchsorted(done + GATHERED, side="right"))
        if count <= 1:
            sequence, end = np.unravel_index(first, leading), int(own[0])
            yield Span(tokens[(*sequence, slice(end))], sequence, range(end))
        else:
            starts = ends[first : first + count] - own[:count] - done
            which = np.arange(first, first + count).repeat(own[:count])
            sequence, steps = np.unravel_index(which, leading), np.arange(len(which)) - starts.repeat(own[:count])
            yield Span(tokens[(*sequence, steps)], sequence, steps)
        first += max(count, 1)


def check_range(name: str, tokens: Array, size: int, lengths: Array | None) -> None:
    """Check that tokens (..., T) are in a vocabulary of `size`; with lengths, only those within them."""
    for span in [Span(tokens, (), ())] if lengths is None else within(tokens, lengths):
        lowest, highest = extent(span.tokens) if span.tokens.size else (0, 0)
        if not 0 <= lowest <= highest < size:
            wrong = (span.tokens < 0) | (span.tokens >= size)
            position, at = place(wrong) if lengths is None else span.place(wrong)
            raise ValueError(f"{name} must hold integers from 0 to {size - 1} for a vocabulary of {size}, got {tokens[position]}{at}")


def check_tokens(name: str, tokens: Array, size: int, *, axes: int = 1, added: int = 1, lengths: ArrayLike | None = None) -> Array:
    """Check tokens of shape (..., T) and return them as (..., T, 1). `added` is the number of axes that the whole call adds.

    With lengths, these are checked, too, and only tokens within them.
    """
    if tokens.dtype.kind not in "iu" and tokens.size:
        raise TypeError(f"{name} must be integers, the tokens of an Embedding, got dtype {tokens.dtype}")
    if tokens.ndim < axes:
        raise ValueError(f"{name} must have shape (..., T) where it holds tokens, got {tokens.shape}")
    check_axes(name, tokens, added)
    check_range(name, tokens, size, None if lengths is None else check_lengths(lengths, tokens.shape[:-1], tokens.shape[-1]))
    return tokens[..., np.newaxis]


def check_data(
    name: str, value: ArrayLike, input_size: int, *, tokens: bool, lengths: ArrayLike | None = None, padded: bool = True
) -> Array:
    """Check a model's input and return it: vectors, or tokens as (..., T, 1). With `padded` an error may advise to pad sequences."""
    x = as_array(name, value, pad=to_pad(name) if padded else "")
    return check_tokens(name, x, input_size, lengths=lengths) if tokens else check_numbers(name, x, input_size)


def check_step(name: str, value: ArrayLike, input_size: int, *, tokens: bool) -> Array:
    """Check the input of a single step, and return it as a sequence of one step."""
    x = as_array(name, value)
    if tokens:
        return check_tokens(name, x, input_size, axes=0, added=2)[..., np.newaxis]
    if x.shape[-1:] != (input_size,):
        given = f"{x.shape}{for_tokens(x, input_size)}"
        raise ValueError(f"{name} must have shape (..., {input_size}) for input_size={input_size}, got {given}")
    check_axes(name, x, 1)
    return x[..., np.newaxis, :]


def check_row(value: object, capacity: int, words: Array) -> int:
    """Check that a bank has handed out a row, and return it. `words` has the state of each of the bank's rows."""
    row = as_integer(value)
    if row is None or not 0 <= row < capacity or words[row] & ROW_STATE == FREE:
        raise ValueError(f"i must be a row that the bank has handed out, got {value!r}")
    return row


IN_USE = "the stream or bank is in use by another thread, or by the call that this one interrupts; make one for each thread"


def check_lengths(value: ArrayLike, leading: tuple[int, ...], steps: int) -> Array:
    """Check lengths, and return a flat copy. The copy is what is checked: no other thread can change it."""
    lengths = np.array(as_array("lengths", value))
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, got dtype {lengths.dtype}")
    if lengths.shape != leading:
        raise ValueError(f"lengths must have shape {leading}, one for each sequence, got {lengths.shape}")
    lowest, highest = extent(lengths) if lengths.size else (0, 0)
    if not 0 <= lowest <= highest <= steps:
        position, at = place((lengths < 0) | (lengths > steps))
        raise ValueError(f"lengths must be from 0 to T={steps}, got {lengths[position]}{at}")
    return lengths.reshape(-1).astype(np.int64, copy=False)


def check_reset(value: ArrayLike, leading: tuple[int, ...], name: str = "reset") -> Array:
    """Check which sequences start anew, and return a flat copy: one boolean for each sequence."""
    reset = np.array(as_array(name, value))
    if reset.dtype.kind != "b" and reset.size:
        raise TypeError(f"{name} must be boolean, got dtype {reset.dtype}")
    if reset.shape != leading:
        raise ValueError(f"{name} must have shape {leading}, one for each sequence, got {reset.shape}")
    return reset.reshape(-1).astype(bool, copy=False)


def check_state(name: str, value: ArrayLike, expected: tuple[int, ...], *, given: str, shape: tuple[int, ...]) -> Array:
    """Check the shape of a state. `given` and `shape` are the name and the shape of the input, for the error."""
    state = as_array(name, value)
    if state.shape != expected:
        sizes = f"{given} of shape {shape} and hidden_size={expected[-1]}"
        raise ValueError(f"{name} must have shape {expected} for {sizes}, got {state.shape}")
    return state


def check_entries(name: str, value: object, count: int, meaning: str) -> list[Any]:
    """Return a state's entries as a list: `count` of them, all None if the state is None."""
    if value is None:
        return [None] * count
    if not isinstance(value, (tuple, list)):
        raise ValueError(f"{name} must be None or a tuple with {count} entries, {meaning}, got {type(value).__name__}")
    if len(value) != count:
        raise ValueError(f"{name} must have {count} entries, {meaning}, got {len(value)}")
    return list(value)


def check_out(out: object, shape: tuple[int, ...], dtype: DTypeLike, inputs: Iterable[tuple[str, Array]]) -> Array:
    """Check that a kernel can write to `out`, which must share no memory with the inputs, and return it."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray, got {type(out).__name__}")
    refuse_masked("out", out)
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


def frozen_error(one: object, name: str, verb: str, remedy: str) -> AttributeError:
    return AttributeError(f"{type(one).__name__} is frozen: {name} can't be {verb}; {remedy}")


def check_model(model: object) -> Any:
    if not hasattr(model, "state_form"):
        raise TypeError(f"model must be a layer or a Sequential, got {type(model).__name__}")
    return model


def check_causal(purpose: str, causal: bool, model: object) -> None:
    if not causal:
        raise ValueError(f"model must hold no Bidirectional for {purpose}: its outputs depend on later steps, too; got {model!r}")


def one_of(kinds: Sequence[type]) -> str:
    """Return a text that lists classes by their names: "an RNN, a GRU or an LSTM". The articles are right for abbreviations."""
    *names, last = [f"{'an' if kind.__name__[0] in 'AEFHILMNORSX' else 'a'} {kind.__name__}" for kind in kinds]
    return f"{', '.join(names)} or {last}"


class Sampling(NamedTuple):
    """The checked arguments of sampling, as Python numbers."""

    steps: int
    temperature: float
    top_k: int
    stop: int | None
