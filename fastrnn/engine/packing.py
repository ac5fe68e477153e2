"""Pack layers for the kernels: a record for each layer, and its weights in panels, blocks of columns as wide as a tile."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..arguments import ROW_ACTIVATIONS, Activation, Array, DenseActivation
from ..kernels.layout import BLOCK, CELLS, DENSE, JOB, LAYER, MATRIX, MOST_PARAMETERS, Cell, first_half
from ..native import machine_code
from .recent import Recent

INT64 = np.dtype(np.int64)
ALIGNMENT = 64  # bytes; a 64-byte load that crosses a cache line costs twice as much
WORKSPACE = 1 << 19  # bytes for the rows of one layer: those of two layers stay in L2 beside the weights
FEWEST_ROWS = 16  # for a layer with long rows, so that tiles are full, if WIDEST_WORKSPACE bytes hold them
WIDEST_WORKSPACE = 1 << 23
# Threads share a step only if its work is at least WORTH_SHARING: with less, the barrier costs more than sharing saves. Work is counted in
# bytes of recurrent weights, and each output's activations count as FUNCTION more weights. The limit is for processors that see each
# other's writes after 250 ns; after 50 ns, half as much work would be enough.
WORTH_SHARING, FUNCTION = 5 << 16, 90
MOST_KINDS = 16  # prepared calls that a network stores
PACKED = 1 << 22  # elements that one kernel call packs
WHOLE_PANELS = 256  # columns: a multiple of every panel's width
PACKED_SIZE = [MATRIX.offsets[name] for name in ("gates", "columns", "size")]  # their product is the number of elements of a packed matrix
SHARED_FROM = LAYER.offsets["shared_from"]
FIRST_ADDRESS = LAYER.offsets["weight"]  # the first field of a layer's record that holds an address of weights; only such fields follow


class LayerSpec(NamedTuple):
    """A layer as the engine sees it: its kind (a cell's name, or "dense"), its weights with stacked gates, and its activations."""

    kind: str
    weight_ih: Array
    weight_hh: Array | None
    bias: Array | None
    activation: DenseActivation
    recurrent_activation: Activation | None = None
    vector_hh: Array | None = None
    weight_hr: Array | None = None  # projects the units to fewer outputs
    peephole: bool = False  # whether vector_hh holds peephole weights
    feed: str = "project"  # for tokens "embed" or "look_up", which reads a table in place: weight_ih is its transpose (E, V)

    @property
    def cell(self) -> Cell:
        return CELLS.get(self.kind, DENSE)

    @property
    def hidden(self) -> int:
        return len(self.weight_ih) // self.cell.gates

    @property
    def output_size(self) -> int:
        return self.hidden if self.weight_hr is None else len(self.weight_hr)

    @property
    def states(self) -> list[int]:
        """Return the size of each array of the layer's state."""
        return [self.hidden if i else self.output_size for i in range(self.cell.state_arrays)]

    def matrices(self) -> dict[str, tuple[Array | None, int]]:
        """Return what is packed, by field of the layer's record: an array (None for zeros), and its gates (0 if not packed)."""
        gates, of_input = self.cell.gates, 0 if self.feed == "look_up" else self.cell.gates
        return {
            "weight": (self.weight_ih, of_input),
            "weight_hh": (self.weight_hh, 0 if self.weight_hh is None else gates),
            "weight_hr": (self.weight_hr, 0 if self.weight_hr is None else 1),
            "bias": (self.bias, of_input),
            "vector_hh": (self.vector_hh, 0 if self.vector_hh is None else gates),
        }

    def operations(self) -> list[str]:
        """Return the names of the operations that run this layer."""
        functions = [operation_of(activation) for activation in (self.activation, self.recurrent_activation)]
        product, cell = "" if self.feed == "look_up" else "product", self.kind if self.kind in CELLS else ""
        return [name for name in (product, self.feed, cell, self.cell.enter, *functions) if name]


def operation_of(activation: DenseActivation | None) -> str:
    """Return the name of the operation that computes an activation, "" if none is needed."""
    if isinstance(activation, tuple):
        return "clipped_line" if activation[0] == "hard_sigmoid" else activation[0]
    return "" if activation is None or activation == "identity" else activation


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers as the engine runs them. While `weights` is None, the addresses of weights in the records count from 0."""

    layers: Array  # a record for each (LAYER)
    matrices: Array  # a record (MATRIX) for each matrix to pack, layer by layer, in the order of LayerSpec.matrices
    weights: Array | None
    parameters: Array  # of each layer's activation and recurrent_activation; the records hold their addresses
    table: Array | None  # in which the first layer looks up tokens
    dtype: np.dtype[Any]
    tokens: bool  # whether x holds tokens
    input_size: int
    output_size: int
    states: tuple[int, ...]  # the size of each array of the layers' states
    state_counts: tuple[int, ...]  # by layer: how many arrays its state has
    enters: bool  # whether an array of some layer's state is computed from the others
    activation: DenseActivation  # of the last layer
    widest: int  # elements of the longest row of a layer
    rows: int  # rows of a layer in a workspace
    work: int  # multiplications per step; also the number of elements of the packed weights
    read: int  # elements of the packed weights that a step reads: a token selects one column of its matrix
    shared_work: int  # multiplications per step that threads can share
    shares: bool  # whether threads share the columns of a step even for one sequence
    largest: int  # elements of the largest weight_hh
    calls: Recent = dataclasses.field(init=False, default_factory=lambda: Recent(MOST_KINDS))  # kernel calls by what they depend on
    variants: dict[Any, "Network"] = dataclasses.field(init=False, default_factory=dict)  # networks made of this one

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """Return the dtype in which kernels read x."""
        return INT64 if self.tokens else self.dtype

    @property
    def inputs(self) -> int:
        """Return the number of elements in a step of x."""
        return 1 if self.tokens else self.input_size

    def steps_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the leading sizes of x, which count sequences and steps."""
        return shape if self.tokens else shape[:-1]

    @property
    def buffer(self) -> int:
        """Return the number of elements that a layer's rows take in a workspace."""
        return self.rows * self.widest

    def cut(self, first: int, last: int) -> "Network":
        """Return a network of layers[first:last]."""
        key = first, last
        if key not in self.variants:
            tokens = self.tokens and first == 0
            self.variants[key] = dataclasses.replace(self, layers=self.layers[first:last], tokens=tokens)
        return self.variants[key]

    def finished_by(self, activation: str) -> "Network":
        """Return the same network with another activation of the last layer."""
        if activation not in self.variants:
            layers = self.layers.copy()
            finish = 0 if activation == "identity" else machine_code.address(activation, machine_code.name_of(self.dtype))
            LAYER.fill(layers[-1], finish=finish, activation=0)
            self.variants[activation] = dataclasses.replace(self, layers=layers)
        return self.variants[activation]

    def job(self, **values: int) -> Array:
        """Return the job (the record of one kernel call) that runs these layers, with the given fields."""
        # not cached_property: before Python 3.12 it takes a lock, which a process forked meanwhile would find locked forever
        common: dict[str, int] | None = self.__dict__.get("common")
        if common is None:
            sizes = {"depth": len(self.layers), "itemsize": self.dtype.itemsize}
            common = {"run": machine_code.address("run"), "layers": machine_code.address_of(self.layers), **sizes}
            self.__dict__["common"] = common
        return JOB.filled(**common, **values)


def empty_aligned(size: int, dtype: DTypeLike) -> Array:
    itemsize = np.dtype(dtype).itemsize
    buffer = np.empty(size * itemsize + ALIGNMENT, np.uint8)
    start = -machine_code.address_of(buffer) % ALIGNMENT
    return buffer[start : start + size * itemsize].view(dtype)


def read_only(array: Array) -> Array:
    """Return a copy that nobody can write to."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy.view()  # a view of a read-only array can't be made writable


def rows_that_fit(width: int, itemsize: int) -> int:
    """Return how many rows of `width` elements a workspace has for each layer: WORKSPACE bytes of them, or more if rows are long."""
    row = width * itemsize
    return max(WORKSPACE // row, min(FEWEST_ROWS, WIDEST_WORKSPACE // row), 2)


def pack_network(parts: Sequence[LayerSpec]) -> Network:
    """Return a network of layers of one dtype, with packed weights."""
    network = network_of(parts, ["checked_call"] if any(part.cell.state_arrays for part in parts) else [])
    weights = empty_aligned(network.work, network.dtype)
    given = [array for part in parts for array, _ in part.matrices().values()]
    for record, array in zip(network.matrices, given, strict=True):
        pack(record, array, weights)
    layers = network.layers.copy()
    layers[:, FIRST_ADDRESS:] += machine_code.address_of(weights)
    if network.table is not None:
        LAYER.fill(layers[0], weight=machine_code.address_of(network.table))
    return dataclasses.replace(network, layers=layers, weights=weights)


def network_of(parts: Sequence[LayerSpec], operations: Sequence[str]) -> Network:
    """Return a network without packed weights. Make its operations ready, and those that are named."""
    dtype = np.dtype(parts[0].weight_ih.dtype.char)  # an unpickled array's dtype is not NumPy's usual object
    needed = ["call", "run_serial", "run", "pack", *operations, *(operation for part in parts for operation in part.operations())]
    addresses = machine_code.addresses(needed, machine_code.name_of(dtype)) | {"": 0}
    layers, matrices = np.zeros((len(parts), LAYER.words), np.int64), []
    parameters, work, unread, unshared = parameters_of(parts), 0, 0, 0
    for part, record, (own, of_gates) in zip(parts, layers, parameters, strict=True):
        describe(part, addresses, record)
        LAYER.fill(record, parameters=machine_code.address_of(own), recurrent_parameters=machine_code.address_of(of_gates))
        for field, (matrix, gates) in part.matrices().items():
            LAYER.fill(record, **{field: work * dtype.itemsize})
            matrices.append(describe_matrix(matrix, gates, part, work))
            size = math.prod(matrices[-1][PACKED_SIZE].tolist())
            work += size
            unread += size - size // part.weight_ih.shape[1] if field == "weight" and part.feed == "embed" else 0
            unshared += size if field == "weight_hh" and record[SHARED_FROM] > 1 else 0
    widest = max(layers[:, LAYER.offsets["stride"]].tolist())
    work = work or widest  # a table alone has nothing to pack: its rows are copied
    return Network(
        layers=layers,
        matrices=np.array(matrices),
        weights=None,
        parameters=parameters,
        table=parts[0].weight_ih.T if parts[0].feed == "look_up" else None,
        dtype=dtype,
        tokens=parts[0].feed != "project",
        input_size=parts[0].weight_ih.shape[1],
        output_size=parts[-1].output_size,
        states=tuple([size for part in parts for size in part.states]),
        state_counts=tuple([part.cell.state_arrays for part in parts]),
        enters=any(part.cell.enter for part in parts),
        activation=parts[-1].activation,
        widest=widest,
        rows=rows_that_fit(widest, dtype.itemsize),
        work=work,
        read=work - unread,
        shared_work=work - unshared,
        shares=any(record[SHARED_FROM] == 1 for record in layers),
        largest=max([0 if part.weight_hh is None else part.weight_hh.size for part in parts]),
    )


def parameters_of(parts: Sequence[LayerSpec]) -> Array:
    """Return the parameters of each layer's activation and recurrent_activation, padded with zeros."""
    parameters = np.zeros((len(parts), 2, MOST_PARAMETERS))
    for part, own in zip(parts, parameters, strict=True):
        for row, activation in zip(own, (part.activation, part.recurrent_activation), strict=True):
            if isinstance(activation, tuple):
                row[: len(activation) - 1] = activation[1:]
    return parameters


def describe_matrix(matrix: Array | None, gates: int, part: LayerSpec, start: int) -> Array:
    """Return the record of a matrix or vector that is packed from element `start` on. It has no elements if `gates` is 0."""
    dtype = part.weight_ih.dtype
    size = 1 if matrix is None or matrix.ndim == 1 else matrix.shape[1]
    outputs = part.hidden if matrix is None or not gates else len(matrix) // gates
    return MATRIX.filled(
        function=machine_code.address("pack", machine_code.name_of(dtype)),
        size=size,
        row_stride=size,
        outputs=0 if matrix is None else outputs,
        columns=machine_code.shape().padded(outputs, dtype.itemsize) if gates else 0,
        gates=gates,
        start=start,
    )


def describe(part: LayerSpec, addresses: dict[str, int], record: Array) -> None:
    """Fill in a layer's record, except the addresses of its weights and of the parameters of its activations."""
    cell, by_rows = part.cell, part.activation in ROW_ACTIVATIONS
    columns = machine_code.shape().padded(part.hidden, part.weight_ih.itemsize)
    width, step = cell.row_slots * columns, cell.gates * columns * (part.output_size + FUNCTION) * part.weight_ih.itemsize
    activation = addresses[operation_of(part.activation)]
    LAYER.fill(
        record,
        feed=addresses[part.feed],
        product=addresses.get("product", 0),
        enter=addresses[cell.enter],
        recur=addresses[part.kind] if part.kind in CELLS else 0,
        finish=activation if by_rows else 0,
        activation=0 if by_rows else activation,
        recurrent_activation=addresses[operation_of(part.recurrent_activation)],
        input_size=part.weight_ih.shape[1],
        output_size=part.output_size,
        hidden=part.hidden,
        columns=columns,
        stride=width + (-width % BLOCK if by_rows else 0),
        gates=cell.gates,
        state_arrays=cell.state_arrays,
        phases=cell.phases,
        shared_from=-(-WORTH_SHARING // step) if cell.state_arrays else 0,
        projected=machine_code.shape().padded(part.output_size, part.weight_ih.itemsize),
        half=first_half(part.output_size, part.weight_ih.itemsize),
        half_hr=first_half(part.hidden, part.weight_ih.itemsize),
        default_activations=(part.activation, part.recurrent_activation) == ("tanh", "sigmoid") and not part.peephole,
        peephole=part.peephole,
    )


def pack(record: Array, matrix: Array | None, weights: Array) -> None:
    """Pack a matrix (gates of O rows, K) into panels, in kernel calls of bounded length."""
    field = MATRIX.offsets
    columns, size, outputs, gates, start = (int(record[field[name]]) for name in ("columns", "size", "outputs", "gates", "start"))
    if not columns:
        return
    given = weights if matrix is None else matrix if matrix.flags.carray else matrix.copy()
    if gates * columns * size <= PACKED:
        machine_code.call(record, given, weights)
        return
    piece = max(1, PACKED // (size * WHOLE_PANELS)) * WHOLE_PANELS
    for gate in range(gates):
        for column in range(0, columns, piece):
            part = record.copy()
            own = {"outputs": max(outputs - column, 0), "columns": min(piece, columns - column), "gates": 1}
            MATRIX.fill(part, start=start + (gate * columns + column) * size, **own)
            machine_code.call(part, given[gate * outputs + column :], weights)
