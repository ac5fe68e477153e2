"""Errors of x: what NumPy can't read, tokens, shapes, masks."""

import types

import numpy as np
import scipy.sparse

from fastrnn import Dense, Sequential, rnn_forward

from .given import H0, MODEL, READER, RNN_2_3, TABLE, TELLER, X, ones


class Unreadable:
    """An array of another library, which NumPy can't read."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it has a gradient")


class Tensor(Unreadable):
    """What PyTorch's have, as far as it is looked at."""

    __module__ = "torch"
    requires_grad, is_sparse, dtype, device = True, False, "torch.float32", types.SimpleNamespace(type="cpu")
    is_conj = bool


ERRORS = {
    "complex x": (lambda: RNN_2_3(ones(7, 2) * 1j), TypeError, "x must hold real numbers, got dtype complex128"),
    "object x": (lambda: RNN_2_3(np.full((7, 2), None)), TypeError, "x must hold real numbers, got dtype object"),
    "sparse x": (lambda: RNN_2_3(scipy.sparse.eye_array(7, 2)), TypeError, "x must be dense, got a SciPy dia_array; pass x.toarray()"),
    "a tensor that NumPy can't read": (
        lambda: RNN_2_3(Tensor()),
        TypeError,
        "x must be a tensor that NumPy can read, got one that it can't; pass x.detach(): it has a gradient",
    ),
    "what NumPy can't read": (
        lambda: RNN_2_3(Unreadable()),
        TypeError,
        "x must be something that NumPy makes an array of, got Unreadable: it has a gradient",
    ),
    "string x": (lambda: RNN_2_3(np.full((7, 2), "1")), TypeError, "x must hold real numbers, got dtype <U1"),
    "date x": (lambda: RNN_2_3(np.zeros((7, 2), "M8[s]")), TypeError, "x must hold real numbers, got dtype datetime64[s]"),
    "ragged x": (
        lambda: RNN_2_3([[1.0, 2.0], [3.0]]),
        ValueError,
        "x must be an array or a rectangular nested list, got rows of different lengths; pad them: x, lengths = fastrnn.pad(x)",
    ),
    "token beyond the vocabulary": (
        lambda: READER([[0, 1, 0], [1, 1, 2]]),
        ValueError,
        "x must hold integers from 0 to 1 for a vocabulary of 2, got 2 at position (1, 2)",
    ),
    "negative token": (
        lambda: READER(np.array([0, 1, -1, 2], np.int8)),
        ValueError,
        "x must hold integers from 0 to 1 for a vocabulary of 2, got -1 at position (2,)",
    ),
    "token beyond any int64": (
        lambda: READER(np.array([0, 2**64 - 1], np.uint64)),
        ValueError,
        "x must hold integers from 0 to 1 for a vocabulary of 2, got 18446744073709551615 at position (1,)",
    ),
    "token beyond a table": (
        lambda: TABLE(np.array([[[5]]])),
        ValueError,
        "x must hold integers from 0 to 4 for a vocabulary of 5, got 5 at position (0, 0, 0)",
    ),
    "token beyond a table before others": (
        lambda: Sequential(TABLE, RNN_2_3)([0, 5]),
        ValueError,
        "x must hold integers from 0 to 4 for a vocabulary of 5, got 5 at position (1,)",
    ),
    "scalar token": (lambda: READER(1), ValueError, "x must have shape (..., T) where it holds tokens, got ()"),
    "numbers for tokens": (
        lambda: READER(X),
        TypeError,
        "x must be integers, the tokens of an Embedding, got dtype float64",
    ),
    "booleans for tokens": (
        lambda: TABLE([True, False]),
        TypeError,
        "x must be integers, the tokens of an Embedding, got dtype bool",
    ),
    "tokens for numbers": (
        lambda: RNN_2_3([0, 1, 1]),
        ValueError,
        "x must have shape (..., T, 2), got (3,); for tokens make a Sequential(Embedding.one_hot(2), ...)",
    ),
    "a batch of tokens for numbers": (
        lambda: MODEL(np.zeros((4, 7), np.uint8)),
        ValueError,
        "x must have shape (..., T, 2) for input_size=2, got (4, 7); for tokens make a Sequential(Embedding.one_hot(2), ...)",
    ),
    "h0 of another batch of tokens": (
        lambda: READER(np.zeros((4, 7), int), H0),
        ValueError,
        "state must have shape (4, 3) for x of shape (4, 7) and hidden_size=3, got (3, 3)",
    ),
    "complex x to rnn_forward": (
        lambda: rnn_forward(ones(7, 2) * 1j, ones(3, 2), ones(3, 3), ones(4, 3), ones(3)),
        TypeError,
        "x must hold real numbers, got dtype complex128",
    ),
    "scalar x": (lambda: RNN_2_3(1.0), ValueError, "x must have shape (..., T, 2), got ()"),
    "x of rank 1": (lambda: RNN_2_3(ones(2)), ValueError, "x must have shape (..., T, 2), got (2,)"),
    "x of another size": (lambda: RNN_2_3(ones(7, 4)), ValueError, "x must have shape (..., T, 2) for input_size=2, got (7, 4)"),
    "x of another size to Dense": (
        lambda: Dense(ones(4, 3))(ones(7, 4)),
        ValueError,
        "x must have shape (..., T, 3) for input_size=3, got (7, 4)",
    ),
    "x of another size to rnn_forward": (
        lambda: rnn_forward(ones(7, 4), ones(3, 2), ones(3, 3), ones(4, 3), ones(3)),
        ValueError,
        "x must have shape (..., T, 2) for input_size=2, got (7, 4)",
    ),
    "empty features": (lambda: RNN_2_3(ones(7, 0)), ValueError, "x must have shape (..., T, 2) for input_size=2, got (7, 0)"),
    "masked element": (
        lambda: RNN_2_3([[1.0, 2.0], [3.0, np.ma.masked]]),
        TypeError,
        "x[1][1] must not be a masked array; pass x[1][1].filled(value)",
    ),
    "too many axes of tokens": (
        lambda: TELLER(np.zeros((1,) * 64, int)),
        ValueError,
        "x must have at most 63 axes, since NumPy allows 64 and the call adds 1, got 64",
    ),
    "masked x": (
        lambda: RNN_2_3(np.ma.masked_less(X, 0)),
        TypeError,
        "x must not be a masked array; pass x.filled(value)",
    ),
}
