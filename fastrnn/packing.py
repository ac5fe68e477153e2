"""Packs layers into the form that the kernels read."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .arguments import Array
from .kernels import network as kernels
from .kernels.elementary import ACTIVATIONS
from .kernels.elman import WORTH_SHARING
from .kernels.product import first_half, pack, padded
from .kernels.softmax import BLOCK

CODES: dict[str | None, int] = {
    None: ACTIVATIONS.index("identity"),
    **{name: code for code, name in enumerate(ACTIVATIONS)},
    "softmax": kernels.SOFTMAX,
    "log_softmax": kernels.LOG_SOFTMAX,
}

ALIGNMENT = 64  # bytes; a 64-byte load that crosses a cache line costs double
WORKSPACE = 1 << 19  # bytes for the rows of one layer: two such stay in L2 beside the weights
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
    nothing: Array  # instead of x where there are tokens
    input_size: int
    output_size: int
    hidden_sizes: tuple[int, ...]
    widest: int  # elements of a row
    rows: int  # of a layer in a workspace
    buffer: int  # elements of a layer in a workspace
    workspace: int  # bytes
    work: int  # multiplications a step
    shared_work: int  # those that threads can share in


def empty_aligned(size: int, dtype: DTypeLike) -> Array:
    itemsize = np.dtype(dtype).itemsize
    buffer = np.empty(size * itemsize + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size * itemsize].view(dtype)


def rows_that_fit(width: int, itemsize: int) -> int:
    """How many rows of so many elements make a layer's part of a workspace: WORKSPACE bytes, or more where rows are long."""
    row = width * itemsize
    return max(WORKSPACE // row, min(FEWEST_ROWS, WIDEST_WORKSPACE // row), 2)


def pack_network(parts: Sequence[Part]) -> Network:
    dtype = parts[0].weights[0].dtype
    fields, matrices, biases, size, unshared = [], [], [], 0, 0
    for part in parts:
        outputs, inputs = part.weights[0].shape
        columns = padded(outputs, dtype.itemsize)
        starts = []
        for matrix in part.weights:
            matrices.append((matrix, columns, size))
            starts.append(size)
            size += columns * matrix.shape[1]
        if part.kind == kernels.ELMAN and columns * outputs < WORTH_SHARING:
            unshared += columns * outputs
        biases.append((part.bias, size, columns))
        activation = CODES[part.activation]
        stride = columns if activation < kernels.SOFTMAX else columns + -columns % BLOCK
        half = first_half(outputs, dtype.itemsize)
        fields.append((part.kind, inputs, outputs, columns, stride, activation, half, starts[0], starts[-1], size))
        size += columns
    weights = empty_aligned(size, dtype)
    layers = np.array(fields, np.int64)
    layers[:, kernels.WEIGHT :] *= dtype.itemsize
    layers[:, kernels.WEIGHT :] += weights.ctypes.data
    for matrix, columns, start in matrices:
        contiguous = matrix if matrix.flags.carray else matrix.copy()
        piece = max(1, PACKED // (matrix.shape[1] * WHOLE_PANELS)) * WHOLE_PANELS
        for column in range(0, columns, piece):
            pack(contiguous[column : column + piece], min(piece, columns - column), weights, start + column * matrix.shape[1])
    for bias, start, columns in biases:
        weights[start : start + columns] = 0
        if bias is not None:
            weights[start : start + len(bias)] = bias
    widest = max([field[4] for field in fields])
    rows = rows_that_fit(widest, dtype.itemsize)
    return Network(
        layers=layers,
        weights=weights,
        nothing=weights[:0],
        input_size=fields[0][1],
        output_size=fields[-1][2],
        hidden_sizes=tuple([part.weights[0].shape[0] for part in parts if part.kind == kernels.ELMAN]),
        widest=widest,
        rows=rows,
        buffer=rows * widest,
        workspace=2 * rows * widest * dtype.itemsize,
        work=size,
        shared_work=size - unshared,
    )
