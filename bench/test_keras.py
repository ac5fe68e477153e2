"""from_keras gives what Keras gives: of .keras and .h5 files and of models, and refuses by name what it doesn't know."""

import json
import os
import sys
import warnings
import zipfile
from contextlib import contextmanager
from unittest import mock

import h5py
import numpy as np
import pytest
import torch

import fastrnn
from bench.cases import DTYPES
from tests.cases import assert_close, assert_same_bits

with mock.patch.dict(os.environ, {"KERAS_BACKEND": "torch"}):
    import keras
    from keras import layers as kl
    from keras.src.backend.common import dtypes as promotion

V, INPUTS, HIDDEN, OUTPUTS = 13, 7, 9, 5

# PyTorch's tensors, as Keras converts them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_bias = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
CELLS = {
    "SimpleRNN": (kl.SimpleRNN, {}),
    "SimpleRNN relu": (kl.SimpleRNN, {"activation": "relu"}),
    "GRU": (kl.GRU, {"reset_after": True}),
    "GRU reset before": (kl.GRU, {"reset_after": False}),
    "GRU others": (kl.GRU, {"activation": "softsign", "recurrent_activation": "hard_sigmoid"}),
    "LSTM": (kl.LSTM, {}),
    "LSTM others": (kl.LSTM, {"activation": "softsign", "recurrent_activation": "hard_sigmoid", "unroll": True}),
}
every_cell = pytest.mark.parametrize("kind", CELLS)


def make_cell(kind, units=HIDDEN, **options):
    layer, own = CELLS[kind]
    return layer(units, **own, **options)


def randomize(model):
    """Give a model weights that are all different, biases too."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(-0.7, 0.7, weight.shape))
    return model


@contextmanager
def precision(dtype):
    """Have Keras make layers in a dtype, and compute in it: by default it casts to float32 in any backend but TensorFlow's."""
    before = keras.config.floatx()
    try:
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        with mock.patch.dict(promotion.BIT64_TO_BIT32_DTYPE, {"float64": "float64"} if dtype == "float64" else {}):
            yield
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(before)


def sequential(dtype, *layers, inputs=INPUTS, steps=None):
    """Make a Sequential in a dtype, of layers as functions that make them."""
    with precision(dtype):
        shape = (steps,) if inputs is None else (steps, inputs)
        return randomize(keras.Sequential([keras.Input(shape), *[layer() for layer in layers]]))


def run(model, x):
    with precision(model.weights[0].dtype), torch.inference_mode():
        return model(torch.tensor(x)).numpy()


def draw(*shape, dtype="float64"):
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(dtype)


def sources(model, folder):
    """Give a model in each form that can be loaded."""
    paths = [folder / "model.keras", folder / "model.h5"]
    for path in paths:
        model.save(path)
    return [*paths, str(paths[0]), model]


def assert_loads(model, dtype, x, folder):
    """Each form of a model gives its outputs, and all give the same bits."""
    expected = run(model, x)
    assert expected.dtype == dtype
    first = None
    for source in sources(model, folder):
        output = fastrnn.from_keras(source).predict(x)
        assert_close(output, expected, dtype)
        first = output if first is None else first
        assert_same_bits(output, first)


def said_here(caught):
    """Give the warnings that point at a line of this file."""
    return [str(one.message) for one in caught if one.filename == __file__]


@every_dtype
@every_bias
@pytest.mark.parametrize("depth", [1, 3])
@every_cell
def test_layers(kind, depth, bias, dtype, tmp_path):
    """Stacked layers of every kind, in a model that gives every step."""
    layers = [lambda i=i: make_cell(kind, HIDDEN + i, use_bias=bias, return_sequences=True) for i in range(depth)]
    model = sequential(dtype, *layers, lambda: kl.Dense(OUTPUTS, use_bias=bias, activation="softmax"), steps=11)
    assert_loads(model, dtype, draw(3, 11, INPUTS, dtype=dtype), tmp_path)


@every_dtype
@every_bias
@pytest.mark.parametrize("steps", [1, 2, 23])
@every_cell
def test_last_step(kind, steps, bias, dtype, tmp_path):
    """Without return_sequences a call gives one output for each sequence."""
    layers = [lambda: make_cell(kind, use_bias=bias, return_sequences=True), lambda: make_cell(kind, use_bias=bias)]
    model = sequential(dtype, *layers, lambda: kl.Dense(OUTPUTS), steps=steps)
    assert_loads(model, dtype, draw(4, steps, INPUTS, dtype=dtype), tmp_path)
    assert fastrnn.from_keras(model).return_sequences is False


@every_dtype
@every_bias
@pytest.mark.parametrize("steps", [True, False], ids=["steps", "last"])
@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul"])
@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "GRU reset before", "LSTM"])
def test_bidirectional(kind, merge, steps, bias, dtype, tmp_path):
    """Both directions, merged in each way, at every step or at their ends."""
    layers = [
        lambda: kl.Bidirectional(make_cell(kind, use_bias=bias, return_sequences=True), merge_mode="concat"),
        lambda: kl.Bidirectional(make_cell(kind, use_bias=bias, return_sequences=steps), merge_mode=merge),
    ]
    model = sequential(dtype, *layers, lambda: kl.Dense(OUTPUTS, use_bias=bias, activation="log_softmax"))
    assert_loads(model, dtype, draw(3, 8, INPUTS, dtype=dtype), tmp_path)


@every_dtype
def test_bidirectional_of_two_kinds(dtype, tmp_path):
    """The backward layer may be of another kind, size and bias than the forward layer."""
    both = lambda: kl.Bidirectional(  # noqa: E731
        kl.GRU(HIDDEN, use_bias=False, return_sequences=True),
        backward_layer=kl.LSTM(HIDDEN + 2, return_sequences=True, go_backwards=True),
    )
    assert_loads(sequential(dtype, both), dtype, draw(3, 8, INPUTS, dtype=dtype), tmp_path)


HEADS = {
    "Dense with a layer as its activation": [lambda: kl.Dense(OUTPUTS, activation=kl.LeakyReLU(negative_slope=0.1))],
    "activation after Dense": [lambda: kl.Dense(OUTPUTS), lambda: kl.Activation("tanh")],
    "activation after another": [lambda: kl.Dense(OUTPUTS, activation="softplus"), lambda: kl.Softmax()],
    "activations after a recurrent layer": [lambda: kl.ReLU(), lambda: kl.ELU(alpha=0.4), lambda: kl.Activation("linear")],
    "leaky": [lambda: kl.LeakyReLU(negative_slope=0.3), lambda: kl.ReLU(negative_slope=0.2), lambda: kl.Activation("leaky_relu")],
    "TimeDistributed": [lambda: kl.TimeDistributed(kl.Dense(OUTPUTS, activation="sigmoid")), lambda: kl.TimeDistributed(kl.Softmax())],
    "two of a class": [lambda: kl.Dense(OUTPUTS), lambda: kl.Dropout(0.5), lambda: kl.Dense(OUTPUTS, "hard_sigmoid")],
    "noise": [lambda: kl.GaussianNoise(0.5), lambda: kl.SpatialDropout1D(0.5), lambda: kl.GaussianDropout(0.5), lambda: kl.Dense(OUTPUTS)],
}


@every_dtype
@pytest.mark.parametrize("head", HEADS)
def test_heads(head, dtype, tmp_path):
    """What follows a recurrent layer: Dense layers, functions, and what does nothing at inference."""
    model = sequential(dtype, lambda: kl.LSTM(HIDDEN, return_sequences=True, dropout=0.3, recurrent_dropout=0.2), *HEADS[head])
    assert_loads(model, dtype, draw(3, 6, INPUTS, dtype=dtype) * 3, tmp_path)


@every_dtype
@pytest.mark.parametrize("activation", ["linear", "tanh", "relu", "sigmoid", "hard_sigmoid", "softplus", "softsign", "elu", "leaky_relu"])
def test_activations(activation, dtype, tmp_path):
    """Every function by name, in a recurrent layer and in a Dense."""
    layers = [lambda: kl.SimpleRNN(HIDDEN, activation=activation), lambda: kl.Dense(OUTPUTS, activation=activation)]
    assert_loads(sequential(dtype, *layers), dtype, draw(3, 4, INPUTS, dtype=dtype) * 2, tmp_path)


@every_dtype
def test_embedding(dtype, tmp_path):
    """A model that begins with an Embedding reads tokens."""
    layers = [lambda: kl.Embedding(V, INPUTS), lambda: kl.GRU(HIDDEN), lambda: kl.Dense(V, activation="softmax")]
    assert_loads(sequential(dtype, *layers, inputs=None), dtype, np.random.default_rng(2).integers(0, V, (6, 10)), tmp_path)


MASKED = "layer 'embedding' (Embedding) has mask_zero=True: Keras skips token 0, here it is a step as any other; "
MASKED += "pass lengths= for sequences padded at their end"


@every_dtype
@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
def test_mask(kind, functional, dtype, tmp_path):
    """What Keras masks are our lengths, in both directions, as the warning says."""
    embedding = lambda: kl.Embedding(V, INPUTS, mask_zero=True, name="embedding")  # noqa: E731
    both = lambda: kl.Bidirectional(make_cell(kind, return_sequences=True))  # noqa: E731
    model = sequential(dtype, embedding, both, lambda: make_cell(kind), lambda: kl.Dense(OUTPUTS), inputs=None)
    model = keras.Model(model.inputs, model.outputs) if functional else model
    lengths = np.array([9, 4, 1, 6])
    x = np.random.default_rng(3).integers(1, V, (4, 9)) * (np.arange(9) < lengths[:, np.newaxis])
    for source in sources(model, tmp_path):
        with pytest.warns(UserWarning) as caught:
            loaded = fastrnn.from_keras(source)
        assert said_here(caught) == [MASKED]
        assert_close(loaded.predict(x, lengths=lengths), run(model, x), dtype)


@every_dtype
def test_functional(dtype, tmp_path):
    """A functional model whose layers are a chain, whatever the order in which they were made."""
    head, later = kl.Dense(OUTPUTS, dtype=dtype), kl.Dense(OUTPUTS, activation="tanh", dtype=dtype)
    start = keras.Input((None, INPUTS), dtype=dtype)
    sequence, *_ = kl.LSTM(HIDDEN, return_sequences=True, return_state=True, dtype=dtype)(start)
    model = randomize(keras.Model(start, head(later(kl.Dropout(0.2, dtype=dtype)(sequence)))))
    assert_loads(model, dtype, draw(3, 6, INPUTS, dtype=dtype), tmp_path)


def test_stateful(tmp_path):
    """Of a stateful layer the state goes in and out, as the warning says."""
    layers = [kl.GRU(HIDDEN, stateful=True, return_sequences=True, name="gru"), kl.Dense(OUTPUTS)]
    model = randomize(keras.Sequential([keras.Input(batch_shape=(3, None, INPUTS)), *layers]))
    said = "layer 'gru' (GRU) is stateful: Keras keeps its state from call to call; "
    said += "here pass the state that a call returns to the next, or use stream()"
    with pytest.warns(UserWarning) as caught:
        loaded = fastrnn.from_keras(model)
    assert said_here(caught) == [said]
    x, state = draw(3, 8, INPUTS, dtype="float32"), None
    for part in (x[:, :5], x[:, 5:]):
        output, state = loaded(part, state)
        assert_close(output, run(model, part), "float32")


@pytest.mark.parametrize("given", ["float16", "bfloat16"])
def test_short_floats(given, tmp_path):
    """float16 and bfloat16 become float32, their values the same."""
    model = sequential(given, lambda: kl.GRU(HIDDEN), lambda: kl.Dense(OUTPUTS))
    for source in [tmp_path / "model.keras", model]:
        model.save(tmp_path / "model.keras")
        loaded = fastrnn.from_keras(source)
        assert_same_bits(loaded.layers[1].weight, np.asarray(model.weights[-2].value.detach().float()).T)
        assert model.weights[-2].dtype == given
        assert loaded.dtype == np.float32


def test_dtype(tmp_path):
    """dtype converts every weight, and allows layers of different dtypes."""
    model = sequential("float32", lambda: kl.LSTM(HIDDEN), lambda: kl.Dense(OUTPUTS, dtype="float64"))
    for source in sources(model, tmp_path):
        assert fastrnn.from_keras(source, dtype="float64").dtype == np.float64
        with pytest.raises(TypeError, match="must have the same dtype"):
            fastrnn.from_keras(source)


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
    layers = [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, None], "dtype": "float32", "name": "input_1"}},
        {"class_name": "Embedding", "config": {"name": "embedding", "input_dim": V, "output_dim": INPUTS, "mask_zero": False}},
        {"class_name": "GRU", "config": {"name": "gru", "units": HIDDEN, "use_bias": True, "return_sequences": True, **options}},
        {"class_name": "LeakyReLU", "config": {"name": "leaky", "alpha": 0.25}},
    ]
    shapes = [(INPUTS, 3 * HIDDEN), (HIDDEN, 3 * HIDDEN), (2, 3 * HIDDEN) if options.get("reset_after") else (3 * HIDDEN,)]
    weights = {"embedding": [draw(V, INPUTS)], "gru": [draw(*shape) for shape in shapes], "leaky": []}
    return layers, {name: [array.astype("float32") for array in arrays] for name, arrays in weights.items()}


@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
@pytest.mark.parametrize("reset_after", [False, True])
def test_keras_2(reset_after, functional, tmp_path):
    """Keras 2's files, in which hard_sigmoid is max(0, min(1, 0.2 x + 0.5)), and LeakyReLU's slope is alpha."""
    layers, weights = keras_2_gru(reset_after=reset_after, activation="tanh", recurrent_activation="hard_sigmoid")
    write_keras_2(tmp_path / "old.h5", layers, weights, functional=functional)
    slope = lambda x: keras.ops.clip(0.2 * x + 0.5, 0, 1)  # noqa: E731
    gru = kl.GRU(HIDDEN, reset_after=reset_after, recurrent_activation=slope, return_sequences=True)
    model = keras.Sequential([keras.Input((None,)), kl.Embedding(V, INPUTS), gru, kl.LeakyReLU(negative_slope=0.25)])
    model.set_weights([*weights["embedding"], *weights["gru"]])
    x = np.random.default_rng(4).integers(0, V, (5, 7))
    loaded = fastrnn.from_keras(tmp_path / "old.h5")
    assert_close(loaded.predict(x), run(model, x), "float32")
    assert loaded.layers[1].recurrent_activation == ("hard_sigmoid", 0.2, 0.5)


def test_old_keras_2(tmp_path):
    """Before Keras had reset_after it reset before, and a Sequential's description was a list of its layers."""
    layers, weights = keras_2_gru()
    path = tmp_path / "old.h5"
    write_keras_2(path, layers, weights, version="2.0.8")
    expected = fastrnn.from_keras(path)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers})
        names = file["model_weights/gru"].attrs.pop("weight_names")
        file["model_weights/gru"].attrs["weight_names0"], file["model_weights/gru"].attrs["weight_names1"] = names[:2], names[2:]
    assert repr(fastrnn.from_keras(path)) == repr(expected)
    assert expected.layers[1].reset_after is False


def test_keras_2_archive(tmp_path):
    """The first .keras files, Keras 2.13's, name the group of the layers differently, and their hard_sigmoid is Keras 2's."""
    model = sequential("float32", lambda: kl.LSTM(HIDDEN, recurrent_activation="hard_sigmoid"), lambda: kl.Dense(OUTPUTS))
    model.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new:
        contents = {name: new.read(name) for name in new.namelist()}
    (tmp_path / "weights.h5").write_bytes(contents["model.weights.h5"])
    with h5py.File(tmp_path / "weights.h5", "r+") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    contents |= {"model.weights.h5": (tmp_path / "weights.h5").read_bytes(), "metadata.json": b'{"keras_version": "2.13.1"}'}
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name, content in contents.items():
            old.writestr(name, content)
    new, old = (fastrnn.from_keras(tmp_path / f"{name}.keras") for name in ("new", "old"))
    assert_same_bits(new.layers[0].weight_ih, old.layers[0].weight_ih)
    assert [model.layers[0].recurrent_activation for model in (new, old)] == ["hard_sigmoid", ("hard_sigmoid", 0.2, 0.5)]
