"""Implement `rnn_forward` inside functions that Numba compiles.

Compiled code may be cached and called in another process, so it must contain no address. Numba lets compiled code refer to Python objects,
which it pickles into the cache. Here this object is a `Recipe`: it finds the addresses anew when it is unpickled, and compiled code reads
its bytes without Python.
"""

import zlib
from typing import Any

import numpy as np
from llvmlite import ir
from numba import literally, types
from numba.core.errors import TypingError
from numba.extending import intrinsic, register_jitable

from .arguments import check_activation
from .engine.packing import LayerSpec, network_of, rows_that_fit
from .jit import address_of, copy, invoke, is_right, keep, no_overlap, reader_of, rows_for, size_job
from .kernels.layout import BLOCK as SOFTMAX_BLOCK
from .kernels.layout import HEAD_BYTES, JOB, LAYER, MATRIX, TOGETHER, first_half, padded
from .native import machine_code

# A recipe's words: elements of a register, registers of a panel (a block of packed weights), then the records of a job (one kernel call),
# of its two layers and of its matrices.
LANES, VECTORS, PLAN = range(3)
LAYER_WORDS, MATRIX_WORDS = LAYER.words, MATRIX.words
LAYERS, MATRICES = JOB.words, JOB.words + 2 * LAYER_WORDS
U_, W_, B_, V_, C_ = range(5)  # the matrices
PACKED = JOB.offsets["packed"]
NAMES = "input_size", "output_size", "hidden", "columns", "stride", "projected", "half", "half_hr"
SIZES = tuple([LAYER.offsets[name] for name in NAMES])
ADDRESSES = tuple([LAYER.offsets[name] for name in ("weight", "weight_hh", "weight_hr", "bias", "vector_hh")])
SIZE, ROW_STRIDE, OUTPUTS, COLUMNS, START = (MATRIX.offsets[name] for name in ("size", "row_stride", "outputs", "columns", "start"))
INTERFACE = zlib.crc32(repr((JOB.names, LAYER.names, MATRIX.names, HEAD_BYTES, TOGETHER, SOFTMAX_BLOCK, 1)).encode())
FIRST_BYTE = bytes.__basicsize__ - 1  # offset of the content in a bytes object


class Recipe(bytes):
    """The words of a call whose sizes are all 1. They contain addresses of operations and of parameters in this process."""

    arguments: tuple[Any, ...]
    network: Any  # keeps alive the arrays that the addresses point to

    def __reduce__(self) -> tuple[Any, ...]:
        return recipe, (INTERFACE, *self.arguments)


def recipe(interface: int, dtype: str, nonlinearity: str, has_c: bool) -> Recipe:
    """Return a recipe with this process's addresses. Raise RuntimeError if a caller was compiled for another interface."""
    if interface != INTERFACE:
        raise RuntimeError("a function that calls rnn_forward was compiled with another fastrnn; compile it anew")
    matrix, vector = np.zeros((1, 1), dtype), np.zeros(1, dtype)
    recurrent = LayerSpec("elman", matrix, matrix, vector, check_activation("nonlinearity", nonlinearity))
    network = network_of([recurrent, LayerSpec("dense", matrix, None, vector if has_c else None, "softmax")], ["pack_and_run"])
    used = network.matrices[network.matrices[:, COLUMNS] > 0]
    job, shape = network.job(function=machine_code.address("pack_and_run"), matrices=len(used)), machine_code.shape()
    head = [shape.lanes(network.dtype.itemsize), shape.vectors]
    made = Recipe(np.concatenate([head, job, network.layers.ravel(), used.ravel()]).tobytes())
    made.arguments, made.network = (dtype, nonlinearity, has_c), network
    return made


def words_of(made: Recipe) -> Any:
    """Return a compiled function that reads a recipe's word at an index."""

    @intrinsic
    def read(context, index):
        def generate(context, builder, signature, arguments):
            environment = context.get_env_manager(builder)
            kept = builder.bitcast(environment.read_const(environment.add_const(made)), ir.IntType(8).as_pointer())
            content = builder.bitcast(builder.gep(kept, [ir.IntType(64)(FIRST_BYTE)]), ir.IntType(64).as_pointer())
            word = builder.load(builder.gep(content, arguments))
            word.align = 1
            return word

        return types.int64(types.intp), generate

    return read


padded, first_half, rows_that_fit = (register_jitable(function) for function in (padded, first_half, rows_that_fit))


@register_jitable
def size_layer(words, layer, inputs, outputs, columns, stride, item):
    """Write the sizes of a layer into its record."""
    at, half = LAYERS + layer * LAYER_WORDS, first_half(outputs, item)
    sizes = (inputs, outputs, outputs, columns, stride, columns, half, half)
    for i in range(len(SIZES)):
        words[at + SIZES[i]] = sizes[i]


@register_jitable
def size_matrix(words, matrix, size, outputs, columns, start):
    """Write the sizes of a matrix into its record, and return the start of the next matrix's panels."""
    at = MATRICES + matrix * MATRIX_WORDS
    words[at + SIZE], words[at + ROW_STRIDE], words[at + COLUMNS], words[at + START] = size, size, columns, start
    if words[at + OUTPUTS]:
        words[at + OUTPUTS] = outputs
    return start + columns * size


@register_jitable
def plan_of(words, lanes, vectors, sizes, item):
    """Write the sizes of a call into the records of its job, layers and matrices. Return the bytes of the workspace that the call needs."""
    steps, sequences, inputs, hidden, outputs = sizes
    columns, columns_out = padded(hidden, lanes, vectors), padded(outputs, lanes, vectors)
    stride_out = columns_out + -columns_out % SOFTMAX_BLOCK
    size_layer(words, 0, inputs, hidden, columns, columns, item)
    size_layer(words, 1, hidden, outputs, columns_out, stride_out, item)
    of_W = size_matrix(words, U_, inputs, hidden, columns, 0)
    of_b = size_matrix(words, W_, hidden, hidden, columns, of_W)
    of_V = size_matrix(words, B_, 1, hidden, columns, of_b)
    of_c = size_matrix(words, V_, hidden, outputs, columns_out, of_V)
    after = size_matrix(words, C_, 1, outputs, columns_out, of_c)
    starts = (0, of_W, of_b, of_V, of_c)
    own = ((U_, W_, C_, B_, C_), (V_, C_, C_, C_, C_))  # in the order of ADDRESSES; an address of what the layer doesn't have is never read
    for layer in range(2):
        for i in range(len(ADDRESSES)):
            words[LAYERS + layer * LAYER_WORDS + ADDRESSES[i]] = item * starts[own[layer][i]]
    widest = max(columns, stride_out)
    block, rows = rows_for(steps, sequences, rows_that_fit(widest, item))
    size_job(words, (steps, sequences, inputs, outputs, block, rows, widest))
    words[PACKED] = after * item
    return HEAD_BYTES + 8 * 2 * LAYER_WORDS + item * (after + 2 * rows * widest) + 3 * 64


@register_jitable
def sequences_of(x):
    """Return the product of x's leading axes."""
    sequences = 1
    for axis in range(x.ndim - 2):
        sequences *= x.shape[axis]
    return sequences


@register_jitable
def plan_and_run(words, panels, sizes, arrays):
    """Write the sizes of a call into its records and run it. `arrays` are x, the output, the states and the weights."""
    data, result, states, U, W, b, V, c = arrays
    lanes, vectors = panels
    bytes_needed = plan_of(words, lanes, vectors, sizes, states.itemsize)
    space = np.empty(bytes_needed + 64, np.uint8)
    at = (address_of(space) + 63) // 64 * 64
    addresses = (address_of(words), at, address_of(data), address_of(result), address_of(states))
    weights = (address_of(U), address_of(W), address_of(b), address_of(V), address_of(c))
    invoke(words[0], addresses + weights)
    keep((words, space, arrays))


WRONG_WEIGHTS = "U, W, V, b, c must have shapes (H, I), (H, H), (O, H), (H,), (O,), none of them empty"
WRONG_X = "x must have shape (..., T, I), with I the columns of U"
WRONG_H0 = "h0 must have shape (..., H), with the leading axes of x"
WRONG_OUT = "out must have shape (..., T, O), and share no memory with the inputs"


def check_types(x: Any, weights: dict[str, Any], h0: Any, out: Any) -> Any:
    """Check what is known when a call is compiled, and return the weights' dtype."""
    axes = {"U": 2, "W": 2, "V": 2, "b": 1, "c": 1}
    dtype = getattr(weights["U"], "dtype", None)
    for name, kind in weights.items():
        if not isinstance(kind, types.Array) or kind.dtype not in (types.float32, types.float64) or kind.dtype != dtype:
            raise TypingError(f"{name} must be an array of float32 or of float64, as all weights are, got {kind}")
        if kind.ndim != axes[name]:
            raise TypingError(f"{name} must have {axes[name]} axes, got {kind}")
    for name, kind, fewest in (("x", x, 2), ("h0", h0, 1)):
        real = isinstance(kind, types.Array) and isinstance(kind.dtype, types.Integer | types.Float | types.Boolean) and kind.ndim >= fewest
        if kind is not None and not real:
            raise TypingError(f"{name} must be an array of numbers with {fewest} axes or more, got {kind}")
    if h0 is not None and h0.ndim != x.ndim - 1:
        raise TypingError(f"h0 must have {x.ndim - 1} axes, one fewer than x, got {h0}")
    if out is not None and not is_right(out, dtype, x.ndim):
        raise TypingError(f"out must be a writable C-contiguous array of {dtype} with {x.ndim} axes, got {out}")
    return dtype


def starter_of(kind: Any, dtype: Any) -> Any:
    """Return a compiled function that returns the states before the first step: h0's, or zeros if there is no h0."""
    number = np.dtype(str(dtype)).type
    if kind is None:
        return register_jitable(lambda h0, leading, sequences, hidden: np.zeros(sequences * hidden, number))
    read = reader_of(kind, dtype)

    @register_jitable
    def start(h0, leading, sequences, hidden):
        if h0.shape != leading + (hidden,):  # noqa: RUF005
            raise ValueError(WRONG_H0)
        first, states = read(h0), np.zeros(sequences * hidden, number)
        copy(address_of(states), address_of(first), first.nbytes)
        keep(first)
        return states

    return start


def given(kind: Any) -> Any:
    """Return the type of an argument; None if it is left out or None."""
    kind = kind.value if isinstance(kind, types.Omitted) else kind
    return None if isinstance(kind, types.NoneType) else kind


def compiled(x, U, W, V, b, c, h0, nonlinearity, out):
    """Return the function that Numba compiles for a call. The arguments are the types of the call's arguments."""
    c_type, h0_type, out_type, name = given(c), given(h0), given(out), given(nonlinearity)
    dtype = check_types(x, {"U": U, "W": W, "V": V, "b": b, **({} if c_type is None else {"c": c_type})}, h0_type, out_type)
    if isinstance(name, types.UnicodeType):
        return lambda x, U, W, V, b, c=None, h0=None, nonlinearity="tanh", out=None: literally(nonlinearity)
    name = getattr(name, "literal_value", name)
    if not isinstance(name, str):
        raise TypingError(f"nonlinearity must be the name of one without parameters, got {nonlinearity}")
    made = recipe(INTERFACE, str(dtype), name, c_type is not None)
    number, count, word = np.dtype(str(dtype)).type, len(made) // 8 - PLAN, words_of(made)
    of_x, of_U, of_W, of_V, of_b = (reader_of(kind, dtype) for kind in (x, U, W, V, b))
    of_c, start = None if c_type is None else reader_of(c_type, dtype), starter_of(h0_type, dtype)
    has_c, has_h0, has_out = c_type is not None, h0_type is not None, out_type is not None

    def run(x, U, W, V, b, c=None, h0=None, nonlinearity="tanh", out=None):
        (hidden, inputs), outputs = U.shape, V.shape[0]
        separate = True
        if has_out:
            separate = no_overlap(out, x) and no_overlap(out, U) and no_overlap(out, W) and no_overlap(out, V) and no_overlap(out, b)
            if has_c:
                separate = separate and no_overlap(out, c)
            if has_h0:
                separate = separate and no_overlap(out, h0)
        U, W, V, b = of_U(U), of_W(W), of_V(V), of_b(b)
        c = of_c(c) if has_c else np.zeros(outputs, number)
        right = W.shape == (hidden, hidden) and V.shape[1] == hidden and len(b) == hidden and len(c) == outputs
        if not right or hidden == 0 or inputs == 0 or outputs == 0:
            raise ValueError(WRONG_WEIGHTS)
        if x.shape[-1] != inputs:
            raise ValueError(WRONG_X)
        data, steps = of_x(x), x.shape[-2]
        shape, leading = x.shape[:-1] + (outputs,), x.shape[:-2]  # noqa: RUF005
        sequences = sequences_of(x)
        states = start(h0, leading, sequences, hidden)
        if has_out:
            if out.shape != shape or not separate:
                raise ValueError(WRONG_OUT)
            result = out
        else:
            result = np.empty(shape, number)
        if steps and sequences:
            words = np.empty(count, np.int64)
            for i in range(count):
                words[i] = word(PLAN + i)
            plan_and_run(
                words, (word(LANES), word(VECTORS)), (steps, sequences, inputs, hidden, outputs), (data, result, states, U, W, b, V, c)
            )
        return result

    return run
