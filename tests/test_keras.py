"""from_keras of files that Keras has written, and of others by h5py alone: the forms of Keras 2, what is refused by name, and damage."""

import json
import pathlib
import zipfile
from types import SimpleNamespace
from unittest import mock

import h5py
import numpy as np
import pytest

import fastrnn

from . import mutants
from .cases import assert_close, assert_same_bits
from .keras_files import HIDDEN, INPUTS, V, keras_2_gru, write_keras_2
from .process import python

MODELS = np.load(pathlib.Path(__file__).with_name("keras_models.npz"))  # which keras_models.py made


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", sorted({name.partition("/")[0] for name in MODELS}))
def test_outputs(name, suffix, tmp_path):
    """A model of either form of file gives the outputs that Keras gave."""
    path, x = tmp_path / f"model.{suffix}", MODELS[f"{name}/x"]
    path.write_bytes(MODELS[f"{name}/{suffix}"].tobytes())
    assert_close(fastrnn.from_keras(path).predict(x), MODELS[f"{name}/output"], np.float32)


def test_keras_2_model():
    """A model of Keras 2 says by its package which hard_sigmoid it means."""
    layers, weights = keras_2_gru(recurrent_activation="hard_sigmoid")
    own = [SimpleNamespace(name=name, get_weights=lambda arrays=arrays: arrays) for name, arrays in weights.items()]
    members = {"__module__": "tf_keras.src.engine", "layers": own, "get_config": lambda self: {"name": "model", "layers": layers}}
    model = type("Sequential", (), members)()
    for version, expected in (("2.15.0", ("hard_sigmoid", 0.2, 0.5)), ("3.1.0", "hard_sigmoid")):
        with mock.patch.dict("sys.modules", {"tf_keras": SimpleNamespace(__version__=version)}):
            assert fastrnn.from_keras(model).layers[1].recurrent_activation == expected


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


@pytest.mark.parametrize(("change", "shape"), [(np.transpose, "(27, 9)"), (lambda weight: weight[:, 0], "(9,)")])
def test_shapes(change, shape, tmp_path):
    """Weights must have the shapes that the description gives, and as many axes."""
    layers, weights = keras_2_gru()
    weights["gru"][1] = change(weights["gru"][1])
    write_keras_2(tmp_path / "old.h5", layers, weights)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fastrnn.from_keras(tmp_path / "old.h5")
    said = f"(7, 27) and (9, 27) and (27,), got (7, 27) and {shape} and (27,)"
    assert str(error.value) == f"layer 'gru' (GRU) must have weights of shapes {said}"


GRAPHS = {
    "cycle": ([[["leaky", 0, 0, {}]]], "layer 'leaky' (LeakyReLU) must come once, got a model that uses it again"),
    "stranger": ([[["none", 0, 0, {}]]], "a layer's input must be the output of another, got ['none', 0, 0, {}]"),
    "called": (
        [[["embedding", 0, 0, {"initial_state": ["embedding", 0, 0]}]]],
        "layer 'gru' (GRU) must be called with its input alone, got initial_state, too",
    ),
}


@pytest.mark.parametrize("fault", GRAPHS)
def test_graphs(fault, tmp_path):
    """Keras 2's description of a functional model must be a chain, too."""
    layers, weights = keras_2_gru()
    nodes, text = GRAPHS[fault]
    write_keras_2(tmp_path / "old.h5", layers, weights, functional=True)
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        model = json.loads(file.attrs["model_config"])
        model["config"]["layers"][2]["inbound_nodes"] = nodes
        file.attrs["model_config"] = json.dumps(model)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fastrnn.from_keras(tmp_path / "old.h5")
    assert str(error.value) == text


def put(name, value):
    """Make a change to a description: the option of its GRU that has a name, or none of that name."""

    def change(config):
        options = config["layers"][2]["config"]
        options.pop(name, None)
        if value is not None:
            options[name] = value

    return change


def stack(config):
    """Put a second GRU after one that gives its last step alone."""
    first = config["layers"][2]["config"]
    config["layers"].append({"class_name": "GRU", "config": {**first, "name": "second"}})
    first["return_sequences"] = False


DESCRIPTIONS = {
    "stack": (stack, "layer 'gru' (GRU) must have return_sequences=True before another recurrent layer, 'second', got False"),
    "units": (put("units", 0), "layer 'gru' (GRU) must have units from 1 up, got 0"),
    "activation": (put("activation", None), "layer 'gru' (GRU) must say its activation, got a description without it"),
    "time": (put("time_major", True), "layer 'gru' (GRU) must have time_major=False, got True"),
    "slope": (
        lambda config: config["layers"][3]["config"].update(alpha="steep"),
        "layer 'leaky' (LeakyReLU) must have a finite number as negative_slope, got 'steep'",
    ),
    "name": (
        put("name", "embedding"),
        "the model's layers must have different names, got ['input_1', 'embedding', 'embedding', 'leaky']",
    ),
    "layers": (lambda config: config.update(layers=3), "the model's description must be a list of layers, got int"),
    "layer": (lambda config: config["layers"].append(3), "a layer's description must have class_name and config, got 3"),
    "order": (
        lambda config: config["layers"].reverse(),
        "layer 'leaky' (LeakyReLU) must come after a layer with weights, got it first",
    ),
}


@pytest.mark.parametrize("fault", DESCRIPTIONS)
def test_descriptions(fault, tmp_path):
    """A description that lacks what is needed, or has what can't be."""
    layers, weights = keras_2_gru()
    change, text = DESCRIPTIONS[fault]
    write_keras_2(tmp_path / "old.h5", layers, weights)
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        model = json.loads(file.attrs["model_config"])
        change(model["config"])
        file.attrs["model_config"] = json.dumps(model)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fastrnn.from_keras(tmp_path / "old.h5")
    assert str(error.value) == text


@pytest.mark.parametrize("kind", ["link", "virtual", "raw"])
def test_weights_of_other_files(kind, tmp_path):
    """A file can't make numbers of another one weights."""
    layers, weights = keras_2_gru()
    write_keras_2(tmp_path / "old.h5", layers, weights)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.ones((V, INPUTS), np.float32)
    np.ones((V, INPUTS), np.float32).tofile(tmp_path / "other.bin")
    name, arrays = next(iter(weights.items()))
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        group, own = file["model_weights"][name], f"{name}/cell/weight_0:0"
        del group[own]
        shape = arrays[0].shape
        if kind == "link":
            group[own] = h5py.ExternalLink("other.h5", "/secret")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, np.float32)
            layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "secret", shape)
            group.create_virtual_dataset(own, layout)
        else:
            group.create_dataset(own, shape, np.float32, external=[(str(tmp_path / "other.bin"), 0, arrays[0].nbytes)])
    # h5py follows a link within the file that it is given
    text = "object 'secret' doesn't exist" if kind == "link" else "must have its weights in the file itself, got a link to another$"
    with pytest.raises(ValueError, match=text):
        fastrnn.from_keras(tmp_path / "old.h5")


def test_files(tmp_path):
    """Files that aren't of a whole model: weights alone, weights that are pickled, other content."""
    with h5py.File(tmp_path / "alone.weights.h5", "w") as file:
        file["layers/gru/cell/vars/0"] = np.ones((INPUTS, 3 * HIDDEN), np.float32)
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Own", "config": {}})
    with pytest.raises(ValueError, match=r"^the file must hold a Sequential or a functional model, got 'Own'$"):
        fastrnn.from_keras(tmp_path / "own.h5")
    with zipfile.ZipFile(tmp_path / "pickled.keras", "w") as archive:
        archive.writestr("model.weights.npz", b"")
    (tmp_path / "text.keras").write_bytes(b"some text")
    whole = "must be a whole .keras or .h5 file, got one that can't be read: "
    remedy = "load it in Keras and save it where h5py is installed"
    for name, text in [
        ("alone.weights.h5", "must hold model_config, got weights alone; save the whole model: model.save(path)"),
        ("pickled.keras", f"must hold model.weights.h5, got model.weights.npz, which only unpickling could read; {remedy}"),
        ("text.keras", f"{whole}Unable to synchronously open file (file signature not found)"),
    ]:
        with pytest.raises(ValueError) as error:  # noqa: PT011
            fastrnn.from_keras(tmp_path / name)
        assert str(error.value) == f"{tmp_path / name} {text}"


@pytest.mark.parametrize(("write", "name"), [(mutants.keras_3, "model.keras"), (mutants.keras_2, "model.h5")])
def test_truncated(write, name, tmp_path):
    """A file that ends too early is refused, wherever it ends."""
    path = tmp_path / name
    write(np.random.default_rng(0), path, False)
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 1, 100, dtype=int):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"must be a whole \.keras or \.h5 file, got one that can't be read: "):
            fastrnn.from_keras(path)


def test_flipped_bits(tmp_path):
    """A damaged .keras file is refused by a checksum, or gives the same weights. A legacy file has none, and may crash HDF5 itself."""
    path = tmp_path / "model.keras"
    mutants.keras_3(np.random.default_rng(0), path, False)
    content, expected, refused = path.read_bytes(), fastrnn.from_keras(path), 0
    for position in np.random.default_rng(5).integers(0, len(content), 500):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            loaded = fastrnn.from_keras(path)
        except ValueError:
            refused += 1
            continue
        assert_same_layers(loaded, expected)
    assert refused > 400


def arrays_of(layer):
    """Return every array that a layer holds, and those of the layers in it."""
    own = [value for value in vars(layer).values() if isinstance(value, np.ndarray)]
    inner = getattr(layer, "layers", [layer.forward, layer.backward] if isinstance(layer, fastrnn.Bidirectional) else [])
    return own + [array for one in inner for array in arrays_of(one)]


def assert_same_layers(model, expected):
    """The same layers, with the same weights bit for bit."""
    assert repr(model) == repr(expected)
    for one, other in zip(arrays_of(model), arrays_of(expected), strict=True):
        assert_same_bits(one, other)


def test_arguments(tmp_path):
    """What is no model, no file, and no dtype of fastrnn's."""
    with pytest.raises(TypeError, match=r"^path_or_model must be a path or a Keras model, got int$"):
        fastrnn.from_keras(3)
    with pytest.raises(FileNotFoundError):
        fastrnn.from_keras(tmp_path / "none.keras")
    with pytest.raises(TypeError, match=r"^dtype must be float32, float64 or None, got float16$"):
        fastrnn.from_keras(tmp_path / "none.keras", dtype="float16")


def test_without_h5py(tmp_path):
    """A file needs h5py, which isn't imported before."""
    with mock.patch.dict("sys.modules", {"h5py": None}):
        with pytest.raises(ImportError) as error:
            fastrnn.from_keras(tmp_path / "model.keras")
        assert str(error.value) == "from_keras needs h5py to read a file; pip install 'fastrnn[keras]'"
    assert python("import sys, fastrnn; print('keras' in sys.modules, 'h5py' in sys.modules)").split() == ["False", "False"]
