"""Files of other programs, small and whole, and structural damage to them: parts of other kinds, missing, doubled, elsewhere."""

import copy
import functools
import hashlib
import io
import json
import zipfile

import numpy as np

import fastrnn

from .process import ROOT

H, INPUTS, V = 3, 2, 5
LARGE = 2**63 - 1  # no array can be so long, so that nothing is allocated


def pick(rng, options):
    return options[rng.integers(len(options))]


# ---- trees of JSON --------------------------------------------------------------------------------------------------------------------

OTHERS = (None, True, 0, -1, 7, 1.5, float("nan"), LARGE, "", "x", "tanh", [], {}, [[]], [None], {"x": 1}, [[["x", 0, 0, {}]]])


def places(tree):
    """Where each node of a tree is: what holds it, and its key."""
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], (dict, list)):
            yield from places(tree[key])


def changed(rng, tree):
    """A copy of a tree with one or two nodes that are other than they were."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.integers(1, 3)):
        found = list(places(tree))
        if found:
            holder, key = pick(rng, found)
            change_node(rng, holder, key, [copy.deepcopy(one[at]) for one, at in found])
    return tree


def change_node(rng, holder, key, others):
    action = pick(rng, ["replace", "replace", "replace", "move", "wrap", "delete", "rename", "nest"])
    if action == "delete":
        del holder[key]
    elif action == "rename" and isinstance(holder, dict):
        holder[pick(rng, ["name", "config", "class_name", "layer", "units", "x"])] = holder.pop(key)
    elif action == "nest":
        holder[key] = functools.reduce(lambda inner, _: [inner], range(pick(rng, [3, 50])), holder[key])
    else:
        holder[key] = {"move": pick(rng, others), "wrap": [holder[key]]}.get(action, copy.deepcopy(pick(rng, OTHERS)))


# ---- Keras ----------------------------------------------------------------------------------------------------------------------------


def uniform(*shape):
    return np.random.default_rng(len(shape)).uniform(-0.5, 0.5, shape).astype(np.float32)


def cell(kind, name, **options):
    usual = {"units": H, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "return_sequences": True}
    return {"class_name": kind, "config": {"name": name, **usual, **options}}


def weights_of(gates, inputs, bias=None):
    return [uniform(inputs, gates * H), uniform(H, gates * H), uniform(*(bias or (gates * H,)))]


BOTH = {
    "class_name": "Bidirectional",
    "config": {
        "name": "both",
        "merge_mode": "concat",
        "layer": cell("LSTM", "one"),
        "backward_layer": cell("LSTM", "two", go_backwards=True),
    },
}
LAYERS = [
    {"class_name": "InputLayer", "config": {"name": "input", "batch_shape": [None, None]}},
    {"class_name": "Embedding", "config": {"name": "embedding", "input_dim": V, "output_dim": INPUTS, "mask_zero": False}},
    {"class_name": "Dropout", "config": {"name": "dropout", "rate": 0.5}},
    cell("GRU", "gru", reset_after=True, activation={"class_name": "ELU", "config": {"name": "elu", "alpha": 0.5}}),
    BOTH,
    cell("SimpleRNN", "rnn"),
    {"class_name": "LeakyReLU", "config": {"name": "leaky", "negative_slope": 0.25}},
    {"class_name": "TimeDistributed", "config": {"name": "timed", "layer": {"class_name": "Softmax", "config": {"name": "s", "axis": -1}}}},
    {"class_name": "Dense", "config": {"name": "dense", "units": 4, "activation": "softmax", "use_bias": True}},
]
WEIGHTS = {
    "embedding": [uniform(V, INPUTS)],
    "gru": weights_of(3, INPUTS, (2, 3 * H)),
    "both": [*weights_of(4, H), *weights_of(4, H)],
    "rnn": weights_of(1, 2 * H),
    "dense": [uniform(H, 4), uniform(4)],
}
# Where a .keras file has them.
GROUPS = {
    "embedding": ["embedding/vars"],
    "gru": ["gru/cell/vars"],
    "both": ["bidirectional/forward_layer/cell/vars", "bidirectional/backward_layer/cell/vars"],
    "rnn": ["simple_rnn/cell/vars"],
    "dense": ["dense/vars"],
}


def description(keras_3, functional):
    """What a file of either version says of the model."""
    layers = copy.deepcopy(LAYERS)
    if not functional:
        return {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
    names = [layer["config"]["name"] for layer in layers]
    for layer, name, before in zip(layers, names, [None, *names], strict=False):
        history = {"class_name": "__keras_tensor__", "config": {"shape": [None], "keras_history": [before, 0, 0]}}
        node = {"args": [history], "kwargs": {"training": False}} if keras_3 else [[before, 0, 0, {}]]
        layer |= {"name": name, "inbound_nodes": [node] if before else []}
    ends = {"input_layers": [[names[0], 0, 0]], "output_layers": [[names[-1], 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "model", "layers": layers, **ends}}


def damage_hdf5(rng, file):
    """Change one group, dataset or attribute."""
    import h5py

    names = []
    file.visit(names.append)
    name = pick(rng, names)
    values = [1, 1.5, "x", b"\xff\xfe", np.zeros(0), np.ones((2, 2)), np.array([b"\xff"]), [1, 2], h5py.Empty("f"), 1j, "tanh", True]
    action = pick(rng, ["delete", "group", "value", "attribute", "no attribute", "move", "link", "type"])
    holder = pick(rng, [file, file[name]])
    if action == "attribute" or (action == "no attribute" and not len(holder.attrs)):
        own = pick(rng, ["weight_names", "weight_names0", "keras_version", "model_config", "dtype"])
        holder.attrs[own] = pick(rng, values)
    elif action == "no attribute":
        del holder.attrs[pick(rng, list(holder.attrs))]
    elif action == "type" and isinstance(file[name], h5py.Dataset):
        array = file[name][...]
        del file[name]
        file[name] = pick(rng, [array.astype(pick(rng, ["f2", "i4", "c8", "f8", "S3"])), array[..., :1], array[np.newaxis], array.T])
    else:
        del file[name]
        if action == "group":
            file.create_group(f"{name}/x")
        elif action == "link":
            file[name] = h5py.SoftLink(pick(rng, ["/", "/absent", f"/{name}"]))
        elif action != "delete":
            file[name if action == "value" else "elsewhere"] = pick(rng, values)


def keras_2(rng, path, damaged):
    """Write a legacy file."""
    import h5py

    config = description(False, bool(rng.integers(2)))
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = pick(rng, ["2.11.0", "3.0"])
        file.attrs["model_config"] = json.dumps(changed(rng, config) if damaged and rng.random() < 0.7 else config)
        for layer in LAYERS:
            name = layer["config"]["name"]
            group, arrays = file.create_group(f"model_weights/{name}"), WEIGHTS.get(name, [])
            group.attrs["weight_names"] = [f"{name}/{i}:0".encode() for i in range(len(arrays))]
            for i, array in enumerate(arrays):
                group[f"{name}/{i}:0"] = array
        if damaged and rng.random() < 0.5:
            damage_hdf5(rng, file)


def keras_3(rng, path, damaged):
    """Write a .keras file."""
    import h5py

    config, metadata, content = description(True, bool(rng.integers(2))), {"keras_version": "3.15.1"}, io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, groups in GROUPS.items():
            for i, group in enumerate(groups):
                each = len(WEIGHTS[name]) // len(groups)
                for j, array in enumerate(WEIGHTS[name][i * each :][:each]):
                    file[f"layers/{group}/{j}"] = array
        if damaged and rng.random() < 0.5:
            damage_hdf5(rng, file)
    if damaged:
        config, metadata = [changed(rng, one) if rng.random() < share else one for one, share in ((config, 0.8), (metadata, 0.1))]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps(metadata))
        archive.writestr("model.weights.h5", content.getvalue())


# ---- safetensors ----------------------------------------------------------------------------------------------------------------------


def safetensors(rng, path, damaged):
    """Write what `fastrnn.save` writes; a changed description gets the digest that belongs to it."""
    lstm = fastrnn.LSTM(uniform(4 * H, H), uniform(4 * H, H), peephole=uniform(3, H))
    layers = fastrnn.Embedding(uniform(V, H)), fastrnn.Bidirectional(lstm, lstm), fastrnn.Dense(uniform(2, 2 * H), activation=("elu", 0.5))
    fastrnn.save(fastrnn.Sequential(*layers), path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    document = json.loads(header["__metadata__"]["fastrnn"])
    if damaged and rng.random() < 0.8:
        document["model"] = changed(rng, document["model"])
        document["sha256"] = hashlib.sha256(json.dumps(document["model"], sort_keys=True).encode()).hexdigest()
    elif damaged:
        document = changed(rng, document)
    header["__metadata__"]["fastrnn"] = json.dumps(document)
    if damaged and rng.random() < 0.2:
        header = changed(rng, header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


# ---- ONNX -----------------------------------------------------------------------------------------------------------------------------


@functools.cache
def graphs():
    """Models that tf2onnx made, loops among them, and two by hand."""
    import onnx

    made = np.load(ROOT / "tests" / "tf2onnx_files.npz")
    names = [name for name in made.files if name.endswith("/file") and "refused" not in name]
    return [onnx.ModelProto.FromString(made[name].tobytes()) for name in names] + [by_hand("LSTM", 4), by_hand("GRU", 3)]


def by_hand(kind, gates):
    """A graph as PyTorch's exporter writes it: a table, two layers, of two directions and of one, states, lengths, and a head."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "table": uniform(V, INPUTS),
        "one": np.array([1]),
        "zero": np.array([0]),
        "two": np.array([2]),
        "M": uniform(H, 4),
        "c": uniform(4),
    }
    constants |= {"shape": np.array([0, 0, -1])}
    for name, inputs, directions in (("0", INPUTS, 2), ("1", 2 * H, 1)):
        constants |= {f"W{name}": uniform(directions, gates * H, inputs), f"R{name}": uniform(directions, gates * H, H)}
        constants[f"B{name}"] = uniform(directions, 2 * gates * H)
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["a"], name="table", axis=0),
        helper.make_node("Slice", ["h", "zero", "two", "zero"], ["h0"], name="first state"),
        helper.make_node(kind, ["a", "W0", "R0", "B0", "n", "h0"], ["y0"], name="below", hidden_size=H, direction="bidirectional"),
        helper.make_node("Transpose", ["y0"], ["t"], name="turn", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "shape"], ["b"], name="flat"),
        helper.make_node(
            kind,
            ["b", "W1", "R1", "B1", "n"],
            ["y1", "last"],
            name="above",
            hidden_size=H,
            activations=["Sigmoid", "Tanh", "Tanh"][: gates - 1],
        ),
        helper.make_node("Squeeze", ["y1", "one"], ["s"], name="squeeze"),
        helper.make_node("MatMul", ["s", "M"], ["m"], name="product"),
        helper.make_node("Add", ["m", "c"], ["z"], name="bias"),
        helper.make_node("Softmax", ["z"], ["y"], name="head", axis=-1),
    ]
    given = [("x", TensorProto.INT64, ["T", "N"]), ("h", TensorProto.FLOAT, [2, "N", H]), ("n", TensorProto.INT32, ["N"])]
    inputs = [helper.make_tensor_value_info(*one) for one in given]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "last")]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def messages(message):
    """A message of protobuf and all in it, but for weights."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None and field.name not in ("initializer", "t"):
            for one in value if hasattr(value, "add") else [value]:
                yield from messages(one)


def change_attribute(rng, attribute):
    """Give a node's attribute a value, mostly of another type."""
    from onnx import helper, numpy_helper

    array = pick(
        rng, [np.array(1), np.array([0, 1]), np.array([-1]), np.array([1.5], np.float32), np.array([True]), np.zeros((0, 2), np.int64)]
    )
    values = [
        0,
        1,
        -1,
        7,
        LARGE,
        -LARGE,
        1.5,
        float("nan"),
        "x",
        b"\xff",
        "forward",
        [0],
        [1, 0],
        [0, 0, 0, 0],
        [-9],
        [LARGE],
        [0.5],
        ["Tanh"],
    ]
    value = pick(rng, [*values, ["\udcff".encode("utf-8", "surrogateescape")], numpy_helper.from_array(array)])
    name = attribute.name
    attribute.Clear()
    attribute.CopyFrom(helper.make_attribute(name, value))


def change_message(rng, model, message):
    """Clear or change one field of a message: names, numbers, and which entries there are, in which order."""
    fields = [(field, value) for field, value in message.ListFields() if field.name != "raw_data"]
    if not fields:
        return
    field, value = pick(rng, fields)
    names = [name for node in model.graph.node for name in (*node.input, *node.output)] + ["", "absent", "x"]
    kinds = [
        "Squeeze",
        "Gather",
        "Slice",
        "Concat",
        "LSTM",
        "GRU",
        "Loop",
        "Cast",
        "Shape",
        "Transpose",
        "Relu",
        "Split",
        "Tanh",
        "Add",
        "Where",
    ]
    if hasattr(value, "extend"):
        at, action = int(rng.integers(len(value))), pick(rng, ["delete", "double", "name"])
        if action == "delete":
            del value[at]
        elif action == "double":
            value.extend([value[at]])
        elif isinstance(value[at], str):
            value[at] = pick(rng, names)
    elif isinstance(value, str):
        setattr(message, field.name, pick(rng, kinds if field.name == "op_type" else names))
    elif isinstance(value, int) and field.enum_type is None:
        setattr(message, field.name, pick(rng, [0, 1, 2, 5, 7]))
    else:
        message.ClearField(field.name)


def change_weight(rng, tensor):
    from onnx import numpy_helper

    array = numpy_helper.to_array(tensor)
    flat = array.reshape(-1)
    options = [array[np.newaxis], flat, flat[:1], flat[:0], array.astype(np.int64), array != 0, array.T, flat.sum(), array + 1]
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(pick(rng, options)), tensor.name))


def damaged_graph(rng):
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(pick(rng, graphs()))
    for _ in range(rng.integers(1, 3)):
        kind, found = rng.random(), list(messages(model.graph))
        attributes = [one for one in found if one.DESCRIPTOR.name == "AttributeProto"]
        if kind < 0.5 and attributes:
            change_attribute(rng, pick(rng, attributes))
        elif kind < 0.65 and model.graph.initializer:
            change_weight(rng, pick(rng, model.graph.initializer))
        else:
            change_message(rng, model, pick(rng, found))
    return model


# ---- state_dicts ----------------------------------------------------------------------------------------------------------------------


def damaged_mapping(rng):
    """Weights under PyTorch's names, of which some are others, or under other names."""
    gates = pick(rng, [1, 3, 4])
    mapping = {"weight_ih_l0": uniform(gates * H, INPUTS), "weight_hh_l0": uniform(gates * H, H), "bias_ih_l0": uniform(gates * H)}
    mapping["bias_hh_l0"] = uniform(gates * H)
    values = [None, 3, 1.5, "x", [], [[1.0], [1.0, 2.0]], {}, object(), np.array(None), np.zeros(0), uniform(2, 2, 2), uniform(0, H), 1j]
    for _ in range(rng.integers(1, 3)):
        name = pick(rng, list(mapping))
        if rng.random() < 0.6:
            mapping[name] = pick(rng, values)
        else:
            mapping[pick(rng, [3, None, "weight_hr_l0", "weight_ih_l9", "x", "bias_hh_l0_reverse", ()])] = mapping.pop(name)
    return mapping
