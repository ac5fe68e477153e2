"""from_keras gives what Keras gives: of .keras and .h5 files and of models, and refuses by name what it doesn't know."""

import os
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
from tests.keras_files import HIDDEN, INPUTS, V, draw, keras_2_gru, write_keras_2

with mock.patch.dict(os.environ, {"KERAS_BACKEND": "torch"}):
    import keras
    from keras import layers as kl
    from keras.src.backend.common import dtypes as promotion

OUTPUTS = 5

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
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU", "LSTM"])
def test_mask(kind, backwards, functional, dtype, tmp_path):
    """What Keras masks are our lengths, in both directions, as the warning says."""
    embedding = lambda: kl.Embedding(V, INPUTS, mask_zero=True, name="embedding")  # noqa: E731
    both = lambda: kl.Bidirectional(make_cell(kind, return_sequences=True))  # noqa: E731
    ends = lambda: kl.Bidirectional(make_cell(kind)) if backwards else make_cell(kind)  # noqa: E731
    model = sequential(dtype, embedding, both, ends, lambda: kl.Dense(OUTPUTS), inputs=None)
    model = keras.Model(model.inputs, model.outputs) if functional else model
    lengths = np.array([9, 4, 1, 6])
    x = np.random.default_rng(3).integers(1, V, (4, 9)) * (np.arange(9) < lengths[:, np.newaxis])
    for source in sources(model, tmp_path):
        with pytest.warns(UserWarning, match="mask_zero") as caught:
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


def test_own_mask():
    """A mask that isn't the Embedding's own is refused: lengths can't stand for it."""
    keras.backend.clear_session()  # which numbers the operations anew
    tokens = keras.Input((None,))
    vectors = kl.Embedding(V, INPUTS, mask_zero=True)(tokens)
    model = keras.Model(tokens, kl.GRU(HIDDEN)(vectors, mask=keras.ops.not_equal(tokens, 2)))
    with pytest.raises(
        ValueError, match=r"^layer 'not_equal_1' \(NotEqual\) must be in the chain of layers from the input to the output, "
    ):
        fastrnn.from_keras(model)


def test_stateful(tmp_path):
    """Of a stateful layer the state goes in and out, as the warning says."""
    layers = [kl.GRU(HIDDEN, stateful=True, return_sequences=True, name="gru"), kl.Dense(OUTPUTS)]
    model = randomize(keras.Sequential([keras.Input(batch_shape=(3, None, INPUTS)), *layers]))
    said = "layer 'gru' (GRU) is stateful: Keras keeps its state from call to call; "
    said += "here pass the state that a call returns to the next, or use stream()"
    with pytest.warns(UserWarning, match="stateful") as caught:
        loaded = fastrnn.from_keras(model)
    assert said_here(caught) == [said]
    x, state = draw(3, 8, INPUTS, dtype="float32"), None
    for part in (x[:, :5], x[:, 5:]):
        output, state = loaded(part, state)
        assert_close(output, run(model, part), "float32")


@pytest.mark.parametrize("given", ["float16", "bfloat16"])
def test_short_floats(given, tmp_path):
    """float16 and bfloat16 become float32, their values the same."""
    model = sequential(given, lambda: kl.GRU(HIDDEN, recurrent_initializer="glorot_uniform"), lambda: kl.Dense(OUTPUTS))
    assert model.weights[-2].dtype == given
    model.save(tmp_path / "model.keras")
    for source in (tmp_path / "model.keras", model):
        loaded = fastrnn.from_keras(source)
        assert_same_bits(loaded.layers[1].weight, model.weights[-2].value.detach().float().numpy().T)
        assert loaded.dtype == np.float32


def test_dtype(tmp_path):
    """dtype converts every weight, and allows layers of different dtypes."""
    model = sequential("float32", lambda: kl.LSTM(HIDDEN), lambda: kl.Dense(OUTPUTS, dtype="float64"))
    for source in sources(model, tmp_path):
        assert fastrnn.from_keras(source, dtype="float64").dtype == np.float64
        with pytest.raises(TypeError, match="must have the same dtype"):
            fastrnn.from_keras(source)


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


def test_keras_2_bidirectional(tmp_path):
    """Keras 2 may describe the forward layer alone; the backward layer is made like it, and its weights come second."""
    inner = {"name": "lstm", "units": HIDDEN, "use_bias": True, "return_sequences": False, "unroll": True}
    inner |= {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": False}
    config = {"name": "both", "merge_mode": "ave", "layer": {"class_name": "LSTM", "config": inner}}
    model = sequential("float32", lambda: kl.Bidirectional(kl.LSTM(HIDDEN), merge_mode="ave"))
    path = tmp_path / "old.h5"
    write_keras_2(path, [{"class_name": "Bidirectional", "config": config}], {"both": model.get_weights()})
    x = draw(3, 6, INPUTS, dtype="float32")
    assert_close(fastrnn.from_keras(path).predict(x), run(model, x), "float32")


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


KNOWN = "Embedding, SimpleRNN, GRU, LSTM, Bidirectional, Dense, TimeDistributed, Activation, ReLU, LeakyReLU, ELU, Softmax, InputLayer, "
KNOWN += "Dropout, SpatialDropout1D, GaussianDropout, GaussianNoise, AlphaDropout, ActivityRegularization, Identity"

FUNCTIONS = "'linear', 'tanh', 'relu', 'sigmoid', 'hard_sigmoid', 'softplus', 'softsign', 'elu', 'leaky_relu'"

MERGES = "'concat', 'sum', 'ave', 'mul'"


def double(x):
    return 2 * x


class OwnDense(kl.Dense):
    pass


OwnDense.__name__ = "Dense"

REFUSED = {
    "convolution": ([lambda: kl.Conv1D(3, 2, name="c")], f"layer 'c' (Conv1D) must be one of {KNOWN}, got Conv1D"),
    "lambda": ([lambda: kl.Lambda(double, name="f")], f"layer 'f' (Lambda) must be one of {KNOWN}, got Lambda"),
    "cell": ([lambda: kl.RNN(kl.LSTMCell(3), name="r")], f"layer 'r' (RNN) must be one of {KNOWN}, got RNN"),
    "cell in both": (
        [lambda: kl.Bidirectional(kl.RNN(kl.GRUCell(3), name="r"), name="b")],
        "layer 'b' (Bidirectional) must hold one of SimpleRNN, GRU, LSTM, got layer 'forward_r' (RNN)",
    ),
    "model": ([lambda: keras.Sequential([kl.Dense(3)], name="m")], f"layer 'm' (Sequential) must be one of {KNOWN}, got Sequential"),
    "own class": ([lambda: OwnDense(3, name="d")], "layer 'd' (Dense) must be of one of Keras' own classes, got Dense"),
    "masking": (
        [lambda: kl.Masking(name="m"), lambda: kl.LSTM(3)],
        "layer 'm' (Masking) must not be in the model; remove it, and pass lengths= for sequences padded at their end",
    ),
    "backwards": (
        [lambda: kl.GRU(3, go_backwards=True, name="g")],
        "layer 'g' (GRU) must have go_backwards=False, got True; pass the steps in reverse order to a layer without it",
    ),
    "backwards first": (
        [lambda: kl.Bidirectional(kl.GRU(3, go_backwards=True, name="g"), backward_layer=kl.GRU(3, name="h"))],
        "layer 'forward_g' (GRU) must have go_backwards=False, got True; pass the steps in reverse order to a layer without it",
    ),
    "activation": (
        [lambda: kl.Dense(3, activation="gelu", name="d")],
        f"layer 'd' (Dense) must have activation one of {FUNCTIONS}, 'softmax', 'log_softmax', got 'gelu'",
    ),
    "own function": (
        [lambda: kl.Dense(3), lambda: kl.Activation(double, name="a")],
        f"layer 'a' (Activation) must have activation one of {FUNCTIONS}, 'softmax', 'log_softmax', got 'double'",
    ),
    "recurrent activation": (
        [lambda: kl.LSTM(3, recurrent_activation="relu6", name="l")],
        f"layer 'l' (LSTM) must have recurrent_activation one of {FUNCTIONS}, got 'relu6'",
    ),
    "softmax in a cell": (
        [lambda: kl.LSTM(3, activation=kl.Softmax(), name="l")],
        f"layer 'l' (LSTM) must have activation one of {FUNCTIONS}, got 'softmax'",
    ),
    "axis": ([lambda: kl.Dense(3), lambda: kl.Softmax(axis=1, name="s")], "layer 's' (Softmax) must have axis=-1, got 1"),
    "ceiling": ([lambda: kl.Dense(3), lambda: kl.ReLU(6, name="r")], "layer 'r' (ReLU) must have no max_value, got 6"),
    "threshold": ([lambda: kl.Dense(3), lambda: kl.ReLU(threshold=1.5, name="r")], "layer 'r' (ReLU) must have no threshold, got 1.5"),
    "first": (
        [lambda: kl.ReLU(name="r"), lambda: kl.Dense(3)],
        "layer 'r' (ReLU) must come after a layer with weights, got it first",
    ),
    "distributed": (
        [lambda: kl.TimeDistributed(kl.LayerNormalization(name="n"), name="t")],
        "layer 't' (TimeDistributed) must hold a Dense, an activation or a Dropout, got layer 'n' (LayerNormalization)",
    ),
    "repeated": (
        [lambda: kl.LSTM(3), lambda: kl.RepeatVector(4, name="r"), lambda: kl.LSTM(3)],
        f"layer 'r' (RepeatVector) must be one of {KNOWN}, got RepeatVector",
    ),
    "nothing": ([lambda: kl.Dropout(0.5)], "layers must be at least one, got none"),
}


def assert_refused(model, text, folder):
    for source in sources(model, folder):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            fastrnn.from_keras(source)
        assert str(error.value) == text


@pytest.mark.parametrize("kind", sorted(set(REFUSED) - {"own class", "nothing"}))
def test_refused(kind, tmp_path):
    """What would change the outputs is refused by the layer's name, in every form of a model."""
    layers, text = REFUSED[kind]
    assert_refused(keras.Sequential([keras.Input((6, INPUTS)), *[layer() for layer in layers]]), text, tmp_path)


@pytest.mark.parametrize("kind", ["own class", "nothing"])
def test_refused_models(kind):
    """A user's own class isn't taken for Keras' of that name; a model without weights is none."""
    layers, text = REFUSED[kind]
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fastrnn.from_keras(keras.Sequential([keras.Input((6, INPUTS)), *[layer() for layer in layers]]))
    assert str(error.value) == text


def twice(x):
    layer = kl.Dense(INPUTS, name="d")
    return layer(layer(x))


def started(x):
    h = kl.Dense(3)(x)[:, 0]
    return kl.GRU(3, name="g")(x, initial_state=h)


BRANCHES = {
    "sum": (
        lambda x: kl.Add(name="a")([kl.Dense(INPUTS)(x), x]),
        "layer 'a' (Add) must have one input, the output of the layer before, got 2",
    ),
    "two outputs": (lambda x: [kl.Dense(2)(x), kl.Dense(3)(x)], "the model must have one of output_layers, got 2"),
    "shared": (twice, "layer 'd' (Dense) must be called once, got 2 calls"),
    "state in": (started, "layer 'g' (GRU) must be called with its input alone, got initial_state, too"),
    "state out": (
        lambda x: kl.Dense(2)(kl.GRU(3, return_state=True, name="g")(x)[1]),
        "layer 'g' (GRU) must be used by its first output alone, got the one at 1",
    ),
    "training": (
        lambda x: kl.Dense(2)(kl.Dropout(0.5, name="d")(x, training=True)),
        "layer 'd' (Dropout) must be called with its input alone, got training, too",
    ),
    "own mask": (
        lambda x: kl.GRU(3)(x, mask=keras.ops.any(keras.ops.greater(x, 0), axis=-1)),
        "layer 'greater' (Greater) must be in the chain of layers from the input to the output, got a branch",
    ),
    "merge": (
        lambda x: kl.Bidirectional(kl.GRU(3), merge_mode=None, name="b")(x)[0],
        f"layer 'b' (Bidirectional) must have merge_mode one of {MERGES}, got None",
    ),
}


@pytest.mark.parametrize("kind", BRANCHES)
def test_branches(kind, tmp_path):
    """A functional model must be a chain, called with nothing but its input."""
    keras.backend.clear_session()  # which numbers the operations anew
    graph, text = BRANCHES[kind]
    start = keras.Input((6, INPUTS))
    assert_refused(keras.Model(start, graph(start)), text, tmp_path)


def test_frozen_direction(tmp_path):
    """A legacy file lists frozen weights last, so that it can't be told whose they are; a .keras file can."""
    model = sequential("float32", lambda: kl.Bidirectional(kl.GRU(HIDDEN), name="both"))
    model.layers[0].forward_layer.trainable = False
    *paths, _ = sources(model, tmp_path)
    assert_close(
        fastrnn.from_keras(paths[0]).predict(draw(2, 5, INPUTS, dtype="float32")),
        run(model, draw(2, 5, INPUTS, dtype="float32")),
        "float32",
    )
    text = "layer 'both' (Bidirectional) must be trainable in both directions or in none, got one; save the model as a .keras file"
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fastrnn.from_keras(paths[1])
    assert str(error.value) == text


def test_adapted_weights(tmp_path):
    """Weights that are quantized or adapted aren't what the layer multiplies with."""
    model = keras.Sequential([keras.Input((6, INPUTS)), kl.Dense(OUTPUTS, name="d")])
    model.layers[0].enable_lora(2)
    assert_refused(model, "layer 'd' (Dense) must have no lora_rank, got 2; merge or dequantize it in Keras", tmp_path)
    other = keras.Sequential([keras.Input((6, INPUTS)), kl.Dense(OUTPUTS, name="d")])
    other.layers[0].quantize("int8")
    with pytest.raises(ValueError, match=r"^layer 'd' \(Dense\) must have no quantization_config, got "):
        fastrnn.from_keras(other)


def test_arguments():
    """A model that isn't built, and one of a class of its own."""
    for given, text in [
        (keras.Sequential([kl.Dense(3, name="d")]), "layer 'd' (Dense) must have weights of shapes (any, 3) and (3,), got none"),
        (type("Own", (keras.Model,), {})(), "path_or_model must be Keras' own Sequential or functional model, got bench.test_keras.Own"),
    ]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            fastrnn.from_keras(given)
        assert str(caught.value) == text


@keras.saving.register_keras_serializable("own", "Sequential")
class Sequential(keras.Sequential):
    """Not Keras'."""

    def call(self, *arguments, **options):
        return 3 * super().call(*arguments, **options)


@pytest.mark.parametrize("suffix", ["keras", None])
def test_models_of_ones_own(suffix, tmp_path):
    """A class of the user's that has the name of one of Keras' is refused, as an object and in files."""
    model = Sequential([kl.Input((None, INPUTS)), kl.GRU(3)])
    path = tmp_path / f"model.{suffix}"
    if suffix:
        model.save(path)
    with pytest.raises(ValueError, match=r"must (hold|be) Keras' own Sequential"):
        fastrnn.from_keras(path if suffix else model)


def test_weights_alone(tmp_path):
    """A file that Keras saved with weights alone isn't of a whole model."""
    sequential("float32", lambda: kl.GRU(HIDDEN)).save_weights(tmp_path / "alone.weights.h5")
    with pytest.raises(ValueError, match=r"must hold model_config, got weights alone; save the whole model: model.save\(path\)$"):
        fastrnn.from_keras(tmp_path / "alone.weights.h5")


def test_without_h5py():
    """A model, unlike a file, needs no h5py."""
    with mock.patch.dict("sys.modules", {"h5py": None}):
        assert fastrnn.from_keras(sequential("float32", lambda: kl.GRU(HIDDEN))).output_size == HIDDEN
