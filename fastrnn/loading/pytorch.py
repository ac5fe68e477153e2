"""Load weights from PyTorch: arrays under PyTorch's names, or its modules."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..arguments import Activation, Array, detached
from ..layers import GRU, LSTM, RNN, Bidirectional, Dense, Embedding, Recurrent, Sequential
from .boundary import understood
from .gates import activate, as_numbers, check_dtype, gru_biases

NAME = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)(?:_l(\d{1,6})(_reverse)?)?")
ENDING = re.compile(NAME.pattern + r"\Z")
SHOWN = 5  # names that an error lists


def from_state_dict(
    mapping: Mapping[str, Any], prefix: str = "", *, nonlinearity: Activation = "tanh", dtype: DTypeLike | None = None
) -> Sequential:
    """Make a model from recurrent weights under PyTorch's names: a state_dict, or what safetensors or `numpy.load` return.

    Names and shapes determine the kind of layer, the number of layers, and their directions.

    ====================  ===================================  ==================  =================================================
    from                  names                                gates               what fastrnn makes of it
    ====================  ===================================  ==================  =================================================
    PyTorch RNN           weight_ih_l0, weight_hh_l0 (H, H),   one                 `RNN`; bias is bias_ih + bias_hh
                          bias_ih_l0, bias_hh_l0
    PyTorch GRU           the same, weight_hh_l0 (3 H, H)      r, z, n             `GRU`; bias is the sum, but for n bias_ih alone;
                                                                                   bias_hn is bias_hh's part for n
    PyTorch LSTM          the same, weight_hh_l0 (4 H, H)      i, f, g, o          `LSTM`; bias is bias_ih + bias_hh
    ... with proj_size    and weight_hr_l0 (P, H)              i, f, g, o          projection is weight_hr
    ... second direction  each name and _reverse               as above            `Bidirectional`
    ... RNNCell, GRUCell  the names without _l0                as above            one layer
    ONNX (`from_onnx`)    W, R, B = Wb and Rb, P               GRU z, r, h;        rows in another order; P is i, o, f: peephole;
                                                               LSTM i, o, f, c     linear_before_reset is reset_after
    Keras (`from_keras`)  kernel (I, G H), recurrent_kernel,   GRU z, r, h;        transposed, rows in another order; a bias
                          bias                                 LSTM i, f, c, o     (2, 3 H) is bias_ih and bias_hh
    ====================  ===================================  ==================  =================================================

    Parameters
    ----------
    mapping : mapping of str to array_like
        Arrays, or tensors on any device. float16 and bfloat16 become float32.
    prefix : str
        The beginning of the names to read, such as "encoder.lstm."; other names are ignored.
    nonlinearity : str or tuple
        The function of an `RNN`, which a state_dict doesn't contain.
    dtype : {float32, float64}, optional
        What the model computes in; the weights' dtype where not given.

    Returns
    -------
    Sequential
        One layer for each of PyTorch's; two directions are one `Bidirectional`.

    Raises
    ------
    TypeError
        For an argument that is no mapping of names, and for weights that aren't floats.
    ValueError
        For values that are no arrays, unknown names under the prefix, missing names, and shapes that fit no layer.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = {"rnn.weight_ih_l0": np.ones((12, 3)), "rnn.weight_hh_l0": np.zeros((12, 4)), "head.weight": np.ones((5, 4))}
    >>> fastrnn.from_state_dict(weights, "rnn.").layers[0].hidden_size
    4
    """
    check_dtype(dtype)
    check_named(mapping, prefix)
    cells = {}
    with understood("mapping", mapping, "a recurrent layer's weights by their names"):
        for (layer, reverse), names in grouped(mapping, prefix).items():
            weights = {kind: as_numbers(name, as_array(mapping[name]), dtype) for kind, name in names.items()}
            cells[layer, reverse] = cell_of(weights, names, nonlinearity)
        model = Sequential(*stacked(cells, prefix))
    if nonlinearity != "tanh" and not any(isinstance(cell, RNN) for cell in cells.values()):
        raise ValueError(f"nonlinearity must be left out for {type(cells[0, False]).__name__} weights, got {nonlinearity!r}")
    return model


def check_named(mapping: object, prefix: object) -> None:
    if not hasattr(mapping, "keys") or not hasattr(mapping, "__getitem__"):
        raise TypeError(f"mapping must be a mapping of names to arrays, got {type(mapping).__name__}")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str, got {type(prefix).__name__}")
    for name in mapping:  # type: ignore[attr-defined]
        if not isinstance(name, str):
            raise TypeError(f"mapping must have names that are str, got {name!r}")


def as_array(value: Any) -> Array:
    """Return an array. A tensor may require gradients, lie on another device, or have a type that NumPy lacks."""
    tensor = detached(value)
    return np.asarray(tensor.float() if str(getattr(tensor, "dtype", "")) == "torch.bfloat16" else tensor)


def grouped(mapping: Mapping[str, Any], prefix: str) -> dict[tuple[int, bool], dict[str, str]]:
    """Return the names of the weights of each layer and direction, by the weights' kinds."""
    groups: dict[tuple[int, bool], dict[str, str]] = {}
    under = [name for name in mapping if name.startswith(prefix)]
    strange = [name for name in under if not NAME.fullmatch(name, len(prefix))]
    if strange or not under:
        prefixes = sorted(
            {name[: match.start()] for name in mapping if (match := NAME.search(name)) and match.end() == len(name)} - {prefix}
        )
        remedy = f"; there are recurrent weights under {listed(prefixes)}" if prefixes else ""
        got = listed(strange) if strange else "none"
        raise ValueError(f"mapping must hold a recurrent layer's weights and nothing else under the prefix {prefix!r}, got {got}{remedy}")
    for name in under:
        match = NAME.fullmatch(name, len(prefix))
        assert match
        kind, layer, reverse = match.groups()
        known = groups.setdefault((int(layer or 0), bool(reverse)), {})
        if kind in known:
            raise ValueError(f"mapping must hold each weight once, got {known[kind]!r} and {name!r}")
        known[kind] = name
    return groups


def listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def cell_of(weights: dict[str, Array], names: dict[str, str], nonlinearity: Activation) -> Recurrent:
    """Return the layer with these weights. Errors show their names."""
    among = f"among {listed(list(names.values()))}"
    for kind, other in (("weight_ih", "weight_hh"), ("weight_hh", "weight_ih"), ("bias_ih", "bias_hh"), ("bias_hh", "bias_ih")):
        if kind not in weights and (kind.startswith("weight") or other in weights):
            raise ValueError(f"mapping must hold {kind} with {other}, got none {among}")
    weight_ih, weight_hh, projection = weights["weight_ih"], weights["weight_hh"], weights.get("weight_hr")
    for kind, axes in (("weight_ih", 2), ("weight_hh", 2), ("bias_ih", 1), ("bias_hh", 1), ("weight_hr", 2)):
        if kind in weights and weights[kind].ndim != axes:
            raise ValueError(f"{names[kind]} must have {axes} axes, got shape {weights[kind].shape}")
        if kind in ("weight_hh", "bias_ih", "bias_hh") and kind in weights and len(weights[kind]) != len(weight_ih):
            raise ValueError(f"{names[kind]} must have as many rows as {names['weight_ih']}, {len(weight_ih)}, got {len(weights[kind])}")
    hidden = weight_hh.shape[1] if projection is None else projection.shape[1]
    gates, rest = divmod(len(weight_hh), hidden) if hidden else (0, 0)
    if rest or gates not in ((1, 3, 4) if projection is None else (4,)):
        shapes = "(H, H), (3 H, H) or (4 H, H)" if projection is None else f"(4 H, P) for {names['weight_hr']} of shape {projection.shape}"
        raise ValueError(f"{names['weight_hh']} must have shape {shapes}, got {weight_hh.shape}")
    biases = (weights["bias_ih"], weights["bias_hh"]) if "bias_ih" in weights else None
    if gates == 3:
        return GRU(weight_ih, weight_hh, *(gru_biases(*biases) if biases else ()))
    bias = biases and biases[0] + biases[1]
    return (
        RNN(weight_ih, weight_hh, bias, nonlinearity=nonlinearity)
        if gates == 1
        else LSTM(weight_ih, weight_hh, bias, projection=projection)
    )


def stacked(cells: dict[tuple[int, bool], Recurrent], prefix: str) -> Iterator[Recurrent]:
    """Yield the layers in order, two directions as one Bidirectional."""
    layers, reverse = max(layer for layer, _ in cells) + 1, any(backward for _, backward in cells)
    directions = "directions" if reverse else "direction"
    for layer in range(min(layers, len(cells) + 1)):
        for backward in (False, True)[: 1 + reverse]:
            if (layer, backward) not in cells:
                name = f"{prefix}weight_ih_l{layer}{'_reverse' * backward}"
                raise ValueError(f"mapping must hold {name!r}, since there are {layers} layers in {1 + reverse} {directions}; got none")
        yield Bidirectional(cells[layer, False], cells[layer, True]) if reverse else cells[layer, False]


def from_torch(module: Any, *, dtype: DTypeLike | None = None) -> Sequential:
    """Make a model from a PyTorch module, as it computes at inference.

    It takes nn.RNN, GRU, LSTM, and their cells, Linear, Embedding, Softmax, LogSoftmax, Tanh, ReLU, Sigmoid, Hardsigmoid, Softplus,
    Softsign, LeakyReLU, ELU, Identity, Dropout (which does nothing), and nn.Sequential of those, in which a recurrent module passes
    on its output. Convert a network of another class module by module:
    ``fastrnn.Sequential(*fastrnn.from_torch(net.lstm).layers, *fastrnn.from_torch(net.head).layers)``.

    fastrnn's x is (..., T, I): PyTorch's without batch_first is (T, N, I), so pass ``x.transpose(1, 0, 2)``. PyTorch's states are
    (layers * directions, N, H). A state here has one entry for each layer, a pair for two directions: see the example. An LSTM's
    state is a pair (h, c), for which PyTorch has two arrays.

    Parameters
    ----------
    module : torch.nn.Module
        Its weights are copied; float16 and bfloat16 become float32.
    dtype : {float32, float64}, optional
        What the model computes in; the weights' dtype where not given.

    Returns
    -------
    Sequential

    Raises
    ------
    TypeError
        For an argument that is no module.
    ValueError
        For a module of another class, or with an option or a hook that isn't supported. The error names the module's path.

    Examples
    --------
    >>> import numpy as np, torch, fastrnn                                                  # doctest: +SKIP
    >>> gru = torch.nn.GRU(8, 16, num_layers=2, bidirectional=True, batch_first=True)       # doctest: +SKIP
    >>> model, x, h0 = fastrnn.from_torch(gru), np.zeros((5, 9, 8)), np.zeros((4, 5, 16))   # doctest: +SKIP
    >>> y, state = model(x, tuple(zip(h0[0::2], h0[1::2])))                                 # doctest: +SKIP
    >>> h_n = np.stack([h for layer in state for h in layer])                               # doctest: +SKIP
    >>> h_n.shape                                                                           # doctest: +SKIP
    (4, 5, 16)
    """
    from torch import nn

    check_dtype(dtype)
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    with understood("module", module, "a module of PyTorch's"):
        return Sequential(*layers_of(module, dtype))


def layers_of(module: Any, dtype: DTypeLike | None) -> list[Any]:
    layers: list[Any] = []
    for path, one in leaves(module, "module"):
        if "forward" in vars(one):
            raise ValueError(f"{path} must have its class's forward, got a {type(one).__name__} with one of its own")
        if one._forward_hooks or one._forward_pre_hooks:
            raise ValueError(f"{path} must have no hooks, which may change what it computes, got a {type(one).__name__} with some")
        add = ADDERS.get(type(one).__name__)
        if add is None or not type(one).__module__.startswith("torch.nn.modules."):
            raise ValueError(f"{path} must be a module that fastrnn has a layer for, got {type(one).__module__}.{type(one).__qualname__}")
        add(path, one, layers, dtype)
    if not layers:
        raise ValueError("module must hold a layer with weights, got none")
    return layers


def leaves(module: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the modules of an nn.Sequential, and of those nested in it, each with its path."""
    kind = type(module)
    changed = "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
    if (kind.__module__, kind.__name__) != ("torch.nn.modules.container", "Sequential") or changed:
        yield path, module
        return
    for name, child in module._modules.items():  # named_children skips a module that is used again
        yield from leaves(child, f"{path}.{name}")


def add_recurrent(path: str, module: Any, layers: list[Any], dtype: DTypeLike | None) -> None:
    nonlinearity: Any = getattr(module, "nonlinearity", "tanh")  # a GRU has none
    layers.extend(from_state_dict(module.state_dict(), nonlinearity=nonlinearity, dtype=dtype).layers)


def add_linear(path: str, module: Any, layers: list[Any], dtype: DTypeLike | None) -> None:
    weights = [as_numbers(f"{path}.{name}", as_array(value), dtype) for name, value in module.state_dict().items()]
    layers.append(Dense(*weights))


def add_embedding(path: str, module: Any, layers: list[Any], dtype: DTypeLike | None) -> None:
    if module.max_norm is not None:
        raise ValueError(f"{path} must have no max_norm, which changes rows when they are read, got {module.max_norm}")
    layers.append(Embedding(as_numbers(f"{path}.weight", as_array(module.weight), dtype)))


def add_nothing(path: str, module: Any, layers: list[Any], dtype: DTypeLike | None) -> None:
    """Add nothing: at inference the module returns its input."""


def add_activation(path: str, module: Any, layers: list[Any], dtype: DTypeLike | None) -> None:
    name, *needed = ACTIVATIONS[type(module).__name__]
    activation: Any = name
    for option, value in needed:
        given = getattr(module, option)
        if value is None:
            activation = (name, given)
        elif given != value:
            raise ValueError(f"{path} must have {option}={value!r}, got {given!r}")
    if not layers:
        raise ValueError(f"{path} must come after a layer with weights, got a {type(module).__name__} first")
    activate(layers, activation)


# PyTorch's activations: the name here, then PyTorch's options, each with the value it must have, or None if it is a parameter here, too.
ACTIVATIONS: dict[str, tuple[Any, ...]] = {
    "Tanh": ("tanh",),
    "ReLU": ("relu",),
    "Sigmoid": ("sigmoid",),
    "Hardsigmoid": ("hard_sigmoid",),
    "Softplus": ("softplus", ("beta", 1), ("threshold", 20)),
    "Softsign": ("softsign",),
    "LeakyReLU": ("leaky_relu", ("negative_slope", None)),
    "ELU": ("elu", ("alpha", None)),
    "Softmax": ("softmax", ("dim", -1)),
    "LogSoftmax": ("log_softmax", ("dim", -1)),
}
# The function that appends a module of each class to the layers so far.
ADDERS: dict[str, Callable[[str, Any, list[Any], DTypeLike | None], None]] = {
    **dict.fromkeys(("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"), add_recurrent),
    **dict.fromkeys(ACTIVATIONS, add_activation),
    **dict.fromkeys(("Dropout", "Identity"), add_nothing),
    "Linear": add_linear,
    "Embedding": add_embedding,
}
