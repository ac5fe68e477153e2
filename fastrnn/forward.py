"""Packs layers into the form that the kernels read, and runs them over arrays in kernel calls of bounded work."""

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .arguments import Array
from .kernels import network as kernels
from .kernels.elementary import ACTIVATIONS
from .kernels.product import first_half, pack, padded
from .kernels.softmax import BLOCK

CODES: dict[str | None, int] = {
    None: ACTIVATIONS.index("identity"),
    **{name: code for code, name in enumerate(ACTIVATIONS)},
    "softmax": kernels.SOFTMAX,
    "log_softmax": kernels.LOG_SOFTMAX,
}

INT64 = np.dtype(np.int64)
NO_TOKENS = np.empty(0, np.int64)
NO_RAGGED = np.empty((3, 0), np.int64)

ALIGNMENT = 64  # bytes; a 64-byte load that crosses a cache line costs double
WORKSPACE = 1 << 19  # bytes for the rows of one layer: two such stay in L2 beside the weights
CONVERTED = 1 << 20  # bytes of x converted at a time
WORK = 50_000_000  # multiplications a kernel call: milliseconds, and below a second even without FMA hardware
FEWEST_ROWS = 16  # of a layer whose rows are long, so that tiles are full, as far as WIDEST_WORKSPACE bytes allow
WIDEST_WORKSPACE = 1 << 23
PACKED = 1 << 22  # weights packed in a kernel call
WHOLE_PANELS = 256  # columns: a multiple of every panel's


class Part(NamedTuple):
    """A layer as the kernels see it: its matrices, and what follows their product."""

    kind: int
    weights: tuple[Array, ...]
    bias: Array | None
    activation: str | None


class Network(NamedTuple):
    """Layers packed."""

    layers: Array
    weights: Array
    input_size: int
    output_size: int
    hidden_sizes: tuple[int, ...]
    widest: int
    work: int


def empty_aligned(size: int, dtype: DTypeLike) -> Array:
    itemsize = np.dtype(dtype).itemsize
    buffer = np.empty(size * itemsize + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size * itemsize].view(dtype)


class Scratch(threading.local):
    """Each thread's workspace, kept from call to call: nothing in it outlives a kernel call."""

    def __init__(self) -> None:
        self.workspaces: dict[np.dtype[Any], Array] = {}

    def rows(self, width: int, dtype: np.dtype[Any]) -> tuple[Array, int]:
        """Give rows of so many elements for two layers, and how many for each: WORKSPACE bytes, or more where they are long."""
        row = width * dtype.itemsize
        count = max(WORKSPACE // row, min(FEWEST_ROWS, WIDEST_WORKSPACE // row), 2)
        if count * row > WORKSPACE:
            return empty_aligned(2 * count * width, dtype), count
        workspace = self.workspaces.get(dtype)
        if workspace is None:
            workspace = self.workspaces[dtype] = empty_aligned(2 * WORKSPACE // dtype.itemsize, dtype)
        return workspace, count


scratch = Scratch()


def own_workspace(network: Network) -> Array:
    """A workspace for single steps of a network that no other call uses."""
    return empty_aligned(2 * FEWEST_ROWS * max(network.widest, network.input_size), network.weights.dtype)


def pack_network(parts: Sequence[Part]) -> Network:
    dtype = parts[0].weights[0].dtype
    fields, matrices, biases, size = [], [], [], 0
    for part in parts:
        outputs, inputs = part.weights[0].shape
        columns = padded(outputs, dtype.itemsize)
        starts = []
        for matrix in part.weights:
            matrices.append((matrix, columns, size))
            starts.append(size)
            size += columns * matrix.shape[1]
        biases.append((part.bias, size, columns))
        activation = CODES[part.activation]
        stride = columns if activation < kernels.SOFTMAX else columns + -columns % BLOCK
        half = first_half(outputs, dtype.itemsize)
        fields.append((part.kind, inputs, outputs, columns, stride, activation, half, starts[0], starts[-1], size))
        size += columns
    weights = empty_aligned(size, dtype)
    for matrix, columns, start in matrices:
        contiguous = matrix if matrix.flags.carray else matrix.copy()
        piece = max(1, PACKED // (matrix.shape[1] * WHOLE_PANELS)) * WHOLE_PANELS
        for column in range(0, columns, piece):
            pack(contiguous[column : column + piece], min(piece, columns - column), weights, start + column * matrix.shape[1])
    for bias, start, columns in biases:
        weights[start : start + columns] = 0
        if bias is not None:
            weights[start : start + len(bias)] = bias
    return Network(
        layers=np.array(fields, np.int64),
        weights=weights,
        input_size=fields[0][1],
        output_size=fields[-1][2],
        hidden_sizes=tuple([part.weights[0].shape[0] for part in parts if part.kind == kernels.ELMAN]),
        widest=max([field[4] for field in fields]),
        work=size,
    )


def spans(count: int, steps: int, work: int, together: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut count sequences of so many steps into pieces (first, count, start, steps) of at most WORK, or a single step of `together`."""
    if count * steps * work <= WORK:
        yield 0, count, 0, steps
        return
    sequences = max(together, WORK // max(1, steps * work) // together * together)
    length = max(1, WORK // (min(count, sequences) * work))
    for first in range(0, count, sequences):
        for start in range(0, steps, length):
            yield first, min(sequences, count - first), start, min(length, steps - start)


def run_network(
    network: Network,
    x: Array,
    states: Array | None,
    out: Array,
    *,
    h0: Array | None = None,
    tokens: bool = False,
    lengths: Array | None = None,
    further: int = 0,
    feedback: Array | None = None,
) -> None:
    """Fill out from x, and advance the recurrent layers' states, (N, H) each, one after the other in `states`.

    x is (..., T + further, I), tokens (..., T + further, 1): `further` steps are no input, but read as targets or written by feedback.
    out is (..., T, O), for scores (..., T), empty where no output is wanted; past a sequence's end it is left as it is.
    Where states are None, those of a single recurrent layer start from h0 (..., H), or zeros, and are not kept.
    """
    *leading, given, inputs = x.shape
    steps = given - further
    sequences = math.prod(leading)
    if not sequences or steps <= 0:
        return
    outputs, weights, work = network.output_size, network.weights, network.work
    kind = INT64 if tokens else weights.dtype
    workspace, rows = scratch.rows(max(network.widest, inputs), weights.dtype)
    together = min(rows // 2, kernels.TOGETHER)
    flat_out, out_sequence = np.asarray(out).reshape(-1), steps * outputs
    direct = x.dtype == kind and x.flags.carray
    if direct:
        data = x.reshape(-1)
    else:
        together = max(1, min(together, CONVERTED // ((1 + further) * inputs * kind.itemsize)))
        data = np.empty(min(sequences * given * inputs, max((1 + further) * inputs * together, CONVERTED // kind.itemsize)), kind)
        work = max(work, -(-WORK * (1 + further) * inputs // data.size))
    numbers, integers = (weights[:0], data) if tokens else (data, NO_TOKENS)
    order = None
    if lengths is not None:
        order = np.argsort(-lengths, kind="stable")
        lengths = lengths[order]
        steps = int(lengths[0])
    kept = states
    for first, count, start, length in spans(sequences, steps, work, together):
        ragged, which = NO_RAGGED, None
        x_at, x_sequence = (first * given + start) * inputs, given * inputs
        if order is not None and lengths is not None:
            count = int(np.searchsorted(-lengths[first : first + count], -start))
            if not count:
                continue
            which, x_at = order[first : first + count], start * inputs
            ragged = np.stack([which if direct else np.arange(count), which, np.minimum(lengths[first : first + count] - start, length)])
        if not direct:
            x_at, x_sequence = 0, (length + further) * inputs
            convert(x, first, count, (slice(start, start + length + further), slice(None)), data, which)
        if kept is None and start == 0:
            states = np.zeros(count * network.hidden_sizes[0], weights.dtype)
            if h0 is not None:
                convert(h0, first, count, (slice(None),), states)
        out_at, total, place = start * outputs, sequences, first
        if kept is None:
            out_at, total, place = out_at + first * out_sequence, count, 0
        kernels.run(
            network.layers, weights, states, numbers, integers, x_at, x_sequence, ragged, feedback, flat_out, out_at, out_sequence,
            workspace, total, place, count, length,
        )  # fmt: skip


def convert(array: Array, first: int, count: int, own: tuple[slice, ...], buffer: Array, which: Array | None = None) -> None:
    """Copy the given sequences, counted in C order, of an array of any layout and dtype into the buffer; `own` cuts its last axes."""
    leading = array.shape[: array.ndim - len(own)]
    index: tuple[Any, ...] = (None,)
    if len(leading) == 1 and which is None:
        index = (slice(first, first + count),)
    elif leading:
        index = np.unravel_index(np.arange(first, first + count) if which is None else which, leading)
    piece = array[(*index, *own)]
    assign(buffer[: piece.size].reshape(piece.shape), piece)


def assign(target: Array, value: Array) -> None:
    """Copy with conversion; what is out of the target's range becomes infinite or zero."""
    with np.errstate(all="ignore"):
        target[...] = value
