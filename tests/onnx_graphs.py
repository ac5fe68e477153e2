"""Small graphs of ONNX, made by hand: a recurrent layer, and what may come after it."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

I, H, N, T = 5, 7, 3, 9  # noqa: E741


def numbers(seed, *shape):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def weights(kind, directions=1, **more):
    rows = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind] * H
    return {"W": numbers(1, directions, rows, I), "R": numbers(2, directions, rows, H), "B": numbers(3, directions, 2 * rows), **more}


def graph_of(nodes, constants, output=("y", None), *, inputs=(("x", TensorProto.FLOAT, ["T", "N", I]),), opset=17, others=()):
    made = [helper.make_tensor_value_info(*one) for one in inputs]
    outputs = [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in others]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", made, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def one_layer(kind, constants=None, *, last=False, names=("x", "W", "R", "B"), more=(), **attributes):
    """A recurrent node, its directions put one behind the other."""
    constants = weights(kind) if constants is None else constants
    node = helper.make_node(kind, list(names), ["", "y_h"] if last else ["y_all"], name="cell", hidden_size=H, **attributes)
    order = [1, 0, 2] if last else [0, 2, 1, 3]
    shape = np.array([0, -1] if last else [0, 0, -1])
    moved = helper.make_node("Transpose", ["y_h" if last else "y_all"], ["moved"], name="moved", perm=order)
    flat = helper.make_node("Reshape", ["moved", "shape"], ["y" if not more else "flat"], name="flat")
    return graph_of([node, moved, flat, *more], {**constants, "shape": shape}, ("y", ["a", "b"] if last else ["a", "b", "c"]))


def after(*nodes):
    """A recurrent layer, and nodes after it, of which the last makes y."""
    return one_layer("RNN", weights("RNN", M=numbers(5, H, 4), V=numbers(6, 4), K=numbers(7, 1, 1, 1)), more=nodes)


def node(kind, inputs, output="y", **attributes):
    return helper.make_node(kind, inputs, [output], name="next", **attributes)
