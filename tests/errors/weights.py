"""Errors of layers' weights: their dtypes, their shapes, and whether they agree."""

import numpy as np

from fastrnn import GRU, LSTM, RNN, Dense, Embedding, rnn_forward

from .given import MASKED, SINGLE, X, ones

ERRORS = {
    "table of three axes": (
        lambda: Embedding([ones(2, 2), ones(2, 2)]),
        ValueError,
        "weight must have 2 axes (input_size, output_size), got shape (2, 2, 2)",
    ),
    "integer table": (
        lambda: Embedding(ones(5, 2, dtype=np.int64)),
        TypeError,
        "weight must be float32 or float64, got int64; convert it with .astype(numpy.float32)",
    ),
    "empty table": (
        lambda: Embedding(ones(0, 2)),
        ValueError,
        "weight must have no empty axis, got shape (0, 2) for (input_size, output_size)",
    ),
    "no vocabulary": (lambda: Embedding.one_hot(0), ValueError, "V must be an integer from 1 up, got 0"),
    "half a vocabulary": (lambda: Embedding.one_hot(2.5), ValueError, "V must be an integer from 1 up, got 2.5"),
    "a boolean vocabulary": (lambda: Embedding.one_hot(True), ValueError, "V must be an integer from 1 up, got True"),
    "integer weight": (
        lambda: RNN(ones(3, 2, dtype=np.int64), ones(3, 3)),
        TypeError,
        "weight_ih must be float32 or float64, got int64; convert it with .astype(numpy.float32)",
    ),
    "half weight": (
        lambda: RNN(ones(3, 2), ones(3, 3, dtype=np.float16)),
        TypeError,
        "weight_hh must be float32 or float64, got float16; convert it with .astype(numpy.float32)",
    ),
    "long double weight": (
        lambda: Dense(ones(3, 2, dtype=np.longdouble)),
        TypeError,
        f"weight must be float32 or float64, got {np.dtype(np.longdouble)}; convert it with .astype(numpy.float32)",
    ),
    "boolean weight": (
        lambda: Dense(ones(3, 2), ones(3, dtype=bool)),
        TypeError,
        "bias must be float32 or float64, got bool; convert it with .astype(numpy.float32)",
    ),
    "no weight": (lambda: Dense(None), TypeError, "weight must hold real numbers, got None"),
    "no weight_ih": (lambda: RNN(None, ones(3, 3)), TypeError, "weight_ih must hold real numbers, got None"),
    "no weight_hh": (lambda: LSTM(ones(12, 2), None), TypeError, "weight_hh must hold real numbers, got None"),
    "complex weight": (lambda: Dense(ones(3, 2) * 1j), TypeError, "weight must hold real numbers, got dtype complex128"),
    "complex weights in lists": (lambda: Dense([[1j]]), TypeError, "weight must hold real numbers, got dtype complex128"),
    "ragged weight": (
        lambda: Dense([[1.0], [1.0, 2.0]]),
        ValueError,
        "weight must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "mixed weights": (
        lambda: RNN(ones(3, 2), ones(3, 3, dtype=SINGLE)),
        TypeError,
        "weight_ih and weight_hh must have the same dtype, got float64 and float32",
    ),
    "mixed bias": (
        lambda: RNN(ones(3, 2, dtype=SINGLE), ones(3, 3, dtype=SINGLE), ones(3)),
        TypeError,
        "weight_ih and bias must have the same dtype, got float32 and float64",
    ),
    "mixed Dense": (
        lambda: Dense(ones(3, 2, dtype=SINGLE), ones(3)),
        TypeError,
        "weight and bias must have the same dtype, got float32 and float64",
    ),
    "mixed letters": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3, dtype=SINGLE), ones(3)),
        TypeError,
        "U and V must have the same dtype, got float64 and float32",
    ),
    "weight_ih of rank 1": (
        lambda: RNN(ones(3), ones(3, 3)),
        ValueError,
        "weight_ih must have 2 axes (hidden_size, input_size), got shape (3,)",
    ),
    "no bias of the notebook's": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), None),
        TypeError,
        "b must hold real numbers, got None; where there is no bias pass numpy.zeros_like(U[:, 0])",
    ),
    "bias of rank 2": (
        lambda: Dense(ones(3, 2), ones(3, 1)),
        ValueError,
        "bias must have shape (output_size,) for output_size=3, got (3, 1); pass numpy.ravel(bias)",
    ),
    "weight_hh not square": (
        lambda: RNN(ones(3, 2), ones(3, 4)),
        ValueError,
        "weight_hh must be square (hidden_size, hidden_size), got shape (3, 4)",
    ),
    "weights disagree": (
        lambda: RNN(ones(3, 2), ones(4, 4)),
        ValueError,
        "weight_ih and weight_hh must agree in hidden_size, got 3 and 4",
    ),
    "bias disagrees": (
        lambda: RNN(ones(3, 2), ones(3, 3), ones(4)),
        ValueError,
        "weight_ih and bias must agree in hidden_size, got 3 and 4",
    ),
    "Dense bias disagrees": (
        lambda: Dense(ones(3, 2), ones(2)),
        ValueError,
        "weight and bias must agree in output_size, got 3 and 2",
    ),
    "U and W disagree": (
        lambda: rnn_forward(X, ones(3, 2), ones(4, 4), ones(4, 3), ones(3)),
        ValueError,
        "U and W must agree in H, got 3 and 4",
    ),
    "U and V disagree": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 5), ones(3)),
        ValueError,
        "U and V must agree in H, got 3 and 5",
    ),
    "U and b disagree": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(2)),
        ValueError,
        "U and b must agree in H, got 3 and 2",
    ),
    "V and c disagree": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), c=ones(3)),
        ValueError,
        "V and c must agree in O, got 4 and 3",
    ),
    "no hidden unit": (
        lambda: RNN(ones(0, 2), ones(0, 0)),
        ValueError,
        "weight_ih must have no empty axis, got shape (0, 2) for (hidden_size, input_size)",
    ),
    "no input": (
        lambda: RNN(ones(3, 0), ones(3, 3)),
        ValueError,
        "weight_ih must have no empty axis, got shape (3, 0) for (hidden_size, input_size)",
    ),
    "no output": (
        lambda: Dense(ones(0, 2)),
        ValueError,
        "weight must have no empty axis, got shape (0, 2) for (output_size, input_size)",
    ),
    "masked rows of a weight": (
        lambda: Dense([MASKED[0, 0], MASKED[0, 1]]),
        TypeError,
        "weight[0] must not be a masked array; pass weight[0].filled(value)",
    ),
    "weights of four gates for GRU": (
        lambda: GRU(ones(16, 2), ones(16, 4)),
        ValueError,
        "weight_ih must have shape (3 * hidden_size, input_size), got (16, 2)",
    ),
    "weights of three gates for LSTM": (
        lambda: LSTM(ones(12, 2), ones(12, 4)),
        ValueError,
        "weight_ih and weight_hh must agree in hidden_size, got 3 and 4",
    ),
    "transposed recurrent weights": (
        lambda: GRU(ones(12, 2), ones(4, 12)),
        ValueError,
        "weight_hh must have shape (3 * hidden_size, hidden_size), got (4, 12)",
    ),
    "both of PyTorch's biases": (
        lambda: GRU(ones(12, 2), ones(12, 4), ones(12), ones(12)),
        ValueError,
        "weight_ih and bias_hn must agree in hidden_size, got 4 and 12",
    ),
    "peephole of four gates": (
        lambda: LSTM(ones(12, 2), ones(12, 3), peephole=ones(4, 3)),
        ValueError,
        "peephole must have shape (3, hidden_size), got (4, 3)",
    ),
    "projection to more": (
        lambda: LSTM(ones(8, 2), ones(8, 3), projection=ones(3, 2)),
        ValueError,
        "projection must have at most as many rows as units, hidden_size=2, got 3",
    ),
    "projection of other weights": (
        lambda: LSTM(ones(12, 2), ones(12, 3), projection=ones(2, 3)),
        ValueError,
        "weight_hh and projection must agree in output_size, got 3 and 2",
    ),
    "weights of gates in lists of another dtype": (
        lambda: LSTM(ones(12, 2), ones(12, 3, dtype=SINGLE)),
        TypeError,
        "weight_ih and weight_hh must have the same dtype, got float64 and float32",
    ),
}
