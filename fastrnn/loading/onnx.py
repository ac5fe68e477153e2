"""Networks from ONNX files: a chain of layers is followed from an input of the graph to its first output, node by node."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from ..arguments import Array
from ..bidirectional import Bidirectional
from ..gated import GRU, LSTM
from ..layers import RNN, Dense, Embedding, Recurrent, Sequential
from .gates import GRU_GATES, LSTM_GATES, activate, as_numbers, check_dtype, gru_biases, reordered

OLDEST = 7  # the first opset whose Add and Gemm broadcast as NumPy does, and whose Dropout is that of inference

# ONNX's orders of the gates, in this package's letters.
ONNX_GATES = {"RNN": "h", "GRU": "zrn", "LSTM": "iofg"}
OUR_GATES = {"RNN": "h", "GRU": GRU_GATES, "LSTM": LSTM_GATES}
ONNX_PEEPHOLES, OUR_PEEPHOLES = "iof", "ifo"

# Axes of a tensor go by names: those of the graph's inputs by x[0], x[1], and these.
DIRECTIONS, FEATURES, ONE = "directions", "features", "one"

# What a recurrent node computes with where it doesn't say, for each direction.
FUNCTIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
# What activations are called here, and the defaults of the parameters they have: alpha, or alpha and beta.
ACTIVATIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    "tanh": ("tanh", ()),
    "relu": ("relu", ()),
    "sigmoid": ("sigmoid", ()),
    "softsign": ("softsign", ()),
    "softplus": ("softplus", ()),
    "leakyrelu": ("leaky_relu", (0.01,)),
    "elu": ("elu", (1.0,)),
    "hardsigmoid": ("hard_sigmoid", (0.2, 0.5)),
}
# The attributes of recurrent nodes that are read, and those that must have a value if they are there.
READ = ("direction", "hidden_size", "activations", "activation_alpha", "activation_beta", "linear_before_reset")
REQUIRED = {"layout": 0, "input_forget": 0}

# Operators that move the entries of a state.
MOVES = ("Cast", "Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze")
# Operators that are computed where all their inputs are constant.
FOLDED = (*MOVES, "Add", "Constant", "ConstantOfShape", "Div", "Flatten", "Mul", "Neg", "Shape", "Sub")
WHOLE = 1 << 31  # where a Slice ends, at least, that exporters write for a whole axis, less one


@dataclass(frozen=True)
class Data:
    """What flows along the chain: the input it comes from, the axes it has, and the layers so far."""

    source: str
    axes: tuple[str, ...]
    features: str  # which axis a layer reads
    layers: tuple[Any, ...] = ()
    time: str | None = None  # which axis steps are along, as a recurrent node says
    lengths: str | None = None  # which input is the recurrent nodes' sequence_lens
    last: bool = False  # whether it is the last step's alone
    open: bool = False  # whether the last layer is a product that may get a bias


class Sizes(NamedTuple):
    """A shape, or a piece of one: numbers, and the names of axes whose size depends on the data."""

    entries: tuple[int | str, ...]


class State(NamedTuple):
    """A state, or a piece of one: "zeros", "given" to the graph as an input, or what a node ends with, "last"."""

    kind: str
    source: str | None = None


UNKNOWN = Sizes(("unknown",))


def from_onnx(path_or_model: Any, *, dtype: DTypeLike | None = None) -> Sequential:
    """Load a network from an ONNX file, or take over an ONNX model. It needs the extra `onnx`.

    The graph must be a chain from one of its inputs to its first output: Gather of a table's rows, RNN, GRU, LSTM, MatMul or Gemm, Add of a
    bias, activations, Softmax and LogSoftmax over the features, and the Squeeze, Unsqueeze, Transpose and Reshape that exporters
    put between. What isn't understood is refused: clip, input_forget, layout, direction "reverse" alone, and whatever moves features.

    Parameters
    ----------
    path_or_model : str, path-like or onnx.ModelProto
        Weights in float16 and bfloat16 become float32.
    dtype : {float32, float64}, optional
        What the model computes in; the weights' dtype where not given.

    Returns
    -------
    Sequential
        With return_sequences=False where the graph's output is the last step's, y[-1] or Y_h.

    Raises
    ------
    ImportError
        Where the package onnx is not installed.
    TypeError
        For what is neither a path nor a model.
    ValueError
        For a damaged file, and for a node that isn't understood, by its name, its operator, and the attribute or input concerned.

    Notes
    -----
    The model's x is (..., T, input_size) and its output (..., T, output_size), in whatever order the graph has steps and sequences. Y's
    two directions are one behind the other.

    Inputs of the graph that are initial states, initial_h and initial_c, are what a call takes as its state, an entry for each layer, and zeros
    if it takes none; which piece of an input which node gets is not checked. An input that is sequence_lens is what a call takes
    as lengths. What lies past a sequence's end is zero here also where a layer with a bias comes after.

    W, R and B have GRU's gates in the order z, r, h and LSTM's in the order i, o, f, c, P has i, o, f, and B is Wb and Rb one behind the
    other. linear_before_reset is `GRU`'s reset_after.

    Examples
    --------
    >>> import fastrnn
    >>> model = fastrnn.from_onnx("model.onnx")  # doctest: +SKIP
    >>> output, state = model(x)  # doctest: +SKIP
    """
    check_dtype(dtype)
    try:
        import onnx
    except ImportError as error:
        raise ImportError("from_onnx needs the package onnx; pip install 'fastrnn[onnx]'") from error
    model = read(onnx, path_or_model)
    data = Graph(onnx, onnx.inliner.inline_local_functions(model) if model.functions else model, dtype).output()
    return Sequential(*data.layers, return_sequences=not data.last)


def read(onnx: Any, path_or_model: Any) -> Any:
    """Give a model that ONNX itself finds valid."""
    if isinstance(path_or_model, onnx.ModelProto):
        name, given = "path_or_model", path_or_model
    elif isinstance(path_or_model, (str, os.PathLike)):
        name = given = os.fspath(path_or_model)
        os.stat(name)  # a file that isn't there is no damaged one
    else:
        raise TypeError(f"path_or_model must be a path or an onnx.ModelProto, got {type(path_or_model).__name__}")
    try:
        onnx.checker.check_model(given)
        return onnx.load(given) if given is name else given
    except Exception as error:  # protobuf's, ONNX's and the system's have no class in common
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{name} must be a valid ONNX model, got one that onnx refuses: {reason}") from error


class Graph:
    """A graph whose values are known one after the other, as far as its outputs need them."""

    def __init__(self, onnx: Any, model: Any, dtype: DTypeLike | None) -> None:
        self.onnx, self.model, self.graph, self.dtype = onnx, model, model.graph, dtype
        self.version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), OLDEST)
        if self.version < OLDEST:
            remedy = "convert it with onnx.version_converter.convert_version"
            raise ValueError(f"the model must be of opset {OLDEST} or later, got opset {self.version}; {remedy}")
        self.values: dict[str, Any] = {"": None, **{one.name: onnx.numpy_helper.to_array(one) for one in self.graph.initializer}}
        self.sizes: dict[str, int] = {}  # of the inputs' axes, as far as they are fixed
        self.integers: set[str] = set()  # which inputs are
        for one in self.graph.input:
            if one.name not in self.values:
                self.values[one.name] = self.input(one)

    def input(self, value: Any) -> Data:
        """Take an input of the graph for data until a node says otherwise."""
        name, tensor = value.name, value.type.tensor_type
        if not tensor.HasField("shape"):
            raise ValueError(f"the graph's input {name!r} must be a tensor with a known number of axes, got one without a shape")
        axes = tuple(f"{name}[{i}]" for i in range(len(tensor.shape.dim)))
        self.sizes.update((axis, dim.dim_value) for axis, dim in zip(axes, tensor.shape.dim, strict=True) if dim.dim_value)
        if np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).kind in "iu":
            self.integers.add(name)
        return Data(name, axes, axes[-1] if axes else ONE)

    def output(self) -> Data:
        """Give what the first output is, and check that the others are states."""
        names = [one.name for one in self.graph.output]
        needed, nodes = set(names), []
        for node in reversed(self.graph.node):
            if needed & set(node.output):
                needed |= set(node.input)
                nodes.append(node)
        for node in reversed(nodes):
            self.run(node)
        data, *others = [self.values.get(name) for name in names]
        if not isinstance(data, Data) or not data.layers:
            raise ValueError(f"the graph's output {names[0]!r} must be what layers with weights make of an input, got {described(data)}")
        if data.axes[-1:] != (FEATURES,):
            raise ValueError(f"the graph's output {names[0]!r} must have the features as its last axis, got the axes {listed(data.axes)}")
        for name, other in zip(names[1:], others, strict=True):
            ends = isinstance(other, Data) and other.last and other.layers == data.layers[: len(other.layers)]
            if not isinstance(other, State) and not (ends and isinstance(other.layers[-1], Recurrent)):
                raise ValueError(f"the graph's output {name!r} must be a last state, as {names[0]!r} is its output; got {described(other)}")
        return data

    def run(self, node: Any) -> None:
        """Find what a node's outputs are."""
        lacking = [name for name in node.input if name not in self.values]
        if lacking:
            refuse(node, "must read what an earlier node or an initializer gives", repr(lacking[0]))
        if node.domain not in ("", "ai.onnx"):
            refuse(node, "must be an operator of ONNX's own", f"one of the domain {node.domain!r}")
        inputs = [self.values[name] for name in node.input]
        given = [value for value in inputs if value is not None]
        attributes = {one.name: self.onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type in ONNX_GATES:
            outputs = self.recurrent(node, inputs, attributes)
        elif all(isinstance(value, np.ndarray) for value in given):
            outputs = self.computed(node, given)
        elif node.op_type == "Concat" and any(isinstance(value, (Data, State)) for value in given):
            outputs = [joined(node, given)]
        elif any(isinstance(value, Data) for value in given):
            outputs = [self.step(node, inputs, attributes)] * len(node.output)
        elif any(isinstance(value, State) for value in given):
            if node.op_type not in MOVES or not isinstance(inputs[0], State):
                refuse(node, "must not change a state", described(next(value for value in given if isinstance(value, State))))
            outputs = [inputs[0]] * len(node.output)
        else:
            outputs = [self.shape(node, inputs, attributes)]
        self.values.update({name: value for name, value in zip(node.output, outputs, strict=False) if name})

    def computed(self, node: Any, inputs: list[Array]) -> list[Any]:
        """Compute a node of constants."""
        if node.op_type not in FOLDED:
            refuse(node, "must be an operator that weights or shapes are made with, where its inputs are constant")
        helper = self.onnx.helper
        named = dict(zip([name for name in node.input if name], inputs, strict=False))
        infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in named.items()]
        outputs = [helper.make_value_info(name, self.onnx.TypeProto()) for name in node.output if name]
        graph = helper.make_graph([node], "constants", infos, outputs)
        try:
            model = helper.make_model(graph, opset_imports=self.model.opset_import)
            results = iter(self.onnx.reference.ReferenceEvaluator(model).run(None, named))
        except Exception as error:  # whatever an operator raises
            refuse(node, "must be computable from its constant inputs", f"{type(error).__name__}: {error}")
        return [np.asarray(next(results)) if name else None for name in node.output]

    def shape(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Sizes | State | Array:
        """Find what something made of shapes is: zeros, a shape, or what nobody needs to know."""
        kind, (first, *others) = node.op_type, inputs
        constant = [other for other in others if isinstance(other, np.ndarray)]
        if kind == "ConstantOfShape":
            value = attributes.get("value")
            return State("zeros") if value is None or not self.onnx.numpy_helper.to_array(value).any() else UNKNOWN
        if kind in ("Expand", "Tile") and isinstance(first, np.ndarray):
            return UNKNOWN if first.any() else State("zeros")
        if kind in ("Expand", "Tile") or (kind in ("Cast", "Identity", "Unsqueeze", "Squeeze") and isinstance(first, Sizes)):
            return first
        if kind == "Concat":
            return known([entry for one in inputs for entry in (one.ravel().tolist() if isinstance(one, np.ndarray) else one.entries)])
        entries = np.array(first.entries, object) if isinstance(first, Sizes) else np.array(())
        if kind == "Gather" and len(constant) == 1 and np.all((constant[0] >= -len(entries)) & (constant[0] < len(entries))):
            return known(entries[constant[0].ravel()].tolist(), constant[0].ndim)
        if kind == "Slice":
            cut = slices(inputs, attributes)
            return known(entries[slice(*cut[0][1:])].tolist()) if cut is not None and len(cut) == 1 else UNKNOWN
        return UNKNOWN

    def size(self, data: Data, axis: str) -> int | None:
        """Give the size of an axis, where it is known."""
        if axis == FEATURES:
            return int(data.layers[-1].output_size) // (1 + (DIRECTIONS in data.axes))
        return {ONE: 1, DIRECTIONS: 2}.get(axis, self.sizes.get(axis))

    def step(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        """Find what a node makes of what flows along the chain."""
        step = STEPS.get(node.op_type)
        if step is None:
            refuse(node, "must be an operator that fastrnn has a layer for")
        if not isinstance(inputs[0], Data) and node.op_type not in ("Add", "Gather"):
            refuse(node, "must have the data as its first input", described(inputs[0]))
        return step(self, node, inputs, attributes)

    def weight(self, node: Any, name: str, value: Any) -> Array:
        if not isinstance(value, np.ndarray):
            refuse(node, f"must have a constant as {name}", described(value))
        return as_numbers(f"{name} of {titled(node)}", value, self.dtype)

    def attached(self, node: Any, x: Data, layer: Any, **changes: Any) -> Data:
        """Put a layer behind those before."""
        size = self.size(x, x.features)
        if size not in (None, layer.input_size):
            refuse(node, f"must have a weight for {size} features", f"one for {layer.input_size}")
        return replace(x, layers=(*x.layers, layer), features=FEATURES, **{"open": False, **changes})

    def recurrent(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> list[Any]:
        """Add a recurrent layer, and give Y, Y_h and Y_c."""
        x, W, R, B, lengths, h0, c0, P = [*inputs, *[None] * 8][:8]
        for name, value in attributes.items():
            if name not in READ and (name not in REQUIRED or value != REQUIRED[name]):
                must = f"{name}={REQUIRED[name]}" if name in REQUIRED else f"no {name}"
                refuse(node, f"must have {must}", f"{name}={value}")
        direction = attributes.get("direction", b"forward").decode()
        if direction not in ("forward", "bidirectional"):
            refuse(node, "must have direction='forward', or 'bidirectional': fastrnn reads backwards in a pair only", repr(direction))
        if not isinstance(x, Data) or len(x.axes) != 3 or x.axes[2] != x.features or DIRECTIONS in x.axes:
            refuse(node, "must read steps, sequences and features, as axes in this order", described(x))
        if x.last or x.axes[0] == ONE or x.time not in (None, x.axes[0]):
            refuse(node, f"must read steps along {x.time or 'an axis of the input'}", described(x))
        for name, value in (("initial_h", h0), ("initial_c", c0)):
            check_state(node, name, value, x)
        lengths = self.lengths(node, lengths, x)
        layer = self.layer(node, (W, R, B, P), attributes, 1 + (direction == "bidirectional"))
        steps, sequences, _ = x.axes
        directions = DIRECTIONS if isinstance(layer, Bidirectional) else ONE
        y = self.attached(node, x, layer, time=steps, lengths=lengths, axes=(steps, sequences, FEATURES))
        return [
            replace(y, axes=(steps, directions, sequences, FEATURES)),
            replace(y, axes=(directions, sequences, FEATURES), last=True),
            State("last"),
        ]

    def lengths(self, node: Any, value: Any, x: Data) -> str | None:
        """Give which input sequence_lens is; None where every sequence has all steps."""
        steps, source = self.sizes.get(x.axes[0]), None
        if isinstance(value, Data) and not value.layers and len(value.axes) == 1 and value.source in self.integers - {x.source}:
            source = value.source
        elif not (
            value is None
            or (isinstance(value, Sizes) and set(value.entries) == {x.axes[0]})
            or (isinstance(value, np.ndarray) and np.all(value == (-1 if steps is None else steps)))
        ):
            refuse(node, "must have as sequence_lens an input of integers, or the length of x, or none", described(value))
        if x.time is not None and source != x.lengths:
            refuse(node, "must have the sequence_lens of the recurrent node before it", f"{source!r} after {x.lengths!r}")
        return source

    def layer(self, node: Any, weights: Sequence[Any], attributes: dict[str, Any], directions: int) -> Recurrent:
        """Make a node's layer."""
        named = zip("WRBP", weights, (3, 3, 2, 2), strict=True)
        W, R, B, P = arrays = [None if value is None else self.weight(node, name, value) for name, value, _ in named]
        units = R.shape[-1] if R is not None else 0
        rows = len(ONNX_GATES[node.op_type]) * units
        wanted = [(directions, rows, W.shape[-1] if W is not None and W.ndim else 0), (directions, rows, units), (directions, 2 * rows)]
        for name, array, shape in zip("WRBP", arrays, [*wanted, (directions, 3 * units)], strict=True):
            if array is not None and array.shape != shape:
                refuse(node, f"must have {name} of shape {shape}", str(array.shape))
        if attributes.get("hidden_size", units) != units:
            refuse(node, f"must have hidden_size={units}, R's size", f"hidden_size={attributes['hidden_size']}")
        names = [name.decode() for name in attributes.get("activations", [])] or list(FUNCTIONS[node.op_type]) * directions
        each = len(FUNCTIONS[node.op_type])
        if len(names) != each * directions:
            refuse(node, f"must have {each * directions} activations", f"activations={names}")
        functions = functions_of(node, names, attributes)
        after = bool(attributes.get("linear_before_reset", 0))
        made = [
            one_direction(node, [w if w is None else w[i] for w in (W, R, B, P)], functions[i * each : (i + 1) * each], after)
            for i in range(directions)
        ]
        return Bidirectional(*made) if directions == 2 else made[0]


def titled(node: Any) -> str:
    return f"node {node.name or next(filter(None, node.output), '')!r} ({node.op_type})"


def refuse(node: Any, must: str, got: str | None = None) -> NoReturn:
    raise ValueError(f"{titled(node)} {must}" + ("" if got is None else f", got {got}"))


def listed(axes: Sequence[str]) -> str:
    return f"({', '.join(axes)})"


def described(value: Any) -> str:
    """Say what a value is, for errors."""
    if isinstance(value, Data):
        what = "the last step's output" if value.last else "a layer's output" if value.layers else f"the input {value.source!r}"
        return f"{what} with the axes {listed(value.axes)}"
    if isinstance(value, State):
        return {"zeros": "zeros", "given": f"a piece of the input {value.source!r}", "last": "a last state"}[value.kind]
    if isinstance(value, np.ndarray):
        return f"a constant of shape {value.shape}"
    return "none" if value is None else "what is computed from a shape"


def known(entries: list[Any], ndim: int = 1) -> Sizes | Array:
    """Give a shape, as a constant where all of it is known."""
    if all(isinstance(entry, int) for entry in entries):
        return np.array(entries, np.int64).reshape((-1,) if ndim else ())
    return Sizes(tuple(entries))


def joined(node: Any, values: list[Any]) -> State:
    """Give what pieces of states are together."""
    kinds = {State("last") if isinstance(one, Data) and one.last else one if isinstance(one, State) else State("other") for one in values}
    if len(kinds) > 1 or State("other") in kinds:
        refuse(node, "must put nothing together but pieces of one state, or last states", ", ".join(map(described, values)))
    return kinds.pop()


def check_state(node: Any, name: str, value: Any, x: Data) -> None:
    """Check that an initial state is zero, or what a call can be given."""
    zeros = value is None or (isinstance(value, np.ndarray) and not value.any()) or value == State("zeros")
    given = (isinstance(value, Data) and not value.layers) or (isinstance(value, State) and value.kind == "given")
    if not zeros and not (given and value.source != x.source):
        remedy = "; pass it as the state of a call instead" if isinstance(value, np.ndarray) else ""
        refuse(node, f"must have as {name} zeros, or another input of the graph", described(value) + remedy)


def functions_of(node: Any, names: list[str], attributes: dict[str, Any]) -> list[Any]:
    """Give a recurrent node's activations: those with parameters take them from two lists, one after the other."""
    lists = [list(attributes.get(name, [])) for name in ("activation_alpha", "activation_beta")]
    functions = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            refuse(node, f"must have activations among {', '.join(ACTIVATIONS)}", f"activations={names}")
        ours, defaults = ACTIVATIONS[name.lower()]
        parameters = [left.pop(0) if left else default for left, default in zip(lists, defaults, strict=False)]
        functions.append((ours, *parameters) if parameters else ours)
    for name, left in zip(("activation_alpha", "activation_beta"), lists, strict=True):
        if left:
            refuse(node, f"must have no more {name} than activations={names} take", f"{name}={list(attributes[name])}")
    return functions


def one_direction(node: Any, weights: list[Any], functions: list[Any], reset_after: bool) -> Recurrent:
    """Make the layer of one direction."""
    given, wanted = ONNX_GATES[node.op_type], OUR_GATES[node.op_type]
    (W, R), (B, P) = [reordered(weight, given, wanted) for weight in weights[:2]], weights[2:]
    biases = [] if B is None else [reordered(half, given, wanted) for half in np.split(B, 2)]
    bias = biases[0] + biases[1] if biases else None
    if node.op_type == "RNN":
        return RNN(W, R, bias, nonlinearity=functions[0])
    if node.op_type == "GRU":
        options = {"activation": functions[1], "recurrent_activation": functions[0], "reset_after": reset_after}
        return GRU(W, R, *(gru_biases(*biases) if biases and reset_after else (bias,)), **options)
    if functions[1] != functions[2]:
        refuse(node, "must have one activation for the gate c and for the cell's output", f"{functions[1]} and {functions[2]}")
    peephole = None if P is None else reordered(P, ONNX_PEEPHOLES, OUR_PEEPHOLES).reshape(3, -1)
    return LSTM(W, R, bias, peephole=peephole, activation=functions[1], recurrent_activation=functions[0])


def axes_of(node: Any, inputs: list[Any], attributes: dict[str, Any], rank: int) -> list[int]:
    """Give the axes of a Squeeze or an Unsqueeze, which are an attribute or an input."""
    given = attributes.get("axes", inputs[1] if len(inputs) > 1 else None)
    if not isinstance(given, (list, np.ndarray)):
        refuse(node, "must have constant axes", described(given))
    return [int(axis) % rank for axis in given]


def slices(inputs: list[Any], attributes: dict[str, Any]) -> list[tuple[int, int, int, int]] | None:
    """Give each axis that a Slice cuts, where it starts and ends, and its step; None where that isn't constant."""
    parts = inputs[1:] if len(inputs) > 1 else [np.asarray(attributes[name]) for name in ("starts", "ends", "axes") if name in attributes]
    if not all(part is None or isinstance(part, np.ndarray) for part in parts):
        return None
    starts, ends, axes, steps = [None if part is None else part.ravel().tolist() for part in [*parts, None, None][:4]]
    return list(zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True))


def transpose(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    x: Data = inputs[0]
    order = attributes.get("perm", range(len(x.axes))[::-1])
    return replace(x, axes=tuple(x.axes[axis] for axis in order))


def squeeze(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    x: Data = inputs[0]
    gone = axes_of(node, inputs, attributes, len(x.axes))
    if any(x.axes[axis] != ONE for axis in gone):
        refuse(node, "must take away the axis of a single direction, or one that was added", listed([x.axes[axis] for axis in gone]))
    return replace(x, axes=tuple(axis for i, axis in enumerate(x.axes) if i not in gone))


def unsqueeze(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    x: Data = inputs[0]
    added = axes_of(node, inputs, attributes, len(x.axes) + 1)
    if len(added) != 1:
        refuse(node, "must add one axis", f"axes={added}")
    return replace(x, axes=(*x.axes[: added[0]], ONE, *x.axes[added[0] :]))


def reshape(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Put two directions one behind the other, or take axes of size one away."""
    x, target = inputs
    entries = target.ravel().tolist() if isinstance(target, np.ndarray) else target.entries if isinstance(target, Sizes) else ()
    merged = (*x.axes[:-2], FEATURES) if x.axes[-2:] == (DIRECTIONS, FEATURES) else x.axes
    for axes in (x.axes, merged, tuple(axis for axis in x.axes if axis != ONE), tuple(axis for axis in merged if axis != ONE)):
        result = replace(x, axes=axes)
        right = [
            entry in (axis, graph.size(result, axis), -1) or (entry == 0 and not attributes.get("allowzero") and x.axes[i] == axis)
            for i, (entry, axis) in enumerate(zip(entries, axes, strict=False))
        ]
        if len(entries) == len(axes) and all(right) and entries.count(-1) <= 1:
            return result
    return refuse(node, f"must do nothing to {described(x)} but join directions and features, or drop a single one", f"shape={entries}")


def gather(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data | State:
    """Look tokens up in a table; or take the last step, or the only entry of an axis."""
    table, indices = inputs
    if isinstance(indices, Data):
        if indices.layers or attributes.get("axis", 0) != 0:
            refuse(
                node, "must look an input of the graph up in the rows of a table", f"{described(indices)}, axis={attributes.get('axis', 0)}"
            )
        weight = graph.weight(node, "table", table)
        if weight.ndim != 2:
            refuse(node, "must have a table of two axes", described(weight))
        return replace(indices, layers=(Embedding(weight),), axes=(*indices.axes, FEATURES), features=FEATURES)
    if not isinstance(indices, np.ndarray) or indices.size != 1 or indices.ndim > 1:
        refuse(node, "must take one entry, by a constant index", described(indices))
    index = int(indices.reshape(()))
    return taken(node, table, attributes.get("axis", 0), (index, index + 1 or WHOLE, 1), f"index {index}", kept=indices.ndim == 1)


def cut(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data | State:
    """Take what a Slice leaves: everything, or the last step."""
    x, ranges = inputs[0], slices(inputs, attributes)
    if ranges is None or len(ranges) != 1:
        refuse(node, "must cut one axis, by constants", "others")
    axis, *part = ranges[0]
    size = graph.size(x, x.axes[axis])
    if part[0] == 0 and part[2] == 1 and part[1] >= (WHOLE - 1 if size is None else size):
        return x
    return taken(node, x, axis, tuple(part), f"the range {part[0]}:{part[1]}:{part[2]}", kept=True)


def taken(node: Any, x: Data, axis: int, part: tuple[int, ...], shown: str, *, kept: bool) -> Data | State:
    """Take a single entry along an axis, which is kept or not."""
    axis %= len(x.axes)
    name, left = x.axes[axis], (*x.axes[:axis], *[ONE] * kept, *x.axes[axis + 1 :])
    if not x.layers:
        return State("given", x.source)
    if x.last and name == DIRECTIONS:
        return State("last")
    final = part[0] == -1 and part[1] >= WHOLE - 1 and part[2] == 1
    if name == ONE and (final or part == (0, 1, 1)):
        return replace(x, axes=left)
    if name != x.time or not final:
        refuse(node, "must take the last step, or the only entry of an axis", f"{shown} along {name}")
    if x.lengths is not None or isinstance([layer for layer in x.layers if isinstance(layer, Recurrent)][-1], Bidirectional):
        reason = "whose backward layer has read one step there" if x.lengths is None else f"since sequences have lengths, {x.lengths!r}"
        refuse(node, f"must not take the last step of this network, {reason}; let the graph use Y_h")
    return replace(x, axes=left, last=True)


def split(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> State:
    x: Data = inputs[0]
    if x.layers and not x.last:
        refuse(node, "must split nothing but a state", described(x))
    return State("last") if x.layers else State("given", x.source)


def shape_of(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Sizes | Array:
    x: Data = inputs[0]
    sizes = [graph.size(x, axis) or axis for axis in x.axes]
    return known(sizes[attributes.get("start", 0) : attributes.get("end", len(sizes))])


def product(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Add a Dense."""
    x, matrix, bias = [*inputs, None][:3]
    if x.axes[-1] != x.features or DIRECTIONS in x.axes or attributes.get("transA", 0):
        refuse(node, "must multiply the features, which are the last axis, by a weight", described(x))
    weight = graph.weight(node, "weight", matrix)
    if weight.ndim != 2:
        refuse(node, "must have a weight of two axes", described(weight))
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    weight = weight if attributes.get("transB", 0) else weight.T
    weight = weight if alpha == 1 else weight * weight.dtype.type(alpha)
    data = graph.attached(node, x, Dense(weight), axes=(*x.axes[:-1], FEATURES), open=True)
    if bias is None:
        return data
    return add(graph, node, [data, graph.weight(node, "bias", bias) * weight.dtype.type(beta)], {})


def add(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Give the Dense before a bias."""
    x, constant = inputs if isinstance(inputs[0], Data) else inputs[::-1]
    if not x.open or x.axes[-1] != FEATURES:
        refuse(node, "must add a bias to a product with a weight", f"{described(x)} to {described(constant)}")
    bias, dense = graph.weight(node, "bias", constant), x.layers[-1]
    if bias.ndim > len(x.axes) or bias.size != (bias.shape or (1,))[-1] or bias.size not in (1, dense.output_size):
        refuse(node, f"must add a bias of {dense.output_size} numbers along the last axis", described(bias))
    layer = Dense(dense.weight, np.broadcast_to(bias.ravel(), dense.output_size))
    return replace(x, layers=(*x.layers[:-1], layer), open=False)


def function(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Apply an activation, to each number or over the features."""
    x, kind = inputs[0], node.op_type.lower()
    if not x.layers:
        refuse(node, "must come after a layer with weights", described(x))
    applied: Any
    if kind in ("softmax", "logsoftmax"):
        axis = attributes.get("axis", -1 if graph.version >= 13 else 1)
        if axis not in (-1, len(x.axes) - 1) or x.axes[-1] != FEATURES or DIRECTIONS in x.axes:
            refuse(node, "must be over the features, which are the last axis", f"axis={axis} of {described(x)}")
        applied = "softmax" if kind == "softmax" else "log_softmax"
    else:
        applied, defaults = ACTIVATIONS[kind]
        parameters = [attributes.get(name, default) for name, default in zip(("alpha", "beta"), defaults, strict=False)]
        applied = (applied, *parameters) if parameters else applied
    layers = list(x.layers)
    activate(layers, applied)
    return replace(x, layers=tuple(layers), open=False)


def passed(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Hand on what does nothing at inference."""
    x: Data = inputs[0]
    training = inputs[2] if node.op_type == "Dropout" and len(inputs) > 2 else None
    if training is not None and (not isinstance(training, np.ndarray) or training.any()):
        refuse(node, "must have training_mode=False", described(training))
    return x


def cast(graph: Graph, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Data:
    """Hand on numbers of another type that holds them."""
    x, to = inputs[0], np.dtype(graph.onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))
    if to.kind not in "iu" if x.source in graph.integers and not x.layers else to not in (np.float32, np.float64):
        refuse(node, "must keep the numbers as they are", f"a Cast to {to}")
    return x


STEPS: dict[str, Callable[[Graph, Any, list[Any], dict[str, Any]], Any]] = {
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Reshape": reshape,
    "Gather": gather,
    "Slice": cut,
    "Split": split,
    "Shape": shape_of,
    "MatMul": product,
    "Gemm": product,
    "Add": add,
    "Cast": cast,
    **dict.fromkeys(("Dropout", "Identity"), passed),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Tanh", "Relu", "Sigmoid"), function),
    **dict.fromkeys(("Softsign", "Softplus", "LeakyRelu", "Elu", "HardSigmoid"), function),
}
