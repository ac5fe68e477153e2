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
from .kernels.product import pack, padded
from .kernels.softmax import BLOCK

CODES: dict[str | None, int] = {
    None: ACTIVATIONS.index("identity"),
    **{name: code for code, name in enumerate(ACTIVATIONS)},
    "softmax": kernels.SOFTMAX,
    "log_softmax": kernels.LOG_SOFTMAX,
}

ALIGNMENT = 64  # bytes; a 64-byte load that crosses a cache line costs double
WORKSPACE = 1 << 19  # bytes for the rows of one layer: two such stay in L2 beside the weights
CONVERTED = 1 << 20  # bytes of x converted at a time
WORK = 50_000_000  # multiplications a kernel call: milliseconds, and below a second even without FMA hardware
TWO_SUMS = 512  # bytes of a state up to which a row's product is summed in two halves; DESIGN: no gain above


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

    def rows(self, width: int, dtype: np.dtype[Any]) -> Array:
        """Give two layers' rows of so many elements: WORKSPACE bytes each, or two rows where they are longer."""
        if 2 * width * dtype.itemsize > WORKSPACE:
            return empty_aligned(4 * width, dtype)
        workspace = self.workspaces.get(dtype)
        if workspace is None:
            workspace = self.workspaces[dtype] = empty_aligned(2 * WORKSPACE // dtype.itemsize, dtype)
        return workspace


scratch = Scratch()


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
        half = (outputs + 1) // 2 if outputs * dtype.itemsize <= TWO_SUMS else outputs
        fields.append((part.kind, inputs, outputs, columns, stride, activation, half, starts[0], starts[-1], size))
        size += columns
    weights = empty_aligned(size, dtype)
    for matrix, columns, start in matrices:
        pack(matrix if matrix.flags.carray else matrix.copy(), columns, weights, start)
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


def spans(count: int, steps: int, work: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut count sequences of so many steps into pieces (first, count, start, steps) of at most WORK, or a single step of 64 sequences."""
    sequences = max(kernels.TOGETHER, WORK // max(1, steps * work) // kernels.TOGETHER * kernels.TOGETHER)
    length = max(1, WORK // (min(count, sequences) * work))
    for first in range(0, count, sequences):
        for start in range(0, steps, length):
            yield first, min(sequences, count - first), start, min(length, steps - start)


def run_network(network: Network, x: Array, states: Array, out: Array) -> None:
    """Fill out (..., T, O) from x (..., T, I), and advance the recurrent layers' states, (N, H) each, one after the other in `states`."""
    *leading, steps, inputs = x.shape
    outputs, dtype = network.output_size, network.weights.dtype
    sequences = math.prod(leading)
    if not sequences or not steps:
        return
    workspace = scratch.rows(network.widest, dtype)
    flat_out = out.reshape(-1)
    direct = x.dtype == dtype and x.flags.carray
    work = network.work
    if direct:
        flat_x = x.reshape(-1)
        if sequences * steps * work <= WORK:
            kernels.run(
                network.layers, network.weights, states, flat_x, 0, steps * inputs, flat_out, 0, steps * outputs, workspace,
                sequences, 0, sequences, steps,
            )  # fmt: skip
            return
    else:
        flat_x = np.empty(min(sequences * steps * inputs, max(inputs * kernels.TOGETHER, CONVERTED // dtype.itemsize)), dtype)
        work = max(work, -(-WORK * inputs // flat_x.size))
    for first, count, start, length in spans(sequences, steps, work):
        x_at, x_sequence = (first * steps + start) * inputs, steps * inputs
        if not direct:
            x_at, x_sequence = 0, length * inputs
            convert(x, first, count, start, length, flat_x)
        kernels.run(
            network.layers, network.weights, states, flat_x, x_at, x_sequence, flat_out, (first * steps + start) * outputs,
            steps * outputs, workspace, sequences, first, count, length,
        )  # fmt: skip


def convert(x: Array, first: int, count: int, start: int, length: int, buffer: Array) -> None:
    """Copy the given sequences and steps of x, of any layout and dtype, into the buffer."""
    leading = x.shape[:-2]
    times = slice(start, start + length)
    if not leading:
        piece = x[None, times]
    elif len(leading) == 1:
        piece = x[first : first + count, times]
    else:
        index: tuple[Any, ...] = (*np.unravel_index(np.arange(first, first + count), leading), times)
        piece = x[index]
    assign(buffer[: piece.size].reshape(piece.shape), piece)


def assign(target: Array, value: Array) -> None:
    """Copy with conversion; what is out of the target's range becomes infinite."""
    with np.errstate(over="ignore"):
        target[...] = value
