"""Loaders refuse structural damage by an error of ours, whatever Python or another library makes of it."""

import collections
import errno
import io
import json
import pathlib
import zipfile

import numpy as np
import pytest

import fastrnn
from fastrnn.loading import boundary, files

from . import mutants
from .exhaustive import few
from .torture import loaders

NEEDED = {**loaders.NEEDED, "mapping": "numpy", "safetensors": "safetensors"}


@pytest.mark.parametrize("kind", NEEDED)
@pytest.mark.parametrize("count", few([50, 150], 50))
def test_mutants(kind, count, tmp_path):
    """Each of many mutants is loaded or refused, and some refusals were made of another error, which is their cause."""
    pytest.importorskip(NEEDED[kind])
    rng = np.random.default_rng(3)
    said = collections.Counter(loaders.attempt(rng, kind, tmp_path) for _ in range(count))
    assert said["refused"] > count // 30
    assert len(said) > 2 or kind == "mapping"


@pytest.mark.parametrize("kind", loaders.FILES)
def test_whole_files(kind, tmp_path):
    """What isn't damaged is loaded: all layers of it."""
    pytest.importorskip(NEEDED[kind])
    write, name, read = loaders.FILES[kind]
    write(np.random.default_rng(0), tmp_path / name, False)
    assert len(read(tmp_path / name).layers) == (3 if kind == "safetensors" else 7)


def of_keras(tmp_path):
    """A .keras file whose call has a list as options."""
    pytest.importorskip("h5py")
    path, changed = tmp_path / "model.keras", mutants.description(True, True)
    mutants.keras_3(np.random.default_rng(0), path, False)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    changed["config"]["layers"][-1]["inbound_nodes"][0]["kwargs"] = [1]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**contents, "config.json": json.dumps(changed)}.items():
            archive.writestr(name, content)
    return lambda: fastrnn.from_keras(path), f"path_or_model must be a .keras or .h5 file, got {str(path)!r}"


def of_onnx(operator, name, value):
    """An ONNX model, one of whose attributes has another type."""
    helper = pytest.importorskip("onnx").helper
    model = mutants.by_hand("LSTM", 4)
    found = next(one for node in model.graph.node if node.op_type == operator for one in node.attribute if one.name == name)
    found.CopyFrom(helper.make_attribute(name, value))
    return lambda: fastrnn.from_onnx(model), "path_or_model must be a valid ONNX model, got ModelProto"


ADVICE = "; onnx.checker.check_model(model, full_check=True) says more"
TEXTS = {
    "keras": (of_keras, "AttributeError: 'list' object has no attribute 'items'"),
    "perm as int": (lambda _: of_onnx("Transpose", "perm", 3), f"TypeError: 'int' object is not iterable{ADVICE}"),
    "axis as list": (lambda _: of_onnx("Softmax", "axis", [0]), f"TypeError: unsupported operand type(s) for %: 'list' and 'int'{ADVICE}"),
    "activations as float": (lambda _: of_onnx("LSTM", "activations", 0.5), f"TypeError: 'float' object is not iterable{ADVICE}"),
    "direction of other bytes": (
        lambda _: of_onnx("LSTM", "direction", b"\xff"),
        f"UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte{ADVICE}",
    ),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts(kind, tmp_path):
    """The error names the argument and the file, says that it is damaged or not understood, and has the first error as its cause."""
    make, text = TEXTS[kind]
    call, begins = make(tmp_path)
    with pytest.raises(ValueError, match="must") as raised:
        call()
    assert str(raised.value) == f"{begins}, which is damaged or not understood: {text}"
    assert type(raised.value.__cause__).__name__ == text.partition(":")[0]


ROWS = [[1.0], [1.0, 2.0]]
WRONG = {
    "a list": (lambda: fastrnn.from_state_dict([1]), TypeError, "mapping must be a mapping of names to arrays, got list"),
    "a name that is none": (lambda: fastrnn.from_state_dict({3: 1}), TypeError, "mapping must have names that are str, got 3"),
    "a prefix that is none": (lambda: fastrnn.from_state_dict({}, 3), TypeError, "prefix must be a str, got int"),
    "no dtype": (lambda: fastrnn.from_state_dict({}, dtype="x"), TypeError, "dtype must be float32, float64 or None, got 'x'"),
    "another dtype": (lambda: fastrnn.load("", dtype=int), TypeError, "dtype must be float32, float64 or None, got int64"),
    "integers": (
        lambda: fastrnn.from_state_dict({"weight_ih": [[1]], "weight_hh": [[1]]}),
        TypeError,
        "weight_ih must hold floats, got dtype int64",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_our_own_errors(kind):
    """Errors of ours keep their type and their text."""
    call, error, text = WRONG[kind]
    with pytest.raises(error) as raised:
        call()
    assert (type(raised.value), str(raised.value), raised.value.__notes__ if hasattr(raised.value, "__notes__") else None) == (
        error,
        text,
        None,
    )


def test_a_ragged_weight():
    """What NumPy says of a weight that is no array is the cause, and a part of the text."""
    with pytest.raises(ValueError, match="mapping") as raised:
        fastrnn.from_state_dict({"weight_ih": ROWS, "weight_hh": ROWS})
    begins = "mapping must be a recurrent layer's weights by their names, got dict, which is damaged or not understood: ValueError: "
    assert str(raised.value) == f"{begins}{raised.value.__cause__}"


def test_a_fault_while_loading(monkeypatch, tmp_path):
    """`load` says the kind of an error that would say nothing alone."""
    mutants.safetensors(np.random.default_rng(0), tmp_path / "model", False)
    monkeypatch.setattr(files, "digest_of", lambda array: {}["x"])
    with pytest.raises(ValueError, match="path must") as raised:
        fastrnn.load(tmp_path / "model")
    path = str(tmp_path / "model")
    assert str(raised.value) == f"path must be a whole file that fastrnn.save wrote, got {path!r}: KeyError: 'x'"


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), ImportError("no"), MemoryError(), KeyboardInterrupt(), AssertionError()])
def test_what_passes(error):
    """Errors that say nothing about a file's structure pass as they are, through every loader's boundary."""
    with pytest.raises(type(error)) as raised, boundary.understood("path", "model", "a file"):
        raise error
    assert raised.value is error


class Broken(io.BytesIO):
    """A file on a disk that fails after some reads."""

    left = 3

    def readinto(self, buffer):
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(buffer)


def test_a_broken_disk(monkeypatch, tmp_path):
    """A disk that fails while HDF5 reads is an OSError, not a damaged file."""
    pytest.importorskip("h5py")
    mutants.keras_2(np.random.default_rng(0), tmp_path / "model.h5", False)
    content = (tmp_path / "model.h5").read_bytes()
    monkeypatch.setattr(pathlib.Path, "open", lambda *_: Broken(content))
    with pytest.raises(OSError, match="Input/output error") as raised:
        fastrnn.from_keras(tmp_path / "model.h5")
    assert raised.value.errno == errno.EIO


def test_torture_says_causes():
    """A round of mutants counts what refusals were made of."""
    counts = collections.Counter()
    for seed in range(6):
        loaders.mutated(np.random.default_rng(seed), counts)
    assert counts.pop("mutants") == 300
    assert counts
    assert all(name.startswith("cause: ") for name in counts)
