"""Errors of streams: their steps, states and resets, and another model."""

import numpy as np

from fastrnn import RNN, Dense, Embedding, Sequential

from .given import BOTH, H0, LSTM_2_3, MASKED, MODEL, NEEDS_LATER, READER, RNN_2_3, SHARED, SINGLE, TELLER, TWO, X, banked, frozen, ones


def streamed(model, x):
    stream = model.stream()
    stream(x)
    return stream


ERRORS = {
    "masked step": (
        lambda: RNN_2_3.stream(ones(3)).step(np.ma.masked_less(X[0, 0], 0)),
        TypeError,
        "x_t must not be a masked array; pass x_t.filled(value)",
    ),
    "masked out of a later step": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), out=MASKED[0, 0]),
        TypeError,
        "out must not be a masked array; pass out.filled(value)",
    ),
    "ragged state of a stream": (
        lambda: RNN_2_3.stream([[1.0], [2.0, 3.0]]),
        ValueError,
        "state must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "too many axes of a step": (
        lambda: RNN_2_3.stream().step(np.zeros((*(1,) * 63, 2))),
        ValueError,
        "x_t must have at most 63 axes, since NumPy allows 64 and the call adds 1, got 64",
    ),
    "too many axes of tokens of a step": (
        lambda: TELLER.stream().step(np.zeros((1,) * 63, int)),
        ValueError,
        "x_t must have at most 62 axes, since NumPy allows 64 and the call adds 2, got 63",
    ),
    "too many axes of a chunk of tokens": (
        lambda: TELLER.stream()(np.zeros((1,) * 64, int)),
        ValueError,
        "x must have at most 63 axes, since NumPy allows 64 and the call adds 1, got 64",
    ),
    "an integer for a stream's reset": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), reset=1),
        TypeError,
        "reset must be boolean, got dtype int64",
    ),
    "a reset of another stream": (
        lambda: READER.stream()([[0, 1]], reset=True),
        ValueError,
        "reset must have shape (1,), one for each sequence, got ()",
    ),
    "out over a step's reset": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), reset=SHARED.view(bool)[8:9].reshape(()), out=SHARED[:3]),
        ValueError,
        "out must share no memory with reset, got an overlapping array; pass reset.copy()",
    ),
    "state0 of another batch": (
        lambda: RNN_2_3.stream(H0, state0=ones(3)),
        ValueError,
        "state0 must have shape (3, 3) for a stream of shape (3,) and hidden_size=3, got (3,)",
    ),
    "half a state0": (
        lambda: LSTM_2_3.stream(state0=(ones(3),)),
        ValueError,
        "state0 must have 2 entries, h and c, got 1",
    ),
    "states0 of a stream": (
        lambda: TWO.stream(state0=(ones(3), ones(3))),
        ValueError,
        "state0[1] must have shape (5,) for a stream of shape () and hidden_size=5, got (3,)",
    ),
    "lengths with a stream": (
        lambda: RNN_2_3.stream()(X, lengths=[7, 7, 7]),
        TypeError,
        "lengths must not be given to a stream, whose sequences advance together",
    ),
    "another batch in a stream": (
        lambda: streamed(RNN_2_3, X)(X[:2]),
        ValueError,
        "x must have the leading axes (3,) that this stream began with, got (2,); start another stream",
    ),
    "another batch than the state's": (
        lambda: RNN_2_3.stream(H0)(X[0]),
        ValueError,
        "x must have the leading axes (3,) that this stream began with, got (); start another stream",
    ),
    "step of another size": (
        lambda: RNN_2_3.stream().step(ones(3, 4)),
        ValueError,
        "x_t must have shape (..., 2) for input_size=2, got (3, 4)",
    ),
    "token of a step": (
        lambda: READER.stream().step([0, 1, 2]),
        ValueError,
        "x_t must hold integers from 0 to 1 for a vocabulary of 2, got 2 at position (2,)",
    ),
    "token of a first step": (
        lambda: READER.stream().step(2),
        ValueError,
        "x_t must hold integers from 0 to 1 for a vocabulary of 2, got 2",
    ),
    "token of a later step": (
        lambda: READER.stream(ones(3)).step(2),
        ValueError,
        "x_t must hold integers from 0 to 1 for a vocabulary of 2, got 2",
    ),
    "negative token of a later step": (
        lambda: READER.stream(ones(3)).step(-1),
        ValueError,
        "x_t must hold integers from 0 to 1 for a vocabulary of 2, got -1",
    ),
    "a vector for a step of tokens": (
        lambda: READER.stream(ones(3)).step(ones(2)),
        TypeError,
        "x_t must be integers, the tokens of an Embedding, got dtype float64",
    ),
    "a boolean for a step of tokens": (
        lambda: READER.stream(ones(3)).step(True),
        TypeError,
        "x_t must be integers, the tokens of an Embedding, got dtype bool",
    ),
    "a token for a step of numbers": (
        lambda: RNN_2_3.stream(ones(3)).step(1),
        ValueError,
        "x_t must have shape (..., 2) for input_size=2, got (); for tokens make a Sequential(Embedding.one_hot(2), ...)",
    ),
    "chunk of another size": (
        lambda: MODEL.stream()(ones(3, 5, 4)),
        ValueError,
        "x must have shape (..., T, 2) for input_size=2, got (3, 5, 4)",
    ),
    "out of a step": (
        lambda: RNN_2_3.stream().step(ones(2), out=ones(1, 3)),
        ValueError,
        "out must have shape (3,), got (1, 3)",
    ),
    "out of a later step": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), out=ones(1, 3)),
        ValueError,
        "out must have shape (3,), got (1, 3)",
    ),
    "out of another dtype in a step": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), out=ones(3, dtype=SINGLE)),
        TypeError,
        "out must have dtype float64, the weights' dtype in native byte order, got float32",
    ),
    "out not contiguous in a step": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), out=ones(6)[::2]),
        ValueError,
        "out must be C-contiguous, got an array that is not",
    ),
    "out read-only in a step": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), out=frozen(ones(3))),
        ValueError,
        "out must be writable, got an array that is not",
    ),
    "out over the vector of a step": (
        lambda: RNN_2_3.stream(ones(3)).step(SHARED[:2], out=SHARED[1:4]),
        ValueError,
        "out must share no memory with x_t, got an overlapping array; pass x_t.copy()",
    ),
    "state of another batch in a stream": (
        lambda: setattr(streamed(RNN_2_3, X), "state", ones(2, 3)),
        ValueError,
        "state must have shape (3, 3) for a stream of shape (3,) and hidden_size=3, got (2, 3)",
    ),
    "states of two batches": (
        lambda: TWO.stream((ones(2, 3), ones(3, 5))),
        ValueError,
        "state[1] must have shape (2, 5) for a stream of shape (2,) and hidden_size=5, got (3, 5)",
    ),
    "states of a stream": (
        lambda: TWO.stream(ones(3)),
        ValueError,
        "state must be None or a tuple with 2 entries, one for each recurrent layer, got ndarray",
    ),
    "a mask before the first step": (
        lambda: RNN_2_3.stream().reset(True),
        ValueError,
        "mask must not be given before the stream's first step or state, which fixes how many sequences there are",
    ),
    "a mask of another shape": (
        lambda: RNN_2_3.stream(H0).reset([True]),
        ValueError,
        "mask must have shape (3,), one for each sequence, got (1,)",
    ),
    "a mask of integers": (lambda: RNN_2_3.stream(H0).reset([1, 0, 0]), TypeError, "mask must be boolean, got dtype int64"),
    "swap for no model": (lambda: RNN_2_3.stream().swap(H0), TypeError, "model must be a layer or a Sequential, got ndarray"),
    "swap for a Bidirectional": (
        lambda: RNN_2_3.stream().swap(BOTH),
        ValueError,
        NEEDS_LATER.format("a stream or a bank", BOTH),
    ),
    "swap for another input": (
        lambda: RNN_2_3.stream().swap(RNN(ones(3, 4), ones(3, 3))),
        ValueError,
        "model must have input_size 2, as the model before it has, got 4",
    ),
    "swap for another output": (
        lambda: banked(MODEL).swap(Sequential(RNN_2_3, Dense(ones(9, 3)))),
        ValueError,
        f"model must have output_size {MODEL.output_size}, as the model before it has, got 9",
    ),
    "swap for another dtype": (
        lambda: banked(RNN_2_3).swap(RNN(ones(3, 2, dtype=np.float32), ones(3, 3, dtype=np.float32))),
        ValueError,
        "model must have dtype float64, as the model before it has, got float32",
    ),
    "swap tokens for numbers": (
        lambda: Sequential(Embedding.one_hot(2), RNN_2_3).stream().swap(Sequential(RNN_2_3)),
        ValueError,
        "model must have input given as tokens, as the model before it has, got numbers",
    ),
    "swap for another state": (
        lambda: RNN_2_3.stream().swap(LSTM_2_3),
        ValueError,
        "model must have states of sizes 3, as the model before it has, got (3, 3)",
    ),
    "swap for another kept state": (
        lambda: banked(RNN_2_3).swap(RNN(ones(3, 2), ones(3, 3), leak=0.5, leak_at="input")),
        ValueError,
        "model must have kept states of sizes (3,), as the model before it has, got (3, 3)",
    ),
}
