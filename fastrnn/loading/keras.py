"""Load networks from Keras' files, without Keras, or from its models.

A file holds a description of the layers, as JSON, and their weights, as HDF5.
"""

import errno
import io
import json
import math
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..arguments import Array, DenseActivation
from ..layers import GRU, LSTM, RNN, Bidirectional, Dense, Embedding, Merge, Recurrent, Sequential
from .boundary import understood
from .gates import GRU_GATES, activate, as_numbers, check_dtype, gru_biases, reordered

# Errors that zipfile, json and h5py raise for a damaged file.
DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    json.JSONDecodeError,
    UnicodeError,
)

# Keras' layers with weights, and the groups of a .keras file that hold the weights, below the layer's own group.
GROUPS = {
    "Embedding": ("",),
    "SimpleRNN": ("/cell",),
    "GRU": ("/cell",),
    "LSTM": ("/cell",),
    "Bidirectional": ("/forward_layer/cell", "/backward_layer/cell"),
    "Dense": ("",),
    "TimeDistributed": ("/layer",),
}
RECURRENT = ("SimpleRNN", "GRU", "LSTM")
ACTIVATION_LAYERS = ("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax")
# Layers that do nothing at inference.
NOISE = ("Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization", "Identity")
PASSED = ("InputLayer", *NOISE)
STEPWISE = ("Dense", *ACTIVATION_LAYERS, *NOISE)  # compute the same inside a TimeDistributed and outside

GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}
KERAS_GRU_GATES = "zrn"
MERGES: dict[str, Merge] = {"concat": "concat", "sum": "sum", "ave": "mean", "mul": "product"}

# Keras' activations, and their names here.
ACTIVATIONS: dict[str, DenseActivation] = {
    "linear": "identity",
    "tanh": "tanh",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "hard_sigmoid",
    "softplus": "softplus",
    "softsign": "softsign",
    "elu": ("elu", 1.0),
    "leaky_relu": ("leaky_relu", 0.2),
}
ROW_ACTIVATIONS: dict[str, DenseActivation] = {"softmax": "softmax", "log_softmax": "log_softmax"}


class Described(NamedTuple):
    """A layer as Keras describes it: its class, its name, and its options."""

    kind: str
    name: str
    config: dict[str, Any]

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.kind})"

    def integer(self, option: str) -> int:
        value = self.config.get(option)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{self} must have {option} from 1 up, got {value!r}")
        return value

    def number(self, options: Sequence[str], default: float) -> float:
        """Return a number. `options` are the names that Keras 3 and Keras 2 give the option."""
        value = next((self.config[option] for option in options if option in self.config), default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{self} must have a finite number as {options[0]}, got {value!r}")
        return float(value)


class Given(NamedTuple):
    """What a layer is built from besides its description: weights, output size of the layer before or None, Keras' version, dtype."""

    weights: list[Any]
    inputs: int | None
    version: int
    dtype: DTypeLike | None


class Network(NamedTuple):
    """A network as read: its layers in order, a function that returns a layer's datasets or arrays, and Keras' version."""

    layers: list[Described]
    weights: Callable[[Described], Sequence[Any]]
    version: int


def from_keras(path_or_model: str | PathLike[str] | Any, *, dtype: DTypeLike | None = None) -> Sequential:
    """Load a network that Keras saved, or take over a Keras model. Keras is not imported; a file needs h5py.

    ::

        Keras                                      here
        Embedding                                  Embedding
        SimpleRNN, GRU, LSTM                       RNN, GRU (either reset_after), LSTM
        Bidirectional                              Bidirectional; merge_mode "ave" is "mean", "mul" is "product"
        Dense, TimeDistributed(Dense)              Dense
        Activation, ReLU, LeakyReLU, ELU, Softmax  the activation of the Dense before, or a Dense with the identity as its weight
        Dropout, noise, InputLayer                 nothing

    Parameters
    ----------
    path_or_model : str, path-like or keras.Model
        A .keras file, a legacy .h5 file of a whole model (of Keras 3 or Keras 2), or a model. Sequential, or a functional
        model whose layers are a chain.
    dtype : {float32, float64}, optional
        What the model computes in; the weights' dtype where not given. float16 and bfloat16 become float32.

    Returns
    -------
    Sequential
        With return_sequences=False where the last recurrent layer has it: a call then returns one output for each sequence, as in Keras.

    Warns
    -----
    UserWarning
        For an Embedding with mask_zero: token 0 is a step like any other here; pass `lengths=` for sequences padded at their end.
        For a stateful layer: the model stores no state; pass the state that a call returns to the next, or use `Sequential.stream`.

    Raises
    ------
    ImportError
        For a file, if h5py is not installed.
    OSError
        If the file can't be opened.
    TypeError
        For an argument that is neither a path nor a model, and for weights that aren't floats or have different dtypes.
    ValueError
        For a damaged file, weights that don't fit the description, and anything that would change the outputs and isn't in the
        table: other layers, activations and options, go_backwards outside of a Bidirectional, Masking, models with branches.

    Notes
    -----
    Keras stacks an LSTM's gates in the order i, f, c, o, as fastrnn does, and a GRU's in the order z, r, h. Its kernels are
    transposed. Keras 2 computes hard_sigmoid as max(0, min(1, 0.2 x + 0.5)), Keras 3 as relu6(x + 3) / 6: the file says which.

    Nothing in a file is executed or unpickled. A .keras file's checksums show damage; a legacy file has none, and HDF5 itself may
    crash on a damaged one. A legacy file doesn't say, either, whether a class of a known name is Keras' own.

    Examples
    --------
    >>> import fastrnn
    >>> model = fastrnn.from_keras("model.keras")  # doctest: +SKIP
    >>> output, state = model(x)  # doctest: +SKIP
    """
    check_dtype(dtype)
    if hasattr(path_or_model, "get_config"):
        with understood("path_or_model", path_or_model, "a Keras model"):
            return build(of_model(path_or_model), dtype)
    if not isinstance(path_or_model, (str, PathLike)):
        raise TypeError(f"path_or_model must be a path or a Keras model, got {type(path_or_model).__name__}")
    path = Path(path_or_model)
    h5py = imported_h5py()
    with path.open("rb") as file, understood("path_or_model", path, "a .keras or .h5 file"), undamaged(path):
        archived = file.read(2) == b"PK"
        if not archived:
            with h5py.File(file, "r") as content:
                return build(of_legacy_file(path, content), dtype)
        with zipfile.ZipFile(file) as archive:
            weights = archived_weights(path, archive)  # read whole: only then does zipfile compare the checksum
            with h5py.File(weights, "r") as content:
                return build(of_archive(archive, content), dtype)


def imported_h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("from_keras needs h5py to read a file; pip install 'fastrnn[keras]'") from error
    return h5py


@contextmanager
def undamaged(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.ENOENT):
            raise  # a fault of the disk, not of the file
        raise ValueError(f"{path} must be a whole .keras or .h5 file, got one that can't be read: {error}") from error


def of_model(model: Any) -> Network:
    """Return the layers and weights of a Keras model, without importing Keras."""
    kind = type(model).__name__
    if kind not in ("Sequential", "Functional", "Model") or not is_own(type(model).__module__):
        raise ValueError(f"path_or_model must be Keras' own Sequential or functional model, got {type(model).__module__}.{kind}")
    arrays = {layer.name: layer.get_weights() for layer in model.layers}
    package = sys.modules.get(type(model).__module__.partition(".")[0])
    config, version = model.get_config(), major(getattr(package, "__version__", "3"))

    def weights(layer: Described) -> Sequence[Any]:
        if version < 3:
            check_one_order(layer)
        return arrays[layer.name]

    return Network(ordered(described_layers(config), config), weights, version)


def of_archive(archive: zipfile.ZipFile, content: Any) -> Network:
    """Read a .keras file. Its groups are named after the layers' classes, and numbered in the order of the description."""
    model, metadata = json.loads(archive.read("config.json")), json.loads(archive.read("metadata.json"))
    config = model_config(model)
    layers = described_layers(config)
    groups: dict[str, str] = {}
    counts = dict.fromkeys(GROUPS, 0)
    for layer in layers:
        if layer.kind in GROUPS:
            number = counts[layer.kind]
            groups[layer.name] = group_name(layer.kind) + (f"_{number}" if number else "")
            counts[layer.kind] += 1
    root: Any = next((content[name] for name in ("layers", "_layer_checkpoint_dependencies") if name in content), {})  # Keras 3 and 2

    def weights(layer: Described) -> list[Any]:
        found = [root.get(f"{groups[layer.name]}{below}/vars", {}) for below in GROUPS[layer.kind]]
        return [in_file(content, layer, one[str(i)]) for one in found for i in range(len(one))]

    return Network(ordered(layers, config), weights, major(metadata.get("keras_version")))


def group_name(kind: str) -> str:
    return {"SimpleRNN": "simple_rnn", "TimeDistributed": "time_distributed"}.get(kind, kind.lower())


def archived_weights(path: Path, archive: zipfile.ZipFile) -> io.BytesIO:
    names = archive.namelist()
    if "model.weights.h5" not in names and "model.weights.npz" in names:
        remedy = "load it in Keras and save it where h5py is installed"
        raise ValueError(f"{path} must hold model.weights.h5, got model.weights.npz, which only unpickling could read; {remedy}")
    return io.BytesIO(archive.read("model.weights.h5"))


def of_legacy_file(path: Path, content: Any) -> Network:
    """Read a legacy HDF5 file. An attribute holds the description; each layer's group lists its weights' names in order."""
    if "model_config" not in content.attrs:
        raise ValueError(f"{path} must hold model_config, got weights alone; save the whole model: model.save(path)")
    config = model_config(json.loads(as_text(content.attrs["model_config"])))
    stored = content["model_weights"]

    def weights(layer: Described) -> list[Any]:
        check_one_order(layer)
        group = stored[layer.name]
        return [in_file(content, layer, group[name]) for name in attribute_list(group, "weight_names")]

    return Network(ordered(described_layers(config), config), weights, major(content.attrs.get("keras_version")))


def in_file(content: Any, layer: Described, dataset: Any) -> Any:
    """Return a dataset. Refuse one whose numbers are in another file."""
    if dataset.file.filename != content.filename or getattr(dataset, "external", None) or getattr(dataset, "is_virtual", False):
        raise ValueError(f"{layer} must have its weights in the file itself, got a link to another")
    return dataset


def attribute_list(group: Any, name: str) -> list[str]:
    """Return a list of texts. Keras splits a list that is too long for one attribute into numbered ones."""
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{name}{len(parts)}"])
    return [as_text(text) for part in parts for text in np.atleast_1d(part)]


def as_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def check_one_order(layer: Described) -> None:
    """Refuse a Bidirectional with one frozen direction: Keras 2 and legacy files list frozen weights last, so the order is unknown."""
    if layer.kind != "Bidirectional":
        return
    forward, backward = directions(layer)
    if forward.config.get("trainable") != backward.config.get("trainable"):
        raise ValueError(f"{layer} must be trainable in both directions or in none, got one; save the model as a .keras file")


def major(version: Any) -> int:
    """Return a version's major number, or 3 if it has none."""
    text = as_text(version).partition(".")[0]
    return int(text) if text.isdecimal() else 3


def model_config(model: Any) -> Any:
    kind = model.get("class_name") if isinstance(model, dict) else None
    if kind not in ("Sequential", "Functional", "Model"):
        raise ValueError(f"the file must hold a Sequential or a functional model, got {kind!r}")
    if "module" in model and not is_own(model["module"]):
        raise ValueError(f"the file must hold Keras' own {kind}, got {model.get('registered_name') or model['module']}")
    return model.get("config")


def is_own(module: Any) -> bool:
    """Return whether a module belongs to Keras."""
    return str(module).partition(".")[0] in ("keras", "tf_keras")


def described_layers(config: Any) -> list[Described]:
    entries = layer_entries(config)
    layers = [described(entry) for entry in entries]
    names = [layer.name for layer in layers]
    if len(set(names)) < len(names):
        raise ValueError(f"the model's layers must have different names, got {names}")
    return layers


def layer_entries(config: Any) -> list[Any]:
    """Return the layers' entries of a model's description. Early versions of Keras 2 describe a Sequential by this list alone."""
    entries = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(entries, list):
        raise ValueError(f"the model's description must be a list of layers, got {type(entries).__name__}")
    return entries


def described(entry: Any) -> Described:
    kind, config = (entry.get("class_name"), entry.get("config")) if isinstance(entry, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise ValueError(f"a layer's description must have class_name and config, got {entry!r:.80}")
    layer = Described(kind, str(config.get("name", entry.get("name"))), config)
    if "module" in entry and not is_own(entry["module"]):
        raise ValueError(f"{layer} must be of one of Keras' own classes, got {entry.get('registered_name') or entry['module']}")
    return layer


def ordered(layers: list[Described], config: Any) -> list[Described]:
    """Return the layers from input to output. Those of a functional model must be a chain."""
    if not isinstance(config, dict) or "output_layers" not in config:
        return layers
    known = {layer.name: layer for layer in layers}
    entries = {layer.name: entry for layer, entry in zip(layers, layer_entries(config), strict=True)}
    ends = {}
    for name in ("input_layers", "output_layers"):
        tensors = config[name] if isinstance(config[name], list) else []
        tensors = [tensors] if tensors and isinstance(tensors[0], str) else tensors
        if len(tensors) != 1:
            raise ValueError(f"the model must have one of {name}, got {len(tensors)}")
        ends[name] = tensors[0]
    chain: list[Described] = []
    tensor = ends["output_layers"]
    while True:
        layer = source(tensor, known)
        if layer in chain:
            raise ValueError(f"{layer} must come once, got a model that uses it again")
        chain.append(layer)
        if layer.kind == "InputLayer":
            break
        tensor = only_input(layer, entries[layer.name])
    masked = any(layer.kind == "Embedding" and layer.config.get("mask_zero") for layer in chain)
    for layer in layers:
        if layer not in chain and not (masked and is_mask(layer, entries[layer.name], chain[-1])):
            raise ValueError(f"{layer} must be in the chain of layers from the input to the output, got a branch")
    return chain[::-1]


def source(tensor: Any, known: dict[str, Described]) -> Described:
    """Return the layer whose output a tensor is."""
    name, index = (tensor[0], tensor[2]) if isinstance(tensor, list) and len(tensor) > 2 else (None, None)
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"a layer's input must be the output of another, got {tensor!r:.80}")
    if index != 0:
        raise ValueError(f"{known[name]} must be used by its first output alone, got the one at {index!r}")
    return known[name]


def only_input(layer: Described, entry: dict[str, Any]) -> Any:
    """Return the one tensor that a layer is called with. Refuse other arguments that change what it computes."""
    nodes = entry.get("inbound_nodes")
    if not isinstance(nodes, list) or len(nodes) != 1:
        raise ValueError(f"{layer} must be called once, got {len(nodes) if isinstance(nodes, list) else nodes!r} calls")
    node = nodes[0]
    if isinstance(node, dict):  # Keras 3
        positional, options = node.get("args", []), node.get("kwargs", {})
        flat = [one for group in positional for one in (group if isinstance(group, list) else [group])]  # Concatenate takes a list
        tensors = [one["config"]["keras_history"] if is_tensor(one) else one for one in flat]
    else:
        tensors = node
        options = {name: value for one in node if isinstance(one, list) for extra in one[3:] for name, value in extra.items()}
    if len(tensors) != 1:
        raise ValueError(f"{layer} must have one input, the output of the layer before, got {len(tensors)}")
    for name, value in options.items():
        if name != "mask" and value not in (None, False):
            raise ValueError(f"{layer} must be called with its input alone, got {name}, too")
    return tensors[0]


def is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def is_mask(layer: Described, entry: dict[str, Any], first: Described) -> bool:
    """Return whether a layer is the comparison of the input with 0 that Keras 3 adds for an Embedding with mask_zero."""
    nodes = entry.get("inbound_nodes")
    if layer.kind != "NotEqual" or not isinstance(nodes, list) or len(nodes) != 1:
        return False
    tensor, *others = nodes[0]["args"]
    return is_tensor(tensor) and tensor["config"]["keras_history"][0] == first.name and others == [0]


def build(network: Network, dtype: DTypeLike | None) -> Sequential:
    built: list[Any] = []
    last: Described | None = None  # the recurrent layer that returns only its last step, if there is one
    for layer in network.layers:
        if layer.kind in PASSED:
            continue
        check_known(layer)
        if layer.kind in (*RECURRENT, "Bidirectional"):
            if last is not None:
                raise ValueError(f"{last} must have return_sequences=True before another recurrent layer, {layer.name!r}, got False")
            last = layer if not gives_steps(layer) else None
        inner = inside(layer)
        if inner.kind in ACTIVATION_LAYERS:
            function = function_of(inner, network.version)
            if function != "identity":
                check_not_first(layer, built)
                activate(built, function)
        elif inner.kind in GROUPS:
            inputs = built[-1].output_size if built else None
            built.append(BUILDERS[inner.kind](inner, Given(list(network.weights(layer)), inputs, network.version, dtype)))
    return Sequential(*built, return_sequences=last is None)


def check_not_first(layer: Described, before: list[Any]) -> None:
    if not before:
        raise ValueError(f"{layer} must come after a layer with weights, got it first")


def check_known(layer: Described) -> None:
    if layer.kind == "Masking":
        raise ValueError(f"{layer} must not be in the model; remove it, and pass lengths= for sequences padded at their end")
    known = [*GROUPS, *ACTIVATION_LAYERS, *PASSED]
    if layer.kind not in known:
        raise ValueError(f"{layer} must be one of {', '.join(known)}, got {layer.kind}")


def inside(layer: Described) -> Described:
    """Return the layer inside a TimeDistributed; return any other layer unchanged."""
    if layer.kind != "TimeDistributed":
        return layer
    inner = described(layer.config.get("layer"))
    if inner.kind not in STEPWISE:
        raise ValueError(f"{layer} must hold a Dense, an activation or a Dropout, got {inner}")
    return inner


def gives_steps(layer: Described) -> bool:
    inner = directions(layer)[0] if layer.kind == "Bidirectional" else layer
    return bool(inner.config.get("return_sequences", False))


def function_of(layer: Described, version: int) -> DenseActivation:
    """Return the function that an activation layer applies."""
    if layer.kind == "Activation":
        return activation_of(layer, "activation", version, rows=True)
    if layer.kind == "ELU":
        return ("elu", layer.number(["alpha"], 1.0))
    if layer.kind == "Softmax":
        axis = layer.config.get("axis", -1)
        if axis not in (-1, [-1]):
            raise ValueError(f"{layer} must have axis=-1, got {axis!r}")
        return "softmax"
    if layer.kind == "ReLU":
        for option, value in (("max_value", layer.config.get("max_value")), ("threshold", layer.config.get("threshold") or None)):
            if value is not None:
                raise ValueError(f"{layer} must have no {option}, got {value!r}")
    usual = 0.0 if layer.kind == "ReLU" else 0.3
    slope = layer.number(["negative_slope", "alpha"], usual)
    return ("leaky_relu", slope) if slope else "relu"


def activation_of(layer: Described, option: str, version: int, *, rows: bool = False) -> Any:
    """Return the activation that an option holds, as a name or as a layer of its own."""
    if option not in layer.config:
        raise ValueError(f"{layer} must say its {option}, got a description without it")
    value = layer.config[option]
    if isinstance(value, dict):
        kind = value.get("class_name")
        if kind in ACTIVATION_LAYERS:
            return check_rows(layer, option, function_of(described(value), version), rows)
        value = value.get("config") if kind == "function" else kind
    known = {**ACTIVATIONS, **(ROW_ACTIVATIONS if rows else {})}
    if value is None:
        return "identity"
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{layer} must have {option} one of {', '.join(map(repr, known))}, got {value!r}")
    return ("hard_sigmoid", 0.2, 0.5) if value == "hard_sigmoid" and version < 3 else known[value]


def check_rows(layer: Described, option: str, activation: DenseActivation, rows: bool) -> DenseActivation:
    if activation == "softmax" and not rows:
        raise ValueError(f"{layer} must have {option} one of {', '.join(map(repr, ACTIVATIONS))}, got 'softmax'")
    return activation


def numbers(layer: Described, given: Given, shapes: list[tuple[int | None, ...]]) -> list[Array]:
    """Return a layer's weights. Check their shapes against its description before they are read."""
    for option in ("lora_rank", "quantization_config", "quantization_mode"):
        if layer.config.get(option) is not None:
            raise ValueError(f"{layer} must have no {option}, got {layer.config[option]!r:.80}; merge or dequantize it in Keras")
    found = [tuple(getattr(weight, "shape", ())) for weight in given.weights]
    fit = len(found) == len(shapes) and all(
        len(shape) == len(wanted) and all(size in (None, length) for size, length in zip(wanted, shape, strict=True))
        for shape, wanted in zip(found, shapes, strict=True)
    )
    if not fit:
        wanted = " and ".join(str(shape).replace("None", "any") for shape in shapes)
        raise ValueError(f"{layer} must have weights of shapes {wanted}, got {' and '.join(map(str, found)) or 'none'}")
    return [as_numbers(f"a weight of {layer}", read(weight), given.dtype) for weight in given.weights]


def read(weight: Any) -> Array:
    """Read a dataset. h5py returns bfloat16 as bytes, since NumPy has no such type: convert it to float32."""
    array = np.asarray(weight)
    if getattr(weight, "attrs", {}).get("dtype") == "bfloat16" and array.dtype.itemsize == 2 and array.dtype.kind == "V":
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array


def embedding(layer: Described, given: Given) -> Embedding:
    if layer.config.get("mask_zero"):
        told = "Keras skips token 0, here it is a step as any other; pass lengths= for sequences padded at their end"
        warnings.warn(f"{layer} has mask_zero=True: {told}", UserWarning, stacklevel=4)
    return Embedding(*numbers(layer, given, [(layer.integer("input_dim"), layer.integer("output_dim"))]))


def dense(layer: Described, given: Given) -> Dense:
    units = layer.integer("units")
    kernel, *bias = numbers(layer, given, [(given.inputs, units), *[(units,)] * has_bias(layer)])
    return Dense(kernel.T, *bias, activation=activation_of(layer, "activation", given.version, rows=True))


def recurrent(layer: Described, given: Given) -> Recurrent:
    check_direction(layer, backwards=False)
    return cell(layer, given)


def check_direction(layer: Described, *, backwards: bool) -> None:
    given = bool(layer.config.get("go_backwards", False))
    if given != backwards:
        remedy = "" if backwards else "; pass the steps in reverse order to a layer without it"
        raise ValueError(f"{layer} must have go_backwards={backwards}, got {given}{remedy}")


def cell(layer: Described, given: Given) -> Recurrent:
    if layer.config.get("time_major"):
        raise ValueError(f"{layer} must have time_major=False, got True")
    if layer.config.get("stateful"):
        told = "Keras keeps its state from call to call; here pass the state that a call returns to the next, or use stream()"
        warnings.warn(f"{layer} is stateful: {told}", UserWarning, stacklevel=5)
    units, after = layer.integer("units"), layer.kind == "GRU" and bool(layer.config.get("reset_after", False))
    rows = GATES[layer.kind] * units
    bias_shape = (2, rows) if after else (rows,)
    kernels = numbers(layer, given, [(given.inputs, rows), (units, rows), *[bias_shape] * has_bias(layer)])
    ours = [np.ascontiguousarray(kernel.T) for kernel in kernels[:2]] + kernels[2:]
    activation = activation_of(layer, "activation", given.version)
    if layer.kind == "SimpleRNN":
        return RNN(*ours, nonlinearity=activation)
    gate = activation_of(layer, "recurrent_activation", given.version)
    if layer.kind == "LSTM":
        return LSTM(*ours, activation=activation, recurrent_activation=gate)
    biases = list(ours[2]) if after and has_bias(layer) else ours[2:]
    ours = [reordered(weight, KERAS_GRU_GATES, GRU_GATES) for weight in [*ours[:2], *biases]]
    if after and has_bias(layer):
        ours[2:] = gru_biases(ours[2], ours[3])
    return GRU(*ours, reset_after=after, activation=activation, recurrent_activation=gate)


def has_bias(layer: Described) -> bool:
    return bool(layer.config.get("use_bias", True))


def directions(layer: Described) -> list[Described]:
    """Return the forward and the backward layer of a Bidirectional. Keras 2 omits the latter if it has the former's options."""
    forward = described(layer.config.get("layer"))
    other = layer.config.get("backward_layer")
    backward = described(other) if other is not None else forward._replace(config={**forward.config, "go_backwards": True})
    for inner in (forward, backward):
        if inner.kind not in RECURRENT:
            raise ValueError(f"{layer} must hold one of {', '.join(RECURRENT)}, got {inner}")
    return [forward, backward]


def bidirectional(layer: Described, given: Given) -> Bidirectional:
    merge = layer.config.get("merge_mode", "concat")
    if not isinstance(merge, str) or merge not in MERGES:
        raise ValueError(f"{layer} must have merge_mode one of {', '.join(map(repr, MERGES))}, got {merge!r}")
    forward, backward = directions(layer)
    check_direction(forward, backwards=False)
    check_direction(backward, backwards=True)
    first = 2 + has_bias(forward)  # the number of the forward layer's weights
    own = given.weights[:first], given.weights[first:]
    made = [cell(inner, given._replace(weights=weights)) for inner, weights in zip((forward, backward), own, strict=True)]
    return Bidirectional(*made, merge=MERGES[merge])


BUILDERS: dict[str, Callable[[Described, Given], Any]] = {
    "Embedding": embedding,
    "Dense": dense,
    **dict.fromkeys(RECURRENT, recurrent),
    "Bidirectional": bidirectional,
}
