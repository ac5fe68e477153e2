"""What reading ONNX nodes needs, in graphs and in loops: activations, and the error for a node that isn't understood."""

from typing import Any, NoReturn

import numpy as np

# ONNX's activations in lower case: the name here, and the defaults of alpha and of beta, () where there is none.
ACTIVATIONS: dict[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "tanh": ("tanh", (), ()),
    "relu": ("relu", (), ()),
    "sigmoid": ("sigmoid", (), ()),
    "softsign": ("softsign", (), ()),
    "softplus": ("softplus", (), ()),
    "leakyrelu": ("leaky_relu", (0.01,), ()),
    "elu": ("elu", (1.0,), ()),
    "hardsigmoid": ("hard_sigmoid", (0.2,), (0.5,)),
}


def activation_of(node: Any, attributes: dict[str, Any]) -> Any:
    """Return the activation that a node applies, with its parameters."""
    name, alpha, beta = ACTIVATIONS[node.op_type.lower()]
    parameters = [attributes.get("alpha", value) for value in alpha] + [attributes.get("beta", value) for value in beta]
    return (name, *parameters) if parameters else name


def refuse(node: Any, must: str, got: Any = None) -> NoReturn:
    raise ValueError(f"node {node.name!r} ({node.op_type}) {must}" + (f", got {got}" if got is not None else ""))


def numbers_of(value: Any) -> list[int]:
    return [] if value is None else [int(one) for one in np.asarray(value).reshape(-1)]
