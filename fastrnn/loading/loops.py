"""Recognize cells that exporters write as loops. One step, followed node by node, must compute an RNN, a GRU or an LSTM."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..arguments import Array
from ..layers import GRU, LSTM, RNN, Recurrent
from .gates import GRU_GATES, LSTM_GATES
from .nodes import ACTIVATIONS, activation_of, numbers_of, refuse


@dataclass(frozen=True, eq=False)
class Vector:
    """A vector that a step reads or computes for each sequence. Two are equal only if they are one object."""


@dataclass(frozen=True, eq=False)
class Applied(Vector):
    function: Any
    argument: Vector


@dataclass(frozen=True, eq=False)
class Product(Vector):
    """The product of two vectors, element by element."""

    one: Vector
    other: Vector


@dataclass(frozen=True, eq=False)
class Complement(Vector):
    """1 - a vector."""

    of: Vector


@dataclass(frozen=True, eq=False)
class Sum(Vector):
    """The sum of vectors, of products of vectors (K,) with matrices (K, H), and of a bias (H,)."""

    vectors: tuple[Vector, ...] = ()
    products: tuple[tuple[Vector, Array], ...] = ()
    bias: Array | None = None

    def plus(self, other: "Sum") -> "Sum":
        biases = [one.bias for one in (self, other) if one.bias is not None]
        bias = np.add(*biases) if len(biases) == 2 else biases[0] if biases else None
        return Sum(self.vectors + other.vectors, self.products + other.products, bias)

    def columns(self, first: int, end: int) -> "Sum":
        bias = None if self.bias is None else self.bias[first:end]
        return Sum((), tuple((vector, matrix[:, first:end]) for vector, matrix in self.products), bias)


class Index(NamedTuple):
    """The step's number, from 0, plus a constant."""

    added: int


class Below(NamedTuple):
    """A condition: in each pair, the step's number is below a bound from outside the loop."""

    pairs: tuple[tuple[Index, Any], ...]


class Step:
    """One step of a loop: its input x, the states it carries, its results, and the condition for another step."""

    def __init__(self, graph: Any, loop: Any, body: Any, initial: list[Any]) -> None:
        self.graph, self.loop = graph, loop
        self.tensors = {tensor.name: graph.onnx.numpy_helper.to_array(tensor) for tensor in body.initializer}
        self.x = Vector()  # the step's input
        self.source: Any = None  # the value outside the loop that holds x of all steps
        count, condition, *carried = [one.name for one in body.input]
        again, *results = [one.name for one in body.output]
        self.values: dict[str, Any] = {count: Index(0), condition: True}
        self.states: dict[int, Vector] = {}
        same = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}
        for i, (name, value) in enumerate(zip(carried, initial, strict=True)):
            result = results[i]
            while result in same:
                result = same[result]
            if result == name:
                self.values[name] = value  # the same in every step
            elif isinstance(value, np.ndarray) and value.dtype.kind == "i" and value.ndim == 0:
                self.values[name] = Index(int(value))
            else:
                kind = body.input[i + 2].type.tensor_type
                if kind.HasField("shape") and len(kind.shape.dim) != 2:
                    refuse(loop, "must have a state of each sequence in each step", f"{len(kind.shape.dim)} axes for {name!r}")
                self.values[name] = self.states[i] = Vector()
        self.indices = {i: self.values[name] for i, name in enumerate(carried) if isinstance(self.values[name], Index)}
        for node in body.node:
            self.run(node)
        self.again, self.results = self.value(loop, again), [self.value(loop, name) for name in results]
        if any(index.added or self.results[i] != Index(1) for i, index in self.indices.items()):
            refuse(loop, "must count its steps from 0, one by one")

    def value(self, node: Any, name: str) -> Any:
        known = self.tensors if name in self.tensors else self.values
        return known[name] if name in known else self.graph.value(node, name)

    def run(self, node: Any) -> None:
        inputs = [self.value(node, name) for name in node.input]
        attributes = {one.name: self.graph.onnx.helper.get_attribute_value(one) for one in node.attribute}
        kinds = [type(value) for value in inputs]
        if node.domain not in ("", "ai.onnx"):
            refuse(node, f"must be one of ONNX's own operators, got the domain {node.domain!r}")
        if all(kind is np.ndarray for kind in kinds):
            outputs = self.graph.computed(node, inputs)
        elif any(issubclass(kind, Vector) for kind in kinds):
            outputs = arithmetic(self.graph, node, inputs, attributes)
        else:
            outputs = [self.counted(node, inputs, attributes)]
        self.values.update(zip(node.output, outputs, strict=False))

    def counted(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        """Compute a node that reads the step's number, or values from outside the loop."""
        kind, first, *others = node.op_type, *inputs
        if kind in ("Identity", "Cast"):
            return first
        if kind == "Add" and isinstance(first, Index) and isinstance(others[0], np.ndarray) and others[0].size == 1:
            return Index(first.added + int(others[0].reshape(())))
        if kind == "Less" and isinstance(first, Index):
            return Below(((first, others[0]),))
        if kind == "And" and isinstance(first, Below) and isinstance(others[0], Below):
            return Below(first.pairs + others[0].pairs)
        taken = kind == "Gather" and isinstance(others[0], Index) and others[0] == Index(0) and attributes.get("axis", 0) == 0
        if taken and (self.source is None or self.source is first):
            self.source = first
            return self.x
        return refuse(node, "must be an operator that steps of a cell are made with")


def arithmetic(graph: Any, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> list[Any]:
    """Compute a node that reads vectors: return expressions, not numbers."""
    kind, (first, *others) = node.op_type, inputs
    vectors = all(isinstance(value, Vector) for value in inputs)
    matrix = others and isinstance(first, Vector) and isinstance(others[0], np.ndarray) and others[0].ndim == 2
    if kind == "Identity":
        return [first]
    if kind == "Cast" and graph.onnx.TensorProto.DataType.Name(attributes["to"]) in ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"):
        return [first]
    if kind == "MatMul" and matrix:
        return [Sum((), ((first, others[0]),))]
    plain = all(attributes.get(name, 1.0) == 1 for name in ("alpha", "beta")) and not attributes.get("transA")
    if kind == "Gemm" and matrix and plain:
        product = Sum((), ((first, others[0].T if attributes.get("transB") else others[0]),))
        return [product if len(others) == 1 or others[1] is None else product.plus(added(node, others[1]))]
    if kind == "Add":
        return [added(node, first).plus(added(node, others[0]))]
    if kind == "Sub" and isinstance(first, np.ndarray) and np.all(first == 1):
        return [Complement(others[0])]
    if kind == "Mul" and vectors:
        return [Product(first, others[0])]
    if kind in ("Split", "Slice") and isinstance(first, Sum):
        return columns(node, first, others, attributes)
    if kind.lower() in ACTIVATIONS and vectors:
        return [Applied(activation_of(node, attributes), first)]
    return refuse(node, "must be an operator that steps of a cell are made with")


def added(node: Any, value: Any) -> Sum:
    """Return a vector or a constant as a Sum."""
    if isinstance(value, Sum):
        return value
    if isinstance(value, Vector):
        return Sum((value,))
    if not isinstance(value, np.ndarray) or value.ndim == 0 or value.shape[-1] != value.size:
        refuse(node, "must add vectors, or a constant to each sequence's")
    return Sum((), (), value.reshape(-1))


def columns(node: Any, value: Sum, others: list[Any], attributes: dict[str, Any]) -> list[Any]:
    """Take columns of a product with a matrix: gates, which exporters compute in one product."""
    widths = {matrix.shape[1] for _, matrix in value.products} | ({len(value.bias)} if value.bias is not None else set())
    if value.vectors or len(widths) != 1 or not all(isinstance(one, np.ndarray) for one in others):
        refuse(node, "must take constant columns of a product with a matrix")
    (width,) = widths
    if node.op_type == "Split":
        parts = len(node.output)
        sizes = numbers_of(attributes.get("split", others[0] if others else [width // parts] * parts))
        if attributes.get("axis", 0) not in (1, -1) or sum(sizes) != width or len(sizes) != parts:
            refuse(node, "must split all columns")
        return [value.columns(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(parts)]
    names = ("starts", "ends", "axes", "steps")
    given = [attributes.get(name, others[i] if len(others) > i else None) for i, name in enumerate(names)]
    starts, ends, axes, steps = map(numbers_of, given)
    for axis, start, end, step in zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True):
        if axis in (1, -1) and step == 1:
            first, end, _ = slice(start, end).indices(width)
            value = value.columns(first, end)
        elif (start, step) != (0, 1) or end < 2**31 - 1:
            refuse(node, "must take columns", f"axis {axis}")
    return [value]


class Gate(NamedTuple):
    """A gate, function(x @ ih + h @ hh + bias), with matrices (I, H) and (H, H)."""

    function: Any
    ih: Array
    hh: Array
    bias: Array | None
    bias_hh: Array | None = None  # of a GRU's candidate, inside what the reset gate multiplies


class NoCellError(Exception):
    """A step doesn't compute the cell that is tried."""


def need(right: object) -> None:
    if not right:
        raise NoCellError


def layer_of_step(graph: Any, step: Step) -> tuple[Recurrent, int, int | None]:
    """Return the layer that a step belongs to, and which carried values are its h and its c; None if it has no c."""
    results = step.results
    for h in step.states:
        others = [i for i in step.states if i != h]
        if len(others) > 1:
            continue
        try:
            if others:
                return lstm(graph, step, step.states[h], step.states[others[0]], results[h], results[others[0]]), h, others[0]
            made = gru if isinstance(results[h], Sum) else rnn
            return made(graph, step, step.states[h], results[h]), h, None
        except NoCellError:
            continue
    return refuse(step.loop, "must compute the steps of a cell that fastrnn has")


def only(values: Iterable[Any]) -> Any:
    found = list(values)
    need(len(found) == 1)
    return found[0]


def rnn(graph: Any, step: Step, h: Vector, new: Vector) -> Recurrent:
    gate = gate_of(step, h, new)
    return RNN(*stacked(graph, step.loop, [gate]), nonlinearity=gate.function)


def gru(graph: Any, step: Step, h: Vector, new: Any) -> Recurrent:
    """Return the GRU whose new state is z * h + (1 - z) * n."""
    need(len(new.vectors) == 2 and not new.products and new.bias is None)
    kept, fresh = sorted(new.vectors, key=lambda one: h not in factors(one))
    update = other_than(h, kept)
    complement = only(one for one in factors(fresh) if isinstance(one, Complement) and one.of is update)
    candidate = other_than(complement, fresh)
    need(isinstance(candidate, Applied) and isinstance(candidate.argument, Sum))
    total = candidate.argument
    after = bool(total.vectors)
    if after:  # n = f(x @ W + b + r * (h @ R + c))
        need(len(total.vectors) == 1 and len(total.products) == 1 and total.products[0][0] is step.x)
        inner = only(one for one in factors(total.vectors[0]) if isinstance(one, Sum))
        need(not inner.vectors and len(inner.products) == 1 and inner.products[0][0] is h)
        reset = other_than(inner, total.vectors[0])
        fresh_gate = Gate(candidate.function, total.products[0][1], inner.products[0][1], total.bias, inner.bias)
    else:  # n = f(x @ W + (r * h) @ R + b)
        matrices = {id(vector): matrix for vector, matrix in total.products}
        reset_h = only(vector for vector, _ in total.products if vector is not step.x)
        need(len(total.products) == 2 == len(matrices) and id(step.x) in matrices and isinstance(reset_h, Product))
        reset = other_than(h, reset_h)
        fresh_gate = Gate(candidate.function, matrices[id(step.x)], matrices[id(reset_h)], total.bias)
    gates = {"r": gate_of(step, h, reset), "z": gate_of(step, h, update), "n": fresh_gate}
    need(gates["r"].function == gates["z"].function)
    weights = stacked(graph, step.loop, [gates[letter] for letter in GRU_GATES])
    second = fresh_gate.bias_hh
    biases = [] if second is None else [graph.weight(step.loop, "bias", second)]
    if biases and weights[2] is None:
        weights[2] = np.zeros(len(weights[0]), weights[0].dtype)
    return GRU(*weights, *biases, reset_after=after, activation=candidate.function, recurrent_activation=gates["z"].function)


def lstm(graph: Any, step: Step, h: Vector, c: Vector, new_h: Vector, new_c: Any) -> Recurrent:
    """Return the LSTM whose new c is f * c + i * g, and whose new h is o * tanh(c), or another function of c."""
    squashed = only(one for one in factors(new_h) if isinstance(one, Applied) and one.argument is new_c)
    need(isinstance(new_c, Sum) and len(new_c.vectors) == 2 and not new_c.products and new_c.bias is None)
    kept, fresh = sorted(new_c.vectors, key=lambda one: c not in factors(one))
    need(isinstance(fresh, Product))
    output, forget = gate_of(step, h, other_than(squashed, new_h)), gate_of(step, h, other_than(c, kept))
    pair = [gate_of(step, h, one) for one in factors(fresh)]
    enter, candidate = pair if pair[1].function == squashed.function else pair[::-1]
    need(enter.function == forget.function == output.function and candidate.function == squashed.function)
    gates = {"i": enter, "f": forget, "g": candidate, "o": output}
    weights = stacked(graph, step.loop, [gates[letter] for letter in LSTM_GATES])
    return LSTM(*weights, activation=candidate.function, recurrent_activation=forget.function)


def factors(value: Vector) -> tuple[Vector, ...]:
    return (value.one, value.other) if isinstance(value, Product) else ()


def other_than(factor: Any, value: Any) -> Any:
    """Return the other factor of a product."""
    need(isinstance(value, Product) and (value.one is factor) != (value.other is factor))
    return value.other if value.one is factor else value.one


def gate_of(step: Step, h: Vector, value: Any) -> Gate:
    need(isinstance(value, Applied) and isinstance(value.argument, Sum))
    total = value.argument
    matrices = {id(vector): matrix for vector, matrix in total.products}
    need(not total.vectors and len(total.products) == 2 and set(matrices) == {id(step.x), id(h)})
    return Gate(value.function, matrices[id(step.x)], matrices[id(h)], total.bias)


def stacked(graph: Any, node: Any, gates: list[Gate]) -> list[Any]:
    """Return weight_ih, weight_hh and bias, stacked gate by gate; bias is None if no gate has one."""
    size = len(gates[0].hh)
    need(all(gate.hh.shape == (size, size) and gate.ih.shape[1] == size for gate in gates))
    need(all(bias is None or len(bias) == size for gate in gates for bias in (gate.bias, gate.bias_hh)))
    ih = np.concatenate([graph.weight(node, "matrix", gate.ih.T) for gate in gates])
    hh = np.concatenate([graph.weight(node, "matrix", gate.hh.T) for gate in gates])
    if all(gate.bias is None for gate in gates):
        return [ih, hh, None]
    biases = [np.zeros(size, ih.dtype) if gate.bias is None else graph.weight(node, "bias", gate.bias) for gate in gates]
    return [ih, hh, np.concatenate(biases)]
