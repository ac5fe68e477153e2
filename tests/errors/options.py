"""Errors of layers' options, activations and leaks, and of attributes that are set."""

import numpy as np

from fastrnn import GRU, RNN, Dense, rnn_forward

from .given import GRU_2_3, MODEL, RNN_2_3, X, banked, ones

KNOWN = "'tanh', 'relu', 'sigmoid', 'identity', 'hard_sigmoid', 'softplus', 'softsign', "
KNOWN += "('leaky_relu', alpha), ('elu', alpha), ('hard_sigmoid', alpha, beta)"

ERRORS = {
    "unknown nonlinearity": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity="Tanh"),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got 'Tanh'",
    ),
    "no nonlinearity": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), nonlinearity=None),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got None",
    ),
    "softmax nonlinearity": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity="softmax"),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got 'softmax'",
    ),
    "unknown activation": (
        lambda: Dense(ones(3, 2), activation="gelu"),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got 'gelu'",
    ),
    "no activation": (
        lambda: Dense(ones(3, 2), activation=None),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got None",
    ),
    "an array as activation": (
        lambda: Dense(ones(3, 2), activation=ones(2)),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got array([1., 1.])",
    ),
    "an activation without its parameter": (
        lambda: Dense(ones(3, 2), activation="leaky_relu"),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got 'leaky_relu'",
    ),
    "a tuple without the parameter": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("elu",)),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got ('elu',)",
    ),
    "a tuple of nothing but a name": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("tanh",)),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got ('tanh',)",
    ),
    "an empty tuple as activation": (
        lambda: Dense(ones(3, 2), activation=()),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got ()",
    ),
    "one parameter of two": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("hard_sigmoid", 0.2)),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got ('hard_sigmoid', 0.2)",
    ),
    "too many parameters": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("leaky_relu", 0.01, 0.02)),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got ('leaky_relu', 0.01, 0.02)",
    ),
    "a parameter of softmax": (
        lambda: Dense(ones(3, 2), activation=("softmax", 2.0)),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got ('softmax', 2.0)",
    ),
    "an array for an activation's name": (
        lambda: Dense(ones(3, 2), activation=(ones(2), 1.0)),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got (array([1., 1.]), 1.0)",
    ),
    "a list as nonlinearity": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), nonlinearity=["leaky_relu", 0.01]),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got ['leaky_relu', 0.01]; pass a tuple",
    ),
    "a parameter that is not a number": (
        lambda: Dense(ones(3, 2), activation=("elu", float("nan"))),
        ValueError,
        "activation must be ('elu', alpha) with finite real numbers, got ('elu', nan)",
    ),
    "an infinite parameter": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("hard_sigmoid", 0.2, -np.inf)),
        ValueError,
        "nonlinearity must be ('hard_sigmoid', alpha, beta) with finite real numbers, got ('hard_sigmoid', 0.2, -inf)",
    ),
    "a parameter beyond any double": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("elu", 2 << 1023)),
        ValueError,
        f"nonlinearity must be ('elu', alpha) with finite real numbers, got ('elu', {2 << 1023})",
    ),
    "a boolean parameter": (
        lambda: Dense(ones(3, 2), activation=("leaky_relu", True)),
        TypeError,
        "activation must be ('leaky_relu', alpha) with finite real numbers, got ('leaky_relu', True)",
    ),
    "a parameter as text": (
        lambda: Dense(ones(3, 2), activation=("leaky_relu", "0.01")),
        TypeError,
        "activation must be ('leaky_relu', alpha) with finite real numbers, got ('leaky_relu', '0.01')",
    ),
    "bias_hn with the reset before": (
        lambda: GRU(ones(12, 2), ones(12, 4), ones(12), ones(4), reset_after=False),
        ValueError,
        "bias_hn must be None for reset_after=False, which adds it to bias, got an array",
    ),
    "unknown recurrent activation": (
        lambda: GRU(ones(12, 2), ones(12, 4), recurrent_activation="swish"),
        ValueError,
        f"recurrent_activation must be one of {KNOWN}, got 'swish'",
    ),
    "a leak of 0": (lambda: RNN(ones(3, 2), ones(3, 3), leak=0), ValueError, "leak must be above 0 and at most 1, got 0.0"),
    "a leak above 1 of one unit": (
        lambda: RNN(ones(3, 2), ones(3, 3), leak=[1, 0.5, 1.5]),
        ValueError,
        "leak must be above 0 and at most 1, got 1.5 at position (2,)",
    ),
    "a leak that is NaN": (lambda: RNN(ones(3, 2), ones(3, 3), leak=np.nan), ValueError, "leak must be above 0 and at most 1, got nan"),
    "a leak for other units": (
        lambda: RNN(ones(3, 2), ones(3, 3), leak=[0.5, 0.5]),
        ValueError,
        "leak must be a number or have shape (3,), got float64 of shape (2,)",
    ),
    "a leak that is True": (
        lambda: RNN(ones(3, 2), ones(3, 3), leak=True),
        ValueError,
        "leak must be a number or have shape (3,), got bool of shape ()",
    ),
    "a leak elsewhere": (
        lambda: RNN(ones(3, 2), ones(3, 3), leak=0.5, leak_at="state"),
        ValueError,
        "leak_at must be one of 'output', 'input', got 'state'",
    ),
    "a gated layer's attribute": (
        lambda: setattr(GRU_2_3, "bias", None),
        AttributeError,
        "GRU is frozen: bias can't be set; make a new layer",
    ),
    "set a stream's model": (
        lambda: setattr(RNN_2_3.stream(), "model", RNN_2_3),
        AttributeError,
        "Stream is frozen: model can't be set; swap takes another model, state= another state",
    ),
    "set a bank's capacity": (
        lambda: setattr(banked(RNN_2_3), "capacity", 3),
        AttributeError,
        "Bank is frozen: capacity can't be set; swap takes another model, state= other states",
    ),
    "set an attribute": (
        lambda: setattr(RNN_2_3, "bias", None),
        AttributeError,
        "RNN is frozen: bias can't be set; make a new layer",
    ),
    "set a new attribute": (
        lambda: setattr(MODEL, "name", "m"),
        AttributeError,
        "Sequential is frozen: name can't be set; make a new layer",
    ),
    "delete an attribute": (
        lambda: delattr(Dense(ones(3, 2)), "weight"),
        AttributeError,
        "Dense is frozen: weight can't be deleted; make a new layer",
    ),
}
