"""Packs layers into the form that the kernels read: records of layers, and weights in panels."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import native
from .arguments import Array
from .kernels.layout import BLOCK, JOB, LAYER, MATRIX, WORTH_SHARING, Shape, first_half


class Cell(NamedTuple):
    """What a recurrent layer needs of the engine. A new cell is a row here, a file of kernels, a class of layers, and a reference loop."""

    operation: str  # that takes its steps
    gates: int  # matrices stacked in weight_ih and weight_hh: parts of a row that are projected
    parts: int  # of a row, each as wide as the packed output: the gates, and what a step needs room for
    kept: int  # parts that are the state when a step is over, the output first
    phases: int  # of a step: each needs the whole row of the one before, not only its own columns


CELLS = {"elman": Cell("elman", gates=1, parts=1, kept=1, phases=1)}

# A Dense layer's activations that are operations on whole rows; any other is one on elements, "identity" none.
ROW_ACTIVATIONS = ("softmax", "log_softmax")

ALIGNMENT = 64  # bytes; a 64-byte load that crosses a cache line costs double
WORKSPACE = 1 << 19  # bytes for the rows of one layer: two such stay in L2 beside the weights
FEWEST_ROWS = 16  # of a layer whose rows are long, so that tiles are full, as far as WIDEST_WORKSPACE bytes allow
WIDEST_WORKSPACE = 1 << 23
PACKED = 1 << 22  # elements packed in a kernel call
WHOLE_PANELS = 256  # columns: a multiple of every panel's


class Part(NamedTuple):
    """A layer as the engine sees it: a cell's name or "dense", its matrices (gates stacked) and biases, and its functions of a number."""

    kind: str
    weight_ih: Array
    weight_hh: Array | None
    bias: Array | None
    activation: str | None
    recurrent_activation: str | None = None
    bias_hh: Array | None = None

    @property
    def cell(self) -> Cell:
        return CELLS.get(self.kind, Cell("", gates=1, parts=1, kept=0, phases=0))

    @property
    def output_size(self) -> int:
        return len(self.weight_ih) // self.cell.gates

    def operations(self) -> list[str]:
        """Name what a call of this layer needs."""
        functions = [name for name in (self.activation, self.recurrent_activation) if name not in (None, "identity")]
        return ["product", "project", *filter(None, [self.cell.operation]), *map(str, functions)]


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers packed."""

    layers: Array  # a record each
    weights: Array
    input_size: int
    output_size: int
    hidden_sizes: tuple[int, ...]  # of the recurrent layers
    recurrent: tuple[bool, ...]  # which layers are
    activation: str | None  # of the last layer
    widest: int  # elements of a row
    rows: int  # of a layer in a workspace
    work: int  # multiplications a step
    shared_work: int  # those that threads can share in
    plans: dict[Any, Any] = dataclasses.field(default_factory=dict)  # the last call's, ready for another of its shape

    @property
    def buffer(self) -> int:
        """Elements of a layer's rows in a workspace."""
        return self.rows * self.widest

    def cut(self, first: int, last: int) -> "Network":
        """Give some of the layers."""
        return dataclasses.replace(self, layers=self.layers[first:last], plans={})

    def finished_by(self, activation: str) -> "Network":
        """Give the same layers with another activation of the last."""
        layers = self.layers.copy()
        LAYER.fill(layers[-1], finish=native.address(activation, self.weights.dtype.name) if activation != "identity" else 0, activation=0)
        return dataclasses.replace(self, layers=layers, plans={})

    def job(self, **values: int) -> Array:
        """Make a piece of work of these layers."""
        return JOB.filled(
            run=native.address("run"),
            layers=self.layers.ctypes.data,
            depth=len(self.layers),
            itemsize=self.weights.itemsize,
            **values,
        )


def empty_aligned(size: int, dtype: DTypeLike) -> Array:
    itemsize = np.dtype(dtype).itemsize
    buffer = np.empty(size * itemsize + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size * itemsize].view(dtype)


def rows_that_fit(width: int, itemsize: int) -> int:
    """Tell how many rows of so many elements make a layer's part of a workspace: WORKSPACE bytes, or more where rows are long."""
    row = width * itemsize
    return max(WORKSPACE // row, min(FEWEST_ROWS, WIDEST_WORKSPACE // row), 2)


def pack_network(parts: Sequence[Part]) -> Network:
    dtype = parts[0].weight_ih.dtype
    native.addresses(["call", "begin", "run", "pack", *(operation for part in parts for operation in part.operations())], dtype.name)
    shape = native.shape()
    columns = [shape.padded(part.output_size, dtype.itemsize) for part in parts]
    sizes = [packed_sizes(part, width) for part, width in zip(parts, columns, strict=True)]
    weights, layers, at = empty_aligned(sum(map(sum, sizes)), dtype), np.zeros((len(parts), LAYER.words), np.int64), 0
    for part, width, own, record in zip(parts, columns, sizes, layers, strict=True):
        pack_layer(part, width, weights[at : at + sum(own)], own)
        describe(part, width, weights.ctypes.data + at * dtype.itemsize, own, record)
        at += sum(own)
    unshared = sum(own[1] for part, own in zip(parts, sizes, strict=True) if part.weight_hh is not None and own[1] < WORTH_SHARING)
    widest = int(layers[:, LAYER.offsets["stride"]].max())
    return Network(
        layers=layers,
        weights=weights,
        input_size=parts[0].weight_ih.shape[1],
        output_size=parts[-1].output_size,
        hidden_sizes=tuple([part.output_size for part in parts if part.weight_hh is not None]),
        recurrent=tuple([part.weight_hh is not None for part in parts]),
        activation=parts[-1].activation,
        widest=widest,
        rows=rows_that_fit(widest, dtype.itemsize),
        work=len(weights),
        shared_work=len(weights) - unshared,
    )


def packed_sizes(part: Part, columns: int) -> list[int]:
    """Count the elements of weight_ih, weight_hh, bias and bias_hh when they are packed."""
    wide = part.cell.gates * columns
    states = 0 if part.weight_hh is None else part.weight_hh.shape[1]
    return [wide * part.weight_ih.shape[1], wide * states, wide, 0 if part.bias_hh is None else wide]


def pack_layer(part: Part, columns: int, packed: Array, sizes: Sequence[int]) -> None:
    gates, at = part.cell.gates, np.cumsum([0, *sizes])
    for matrix, start in ((part.weight_ih, at[0]), (part.weight_hh, at[1])):
        if matrix is not None:
            for gate, own in enumerate(np.split(matrix, gates)):
                pack(own, columns, packed[start + gate * columns * own.shape[1] :])
    for bias, start in ((part.bias, at[2]), (part.bias_hh, at[3])):
        own = packed[start : start + gates * columns].reshape(-1, columns)
        own[...] = 0
        if bias is not None:
            own[:, : part.output_size] = bias.reshape(gates, -1)


def pack(matrix: Array, columns: int, packed: Array) -> None:
    """Pack a matrix (O, K) into panels, in kernel calls of bounded work."""
    contiguous = matrix if matrix.flags.carray else matrix.copy()
    outputs, size = matrix.shape
    piece = max(1, PACKED // (size * WHOLE_PANELS)) * WHOLE_PANELS
    for column in range(0, columns, piece):
        record = MATRIX.filled(
            function=native.address("pack", matrix.dtype.name),
            size=size,
            row_stride=size,
            outputs=outputs - column,
            columns=min(piece, columns - column),
        )
        native.call(record, contiguous[column:], packed[column * size :])


def describe(part: Part, columns: int, address: int, sizes: Sequence[int], record: Array) -> None:
    """Fill in a layer's record; its packed weights start at the address."""
    dtype, cell, size = part.weight_ih.dtype, part.cell, part.output_size

    def operation(name: str | None) -> int:
        return native.address(name, dtype.name) if name and name != "identity" else 0

    by_rows = part.activation in ROW_ACTIVATIONS
    width = cell.parts * columns
    at = [address + int(end) * dtype.itemsize for end in np.cumsum([0, *sizes])]
    LAYER.fill(
        record,
        feed=operation("project"),
        product=operation("product"),
        recur=operation(cell.operation),
        finish=operation(part.activation) if by_rows else 0,
        activation=0 if by_rows else operation(part.activation),
        recurrent_activation=operation(part.recurrent_activation),
        input_size=part.weight_ih.shape[1],
        output_size=size,
        columns=columns,
        stride=width + (-width % BLOCK if by_rows else 0),
        gates=cell.gates,
        kept=cell.kept,
        phases=cell.phases,
        half=first_half(size, dtype.itemsize),
        weight=at[0],
        weight_hh=at[1] if part.weight_hh is not None else at[0],
        bias=at[2],
        bias_hh=at[3],
    )
