"""Errors of a Bidirectional: of its directions and its calls, and of what needs a model without one."""

import fastrnn
from fastrnn import RNN, Bidirectional, Dense, Embedding, Sequential, generate, log_likelihood
from fastrnn.arguments import one_of
from fastrnn.layers.recurrent import RECURRENT

from .given import BOTH, GRU_2_3, H0, MODEL, NEEDS_LATER, RNN_2_3, RNN_3, SHARED, SINGLE, X, ones

RECURRENT_NAMES = one_of(RECURRENT)
BOTH_TELL = Sequential(Embedding.one_hot(2), BOTH, Dense(ones(2, 6), activation="softmax"))

ERRORS = {
    "a direction that is no layer": (
        lambda: Bidirectional(RNN_2_3, ones(3, 3)),
        TypeError,
        f"backward must be {RECURRENT_NAMES}, got ndarray",
    ),
    "a direction that is a Dense": (
        lambda: Bidirectional(Dense(ones(3, 2)), RNN_2_3),
        TypeError,
        f"forward must be {RECURRENT_NAMES}, got Dense",
    ),
    "a direction that is a Sequential": (
        lambda: Bidirectional(MODEL, RNN_2_3),
        TypeError,
        f"forward must be {RECURRENT_NAMES}, got Sequential",
    ),
    "a direction that is a Bidirectional": (
        lambda: Bidirectional(RNN_2_3, BOTH),
        TypeError,
        f"backward must be {RECURRENT_NAMES}, got Bidirectional",
    ),
    "directions of two dtypes": (
        lambda: Bidirectional(RNN_2_3, RNN(ones(3, 2, dtype=SINGLE), ones(3, 3, dtype=SINGLE))),
        TypeError,
        "forward and backward must have the same dtype, got float64 and float32",
    ),
    "directions of two input sizes": (
        lambda: Bidirectional(RNN_2_3, RNN_3),
        ValueError,
        "forward and backward must have the same input_size, got 2 and 3",
    ),
    "the sum of two output sizes": (
        lambda: Bidirectional(RNN_2_3, RNN(ones(4, 2), ones(4, 4)), merge="sum"),
        ValueError,
        "forward and backward must have the same output_size for merge='sum', got 3 and 4",
    ),
    "unknown merge": (
        lambda: Bidirectional(RNN_2_3, GRU_2_3, merge="mul"),
        ValueError,
        "merge must be one of 'concat', 'sum', 'mean', 'product', got 'mul'",
    ),
    "merge of None": (
        lambda: Bidirectional(RNN_2_3, GRU_2_3, merge=None),
        ValueError,
        "merge must be one of 'concat', 'sum', 'mean', 'product', got None",
    ),
    "a Bidirectional's state that is no pair": (
        lambda: BOTH(X, H0),
        ValueError,
        "state must be None or a tuple with 2 entries, forward's and backward's, got ndarray",
    ),
    "a Bidirectional's state of three": (
        lambda: BOTH(X, (H0, None, None)),
        ValueError,
        "state must have 2 entries, forward's and backward's, got 3",
    ),
    "a Bidirectional's state of a wrong shape": (
        lambda: BOTH(X, (ones(3, 4), None)),
        ValueError,
        "state[0] must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (3, 4)",
    ),
    "a Bidirectional's inner state of a wrong shape": (
        lambda: BOTH(X, (None, (None, ones(2, 3)))),
        ValueError,
        "state[1][1] must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (2, 3)",
    ),
    "a Bidirectional's inner state that is no pair": (
        lambda: BOTH(X, (None, H0)),
        ValueError,
        "state[1] must be None or a tuple with 2 entries, h and c, got ndarray",
    ),
    "a stack's state": (
        lambda: Sequential(BOTH, RNN(ones(3, 6), ones(3, 3)))(X, (None,)),
        ValueError,
        "state must have 2 entries, one for each recurrent layer, got 1",
    ),
    "x for a Bidirectional": (
        lambda: BOTH(ones(7, 3)),
        ValueError,
        "x must have shape (..., T, 2) for input_size=2, got (7, 3)",
    ),
    "lengths for a Bidirectional": (
        lambda: BOTH(X, lengths=[7, 8, 0]),
        ValueError,
        "lengths must be from 0 to T=7, got 8 at position (1,)",
    ),
    "tokens for a Bidirectional": (
        lambda: BOTH_TELL([[0, 2]]),
        ValueError,
        "x must hold integers from 0 to 1 for a vocabulary of 2, got 2 at position (0, 1)",
    ),
    "out of a Bidirectional": (
        lambda: BOTH(X, out=ones(3, 7, 3)),
        ValueError,
        "out must have shape (3, 7, 6), got (3, 7, 3)",
    ),
    "out of a Bidirectional that is the state": (
        lambda: BOTH(ones(1, 1, 2), (SHARED[:3].reshape(1, 3), None), out=SHARED[:6].reshape(1, 1, 6)),
        ValueError,
        "out must share no memory with state[0], got an overlapping array; pass state[0].copy()",
    ),
    "a layer after a Bidirectional": (
        lambda: Sequential(BOTH, RNN_3),
        ValueError,
        "layers[1] must have input_size=6, the output_size of layers[0], got 3",
    ),
    "a stream of a Bidirectional": (BOTH.stream, ValueError, NEEDS_LATER.format("a stream", BOTH)),
    "a stream of a stack": (lambda: fastrnn.Stream(BOTH_TELL), ValueError, NEEDS_LATER.format("a stream", BOTH_TELL)),
    "generate with a Bidirectional": (
        lambda: generate(BOTH_TELL, 0, 3),
        ValueError,
        NEEDS_LATER.format("generate", BOTH_TELL),
    ),
    "log_likelihood of a Bidirectional": (
        lambda: log_likelihood(BOTH_TELL, [0, 1]),
        ValueError,
        NEEDS_LATER.format("log_likelihood, which would score tokens that it has seen", BOTH_TELL),
    ),
    "a Bidirectional is frozen": (
        lambda: setattr(BOTH, "merge", "sum"),
        AttributeError,
        "Bidirectional is frozen: merge can't be set; make a new layer",
    ),
}
