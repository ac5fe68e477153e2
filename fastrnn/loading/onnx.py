"""Load networks from ONNX files. The graph must be a chain of layers, followed node by node from its input to its first output."""

import contextlib
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..arguments import Array
from ..layers import GRU, LSTM, RNN, Bidirectional, Dense, Embedding, Recurrent, Sequential
from .boundary import understood
from .gates import GRU_GATES, LSTM_GATES, activate, as_numbers, check_dtype, gru_biases, reordered
from .loops import Below, Index, Step, layer_of_step
from .nodes import ACTIVATIONS, activation_of, numbers_of, refuse
from .tensors import Tensors, read

# The gates in ONNX's order, by this package's letters: ONNX's c is g here, and its h is n.
ONNX_LSTM, LSTM_PEEPHOLES = "iofg", "iof"
ONNX_GRU = "zrn"

# Names of a tensor's axes. The graph's input has "axis 0", "axis 1" and so on; the first recurrent node shows which of them is time.
DIRECTIONS, FEATURES, ONE = "directions", "features", "one"

# Attributes of recurrent nodes, each with the only value that it may have, or None if it may have any.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "RNN": {"layout": 0, "clip": 0.0},
    "GRU": {"layout": 0, "clip": 0.0, "linear_before_reset": None},
    "LSTM": {"layout": 0, "clip": 0.0, "input_forget": 0},
}
READ = ("direction", "hidden_size", "activations", "activation_alpha", "activation_beta")
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
PASSED = ("Identity", "Dropout", "Cast")
# Operators that are computed when all their inputs are constants.
FOLDED = (
    "Constant", "ConstantOfShape", "Expand", "Shape", "Concat", "Split", "Slice", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Transpose",
    "Cast", "Identity", "Add", "Sub", "Mul", "Div", "Less", "And", "ReduceProd",
)  # fmt: skip
# Operators allowed on the output of a backward layer before it is merged, and on reversed steps.
HALVES = ("Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "ReverseSequence", "Identity", "Cast", "Concat", "Add", "Mul")
# Exporters write an open end of a slice as a number from here on.
ALL = 2**31 - 1
# Operators allowed on states: KEPT return a state unchanged, PARTED take a part of it.
KEPT, PARTED = ("Identity", "Cast", "Squeeze", "Unsqueeze"), ("Slice", "Gather", "Split")


@dataclass(frozen=True)
class Data:
    """The data at one place of the chain: the layers so far, and the axes of their output."""

    layers: tuple[Any, ...]
    axes: tuple[Any, ...]
    directions: int = 1
    last: bool = False  # whether it holds only the last step's output
    time: Any = None  # the axis of the steps, known from the first recurrent node on
    whole: bool = True  # whether every sequence has all steps
    backward: bool = False  # whether the last layer reads from the end; it must be merged with a forward layer
    flipped: Any = None  # the axis whose order is reversed, if there is one
    biased: bool = True  # False while an Add may still give the last Dense a bias

    def size(self) -> int:
        """Return the number of features of one direction. There must be a layer."""
        return int(self.layers[-1].output_size) // self.directions


class Sizes(NamedTuple):
    """A shape, or a part of one. Entries are numbers, or the names of axes whose size is unknown."""

    entries: tuple[Any, ...]


class Positive(NamedTuple):
    """The comparison of a size with 0: true if the size is above 0."""

    entry: Any


class Selection(NamedTuple):
    """A condition on the sign of tokens. Tokens are not negative, so it is 1 for all of them or 0 for all."""

    chosen: bool


class Changed(NamedTuple):
    """Tokens cast to floats for a comparison, or `moved`: with a constant added, as replacements for negative tokens."""

    tokens: Any
    moved: bool


class Given(NamedTuple):
    """An input of the graph besides x: a state or lengths, from `first` to `end` along its first axis."""

    name: str
    first: int = 0
    end: float = math.inf


class Ended(NamedTuple):
    """The final states of recurrent nodes, concatenated along the first axis."""

    pieces: tuple[Data, ...]


ZEROS = Given("")  # a state of zeros, or a part of it


def from_onnx(path_or_model: Any, *, dtype: DTypeLike | None = None) -> Sequential:
    """Load a network from an ONNX file, or take over an ONNX model. It needs the extra `onnx`.

    The graph must be a chain from its first input to its first output: Gather (of a table's rows), RNN, GRU, LSTM, MatMul or Gemm, Add of
    a bias, activations, Softmax and LogSoftmax over the features, and what exporters put between: Squeeze, Unsqueeze, Transpose and
    Reshape. A Loop becomes a layer if its step computes an RNN, a GRU or an LSTM; tf2onnx writes many of Keras' layers as loops. Two
    directions may be two nodes, one of which reads reversed sequences. If the graph's output is the last step's, x[-1] or a node's
    Y_h, the model has return_sequences=False. Anything else is refused.

    The graph's other inputs may be initial states and lengths (sequence_lens): a call of the model takes them as its state and as
    `lengths=`. Outputs past a sequence's end are zero. x is (N, T, input_size) here, even if the graph reads (T, N, input_size). The
    graph stacks states, (layers * directions, N, H); a state here has one entry for each layer, a pair for two directions.

    Parameters
    ----------
    path_or_model : str, path-like or onnx.ModelProto
        Weights in float16 and bfloat16 become float32.
    dtype : {float32, float64}, optional
        What the model computes in; the weights' dtype where not given.

    Returns
    -------
    Sequential

    Raises
    ------
    ImportError
        Where the package onnx is not installed.
    TypeError
        For an argument that is neither a path nor a model.
    ValueError
        For a damaged file, or a node that isn't understood. The error names the node, its operator, and the attribute or input.

    Notes
    -----
    ONNX stacks an LSTM's gates in the order i, o, f, c, its peepholes in the order i, o, f, and a GRU's gates in the order z, r, h.
    It concatenates two biases. linear_before_reset is reset_after. PyTorch's newer exporter writes out the steps of an nn.RNN, which
    is refused.

    Examples
    --------
    >>> import fastrnn
    >>> model = fastrnn.from_onnx("model.onnx")  # doctest: +SKIP
    >>> output, state = model(x)  # doctest: +SKIP
    """
    check_dtype(dtype)
    try:
        import onnx
        import onnx.inliner
        import onnx.reference
    except ImportError as error:
        raise ImportError("from_onnx needs onnx; pip install 'fastrnn[onnx]'") from error
    with contextlib.ExitStack() as stack:
        if isinstance(path_or_model, str | os.PathLike):
            file = stack.enter_context(open(path_or_model, "rb"))  # noqa: PTH123
            try:
                model, tensors = read(onnx, file)
            except (OSError, ImportError, MemoryError):
                raise
            except Exception as error:  # protobuf's errors have no common class
                raise ValueError(f"{os.fspath(path_or_model)} must be a whole ONNX file, got one that can't be read: {error}") from error
        elif isinstance(path_or_model, onnx.ModelProto):
            model, tensors = path_or_model, Tensors(onnx, path_or_model.graph.initializer)
        else:
            raise TypeError(f"path_or_model must be a path or an onnx.ModelProto, got {type(path_or_model).__name__}")
        remedy = "; onnx.checker.check_model(model, full_check=True) says more"
        with understood("path_or_model", path_or_model, "a valid ONNX model", remedy):
            data = Graph(onnx, onnx.inliner.inline_local_functions(model) if model.functions else model, tensors, dtype).output()
            return Sequential(*data.layers, return_sequences=not data.last)


class Graph:
    """Runs a graph's nodes in order, on `Data` and constants instead of numbers, as far as the outputs need them."""

    def __init__(self, onnx: Any, model: Any, tensors: Tensors, dtype: DTypeLike | None) -> None:
        self.onnx, self.model, self.graph, self.dtype = onnx, model, model.graph, dtype
        self.version = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=1)
        self.values: dict[str, Any] = {"": None}
        self.lost: set[str] = set()  # names of loops' outputs that are neither the layer's output nor its states
        self.ends: str | None = None  # the name of the sequences' lengths, "" for none; None before the first recurrent node
        self.taken: dict[str, float] = {}  # for each input that is a state, the end of the parts that recurrent nodes have taken
        self.tensors = tensors
        inputs = [one for one in self.graph.input if one.name not in self.tensors]
        self.sizes: dict[str, int | None] = {ONE: 1}  # sizes of the input's axes, None if not fixed
        for i, one in enumerate(inputs):
            self.values[one.name] = Given(one.name) if i else self.input(one.type.tensor_type)

    def value(self, node: Any, name: str) -> Any:
        """Return the value of a node's input. A weight is read each time, and not cached."""
        if name in self.tensors:
            return self.tensors[name]
        if name in self.lost:
            refuse(node, f"must not need {name!r}, which a layer doesn't give")
        if name not in self.values:
            refuse(node, f"must come after what makes {name!r}")
        return self.values[name]

    def input(self, tensor: Any) -> Data:
        """Return the graph's input. For floats its last axis is the features; tokens have no such axis."""
        lengths = [dim.dim_value or None for dim in tensor.shape.dim]
        axes = [f"axis {i}" for i in range(len(lengths))]
        if axes and tensor.elem_type not in (self.onnx.TensorProto.INT32, self.onnx.TensorProto.INT64):
            axes[-1] = FEATURES
        self.sizes.update(zip(axes, lengths, strict=True))
        return Data((), tuple(axes))

    def output(self) -> Data:
        """Run the nodes that the outputs need, and return the first output. Check that the other outputs are states."""
        names = [one.name for one in self.graph.output]
        needed, nodes = set(names), []
        for node in reversed(self.graph.node):
            if needed & set(node.output):
                needed.update(read_by(node))
                nodes.append(node)
        left = Counter(names) + Counter(name for node in nodes for name in read_by(node))
        for node in reversed(nodes):
            self.run(node)
            left.subtract(read_by(node))
            for name in {name for name in read_by(node) if name and not left[name]}:
                self.values.pop(name, None)  # it may be a large array, and no later node reads it
        data, *others = [self.values[name] for name in names]
        for name, other in zip(names[1:], others, strict=True):
            pieces = other.pieces if isinstance(other, Ended) else [other]
            if not all(isinstance(one, Data) and one.last and one.layers == data.layers[: len(one.layers)] for one in pieces):
                raise ValueError(f"the graph's output {name!r} must be a state, since {names[0]!r} is its output")
        if not isinstance(data, Data) or not data.layers:
            raise ValueError(f"the graph's output {names[0]!r} must be computed from its input by layers with weights")
        if data.backward or data.flipped:
            raise ValueError(f"the graph's output {names[0]!r} must have its steps in order, read forwards or in both directions")
        if any(isinstance(axis, tuple) for axis in data.axes):
            raise ValueError(f"the graph's output {names[0]!r} must keep steps and sequences apart, got the axes {list(data.axes)}")
        if data.axes[-1] != FEATURES:
            raise ValueError(f"the graph's output {names[0]!r} must have its features last, got the axes {list(data.axes)}")
        return data

    def run(self, node: Any) -> None:
        """Set the values of a node's outputs."""
        inputs = [self.value(node, name) for name in node.input]
        given = [value for value in inputs if not isinstance(value, np.ndarray | None)]
        attributes = {one.name: self.onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.domain not in ("", "ai.onnx"):
            refuse(node, f"must be one of ONNX's own operators, got the domain {node.domain!r}")
        selected = select(node, inputs, attributes, self.onnx.TensorProto)
        if selected is not None:
            outputs = [selected]
        elif node.op_type == "Loop":
            outputs = loop(self, node, inputs, attributes)
        elif not given:
            outputs = self.computed(node, [value for value in inputs if value is not None])
        elif node.op_type in GATES:
            outputs = self.recurrent(node, inputs, attributes)
        elif any(isinstance(value, Data) and value.backward for value in given) and node.op_type != "Shape":
            outputs = [self.step(node, inputs, attributes)]
        elif any(isinstance(value, Given | Ended) for value in given) or (
            node.op_type == "Concat" and len(given) == len(inputs) and all(is_last(value) for value in given)
        ):
            outputs = moved(node, inputs, attributes)
        elif any(isinstance(value, Data) for value in given) and node.op_type != "Shape":
            outputs = [self.step(node, inputs, attributes)]
        else:
            outputs = [self.shape(node, inputs, attributes)]
        made = dict(zip(node.output, outputs, strict=False))
        self.values.update((name, value) for name, value in made.items() if name and value is not None)
        self.lost |= {name for name, value in made.items() if name and value is None}

    def computed(self, node: Any, inputs: list[Array]) -> list[Any]:
        """Compute a node whose inputs are all constants."""
        if node.op_type not in FOLDED:
            refuse(node, "must be an operator that constants are made with")
        helper = self.onnx.helper
        named = dict(zip([name for name in node.input if name], inputs, strict=True))
        infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in named.items()]
        outputs = [helper.make_value_info(name, self.onnx.TypeProto()) for name in node.output if name]
        graph = helper.make_graph([node], "constants", infos, outputs)
        try:
            model = helper.make_model(graph, opset_imports=self.model.opset_import)
            results = iter(self.onnx.reference.ReferenceEvaluator(model).run(None, named))
        except Exception as error:  # whatever an operator raises
            refuse(node, f"must be computed from constants, got {type(error).__name__}: {error}")
        return [np.asarray(next(results)) if name else None for name in node.output]

    def shape(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        """Compute a node that reads or makes shapes."""
        kind, first = node.op_type, inputs[0]
        if kind == "Shape":
            entries = [self.extent(first, axis) for axis in first.axes]
            return Sizes(tuple(entries[attributes.get("start", 0) : attributes.get("end", len(entries))]))
        if kind == "ConstantOfShape":
            value = attributes.get("value")
            zero = value is None or not self.onnx.numpy_helper.to_array(value).any()
            return ZEROS if zero else refuse(node, "must make zeros")
        if kind == "Expand" and isinstance(first, Sizes) and len(first.entries) == 1:
            return first
        if kind == "ReduceProd" and isinstance(first, Sizes):
            return Sizes((product_of(first.entries),))
        if kind == "Less" and is_zero(first) and isinstance(inputs[1], Sizes) and len(inputs[1].entries) == 1:
            return Positive(inputs[1].entries[0])
        if kind == "And" and isinstance(first, Positive) and first == inputs[1]:
            return first
        if kind == "Expand" and isinstance(first, np.ndarray):
            return refuse(node, "must make zeros") if first.any() else ZEROS
        if kind in ("Cast", "Identity", "Unsqueeze", "Squeeze") and isinstance(first, Sizes):
            return first
        if kind == "Gather" and isinstance(first, Sizes) and isinstance(inputs[1], np.ndarray):
            if not all(-len(first.entries) <= i < len(first.entries) for i in inputs[1].reshape(-1)):
                refuse(node, f"must take entries of a shape of {len(first.entries)}", inputs[1])
            return Sizes(tuple(first.entries[int(i)] for i in inputs[1].reshape(-1)))
        if kind == "Slice" and isinstance(first, Sizes) and all(isinstance(value, np.ndarray) for value in inputs[1:3]):
            if len(inputs) > 4 and not np.all(inputs[4] == 1):
                refuse(node, "must have steps=1", inputs[4])
            return Sizes(first.entries[int(inputs[1].reshape(-1)[0]) : int(inputs[2].reshape(-1)[0])])
        if kind == "Concat":
            return Sizes(tuple(entry for value in inputs for entry in entries_of(value)))
        return refuse(node, "must be an operator that shapes are made with")

    def extent(self, data: Data, axis: Any) -> Any:
        """Return an axis' size, or its name if the size is unknown."""
        if isinstance(axis, tuple):
            return product_of([self.extent(data, one) for one in axis])
        known = {**self.sizes, DIRECTIONS: data.directions, **({FEATURES: data.size()} if data.layers else {})}
        return known.get(axis) or axis

    def step(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
        """Apply a node of the chain to `Data`. STEPS has a function for each operator."""
        if not isinstance(inputs[0], Data) and node.op_type not in ("Gather", "Add"):
            refuse(node, "must have what flows along the chain as its first input")
        if node.op_type not in HALVES and any(isinstance(value, Data) and (value.backward or value.flipped) for value in inputs):
            refuse(node, "must come after two directions are merged, and read steps from the first to the last")
        step = STEPS.get(node.op_type) or (function if node.op_type.lower() in ACTIVATIONS else None)
        if step is None:
            refuse(node, "must be an operator that fastrnn has a layer for")
        return step(self, node, inputs, attributes)

    def weight(self, node: Any, name: str, value: Any) -> Array:
        if not isinstance(value, np.ndarray):
            refuse(node, f"must have a constant {name}")
        return as_numbers(f"{name} of node {node.name!r}", value, self.dtype)

    def recurrent(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> list[Any]:
        """Append the recurrent layer of a node, and return Y, Y_h and Y_c."""
        kind = node.op_type
        x, W, R, B, lengths, h0, c0, P = inputs + [None] * (8 - len(inputs))
        for name, value in attributes.items():
            must = ATTRIBUTES[kind].get(name, refuse) if name not in READ else None
            if must is refuse or (must is not None and value != must):
                refuse(node, f"must have {name}={must}" if must is not refuse else f"must have no attribute {name}", value)
        direction = attributes.get("direction", b"forward").decode()
        if direction not in ("forward", "bidirectional"):
            refuse(node, "must have direction='forward' or 'bidirectional'", repr(direction))
        if not (lengths is None or (isinstance(lengths, Given) and lengths == Given(lengths.name) and lengths.name)):
            refuse(node, "must have an input of the graph as sequence_lens, or none")
        self.check_steps(node, x, "" if lengths is None else lengths.name)
        for name, value in (("initial_h", h0), ("initial_c", c0)):
            self.take(node, name, value)
        directions = 1 + (direction == "bidirectional")
        if x.flipped and (directions == 2 or lengths is not None):
            refuse(node, "must read all steps, in one direction, where they run from the last to the first")
        weights = [self.weight(node, "W", W), self.weight(node, "R", R), None if B is None else self.weight(node, "B", B)]
        weights.append(None if P is None else self.weight(node, "P", P))
        shapes = [w.shape for w in weights if w is not None]
        if any(shape[:1] != (directions,) for shape in shapes):
            refuse(node, f"must have weights of {directions} direction{'s' * (directions > 1)}", shapes)
        names = [name.decode() for name in attributes.get("activations", [])] or FUNCTIONS[kind] * directions
        functions = functions_of(node, names, attributes)
        each = len(functions) // directions
        if each != len(FUNCTIONS[kind]):
            refuse(node, f"must have {len(FUNCTIONS[kind])} activations for each direction", names)
        parts = [[w if w is None else w[i] if directions == 1 else w[i].copy() for w in weights] for i in range(directions)]
        inputs.clear()  # drop references: large weights are copied below, and the originals freed
        del W, R, weights
        made = [layer_of(node, parts[i], functions[i * each :][:each], attributes) for i in range(directions)]
        layer = Bidirectional(*made) if directions == 2 else made[0]
        return self.appended(x, layer, directions, x.whole and lengths is None)

    def check_steps(self, node: Any, x: Any, ends: str) -> None:
        """Check the axes that a recurrent node reads, and that its lengths, named `ends`, are those of the nodes before it."""
        if not isinstance(x, Data) or len(x.axes) != 3 or x.axes[2] != FEATURES or any(isinstance(axis, tuple) for axis in x.axes):
            refuse(node, "must read steps, sequences and features, which lie in this order")
        if x.axes[0] == ONE:
            refuse(node, "must read the steps along an axis of the graph's input")
        if x.last or x.backward or (x.time is not None and x.axes[0] != x.time) or x.flipped not in (None, x.axes[0]):
            refuse(node, "must read the steps of the recurrent node before it along the same axis")
        if self.ends not in (None, ends):
            refuse(node, "must have the sequence_lens of the recurrent node before it", repr(ends))
        self.ends = ends

    def appended(self, x: Data, layer: Any, directions: int, whole: bool) -> list[Any]:
        """Append a recurrent layer to x, and return Y, Y_h and Y_c."""
        steps, sequences = x.axes[:2]
        y = Data((*x.layers, layer), (steps, DIRECTIONS, sequences, FEATURES), directions, time=steps, whole=whole)
        y = replace(y, backward=x.flipped is not None, flipped=x.flipped)
        last = replace(y, axes=(DIRECTIONS, sequences, FEATURES), last=True, flipped=None)
        return [y, last, Ended((replace(last, axes=("cells",)),))]

    def take(self, node: Any, name: str, value: Any) -> None:
        """Check an initial state: zeros, or a part of an input after the parts that earlier layers took."""
        if value is None or (isinstance(value, np.ndarray) and not value.any()) or (isinstance(value, Given) and not value.name):
            return
        if not isinstance(value, Given):
            refuse(node, f"must have zeros, or an input of the graph, as {name}")
        if value.first < self.taken.get(value.name, 0):
            refuse(node, f"must have as {name} the part of {value.name!r} after that of the layer before")
        self.taken[value.name] = value.end


def read_by(node: Any) -> list[str]:
    """Return the names of the values that a node and the graphs in its attributes read, those graphs' own values too."""
    return [*node.input, *(name for one in node.attribute for inner in one.g.node for name in read_by(inner))]


def product_of(entries: Any) -> Any:
    """Return the product of sizes: a number, or a tuple of a number and the names of axes of unknown size."""
    number = math.prod(entry for entry in entries if isinstance(entry, int))
    names = sorted(entry for entry in entries if not isinstance(entry, int))
    return (number, *names) if names else number


def is_last(value: Any) -> bool:
    return isinstance(value, Ended) or (isinstance(value, Data) and value.last)


def moved(node: Any, inputs: list[Any], attributes: dict[str, Any]) -> list[Any]:
    """Apply a node to initial states (`Given`) or to final states (`Ended`)."""
    kind, state = node.op_type, inputs[0]
    if kind == "Concat" and all(is_last(value) for value in inputs):
        pieces = [piece for value in inputs for piece in (value.pieces if isinstance(value, Ended) else [value])]
        if attributes.get("axis") != 0 or any(piece.axes[0] not in (DIRECTIONS, "cells", ONE) for piece in pieces):
            refuse(node, "must put states one below the other")
        return [Ended(tuple(pieces))]
    if kind == "Concat" and all(isinstance(value, Given) and value == ZEROS for value in inputs):
        return [ZEROS]
    if not isinstance(state, Given | Ended) or kind not in (*KEPT, *PARTED):
        refuse(node, "must take a state as it is, or parts of it along its first axis")
    if isinstance(state, Ended) and kind in ("Squeeze", "Unsqueeze"):  # it can only be an output now: its parts can't be taken
        return [Ended(tuple(replace(piece, axes=("moved",)) for piece in state.pieces))]
    if kind in KEPT or state == ZEROS:
        return [state] * len(node.output)
    first, end = part(node, inputs, attributes)
    if isinstance(state, Ended):
        return [last_of(node, state, first, np.ndim(inputs[1]) if kind == "Gather" else 0)]
    if state != Given(state.name):
        refuse(node, "must take parts of the input itself")
    parts = range(len(node.output)) if kind == "Split" else [first]
    return [Given(state.name, i, end if kind == "Slice" else i + 1) for i in parts]


def part(node: Any, inputs: list[Any], attributes: dict[str, Any]) -> tuple[int, float]:
    """Return the bounds of what a node takes along the first axis. For a Gather, both are its index; for a Split, they enclose all."""
    bounds: list[float]
    if node.op_type == "Split":
        axes, steps, bounds = [attributes.get("axis", 0)], [1], [0, math.inf]
    elif node.op_type == "Gather":
        axes, steps, bounds = [attributes.get("axis", 0)], [1], 2 * [*map(float, numbers_of(inputs[1]))]
    else:
        names = ("starts", "ends", "axes", "steps")
        given = [attributes.get(name, inputs[i] if len(inputs) > i else None) for i, name in enumerate(names, 1)]
        (*starts,), (*ends,), axes, steps = (numbers_of(one) for one in given)
        bounds = [*starts, *ends]
    if len(bounds) != 2 or axes not in ([0], []) or steps not in ([1], []) or (node.op_type == "Slice" and min(bounds) < 0):
        refuse(node, "must take parts of a state along its first axis, by constants")
    return int(bounds[0]), bounds[1]


def last_of(node: Any, state: Ended, index: int, added: int) -> Data:
    """Return the final output of one of several layers of one direction, with `added` axes of size 1 in front."""
    if (
        node.op_type != "Gather"
        or any(piece.directions == 2 for piece in state.pieces)
        or not -len(state.pieces) <= index < len(state.pieces)
    ):
        refuse(node, "must take what a layer of one direction ends with, by its number")
    piece = state.pieces[index]
    if piece.axes[0] != DIRECTIONS:
        refuse(node, "must take outputs, not cells")
    return replace(piece, axes=(*[ONE] * added, *piece.axes[1:]))


def entries_of(value: Any) -> tuple[Any, ...]:
    return tuple(value.reshape(-1).tolist()) if isinstance(value, np.ndarray) else value.entries


def loop(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> list[Any]:
    """Append the recurrent layer whose steps a loop computes, and return the loop's outputs; None for one that the layer lacks."""
    limit, condition, *initial = inputs
    step = Step(graph, node, attributes["body"], initial)
    x = step.source
    graph.check_steps(node, x, "")
    steps = graph.extent(x, x.axes[0])
    pairs = step.again.pairs if isinstance(step.again, Below) else ()
    counted = limit is not None and size_of(limit) == steps
    begins = condition is None or (isinstance(condition, np.ndarray) and bool(condition.all())) or condition == Positive(steps)
    goes_on = pairs or step.again is True or (isinstance(step.again, np.ndarray) and step.again.all())
    right = all(size_of(bound) == steps and index.added <= 1 for index, bound in pairs)
    if not (begins and goes_on and right and (counted or (limit is None and any(index == Index(1) for index, _ in pairs)))):
        refuse(node, "must run once for each step of what it reads")
    layer, h, c = layer_of_step(graph, step)
    graph.take(node, "initial state", initial[h])
    if c is not None:
        graph.take(node, "initial cells", initial[c])
    y, last, _ = graph.appended(x, layer, 1, x.whole)
    y, last = (replace(one, axes=tuple(axis for axis in one.axes if axis != DIRECTIONS)) for one in (y, last))
    cells = Ended((replace(last, axes=("moved",)),))
    ends = [last if i == h else cells if i == c else None for i in range(len(initial))]
    return ends + [y if value is step.results[h] else None for value in step.results[len(initial) :]]


def size_of(value: Any) -> Any:
    """Return the only entry of a shape or of constants, or None if there isn't exactly one."""
    entries = entries_of(value) if isinstance(value, (np.ndarray, Sizes)) else ()
    return entries[0] if len(entries) == 1 else None


def select(node: Any, inputs: list[Any], attributes: dict[str, Any], types: Any) -> Any:
    """Apply one of the nodes by which Keras 3 counts negative tokens from the table's end; return None for any other node."""
    kind, one, other = node.op_type, *(inputs + [None] * 2)[:2]
    if kind == "Cast" and is_tokens(one) and attributes["to"] == types.FLOAT:
        return Changed(one, False)
    if kind == "Cast" and isinstance(one, Selection):
        return one
    if kind == "Less" and (is_tokens(one) or (isinstance(one, Changed) and not one.moved)) and is_zero(other):
        return Selection(False)
    if kind == "Not" and isinstance(one, Selection):
        return Selection(not one.chosen)
    if kind == "Where" and isinstance(one, Selection):
        return inputs[1] if one.chosen else inputs[2]
    if kind == "Add" and is_tokens(one) and isinstance(other, np.ndarray):
        return Changed(one, True)
    if kind not in ("Mul", "Add") or not any(isinstance(value, Selection) for value in inputs):
        return None
    selection, value = (one, other) if isinstance(one, Selection) else (other, one)
    if kind == "Mul" and (is_tokens(value) or isinstance(value, Changed)):
        return value if selection.chosen else selection
    return value if kind == "Add" and not selection.chosen and is_tokens(value) else None


def is_tokens(value: Any) -> bool:
    return isinstance(value, Data) and not value.layers and FEATURES not in value.axes


def is_zero(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not value.any()


def functions_of(node: Any, names: Any, attributes: dict[str, Any]) -> list[Any]:
    """Return a recurrent node's activations. Their parameters come in order from activation_alpha and activation_beta."""
    alphas, betas = (list(attributes.get(f"activation_{name}", [])) for name in ("alpha", "beta"))
    functions = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            refuse(node, "must have activations that fastrnn has", name)
        ours, alpha, beta = ACTIVATIONS[name.lower()]
        parameters = [*(alphas.pop(0) if alphas else value for value in alpha), *(betas.pop(0) if betas else value for value in beta)]
        functions.append((ours, *parameters) if parameters else ours)
    if alphas or betas:
        refuse(node, "must have as many activation_alpha and activation_beta as its activations take", [*alphas, *betas])
    return functions


def layer_of(node: Any, weights: list[Any], functions: list[Any], attributes: dict[str, Any]) -> Recurrent:
    """Return the layer of one direction."""
    W, R, B, P = weights
    weights.clear()  # so that each weight is freed once its reordered copy exists
    if attributes.get("hidden_size", R.shape[-1]) != R.shape[-1]:
        refuse(node, f"must have hidden_size={R.shape[-1]}, as R", attributes["hidden_size"])
    rows = GATES[node.op_type] * R.shape[-1]
    if W.ndim != 2 or R.ndim != 2 or len(W) != rows or len(R) != rows or (B is not None and B.shape != (2 * rows,)):
        refuse(node, f"must have W, R and B of {rows}, {rows} and {2 * rows} rows", [w.shape for w in (W, R, B) if w is not None])
    given, wanted = {"RNN": ("f", "f"), "GRU": (ONNX_GRU, GRU_GATES), "LSTM": (ONNX_LSTM, LSTM_GATES)}[node.op_type]
    W, R = reordered(W, given, wanted), reordered(R, given, wanted)
    halves = [] if B is None else [reordered(half, given, wanted) for half in np.split(B, 2)]
    bias = halves[0] + halves[1] if halves else None
    if node.op_type == "RNN":
        return RNN(W, R, bias, nonlinearity=functions[0])
    if node.op_type == "LSTM":
        if functions[1] != functions[2]:
            refuse(node, "must have the same activation for g and for c", functions[1:])
        if P is not None and P.shape != (3 * R.shape[-1],):
            refuse(node, f"must have P of {3 * R.shape[-1]} columns", P.shape)
        peephole = None if P is None else reordered(P, LSTM_PEEPHOLES, LSTM_GATES.replace("g", "")).reshape(3, -1)
        return LSTM(W, R, bias, peephole=peephole, activation=functions[1], recurrent_activation=functions[0])
    after = bool(attributes.get("linear_before_reset", 0))
    biases = gru_biases(*halves) if halves and after else (bias,)
    return GRU(W, R, *biases, reset_after=after, activation=functions[1], recurrent_activation=functions[0])


def axes_of(node: Any, inputs: list[Any], attributes: dict[str, Any], rank: int) -> list[int] | None:
    """Return the axes of a Squeeze or an Unsqueeze, an attribute or an input, or None if there are none."""
    given = attributes.get("axes", inputs[1] if len(inputs) > 1 else None)
    if given is not None and not isinstance(given, (list, np.ndarray)):
        refuse(node, "must have constant axes")
    return None if given is None else [axis % rank for axis in numbers_of(given)]


def transpose(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    x = inputs[0]
    order = attributes.get("perm", range(len(x.axes))[::-1])
    return replace(x, axes=tuple(x.axes[axis] for axis in order))


def squeeze(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    x = inputs[0]
    gone = axes_of(node, inputs, attributes, len(x.axes))
    single = [i for i, axis in enumerate(x.axes) if axis == ONE or (axis == DIRECTIONS and x.directions == 1)]
    if gone is None or not set(gone) <= set(single):
        refuse(node, "must take away the axis of a single direction", [x.axes[axis] for axis in gone or []])
    return replace(x, axes=tuple(axis for i, axis in enumerate(x.axes) if i not in gone))


def unsqueeze(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    x = inputs[0]
    added = axes_of(node, inputs, attributes, len(x.axes) + 1)
    if added is None or len(added) != 1:
        refuse(node, "must add one axis")
    return replace(x, axes=(*x.axes[: added[0]], ONE, *x.axes[added[0] :]))


def reshape(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Drop a single direction, merge two directions with the features, merge all axes before the features, or split these again."""
    x, target = inputs[0], entries_of(inputs[1]) if isinstance(inputs[1], (np.ndarray, Sizes)) else ()
    merged = x.axes[-2:] == (DIRECTIONS, FEATURES) and x.directions == 2
    fewer = tuple(axis for axis in x.axes if axis not in (DIRECTIONS, ONE))
    result: tuple[Any, ...] = x.axes if DIRECTIONS not in x.axes or (x.directions == 2 and not merged) else fewer
    if isinstance(x.axes[0], tuple) and len(target) > 2:
        result = (*x.axes[0], *x.axes[1:])
    elif len(target) == 2 and len(x.axes) > 2 and DIRECTIONS not in x.axes and x.axes[-1] == FEATURES:
        result = (x.axes[:-1], FEATURES)
    known = [x.layers[-1].output_size if axis == FEATURES and x.layers else graph.extent(x, axis) for axis in result]
    right = [
        entry in (size, -1) or (entry == 0 and x.axes[i : i + 1] == result[i : i + 1] and not attributes.get("allowzero"))
        for i, (entry, size) in enumerate(zip(target, known, strict=False))
    ]
    if len(target) != len(result) or not all(right) or sum(entry == -1 for entry in target) > 1:
        refuse(node, "must do nothing but put directions to the features", f"the shape {list(target)} for axes {list(x.axes)}")
    return replace(x, axes=result, directions=1 if merged else x.directions)


def gather(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Look tokens up in a table, or take the last step, or take one direction."""
    table, indices = inputs
    if isinstance(indices, Data):
        if indices.layers or indices.flipped or attributes.get("axis", 0) != 0:
            refuse(node, "must look the graph's input up in the rows of a table")
        return Data((Embedding(graph.weight(node, "table", table)),), (*indices.axes, FEATURES))
    x, axis = table, int(attributes.get("axis", 0)) % len(table.axes)
    if not isinstance(indices, np.ndarray) or indices.size != 1:
        refuse(node, "must take one step, by a constant index")
    return one_of(graph, node, x, axis, int(indices.reshape(-1)[0]), indices.ndim)


def one_of(graph: Graph, node: Any, x: Data, axis: int, index: int, left: int) -> Data:
    """Take one direction, or the last step that a direction reads. `left` axes of size 1 replace the axis."""
    axes = (*x.axes[:axis], *[ONE] * left, *x.axes[axis + 1 :])
    size = graph.extent(x, x.axes[axis])
    index += size if isinstance(size, int) and index < 0 else 0
    if x.axes[axis] == DIRECTIONS and x.directions == 1 and index == 0:
        return replace(x, axes=axes)
    if x.axes[axis] == DIRECTIONS and x.directions == 2 and index in (0, 1) and isinstance(x.layers[-1], Bidirectional):
        layer = (x.layers[-1].forward, x.layers[-1].backward)[index]
        return replace(x, layers=(*x.layers[:-1], layer), axes=axes, directions=1, backward=index == 1)
    recurrent = [layer for layer in x.layers if isinstance(layer, Recurrent)]
    ends_with = 0 if x.backward and not x.flipped else size - 1 if isinstance(size, int) else -1
    if x.time is None or x.axes[axis] != x.time or index != ends_with or not x.whole or isinstance(recurrent[-1], Bidirectional):
        refuse(node, "must take the last step of one direction, whose sequences have all steps", f"index {index}")
    return replace(x, axes=axes, last=True, flipped=None)


def sliced(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Take one direction, or the last step that a direction reads, or reverse the steps."""
    x, names = inputs[0], ("starts", "ends", "axes", "steps")
    given = [attributes.get(name, inputs[i] if len(inputs) > i else None) for i, name in enumerate(names, 1)]
    if not all(isinstance(one, list | np.ndarray | None) for one in given):
        refuse(node, "must have constant bounds")
    starts, ends, axes, steps = map(numbers_of, given)
    axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
    for axis, start, end, step in zip([axis % len(x.axes) for axis in axes], starts, ends, steps, strict=True):
        size = graph.extent(x, x.axes[axis])
        size = size if isinstance(size, int) else ALL
        if step == 1 and start == 0 and end >= size:
            continue
        if step == -1 and (start == -1 or start >= size - 1) and end <= -ALL:
            x = turned(node, x, axis)
        elif step == 1 and ((end == start + 1 and end != 0) or (start in (-1, size - 1) and end >= size)):
            x = one_of(graph, node, x, axis, start, 1)
        else:
            refuse(node, "must take one direction, or the last step", f"{start} to {end} by {step} of {x.axes[axis]}")
    return x


def reverse_sequence(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Reverse the steps of all sequences, each of which must have all steps."""
    x, lengths = inputs
    axis = attributes.get("time_axis", 0)
    size = graph.extent(x, x.axes[axis])
    if not (isinstance(lengths, (np.ndarray, Sizes)) and set(entries_of(lengths)) == {size}):
        refuse(node, "must turn round all steps of every sequence")
    return turned(node, x, axis)


def turned(node: Any, x: Data, axis: int) -> Data:
    if x.axes[axis] not in (x.time, x.flipped) and (x.time or x.flipped or x.axes[axis] in (ONE, FEATURES, DIRECTIONS)):
        refuse(node, "must turn round the steps, which a recurrent node reads", f"the axis {x.axes[axis]}")
    if not x.whole:
        refuse(node, "must turn round sequences that have all steps")
    return replace(x, flipped=None if x.flipped else x.axes[axis])


def merged(node: Any, inputs: list[Any], merge: Any) -> Data:
    """Merge a forward and a backward layer into a Bidirectional."""
    one, other = inputs
    forward, backward = (other, one) if one.backward else (one, other)
    same = replace(forward, layers=(), backward=True) == replace(backward, layers=())
    if not backward.backward or forward.backward or backward.flipped or not forward.layers or not same:
        refuse(node, "must merge two directions, which read the same steps in the same order")
    single = isinstance(forward.layers[-1], Recurrent) and not isinstance(forward.layers[-1], Bidirectional)
    if not single or not same_layers(forward.layers[:-1], backward.layers[:-1]):
        refuse(node, "must merge two directions, which read what the same layers give")
    layer = Bidirectional(forward.layers[-1], backward.layers[-1], merge=merge)
    return replace(forward, layers=(*forward.layers[:-1], layer))


def same_layers(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


def concat(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Concatenate the outputs of two directions along the features."""
    if len(inputs) != 2 or not all(isinstance(value, Data) for value in inputs):
        refuse(node, "must put two directions one behind the other")
    if inputs[0].backward or attributes["axis"] % len(inputs[0].axes) != len(inputs[0].axes) - 1 or inputs[0].axes[-1] != FEATURES:
        refuse(node, "must put the backward direction's features behind the forward direction's", f"axis={attributes['axis']}")
    return merged(node, inputs, "concat")


def times(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Multiply the outputs of two directions, or halve their sum."""
    x, other = inputs
    if isinstance(other, Data):
        return merged(node, inputs, "product")
    layer = x.layers[-1] if x.layers else None
    factor = other if node.op_type == "Mul" else 1 / np.asarray(other)
    if not (isinstance(layer, Bidirectional) and layer.merge == "sum" and x.biased and np.size(other) == 1 and np.all(factor == 0.5)):
        refuse(node, "must merge two directions: multiply them, or halve their sum")
    return replace(x, layers=(*x.layers[:-1], Bidirectional(layer.forward, layer.backward, merge="mean")))


def product(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Append a Dense."""
    x, matrix, *bias = inputs
    inputs.clear()
    if not isinstance(x, Data) or x.axes[-1] != FEATURES:
        refuse(node, "must multiply features with a constant")
    if (DIRECTIONS in x.axes and x.directions == 2) or attributes.get("transA"):
        refuse(node, "must multiply features of both directions together, which lie last")
    weight = graph.weight(node, "weight", matrix)
    if weight.ndim != 2:
        refuse(node, "must have a weight of two axes", weight.shape)
    weight = np.ascontiguousarray(weight if attributes.get("transB") else weight.T)
    del matrix  # it may be large
    if attributes.get("alpha", 1.0) != 1:
        weight = weight * np.asarray(attributes["alpha"], weight.dtype)
    layer = Dense(weight)
    data = replace(x, layers=(*x.layers, layer), axes=(*x.axes[:-1], FEATURES), directions=1, biased=False)
    if not bias or bias[0] is None:
        return data
    scaled = graph.weight(node, "bias", bias[0]) * np.asarray(attributes.get("beta", 1.0), weight.dtype)
    return add(graph, node, [data, scaled], {})


def add(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Add a bias to the Dense before, or add the outputs of two directions."""
    x, constant = inputs if isinstance(inputs[0], Data) else inputs[::-1]
    if isinstance(constant, Data) and (x.backward or constant.backward):
        return merged(node, inputs, "sum")
    if isinstance(constant, Data) or x.biased or x.axes[-1] != FEATURES:
        refuse(node, "must add a constant to a product with a weight")
    bias, outputs = graph.weight(node, "bias", constant), x.layers[-1].output_size
    if bias.ndim > len(x.axes) or bias.size not in (1, outputs) or bias.shape[-1:] not in ((), (bias.size,)):
        refuse(node, f"must add one number, or {outputs} along the last axis", bias.shape)
    layer = Dense(x.layers[-1].weight, np.broadcast_to(bias.reshape(-1), outputs).astype(x.layers[-1].dtype))
    return replace(x, layers=(*x.layers[:-1], layer), biased=True)


def function(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Apply an activation."""
    x, kind = inputs[0], node.op_type.lower()
    if not x.layers:
        refuse(node, "must come after a layer with weights")
    if kind in ("softmax", "logsoftmax"):
        axis = attributes.get("axis", -1 if graph.version >= 13 else 1)
        if axis % len(x.axes) != len(x.axes) - 1 or x.axes[-1] != FEATURES or x.directions == 2:
            refuse(node, "must be over the features, which are the last axis", f"axis={axis}")
        applied: Any = {"softmax": "softmax", "logsoftmax": "log_softmax"}[kind]
    else:
        applied = activation_of(node, attributes)
    layers = list(x.layers)
    activate(layers, applied)
    return replace(x, layers=tuple(layers), biased=True)


def passed(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Return the input unchanged: the node does nothing at inference."""
    x, *options = inputs
    if node.op_type == "Dropout" and len(options) > 1 and (not isinstance(options[1], np.ndarray) or options[1].any()):
        refuse(node, "must have training_mode=False")
    if node.op_type == "Cast":
        to = graph.onnx.TensorProto.DataType.Name(attributes["to"])
        floats = bool(x.layers) or x.axes[-1] == FEATURES
        if not x.layers and x.axes in ((FEATURES,), ("axis 0", FEATURES)) and to in ("INT32", "INT64"):  # tokens given as floats
            last = f"axis {len(x.axes) - 1}"
            graph.sizes[last] = graph.sizes.pop(FEATURES)
            return replace(x, axes=(*x.axes[:-1], last))
        if to not in (("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16") if floats else ("INT32", "INT64")):
            refuse(node, "must keep what it is given", to)
    return x


STEPS: dict[str, Callable[[Graph, Any, list[Any], dict[str, Any]], Data]] = {
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Reshape": reshape,
    "Gather": gather,
    "Slice": sliced,
    "ReverseSequence": reverse_sequence,
    "Concat": concat,
    "Mul": times,
    "Div": times,
    "MatMul": product,
    "Gemm": product,
    "Add": add,
    "Softmax": function,
    "LogSoftmax": function,
    **dict.fromkeys(PASSED, passed),
}
