"""Networks in ONNX files, loaded: against Keras' outputs in files of tf2onnx', and against ONNX's own cases."""

import contextlib
import importlib
import pathlib
import re
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fastrnn

from .onnx_graphs import H, I, N, after, graph_of, node, numbers, one_layer, weights
from .process import python

TOLERANCES = {np.float32: 1e-5, np.float64: 1e-12}


# ---- what tf2onnx exports -------------------------------------------------------------------------------------------------------------

MODELS = np.load(pathlib.Path(__file__).with_name("tf2onnx_files.npz"))  # which tf2onnx_files.py made
NOT_UNDERSTOOD = {
    "backwards": r"the graph's output 'Identity:0' must have its steps in order, read forwards or in both directions",
    "masked": r"node '.*NotEqual.*' \(Equal\) must be an operator that fastrnn has a layer for",
    "averaged": r"node '.*Mean' \(ReduceMean\) must be an operator that fastrnn has a layer for",
}


@pytest.mark.parametrize("name", sorted({name.partition("/")[0] for name in MODELS}))
def test_exported_by_tf2onnx(name, tmp_path):
    """Keras' models give Keras' outputs, whether tf2onnx made operators or loops of them; what isn't understood is refused."""
    file, x, expected = (MODELS[f"{name}/{part}"] for part in ("file", "x", "output"))
    (tmp_path / "model.onnx").write_bytes(file.tobytes())
    refused = NOT_UNDERSTOOD.get(name.rpartition("refused: ")[2])
    if refused:
        with pytest.raises(ValueError, match=f"^{refused}$"):
            fastrnn.from_onnx(tmp_path / "model.onnx")
        return
    model = fastrnn.from_onnx(tmp_path / "model.onnx")
    output = model.predict(x.astype(np.int64) if x.ndim == 2 else x)
    assert output.dtype == expected.dtype
    np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCES[expected.dtype.type])


def one_node(graph, kind):
    return next(node for node in graph.node if node.op_type == kind)


def parts_of(model):
    """Give the first loop, its body, and the constants of both by their names."""
    loop = one_node(model.graph, "Loop")
    body = loop.attribute[0].g
    return loop, body, {one.name: one for graph in (model.graph, body) for one in graph.initializer}


def set_number(tensor, number):
    tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), number), tensor.name))


def begin_later(model):
    loop, _, constants = parts_of(model)
    set_number(constants[loop.input[2]], 1)


def skip_steps(model):
    _, body, constants = parts_of(model)
    add = next(node for node in body.node if node.op_type == "Add" and node.input[0] == body.input[2].name)
    set_number(constants[add.input[1]], 2)


def stop_early(model):
    loop, _, _ = parts_of(model)
    model.graph.initializer.append(numpy_helper.from_array(np.array(3), "three"))
    loop.input[0] = "three"


def change_a_gate(model):
    one_node(parts_of(model)[1], "Sigmoid").op_type = "Tanh"


def change_a_complement(model):
    _, body, constants = parts_of(model)
    set_number(constants[one_node(body, "Sub").input[0]], 2)


def leave_the_input_out(model):
    _, body, _ = parts_of(model)
    product = next(node for node in body.node if node.op_type == "MatMul" and node.input[0] == one_node(body, "Gather").output[0])
    product.input[0] = body.input[3].name


def begin_with_ones(model):
    loop, _, _ = parts_of(model)
    expand = next(node for node in model.graph.node if node.output[0] == loop.input[3])
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    expand.input[0] = "one"


def exchange_directions(model):
    concat = next(node for node in model.graph.node if node.op_type == "Concat" and node.attribute[0].i == 2)
    concat.input.extend([concat.input.pop(0)])


def set_bound(model, index, number):
    """Have a slice of the gates' columns take some of the sequences, too."""
    _, body, constants = parts_of(model)
    bounds = numpy_helper.to_array(constants[one_node(body, "Slice").input[index]]).copy()
    bounds[0] = number
    body.initializer.append(numpy_helper.from_array(bounds, "bounds"))
    one_node(body, "Slice").input[index] = "bounds"


def leave_the_first_sequence_out(model):
    set_bound(model, 1, 1)


def leave_later_sequences_out(model):
    set_bound(model, 2, 3)


CHANGED = {
    leave_the_first_sequence_out: ("GRU", r"node '.*strided_slice.*' \(Slice\) must take columns, got axis 0"),
    leave_later_sequences_out: ("GRU", r"node '.*strided_slice.*' \(Slice\) must take columns, got axis 0"),
    begin_later: ("GRU", r"node '.*GetItem' \(Gather\) must be an operator that steps of a cell are made with"),
    skip_steps: ("GRU", r"node '.*while_loop' \(Loop\) must count its steps from 0, one by one"),
    stop_early: ("GRU", r"node '.*while_loop' \(Loop\) must run once for each step of what it reads"),
    change_a_gate: ("GRU", r"node '.*while_loop' \(Loop\) must compute the steps of a cell that fastrnn has"),
    change_a_complement: ("GRU", r"node '.*sub' \(Sub\) must be an operator that steps of a cell are made with"),
    leave_the_input_out: ("SimpleRNN", r"node '.*while_loop' \(Loop\) must compute the steps of a cell that fastrnn has"),
    begin_with_ones: ("GRU", r"node '.*zeros' \(Expand\) must make zeros"),
    exchange_directions: (
        "GRU, both, stacked",
        r"node '.*concat' \(Concat\) must put the backward direction's features behind the forward direction's, got axis=2",
    ),
}


@pytest.mark.parametrize("change", CHANGED)
def test_changed_loops(change):
    """A loop that computes something else than a layer is refused."""
    name, text = CHANGED[change]
    model = onnx.load_from_string(MODELS[f"Keras 3: {name}/file"].tobytes())
    fastrnn.from_onnx(model)
    change(model)
    with pytest.raises(ValueError, match=f"^{text}$"):
        fastrnn.from_onnx(model)


# ---- made by hand ---------------------------------------------------------------------------------------------------------------------


def test_short_floats():
    """float16 weights become float32, and what is asked for is had."""
    model = one_layer("GRU", {name: value.astype(np.float16) for name, value in weights("GRU").items()})
    assert fastrnn.from_onnx(model).dtype == np.float32
    assert fastrnn.from_onnx(model, dtype=np.float64).dtype == np.float64
    kept = after(node("MatMul", ["flat", "M"], "m"), node("Cast", ["m"], to=TensorProto.FLOAT))
    assert fastrnn.from_onnx(kept, dtype=np.float64).dtype == np.float64


def two_layers(*nodes, h="h", c="", outputs=(), last="z"):
    """Two LSTMs, after nodes that change the graph's other inputs, states and lengths."""
    (h1, h2), (c1, c2) = (one if isinstance(one, tuple) else (one, one) for one in (h, c))
    chain = [
        helper.make_node(
            "LSTM", ["x", "W", "R", "B", "n_changed" if "n" in h else "", h1, c1], ["a", "a_h", "a_c"], name="first", hidden_size=H
        ),
        helper.make_node("Squeeze", ["a", "one"], ["b"], name="squeeze"),
        helper.make_node("LSTM", ["b", "R", "R", "B", "", h2, c2], ["z", "z_h", "z_c"], name="second", hidden_size=H),
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["", "s_h", "s_c"], name="aside", hidden_size=H),
        helper.make_node("Concat", ["z_h", "s_h"], ["mixed"], name="mixed", axis=0),
        helper.make_node("Concat", ["a_h", "z_h"], ["h_n"], name="h_n", axis=0),
    ]
    inputs = [(name, TensorProto.FLOAT, [*"TNI"]) for name in ("x", "h", "c")] + [("n", TensorProto.INT32, ["N"])]
    constants = weights("LSTM", one=np.array([1]), zero=np.array([0]), two=np.array([2]), turned=np.array([1, 0]))
    return graph_of([*nodes, *chain], constants, (last, list("abcd")), inputs=inputs, others=outputs)


def cut(name, start, end, **more):
    return helper.make_node("Slice", ["h", start, end, more.get("axes", "zero")], [name], name=name)


def test_parts_of_a_state():
    """Two layers take the parts of one state in their order, and states are other outputs."""
    model = fastrnn.from_onnx(two_layers(cut("h1", "zero", "one"), cut("h2", "one", "two"), h=("h1", "h2"), outputs=("h_n", "z_c", "a_h")))
    assert len(model.layers) == 2


REFUSED = {
    "parts in another order": (
        lambda: two_layers(cut("h1", "one", "two"), cut("h2", "zero", "one"), h=("h1", "h2")),
        "node 'second' (LSTM) must have as initial_h the part of 'h' after that of the layer before",
    ),
    "one state for two layers": (
        lambda: two_layers(h="h"),
        "node 'second' (LSTM) must have as initial_h the part of 'h' after that of the layer before",
    ),
    "one input for h and c": (
        lambda: two_layers(h=("h", ""), c=("h", "")),
        "node 'first' (LSTM) must have as initial_c the part of 'h' after that of the layer before",
    ),
    "sequences in another order": (
        lambda: two_layers(helper.make_node("Gather", ["h", "turned"], ["h1"], name="turn", axis=1), h=("h1", "")),
        "node 'turn' (Gather) must take parts of a state along its first axis, by constants",
    ),
    "a state that is turned": (
        lambda: two_layers(helper.make_node("Transpose", ["h"], ["h1"], name="turn", perm=[0, 2, 1]), h=("h1", "")),
        "node 'turn' (Transpose) must take a state as it is, or parts of it along its first axis",
    ),
    "lengths in another order": (
        lambda: two_layers(helper.make_node("Gather", ["n", "turned"], ["n_changed"], name="turn"), h=("n", "")),
        "node 'turn' (Gather) must take parts of a state along its first axis, by constants",
    ),
    "a branch's cells": (lambda: two_layers(h="", outputs=("s_c",)), "the graph's output 's_c' must be a state, since 'z' is its output"),
    "a branch's state": (
        lambda: two_layers(h="", outputs=("mixed",)),
        "the graph's output 'mixed' must be a state, since 'z' is its output",
    ),
    "what nothing makes": (
        lambda: two_layers(h="", last="nothing"),
        "path_or_model must be a valid ONNX model, got ModelProto, which is damaged or not understood: KeyError: 'nothing'; "
        "onnx.checker.check_model(model, full_check=True) says more",
    ),
    "a constant that is squeezed": (
        lambda: after(node("Squeeze", ["K", "flat"])),
        "node 'next' (Squeeze) must have what flows along the chain as its first input",
    ),
    "peepholes": (
        lambda: one_layer("LSTM", weights("LSTM", P=numbers(4, 1, 13)), names=("x", "W", "R", "B", "", "", "", "P")),
        "node 'cell' (LSTM) must have P of 21 columns, got (13,)",
    ),
    "clip": (lambda: one_layer("RNN", clip=3.0), "node 'cell' (RNN) must have clip=0.0, got 3.0"),
    "layout": (lambda: one_layer("GRU", layout=1), "node 'cell' (GRU) must have layout=0, got 1"),
    "input_forget": (lambda: one_layer("LSTM", input_forget=1), "node 'cell' (LSTM) must have input_forget=0, got 1"),
    "reverse": (
        lambda: one_layer("RNN", direction="reverse"),
        "node 'cell' (RNN) must have direction='forward' or 'bidirectional', got 'reverse'",
    ),
    "an attribute": (lambda: one_layer("RNN", output_sequence=1), "node 'cell' (RNN) must have no attribute output_sequence, got 1"),
    "a function": (
        lambda: one_layer("RNN", activations=["Affine"]),
        "node 'cell' (RNN) must have activations that fastrnn has, got Affine",
    ),
    "two functions": (
        lambda: one_layer("LSTM", activations=["Sigmoid", "Tanh", "Relu"]),
        "node 'cell' (LSTM) must have the same activation for g and for c, got ['tanh', 'relu']",
    ),
    "too many parameters": (
        lambda: one_layer("RNN", activation_alpha=[0.5]),
        "node 'cell' (RNN) must have as many activation_alpha and activation_beta as its activations take, got [0.5]",
    ),
    "too few functions": (
        lambda: one_layer("GRU", activations=["Sigmoid"]),
        "node 'cell' (GRU) must have 2 activations for each direction, got ['Sigmoid']",
    ),
    "a state": (
        lambda: one_layer("RNN", weights("RNN", h=numbers(4, 1, N, H)), names=("x", "W", "R", "B", "", "h")),
        "node 'cell' (RNN) must have zeros, or an input of the graph, as initial_h",
    ),
    "lengths": (
        lambda: one_layer("RNN", weights("RNN", n=np.array([9, 2, 3], np.int32)), names=("x", "W", "R", "B", "n")),
        "node 'cell' (RNN) must have an input of the graph as sequence_lens, or none",
    ),
    "rows": (
        lambda: one_layer("RNN", weights("RNN", W=numbers(1, 1, 5, I))),
        "node 'cell' (RNN) must have W, R and B of 7, 7 and 14 rows, got [(5, 5), (7, 7), (14,)]",
    ),
    "bounds that are computed": (
        lambda: after(helper.make_node("Shape", ["flat"], ["s"], name="s"), node("Slice", ["flat", "s", "s"])),
        "node 'next' (Slice) must have constant bounds",
    ),
    "two axes more": (
        lambda: after(helper.make_node("Constant", [], ["i"], value_ints=[0, 1]), node("Unsqueeze", ["flat", "i"])),
        "node 'next' (Unsqueeze) must add one axis",
    ),
    "another operator": (lambda: after(node("Sin", ["flat"])), "node 'next' (Sin) must be an operator that fastrnn has a layer for"),
    "a sum": (lambda: after(node("Add", ["flat", "flat"])), "node 'next' (Add) must add a constant to a product with a weight"),
    "a constant": (lambda: after(node("Add", ["flat", "K"])), "node 'next' (Add) must add a constant to a product with a weight"),
    "two biases": (
        lambda: after(node("MatMul", ["flat", "M"], "a"), node("Add", ["a", "V"], "b"), node("Add", ["b", "V"])),
        "node 'next' (Add) must add a constant to a product with a weight",
    ),
    "softmax over time": (
        lambda: after(node("Softmax", ["flat"], axis=0)),
        "node 'next' (Softmax) must be over the features, which are the last axis, got axis=0",
    ),
    "another step": (
        lambda: after(helper.make_node("Constant", [], ["i"], value_int=3), node("Gather", ["flat", "i"])),
        "node 'next' (Gather) must take the last step of one direction, whose sequences have all steps, got index 3",
    ),
    "a last sequence": (
        lambda: after(helper.make_node("Constant", [], ["i"], value_int=-1), node("Gather", ["flat", "i"], axis=1)),
        "node 'next' (Gather) must take the last step of one direction, whose sequences have all steps, got index -1",
    ),
    "another shape": (
        lambda: after(helper.make_node("Constant", [], ["s"], value_ints=[-1, H]), node("Reshape", ["flat", "s"])),
        "the graph's output 'y' must keep steps and sequences apart, got the axes [('axis 0', 'axis 1'), 'features']",
    ),
    "another's operator": (
        lambda: after(node("FusedGelu", ["flat"], domain="com.microsoft")),
        "node 'next' (FusedGelu) must be one of ONNX's own operators, got the domain 'com.microsoft'",
    ),
    "steps and sequences changed": (
        lambda: after(
            node("Transpose", ["flat"], "turned", perm=[1, 0, 2]),
            helper.make_node("RNN", ["turned", "R", "R"], ["y"], name="second", hidden_size=H),
        ),
        "node 'second' (RNN) must read the steps of the recurrent node before it along the same axis",
    ),
    "a decoder": (
        lambda: one_layer(
            "RNN",
            more=[
                helper.make_node("RNN", ["x", "W", "R", "B"], ["", "ended"], name="encoder", hidden_size=H),
                helper.make_node("Concat", ["ended", "ended"], ["both"], name="both", axis=0),
                helper.make_node("Identity", ["both"], ["same"], name="same"),
                helper.make_node("RNN", ["flat", "R", "R", "B", "", "same"], ["y"], name="decoder", hidden_size=H),
            ],
        ),
        "node 'decoder' (RNN) must have zeros, or an input of the graph, as initial_h",
    ),
    "one direction of two": (
        lambda: one_layer("RNN", direction="bidirectional"),
        "node 'cell' (RNN) must have weights of 2 directions, got [(1, 7, 5), (1, 7, 7), (1, 14)]",
    ),
    "features first": (
        lambda: after(node("Transpose", ["flat"], perm=[2, 0, 1])),
        "the graph's output 'y' must have its features last, got the axes ['features', 'axis 0', 'axis 1']",
    ),
    "another length": (
        lambda: one_layer(
            "RNN",
            weights("RNN", n=np.array([1], np.int32)),
            more=[helper.make_node("RNN", ["flat", "R", "R", "B", "n"], ["y"], name="second", hidden_size=H)],
        ),
        "node 'second' (RNN) must have an input of the graph as sequence_lens, or none",
    ),
    "a state of ones": (
        lambda: two_layers(
            helper.make_node("Shape", ["x"], ["s"]),
            node("ConstantOfShape", ["s"], "h1", value=numpy_helper.from_array(np.ones(1, np.float32))),
            h="h1",
        ),
        "node 'next' (ConstantOfShape) must make zeros",
    ),
    "dropout in training": (
        lambda: after(helper.make_node("Cast", ["K"], ["on"], to=TensorProto.BOOL), node("Dropout", ["flat", "", "on"])),
        "node 'next' (Dropout) must have training_mode=False",
    ),
    "random weights": (
        lambda: one_layer(
            "RNN", more=[helper.make_node("RandomNormal", [], ["Q"], name="random", shape=[H, 4]), node("MatMul", ["flat", "Q"])]
        ),
        "node 'random' (RandomNormal) must be an operator that constants are made with",
    ),
    "a bias along time": (
        lambda: after(node("MatMul", ["flat", "M"], "a"), node("Transpose", ["a"], "t", perm=[1, 2, 0]), node("Add", ["t", "V"])),
        "node 'next' (Add) must add a constant to a product with a weight",
    ),
    "another size": (
        lambda: graph_of(
            [helper.make_node("RNN", ["x", "W", "R", "B"], ["y"], name="cell", hidden_size=5)], weights("RNN"), ("y", list("abcd"))
        ),
        "node 'cell' (RNN) must have hidden_size=7, as R, got 5",
    ),
    "rounded": (
        lambda: graph_of(
            [node("Cast", ["x"], "i", to=TensorProto.INT64), helper.make_node("RNN", ["i", "W", "R", "B"], ["y"], hidden_size=H)],
            weights("RNN"),
            ("y", list("abcd")),
        ),
        "node 'next' (Cast) must keep what it is given, got INT64",
    ),
    "time added": (
        lambda: graph_of(
            [
                node("Unsqueeze", ["x", "zero"], "u"),
                helper.make_node("RNN", ["u", "W", "R", "B"], ["y"], name="cell", hidden_size=H),
            ],
            weights("RNN", zero=np.array([0])),
            ("y", list("abcd")),
            inputs=(("x", TensorProto.FLOAT, ["N", I]),),
        ),
        "node 'cell' (RNN) must read the steps along an axis of the graph's input",
    ),
    "lengths of one layer": (
        lambda: graph_of(
            [
                helper.make_node("RNN", ["x", "W", "R", "B", "n"], ["a"], name="first", hidden_size=H),
                helper.make_node("Squeeze", ["a", "one"], ["b"], name="squeeze"),
                helper.make_node("RNN", ["b", "R", "R", "B"], ["y"], name="second", hidden_size=H),
            ],
            weights("RNN", one=np.array([1])),
            ("y", list("abcd")),
            inputs=(("x", TensorProto.FLOAT, ["T", "N", I]), ("n", TensorProto.INT32, ["N"])),
        ),
        "node 'second' (RNN) must have the sequence_lens of the recurrent node before it, got ''",
    ),
    "an unsorted graph": (
        lambda: after(node("Tanh", ["later"])),
        "node 'next' (Tanh) must come after what makes 'later'",
    ),
    "nothing": (
        lambda: graph_of([helper.make_node("Identity", ["x"], ["y"])], {}),
        "the graph's output 'y' must be computed from its input by layers with weights",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    """What isn't understood is refused by the node's name, its operator, and what it must be."""
    make, text = REFUSED[kind]
    with pytest.raises(ValueError, match=r"^(node|the graph|path_or_model)") as raised:
        fastrnn.from_onnx(make())
    assert str(raised.value) == text


def test_what_is_no_model(tmp_path):
    """Other objects, missing files and damaged ones are told apart."""
    with pytest.raises(TypeError, match=r"^path_or_model must be a path or an onnx.ModelProto, got int$"):
        fastrnn.from_onnx(7)
    with pytest.raises(FileNotFoundError):
        fastrnn.from_onnx(tmp_path / "absent.onnx")
    (tmp_path / "model.onnx").write_bytes(one_layer("RNN").SerializeToString()[:-100])
    with pytest.raises(ValueError, match=r"model.onnx must be a whole ONNX file, got one that can't be read"):
        fastrnn.from_onnx(tmp_path / "model.onnx")


# ---- files ----------------------------------------------------------------------------------------------------------------------------

# MB that a process takes at its peak for loading a file, beyond what it had after its imports.
RISE = """
import pathlib, sys
import onnx, onnx.inliner, onnx.reference
import fastrnn, fastrnn.loading.onnx

def peak():  # a child's ru_maxrss begins with its parent's
    line = next(one for one in pathlib.Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

before = peak()
model = fastrnn.from_onnx(sys.argv[1])
print(peak() - before)
"""


def large():
    """A table, five LSTMs and a head, 59 MB."""
    hidden, constants = 512, {"table": numbers(0, 4096, 512), "one": np.array([1]), "M": numbers(1, 512, 4096), "V": numbers(2, 4096)}
    nodes = [helper.make_node("Gather", ["table", "x"], ["a0"], name="table")]
    for i in range(5):
        named = {f"W{i}": numbers(3, 1, 4 * hidden, hidden), f"R{i}": numbers(4, 1, 4 * hidden, hidden), f"B{i}": numbers(5, 1, 8 * hidden)}
        constants.update(named)
        nodes.append(helper.make_node("LSTM", [f"a{i}", *named], [f"y{i}"], name=f"cell {i}", hidden_size=hidden))
        nodes.append(helper.make_node("Squeeze", [f"y{i}", "one"], [f"a{i + 1}"]))
    nodes += [node("MatMul", ["a5", "M"], "m"), node("Add", ["m", "V"])]
    return graph_of(nodes, constants, ("y", list("abc")), inputs=(("x", TensorProto.INT64, ["T", "N"]),))


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="the peak is read through Linux's /proc")
@pytest.mark.parametrize("external", [False, True])
def test_memory(external, tmp_path):
    """Loading holds the layers' weights and a copy of few of them at once, whether the weights are in the model's file or beside it."""
    model, path = large(), tmp_path / "model.onnx"
    expected, size = fastrnn.from_onnx(model).predict([[3, 1, 2]]), sum(len(one.raw_data) for one in model.graph.initializer)
    onnx.save(model, path, save_as_external_data=external, location="weights")
    np.testing.assert_array_equal(fastrnn.from_onnx(path).predict([[3, 1, 2]]), expected)
    rise = float(python(RISE, path)) * 2**20
    assert size < rise < 1.6 * size


def test_read_piece_by_piece(tmp_path):
    """Every type of weights, in the file in whatever field, is read as it is of a model in memory."""
    for dtype in (np.float16, np.float32, np.float64):
        model = one_layer("GRU", {name: value.astype(dtype) for name, value in weights("GRU").items()})
        whole = fastrnn.from_onnx(model)
        onnx.save(model, tmp_path / "model.onnx")
        np.testing.assert_array_equal(fastrnn.from_onnx(tmp_path / "model.onnx").layers[0].weight_hh, whole.layers[0].weight_hh)
    for tensor in model.graph.initializer:
        if tensor.name != "shape":
            numbers_of = numpy_helper.to_array(tensor)
            tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.DOUBLE, numbers_of.shape, numbers_of.reshape(-1)))
    onnx.save(model, tmp_path / "model.onnx")
    np.testing.assert_array_equal(fastrnn.from_onnx(tmp_path / "model.onnx").layers[0].weight_hh, whole.layers[0].weight_hh)


def test_external_weights_that_are_missing(tmp_path):
    """Weights that aren't where a file says are refused by their name; a caller's model isn't changed."""
    model, path = large(), tmp_path / "model.onnx"
    before = model.SerializeToString()
    fastrnn.from_onnx(model)
    assert model.SerializeToString() == before
    onnx.save(model, path, save_as_external_data=True, location="weights")
    (tmp_path / "weights").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"^path_or_model must have all its weights, got for 'table': "):
        fastrnn.from_onnx(path)
    (tmp_path / "weights").unlink()
    with pytest.raises(ValueError, match=r"^path_or_model must have all its weights, got for 'table': "):
        fastrnn.from_onnx(path)


def test_damaged_files(tmp_path):
    """A file cut off anywhere, or with a byte changed in what isn't weights, is refused, or is loaded: nothing else happens."""
    whole, path = one_layer("RNN", weights("RNN", W=numbers(1, 1, H, 50))).SerializeToString(), tmp_path / "model.onnx"
    rng = np.random.default_rng(0)
    for length in rng.integers(0, len(whole), 60):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^.*model.onnx must be a whole ONNX file, got one that can't be read: "):
            fastrnn.from_onnx(path)
    for place, byte in zip(rng.integers(0, len(whole), 300), rng.integers(0, 256, 300), strict=True):
        damaged = bytearray(whole)
        damaged[place] = byte
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError, TypeError):
            fastrnn.from_onnx(path)


# ---- ONNX's own cases -----------------------------------------------------------------------------------------------------------------

OWN_REFUSED = {
    "layout=0, got 1": {"test_gru_batchwise", "test_lstm_batchwise", "test_simple_rnn_batchwise"},
    "direction='forward' or 'bidirectional', got 'reverse'": {"test_gru_reverse", "test_lstm_reverse", "test_simple_rnn_reverse"},
}


def own_cases():
    """Return ONNX's cases of the recurrent operators, by their names."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings(action="ignore"):
        for name in ("gru", "lstm", "rnn"):  # collect_testcases makes those of every operator, which takes half a minute
            importlib.import_module(f"{node.__name__}.{name}")
    return {case.name: case for case in node._NodeTestCases if re.match(r"test_(simple_rnn|rnn|gru|lstm)_", case.name)}


def with_weights(case):
    """ONNX's cases have weights as inputs: make them constants."""
    model, arrays = onnx.ModelProto(), case.data_sets[0][0]
    model.CopyFrom(case.model)
    named = {one.name: array for one, array in zip(case.model.graph.input, arrays, strict=True)}
    data = {name: named.pop(name) for name in ("X", "sequence_lens", "seq_lens", "initial_h", "initial_c") if name in named}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in named.items())
    return model, data


def test_onnx_own_cases():
    """Every case of ONNX's for these operators is right, or refused by name."""
    right, refused = set(), {}
    for name, case in own_cases().items():
        model, data = with_weights(case)
        try:
            ours = fastrnn.from_onnx(model)
        except ValueError as error:
            refused[name] = str(error)
            continue
        state = [data[key][0] for key in ("initial_h", "initial_c") if key in data]
        lengths = next((data[key] for key in ("sequence_lens", "seq_lens") if key in data), None)
        output, _ = ours(
            np.moveaxis(data["X"], 0, 1), None if not state else tuple(state) if len(state) == 2 else state[0], lengths=lengths
        )
        expected = case.data_sets[0][1][0]  # (T, D, N, H), or (D, N, H)
        expected = np.concatenate(list(np.moveaxis(expected, -3, 0)), axis=-1)
        np.testing.assert_allclose(np.moveaxis(output, 0, 1) if ours.return_sequences else output, expected, rtol=0, atol=1e-5)
        right.add(name)
    assert set(refused) == set.union(*OWN_REFUSED.values())
    for reason, names in OWN_REFUSED.items():
        assert all(reason in refused[name] for name in names)
    assert len(right) == 12
