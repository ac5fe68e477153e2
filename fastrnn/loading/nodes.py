"""What is known of ONNX's nodes wherever they are: the activations, and how one is refused."""

from typing import Any, NoReturn

import numpy as np

# What activations are called here, and which of alpha and beta they have, with the defaults.
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
    """Give the activation that a node applies, with its parameters."""
    name, alpha, beta = ACTIVATIONS[node.op_type.lower()]
    parameters = [attributes.get("alpha", value) for value in alpha] + [attributes.get("beta", value) for value in beta]
    return (name, *parameters) if parameters else name


def refuse(node: Any, must: str, got: Any = None) -> NoReturn:
    raise ValueError(f"node {node.name!r} ({node.op_type}) {must}" + (f", got {got}" if got is not None else ""))


def numbers_of(value: Any) -> list[int]:
    return [] if value is None else [int(one) for one in np.asarray(value).reshape(-1)]
