"""Legacy files of Keras, written by h5py alone."""

import json

import h5py
import numpy as np

V, INPUTS, HIDDEN = 13, 7, 9


def draw(*shape, dtype="float64"):
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(dtype)


def write_keras_2(path, layers, weights, *, version="2.11.0", functional=False):
    """Write a legacy file as Keras 2 does; weights are lists, by the layers' names."""
    config = {"name": "model", "layers": layers}
    if functional:
        names = [layer["config"]["name"] for layer in layers]
        nodes = [[], *[[[[name, 0, 0, {}]]] for name in names[:-1]]]
        config["layers"] = [{**layer, "name": name, "inbound_nodes": node} for layer, name, node in zip(layers, names, nodes, strict=True)]
        config |= {"input_layers": [[names[0], 0, 0]], "output_layers": [[names[-1], 0, 0]]}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = version, "tensorflow"
        file.attrs["model_config"] = json.dumps({"class_name": "Functional" if functional else "Sequential", "config": config})
        groups = file.create_group("model_weights")
        for name, arrays in weights.items():
            group = groups.create_group(name)
            names = [f"{name}/cell/weight_{i}:0" for i in range(len(arrays))]
            group.attrs["weight_names"] = [text.encode() for text in names]
            for own, array in zip(names, arrays, strict=True):
                group[own] = array


def keras_2_gru(**options):
    """Describe an Embedding and a GRU as Keras 2 does, and draw weights for them."""
    options = {"activation": "tanh", "recurrent_activation": "sigmoid", **options}
    layers = [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, None], "dtype": "float32", "name": "input_1"}},
        {"class_name": "Embedding", "config": {"name": "embedding", "input_dim": V, "output_dim": INPUTS, "mask_zero": False}},
        {"class_name": "GRU", "config": {"name": "gru", "units": HIDDEN, "use_bias": True, "return_sequences": True, **options}},
        {"class_name": "LeakyReLU", "config": {"name": "leaky", "alpha": 0.25}},
    ]
    shapes = [(INPUTS, 3 * HIDDEN), (HIDDEN, 3 * HIDDEN), (2, 3 * HIDDEN) if options.get("reset_after") else (3 * HIDDEN,)]
    weights = {"embedding": [draw(V, INPUTS)], "gru": [draw(*shape) for shape in shapes], "leaky": []}
    return layers, {name: [array.astype("float32") for array in arrays] for name, arrays in weights.items()}
