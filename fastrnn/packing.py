"""Packs layers into the form that the kernels read: records of layers, and weights in panels."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import native
from .arguments import Array
from .kernels.layout import BLOCK, CELLS, DENSE, JOB, LAYER, MATRIX, WORTH_SHARING, Cell, first_half

# A Dense layer's activations that are operations on whole rows; any other is one on elements, "identity" none.
ROW_ACTIVATIONS = ("softmax", "log_softmax")

ALIGNMENT = 64  # bytes; a 64-byte load that crosses a cache line costs double
WORKSPACE = 1 << 19  # bytes for the rows of one layer: two such stay in L2 beside the weights
FEWEST_ROWS = 16  # of a layer whose rows are long, so that tiles are full, as far as WIDEST_WORKSPACE bytes allow
WIDEST_WORKSPACE = 1 << 23
PACKED = 1 << 22  # elements packed in a kernel call
WHOLE_PANELS = 256  # columns: a multiple of every panel's
FIRST_ADDRESS = LAYER.offsets["weight"]  # of a layer's record, whose last fields are addresses of weights


class Part(NamedTuple):
    """A layer as the engine sees it: a cell's name or "dense", its matrices (gates stacked) and biases, and its functions of a number."""

    kind: str
    weight_ih: Array
    weight_hh: Array | None
    bias: Array | None
    activation: str | None
    recurrent_activation: str | None = None
    bias_hh: Array | None = None
    feed: str = "project"  # of tokens "embed", or "look_up": then weight_ih is a table (V, E), transposed, read in place

    @property
    def cell(self) -> Cell:
        return CELLS.get(self.kind, DENSE)

    @property
    def output_size(self) -> int:
        return len(self.weight_ih) // self.cell.gates

    def operations(self) -> list[str]:
        """Name what a call of this layer needs."""
        product = None if self.feed == "look_up" else "product"
        names = self.feed, product, self.kind if self.kind in CELLS else None, self.activation, self.recurrent_activation
        return [name for name in names if name and name != "identity"]


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers as the engine sees them. Until `packed`, their addresses of weights count from 0."""

    layers: Array  # a record each
    matrices: Array  # a record each of what is to be packed: of every layer weight_ih, weight_hh, bias and bias_hh
    weights: Array | None
    table: Array | None  # that the first layer looks tokens up in
    dtype: np.dtype[Any]
    tokens: bool  # whether x holds them
    input_size: int
    output_size: int
    hidden_sizes: tuple[int, ...]  # of the recurrent layers
    recurrent: tuple[bool, ...]  # which layers are
    activation: str | None  # of the last layer
    widest: int  # elements of a row
    rows: int  # of a layer in a workspace
    work: int  # multiplications a step, and elements of the packed weights
    shared_work: int  # multiplications that threads can share in
    plans: dict[Any, Any] = dataclasses.field(default_factory=dict)  # kernel calls by the input's shape
    jobs: dict[Any, Any] = dataclasses.field(default_factory=dict)  # jobs of one piece by the kind of call
    variants: dict[Any, "Network"] = dataclasses.field(default_factory=dict)  # made of this one

    @property
    def buffer(self) -> int:
        """Elements of a layer's rows in a workspace."""
        return self.rows * self.widest

    def cut(self, first: int, last: int) -> "Network":
        """Give some of the layers."""
        key = first, last
        if key not in self.variants:
            tokens = self.tokens and first == 0
            self.variants[key] = dataclasses.replace(self, layers=self.layers[first:last], tokens=tokens, plans={}, jobs={}, variants={})
        return self.variants[key]

    def finished_by(self, activation: str) -> "Network":
        """Give the same layers with another activation of the last."""
        if activation not in self.variants:
            layers = self.layers.copy()
            finish = 0 if activation == "identity" else native.address(activation, self.dtype.name)
            LAYER.fill(layers[-1], finish=finish, activation=0)
            self.variants[activation] = dataclasses.replace(self, layers=layers, plans={}, jobs={}, variants={})
        return self.variants[activation]

    @functools.cached_property
    def common(self) -> dict[str, int]:
        """What all work of these layers has in common."""
        depth, itemsize = len(self.layers), self.dtype.itemsize
        return {"run": native.address("run"), "layers": self.layers.ctypes.data, "depth": depth, "itemsize": itemsize}

    def job(self, **values: int) -> Array:
        """Make a piece of work of these layers."""
        return JOB.filled(**self.common, **values)


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
    """Pack layers of one dtype."""
    network = network_of(parts)
    weights = empty_aligned(network.work, network.dtype)
    given = [array for part in parts for array in (part.weight_ih, part.weight_hh, part.bias, part.bias_hh)]
    for record, array in zip(network.matrices, given, strict=True):
        pack(record, array, weights)
    layers = network.layers.copy()
    layers[:, FIRST_ADDRESS:] += weights.ctypes.data
    if network.table is not None:
        LAYER.fill(layers[0], weight=network.table.ctypes.data)
    return dataclasses.replace(network, layers=layers, weights=weights)


def network_of(parts: Sequence[Part]) -> Network:
    """Describe layers by their sizes alone, and have their operations ready."""
    dtype = parts[0].weight_ih.dtype
    operations = ["call", "begin", "run", "pack", *(operation for part in parts for operation in part.operations())]
    addresses = native.addresses(operations, dtype.name) | {None: 0, "identity": 0}
    layers, matrices = np.zeros((len(parts), LAYER.words), np.int64), np.zeros((4 * len(parts), MATRIX.words), np.int64)
    work = unshared = 0
    for i, part in enumerate(parts):
        columns = native.shape().padded(part.output_size, dtype.itemsize)
        sizes = describe_matrices(part, columns, work, matrices[4 * i : 4 * i + 4])
        starts = [(work + sum(sizes[:k])) * dtype.itemsize for k in range(4)]
        describe(part, columns, addresses, layers[i])
        LAYER.fill(layers[i], weight=starts[0], weight_hh=starts[1], bias=starts[2], bias_hh=starts[3])
        work += sum(sizes)
        unshared += sizes[1] if sizes[1] < WORTH_SHARING else 0
    widest = int(layers[:, LAYER.offsets["stride"]].max())
    work = work or widest  # of a table alone, whose rows are copied
    return Network(
        layers=layers,
        matrices=matrices,
        weights=None,
        table=parts[0].weight_ih.T if parts[0].feed == "look_up" else None,
        dtype=dtype,
        tokens=parts[0].feed != "project",
        input_size=parts[0].weight_ih.shape[1],
        output_size=parts[-1].output_size,
        hidden_sizes=tuple([part.output_size for part in parts if part.weight_hh is not None]),
        recurrent=tuple([part.weight_hh is not None for part in parts]),
        activation=parts[-1].activation,
        widest=widest,
        rows=rows_that_fit(widest, dtype.itemsize),
        work=work,
        shared_work=work - unshared,
    )


def describe_matrices(part: Part, columns: int, start: int, records: Array) -> list[int]:
    """Fill in the records of a layer's matrices, packed one after the other from `start` on; give their packed sizes."""
    gates, outputs, sizes, packed = part.cell.gates, part.output_size, [], part.feed != "look_up"
    given = (
        (part.weight_ih, packed),
        (part.weight_hh, part.weight_hh is not None),
        (part.bias, packed),
        (part.bias_hh, part.bias_hh is not None),
    )
    for record, (matrix, wanted) in zip(records, given, strict=True):
        size = 1 if matrix is None or matrix.ndim == 1 else matrix.shape[1]
        sizes.append(gates * columns * size if wanted else 0)
        MATRIX.fill(
            record,
            function=native.address("pack", part.weight_ih.dtype.name),
            size=size,
            row_stride=size,
            outputs=0 if matrix is None else outputs,  # no bias is one of zeros
            columns=columns if wanted else 0,
            gates=gates,
            start=start + sum(sizes[:-1]),
        )
    return sizes


def describe(part: Part, columns: int, addresses: dict[str | None, int], record: Array) -> None:
    """Fill in all of a layer's record but where its weights are."""
    cell, width, by_rows = part.cell, part.cell.parts * columns, part.activation in ROW_ACTIVATIONS
    LAYER.fill(
        record,
        feed=addresses[part.feed],
        product=addresses.get("product", 0),
        recur=addresses[part.kind] if part.kind in CELLS else 0,
        finish=addresses[part.activation] if by_rows else 0,
        activation=0 if by_rows else addresses[part.activation],
        recurrent_activation=addresses[part.recurrent_activation],
        input_size=part.weight_ih.shape[1],
        output_size=part.output_size,
        columns=columns,
        stride=width + (-width % BLOCK if by_rows else 0),
        gates=cell.gates,
        kept=cell.kept,
        phases=cell.phases,
        half=first_half(part.output_size, part.weight_ih.itemsize),
    )


def pack(record: Array, matrix: Array | None, weights: Array) -> None:
    """Pack a matrix (gates of O rows, K) into panels, in kernel calls of bounded work."""
    field = MATRIX.offsets
    columns, size, outputs, gates, start = (int(record[field[name]]) for name in ("columns", "size", "outputs", "gates", "start"))
    if not columns:
        return
    given = weights if matrix is None else matrix if matrix.flags.carray else matrix.copy()
    if gates * columns * size <= PACKED:
        native.call(record, given, weights)
        return
    piece = max(1, PACKED // (size * WHOLE_PANELS)) * WHOLE_PANELS
    for gate in range(gates):
        for column in range(0, columns, piece):
            part = record.copy()
            own = {"outputs": max(outputs - column, 0), "columns": min(piece, columns - column), "gates": 1}
            MATRIX.fill(part, start=start + (gate * columns + column) * size, **own)
            native.call(part, given[gate * outputs + column :], weights)
