"""Weights under PyTorch's names, models in files, and what a model says of itself."""

import json
import pathlib
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fastrnn
from fastrnn.loading import files

from .cases import CASES, DTYPES, READERS, assert_close, assert_same_bits, assert_same_results, run
from .process import python

every_case = pytest.mark.parametrize("case", [*CASES, *READERS], ids=lambda case: case.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
I, H, P = 5, 7, 3  # noqa: E741


def numbers(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).uniform(-0.4, 0.4, shape).astype(dtype)


def state_dict(gates, layers=2, directions=2, *, bias=True, projection=False, prefix="", dtype=np.float64):
    """Random weights under PyTorch's names."""
    outputs, weights = P if projection else H, {}
    for layer in range(layers):
        for suffix in (f"_l{layer}", f"_l{layer}_reverse")[:directions]:
            inputs = directions * outputs if layer else I
            shapes = {"weight_ih": (gates * H, inputs), "weight_hh": (gates * H, outputs)}
            shapes |= {"bias_ih": (gates * H,), "bias_hh": (gates * H,)} if bias else {}
            shapes |= {"weight_hr": (P, H)} if projection else {}
            for name, shape in shapes.items():
                weights[f"{prefix}{name}{suffix}"] = numbers(len(weights), *shape, dtype=dtype)
    return weights


def by_hand(weights, gates, x, suffix):
    """PyTorch's equations for one layer and direction."""
    W, U = weights[f"weight_ih{suffix}"], weights[f"weight_hh{suffix}"]
    b, d = (weights.get(f"bias_{part}{suffix}", np.zeros(len(W))) for part in ("ih", "hh"))
    R = weights.get(f"weight_hr{suffix}", np.eye(H))
    h, c, outputs = np.zeros(U.shape[1]), np.zeros(H), []
    for x_t in x:
        parts = np.split(W @ x_t + b, gates), np.split(U @ h + d, gates)
        if gates == 1:
            h = np.tanh(parts[0][0] + parts[1][0])
        elif gates == 3:
            r, z = (1 / (1 + np.exp(-parts[0][i] - parts[1][i])) for i in range(2))
            h = (1 - z) * np.tanh(parts[0][2] + r * parts[1][2]) + z * h
        else:
            i, f, o = (1 / (1 + np.exp(-parts[0][k] - parts[1][k])) for k in (0, 1, 3))
            c = f * c + i * np.tanh(parts[0][2] + parts[1][2])
            h = R @ (o * np.tanh(c))
        outputs.append(h)
    return np.array(outputs)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("gates", "projection"), [(1, False), (3, False), (4, False), (4, True)], ids=["rnn", "gru", "lstm", "projected"])
def test_state_dicts_are_pytorchs_equations(gates, projection, directions, bias):
    """Names and shapes tell the kind of layer, how many there are and where they begin; the model computes PyTorch's equations."""
    weights, x = state_dict(gates, directions=directions, bias=bias, projection=projection), numbers(99, 6, I)
    expected = x
    for layer in range(2):
        forward = by_hand(weights, gates, expected, f"_l{layer}")
        backward = [by_hand(weights, gates, expected[::-1], f"_l{layer}_reverse")[::-1]] if directions == 2 else []
        expected = np.concatenate([forward, *backward], axis=-1)
    prefixed = {f"encoder.rnn.{name}": weight for name, weight in weights.items()} | {"head.weight": np.ones(3)}
    for model in (fastrnn.from_state_dict(weights), fastrnn.from_state_dict(prefixed, "encoder.rnn.")):
        assert_close(model.predict(x), expected, np.float64)
        assert len(model.layers) == 2


def test_cells_and_types():
    """A cell's names have no number; short floats become float32, and a dtype that is asked for is had."""
    cell = {name.removesuffix("_l0"): weight for name, weight in state_dict(3, 1, 1).items()}
    x = numbers(99, 6, I)
    expected = fastrnn.from_state_dict(state_dict(3, 1, 1)).predict(x)
    assert_same_bits(fastrnn.from_state_dict(cell).predict(x), expected)
    for short in (np.float16, ml_dtypes.bfloat16):
        weights = {name: weight.astype(short) for name, weight in cell.items()}
        model = fastrnn.from_state_dict(weights)
        assert model.dtype == np.float32
        np.testing.assert_array_equal(model.layers[0].weight_ih, weights["weight_ih"].astype(np.float32))
    for long in (np.dtype(">f8"), np.longdouble):
        model = fastrnn.from_state_dict({name: weight.astype(long) for name, weight in cell.items()})
        assert_same_bits(model.predict(x), expected)
    assert fastrnn.from_state_dict({name: weight.astype(">f4") for name, weight in cell.items()}).dtype == np.float32
    assert fastrnn.from_state_dict(cell, dtype=np.float32).dtype == np.float32
    assert fastrnn.from_state_dict(state_dict(1, 1, 1), nonlinearity="relu").layers[0].nonlinearity == "relu"


def without(name, gates=4, **options):
    weights = state_dict(gates, **options)
    del weights[name]
    return weights


REFUSED = {
    "nothing there": (
        lambda: fastrnn.from_state_dict({}),
        ValueError,
        "mapping must hold a recurrent layer's weights and nothing else under the prefix '', got none",
    ),
    "another prefix": (
        lambda: fastrnn.from_state_dict({"rnn." + name: weight for name, weight in state_dict(1, 1, 1, bias=False).items()}),
        ValueError,
        "mapping must hold a recurrent layer's weights and nothing else under the prefix '', got 'rnn.weight_ih_l0', 'rnn.weight_hh_l0'; "
        "there are recurrent weights under 'rnn.'",
    ),
    "a strange name": (
        lambda: fastrnn.from_state_dict(state_dict(4) | {"weight_xh_l0": np.ones(3)}),
        ValueError,
        "mapping must hold a recurrent layer's weights and nothing else under the prefix '', got 'weight_xh_l0'",
    ),
    "one bias": (
        lambda: fastrnn.from_state_dict(without("bias_hh_l0", layers=1, directions=1)),
        ValueError,
        "mapping must hold bias_hh with bias_ih, got none among 'weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0'",
    ),
    "no recurrent weight": (
        lambda: fastrnn.from_state_dict(without("weight_hh_l0", layers=1, directions=1, bias=False)),
        ValueError,
        "mapping must hold weight_hh with weight_ih, got none among 'weight_ih_l0'",
    ),
    "a missing layer": (
        lambda: fastrnn.from_state_dict({name.replace("_l1", "_l2"): weight for name, weight in state_dict(4, 2, 1).items()}),
        ValueError,
        "mapping must hold 'weight_ih_l1', since there are 3 layers in 1 direction; got none",
    ),
    "one direction": (
        lambda: fastrnn.from_state_dict({name: weight for name, weight in state_dict(4).items() if not name.endswith("l1_reverse")}),
        ValueError,
        "mapping must hold 'weight_ih_l1_reverse', since there are 2 layers in 2 directions; got none",
    ),
    "layers without end": (
        lambda: fastrnn.from_state_dict({name.replace("_l0", "_l999999"): weight for name, weight in state_dict(4, 1, 1).items()}),
        ValueError,
        "mapping must hold 'weight_ih_l0', since there are 1000000 layers in 1 direction; got none",
    ),
    "twice": (
        lambda: fastrnn.from_state_dict(state_dict(1, 1, 1) | {"weight_ih": np.ones((H, I))}),
        ValueError,
        "mapping must hold each weight once, got 'weight_ih_l0' and 'weight_ih'",
    ),
    "two gates": (
        lambda: fastrnn.from_state_dict({"weight_ih": np.ones((8, 3)), "weight_hh": np.ones((8, 4))}),
        ValueError,
        "weight_hh must have shape (H, H), (3 H, H) or (4 H, H), got (8, 4)",
    ),
    "another projection": (
        lambda: fastrnn.from_state_dict({"weight_ih": np.ones((8, 3)), "weight_hh": np.ones((8, 4)), "weight_hr": np.ones((4, 9))}),
        ValueError,
        "weight_hh must have shape (4 H, P) for weight_hr of shape (4, 9), got (8, 4)",
    ),
    "rows": (
        lambda: fastrnn.from_state_dict({"weight_ih": np.ones((8, 3)), "weight_hh": np.ones((4, 4))}),
        ValueError,
        "weight_hh must have as many rows as weight_ih, 8, got 4",
    ),
    "axes": (
        lambda: fastrnn.from_state_dict({"weight_ih": np.ones(8), "weight_hh": np.ones((4, 4))}),
        ValueError,
        "weight_ih must have 2 axes, got shape (8,)",
    ),
    "integers": (
        lambda: fastrnn.from_state_dict({"weight_ih": np.ones((4, 3), int), "weight_hh": np.ones((4, 4))}),
        TypeError,
        "weight_ih must hold floats, got dtype int64",
    ),
    "another dtype": (
        lambda: fastrnn.from_state_dict(state_dict(1), dtype=np.float16),
        TypeError,
        "dtype must be float32, float64 or None, got float16",
    ),
    "a nonlinearity, and a missing layer": (
        lambda: fastrnn.from_state_dict({"weight_ih_l1": np.ones((12, 3)), "weight_hh_l1": np.ones((12, 4))}, nonlinearity="relu"),
        ValueError,
        "mapping must hold 'weight_ih_l0', since there are 2 layers in 1 direction; got none",
    ),
    "a nonlinearity for an LSTM": (
        lambda: fastrnn.from_state_dict(state_dict(4, 1, 1), nonlinearity="relu"),
        ValueError,
        "nonlinearity must be left out for LSTM weights, got 'relu'",
    ),
    "what is no model": (
        lambda: fastrnn.save(np.ones(3), "model"),
        TypeError,
        "model must be a layer or a Sequential of fastrnn's own, got ndarray",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    """What can't be understood is refused by its name."""
    call, error, text = REFUSED[kind]
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == text


# ---- files ----------------------------------------------------------------------------------------------------------------------------


@every_dtype
@every_case
def test_a_saved_model_computes_the_same_bits(case, dtype, tmp_path):
    """Every layer with every option comes back from a file as it was."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (3,), 4)
    fastrnn.save(model, tmp_path / "model")
    again = fastrnn.load(tmp_path / "model")
    assert repr(again) == repr(model)
    if not (case.one_hot or case.looked_up):
        assert_same_results(run(again, x, states), run(model, x, states))


def small():
    return fastrnn.Sequential(
        fastrnn.Embedding.one_hot(4),
        fastrnn.Bidirectional(fastrnn.RNN(numbers(0, 3, 4), numbers(1, 3, 3), leak=0.5), fastrnn.GRU(numbers(2, 9, 4), numbers(3, 9, 3))),
        fastrnn.Dense(numbers(4, 2, 6), numbers(5, 2), activation=("elu", 0.5)),
        return_sequences=False,
    )


def test_a_file_is_what_others_read(tmp_path):
    """Any program finds the weights; equal models make equal files; the other dtype can be had; the file has usual permissions."""
    for name in ("one", "two"):
        fastrnn.save(small(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    weights = load_file(tmp_path / "one")
    np.testing.assert_array_equal(weights["layers.1.backward.weight_hh"], numbers(3, 9, 3))
    assert fastrnn.load(tmp_path / "one", dtype=np.float32).dtype == np.float32
    (tmp_path / "new").touch()
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "new").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "one", "two"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """Where writing fails, the old file stays, and nothing else is left."""
    path = tmp_path / "model"
    fastrnn.save(small(), path)
    before = path.read_bytes()

    def fails(tensors, name, metadata):
        pathlib.Path(name).write_bytes(b"half")
        raise OSError("no space")

    monkeypatch.setattr("safetensors.numpy.save_file", fails)
    with pytest.raises(OSError, match="no space"):
        fastrnn.save(fastrnn.Dense(np.ones((2, 3))), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="absent"):
        fastrnn.load(tmp_path / "absent")


class Own(fastrnn.RNN):
    """A layer that fastrnn doesn't know."""


def test_layers_of_ones_own_are_not_written(tmp_path):
    """A model that could not be read again is not written, and what a link leads to is replaced, not the link."""
    own = Own(np.ones((2, 2)), np.ones((2, 2)))
    for model in (own, fastrnn.Sequential(own), fastrnn.Bidirectional(own, own)):
        with pytest.raises(TypeError, match=r"^model must be a layer or a Sequential of fastrnn's own, got Own$"):
            fastrnn.save(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())
    (tmp_path / "link").symlink_to(tmp_path / "model")
    fastrnn.save(small(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert repr(fastrnn.load(tmp_path / "model")) == repr(small())


def damages(content, rng):
    """Yield a file a thousand times, damaged in one of many ways each."""
    for i in range(1000):
        at, changed = int(rng.integers(len(content))), bytearray(content)
        kind = i % 5
        if kind == 0:
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed = changed[:at]
        elif kind == 2:
            changed[at : at + 20] = rng.bytes(20)
        elif kind == 3:
            changed[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            changed[at] = int(rng.choice([32, 48, 49, 57, 91, 123, 125]))
        yield bytes(changed)


def test_damaged_files_are_refused_or_equal(tmp_path):
    """A file that has been damaged anyhow is refused by an error of ours, or gives the same model."""
    path, model, x = tmp_path / "model", small(), [[0, 3, 1], [2, 2, 2]]
    fastrnn.save(model, path)
    expected, refused = model.predict(x), 0
    for content in damages(path.read_bytes(), np.random.default_rng(0)):
        path.write_bytes(content)
        try:
            again = fastrnn.load(path)
        except ValueError as error:
            assert str(error).startswith(f"path must be a whole file that fastrnn.save wrote, got {str(path)!r}: ")  # noqa: PT017
            refused += 1
        else:
            assert_same_bits(again.predict(x), expected)
    assert refused > 900


def changed(document, tensors=None):
    """Write a file whose description has been changed, by someone who computes its digests anew."""

    def write(path):
        model = {"layer": "Dense", "weight": {"sha256": files.digest_of(np.ones((2, 3)))}}
        text = (
            document if isinstance(document, str) else json.dumps({"version": 1, "sha256": files.digest(model), "model": model} | document)
        )
        save_file({"weight": np.ones((2, 3))} if tensors is None else tensors, path, {"fastrnn": text})

    return write


def described(model, tensors=None):
    return changed({"sha256": files.digest(model), "model": model}, tensors)


WEIGHT = {"sha256": files.digest_of(np.ones((2, 3)))}
NESTED = 50_000
LAYERS = ", ".join(kind.__name__ for kind in fastrnn.layers.LAYERS)
HOSTILE = {
    "no description": (
        lambda path: save_file({"weight": np.ones(3)}, path),
        "it has no description of layers; from_state_dict(safetensors.numpy.load_file(path)) reads recurrent weights of others",
    ),
    "a later version": (changed({"version": 2}), "its description must have version 1, got 2; another fastrnn may read it"),
    "no version": (changed("[]"), "its description must have version 1, got None; another fastrnn may read it"),
    "another digest": (changed({"sha256": ""}), "its description was changed, its digest is another"),
    "deep nesting": (changed("[" * NESTED + "]" * NESTED), "maximum recursion depth exceeded"),
    "an unknown layer": (
        described({"layer": "os.system"}),
        f"model must be one of {LAYERS}, and have arrays, got {{'layer': 'os.system'}}",
    ),
    "no layer": (described(7), f"model must be one of {LAYERS}, and have arrays, got 7"),
    "a billion layers": (
        described({"layer": "Sequential", "layers": [{"layer": "Embedding", "one_hot": 9}] * 1000}),
        f"layers.4 must be one of {LAYERS}, and have arrays, got {{'layer': 'Embedding', 'one_hot': 9}}",
    ),
    "a missing array": (described({"layer": "Dense", "weight": WEIGHT, "bias": WEIGHT}), "it must have an array 'bias', got none"),
    "an array besides": (
        described({"layer": "Embedding", "one_hot": 9}),
        "its description must name every array, got 'weight' besides",
    ),
    "another array": (
        described({"layer": "Dense", "weight": WEIGHT}, {"weight": np.zeros((2, 3))}),
        "'weight' was changed, its digest is another",
    ),
    "a wrong shape": (
        described({"layer": "Dense", "weight": WEIGHT, "bias": WEIGHT}, {"weight": np.ones((2, 3)), "bias": np.ones((2, 3))}),
        "model must be what Dense takes: bias must have shape (output_size,) for output_size=2, got (2, 3)",
    ),
    "integers": (
        described({"layer": "Dense", "weight": {"sha256": files.digest_of(np.ones((2, 3), int))}}, {"weight": np.ones((2, 3), int)}),
        "weight must hold floats, got dtype int64",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files(kind, tmp_path):
    """A file that someone has made by hand is refused, with the reason."""
    write, text = HOSTILE[kind]
    write(tmp_path / "model")
    with pytest.raises(ValueError, match="whole file") as raised:
        fastrnn.load(tmp_path / "model")
    assert str(raised.value).startswith(f"path must be a whole file that fastrnn.save wrote, got {str(tmp_path / 'model')!r}: {text}")


def test_sizes_beyond_the_file(tmp_path):
    """A header that promises more than there is allocates nothing."""
    header = json.dumps({"weight": {"dtype": "F64", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}).encode()
    for size in (len(header), 2**40, 2**63):
        (tmp_path / "model").write_bytes(size.to_bytes(8, "little") + header)
        with pytest.raises(ValueError, match="path must be a whole file"):
            fastrnn.load(tmp_path / "model")


BIG = """
import re, resource, sys
import numpy as np, fastrnn
if sys.argv[2] == "write":
    weights = np.zeros((4096, 4096), np.float32)
    fastrnn.save(fastrnn.Sequential(*[fastrnn.RNN(weights, weights)] * 2), sys.argv[1])
else:
    fastrnn.load(sys.argv[1] + ".small")
    used = int(re.search(r"VmData:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[3]) * 2**20,) * 2)
    try:
        print(fastrnn.load(sys.argv[1]).input_size)
    except MemoryError:
        print("more")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's own memory is limited on Linux only")
def test_memory_of_loading(tmp_path):
    """Loading 256 MB takes that once, and a layer's 128 MB a second time: nothing is packed before the first call."""
    path = tmp_path / "model"
    fastrnn.save(small(), f"{path}.small")
    python(BIG, path, "write")
    assert [python(BIG, path, "read", limit).strip() for limit in (256 + 128 + 48, 256)] == ["4096", "more"]


def test_nothing_is_imported_for_loading():
    """fastrnn imports safetensors, like torch, h5py and onnx, where they are needed."""
    script = "import sys, fastrnn; print(*sorted({'safetensors', 'torch', 'h5py', 'onnx'} & set(sys.modules)))"
    assert python(script).split() == []


def test_a_summary_counts_every_weight():
    """A summary names each layer, also one-hot ones and those within others, and counts what the layers have."""
    model, lines = small(), small().summary().splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "Embedding", "Bidirectional", "forward:", "backward:", "Dense", "total"]
    sizes = [12 + 9, 36 + 27, 12 + 2]
    assert lines[-1].split() == ["total", str(sum(sizes)), str(8 * sum(sizes))]
    assert model.layers[2].summary().splitlines()[1:] == ["Dense  (..., T, 2)          14    112", "total                       14    112"]
