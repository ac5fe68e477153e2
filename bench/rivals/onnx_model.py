"""A task as an ONNX model: RNN, and MatMul and Softmax for the head."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bench.rows import Task

OPSET, IR_VERSION = 22, 10


def make_model(inputs: dict[str, np.ndarray], outputs: dict[str, list[int]], constants: dict[str, np.ndarray], nodes: list) -> bytes:
    """Serialize a graph with these inputs, outputs (float32), constants and nodes."""
    graph = helper.make_graph(
        nodes,
        "elman",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for name, a in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return model.SerializeToString()


def sequence_models(task: Task):
    """Yield each model's name, the model, its inputs, and its output's name and shape (T, 1, N, O)."""
    if task.cell == "BiLSTM":
        node, given, constants = bidirectional_node(task)
        output = {"y": [len(given["x"]), 2, given["x"].shape[1], task.W.shape[-1]]}
        yield "LSTM", make_model(given, output, constants, [node]), given, output
        return
    if task.cell != "RNN":
        node, given, constants = cell_node(task)
        output = {"y": [len(given["x"]), 1, given["h"].shape[1], task.W.shape[1]]}
        yield task.cell, make_model(given, output, constants, [node]), given, output
        return
    hidden, inputs = task.U.shape
    h0 = task.h0.reshape(1, -1, hidden)
    feeds = {"h0": h0}
    nodes, weights, variants = [], {"R": task.W[None], "B": np.concatenate([task.b, np.zeros_like(task.b)])[None]}, {}
    if task.tokens:
        # RNN takes only vectors: one-hot vectors, or the columns of U with the unit matrix as weight
        one_hot = (task.x[:, None, None] == np.arange(inputs)).astype(task.U.dtype)
        gather = helper.make_node("Gather", ["columns", "tokens"], ["x"], axis=0)
        variants["RNN, one-hot"] = ({"x": one_hot}, {"W": task.U[None]}, [])
        columns = {"W": np.eye(hidden, dtype=task.U.dtype)[None], "columns": task.U.T}
        variants["Gather, RNN"] = ({"tokens": task.x[:, None]}, columns, [gather])
    else:
        x = np.ascontiguousarray(task.x.reshape(-1, *task.x.shape[-2:]).swapaxes(0, 1))
        variants["RNN"] = ({"x": x}, {"W": task.U[None]}, [])
    if task.lengths is not None:
        feeds["lengths"] = task.lengths.astype(np.int32)
    nodes.append(helper.make_node("RNN", ["x", "W", "R", "B", "lengths" if "lengths" in feeds else "", "h0"], ["y"], hidden_size=hidden))
    if task.V is not None:
        weights["V"] = task.V.T
        nodes += [helper.make_node("MatMul", ["y", "V"], ["z"]), helper.make_node("Softmax", ["z"], ["p"], axis=-1)]
    steps = len(task.x) if task.tokens else task.x.shape[-2]
    output = {"y" if task.V is None else "p": [steps, 1, h0.shape[1], hidden if task.V is None else len(task.V)]}
    for name, (given, constants, before) in variants.items():
        every = {**given, **feeds}
        yield name, make_model(every, output, {**weights, **constants}, [*before, *nodes]), every, output


def step_models(task: Task):
    """Yield each model of one step: its name, the model, its inputs, and each state's name with the name of the output that is the next."""
    if task.cell != "RNN":
        node, given, constants = cell_node(task)
        node.output[:] = ["", *(f"{name}_n" for name in given if name != "x")]
        handed_on = {name: f"{name}_n" for name in given if name != "x"}
        shape = [1, *given["h"].shape[1:]]
        yield task.cell, make_model(given, dict.fromkeys(handed_on.values(), shape), constants, [node]), given, handed_on
        return
    hidden = len(task.U)
    B = np.concatenate([task.b, np.zeros_like(task.b)])[None]
    rnn = helper.make_node("RNN", ["x", "W", "R", "B", "", "h"], ["", "y"], hidden_size=hidden)
    inputs = {"x": task.x[None, None], "h": task.h0[None, None]}
    yield "RNN", make_model(inputs, {"y": [1, 1, hidden]}, {"W": task.U[None], "R": task.W[None], "B": B}, [rnn]), inputs, {"h": "y"}
    gemms = [
        helper.make_node("Gemm", ["x", "U", "b"], ["p"], transB=1),
        helper.make_node("Gemm", ["h", "W", "p"], ["z"], transB=1),
        helper.make_node("Tanh", ["z"], ["y"]),
    ]
    inputs = {"x": task.x[None], "h": task.h0[None]}
    yield "Gemm, Gemm, Tanh", make_model(inputs, {"y": [1, hidden]}, {"U": task.U, "W": task.W, "b": task.b}, gemms), inputs, {"h": "y"}


def bidirectional_node(task: Task):
    """Make the node of an LSTM of two directions, as `cell_node`."""
    W, R, b = (a.reshape(2, 4, -1, *a.shape[2:])[:, [0, 3, 1, 2]].reshape(a.shape) for a in (task.U, task.W, task.b))
    given = {"x": np.ascontiguousarray(task.x.reshape(-1, *task.x.shape[-2:]).swapaxes(0, 1))}
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], hidden_size=task.W.shape[-1], direction="bidirectional")
    return node, given, {"W": W, "R": R, "B": np.concatenate([b, np.zeros_like(b)], axis=1)}


def cell_node(task: Task):
    """Make the node of a GRU or an LSTM with the output y, its inputs, and its constants, with the gates in ONNX's order."""
    order = {"GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}[task.cell]
    hidden, inputs = task.W.shape[1], task.U.shape[1]
    bias_hh = np.zeros_like(task.b)
    if task.bias_hn is not None:
        bias_hh[2 * hidden :] = task.bias_hn
    W, R, *B = (a.reshape(len(order), hidden, *a.shape[1:])[order].reshape(a.shape) for a in (task.U, task.W, task.b, bias_hh))
    steps = 1 if task.single else task.x.shape[-2]
    given = {"x": np.ascontiguousarray(task.x.reshape(-1, steps, inputs).swapaxes(0, 1))}
    given |= {name: array.reshape(1, -1, hidden) for name, array in zip("hc", task.states, strict=False)}
    options = {"linear_before_reset": 1} if task.cell == "GRU" else {}
    names = ["x", "W", "R", "B", "", *(name for name in given if name != "x")]
    node = helper.make_node(task.cell, names, ["y"], hidden_size=hidden, **options)
    return node, given, {"W": W[None], "R": R[None], "B": np.concatenate(B)[None]}
