"""Errors of what a call takes beside x: states, lengths, resets, and out."""

import numpy as np

from fastrnn import LSTM, RNN, Dense, Sequential, rnn_forward

from .given import GRU_2_3, H0, LSTM_2_3, MASKED, MODEL, READER, RNN_2_3, RNN_3, SHARED, SINGLE, TABLE, TWO, X, frozen, ones

LSTM_3 = LSTM(ones(12, 3), ones(12, 3))
ZEROS = np.zeros(8)

ERRORS = {
    "out of a table": (lambda: TABLE([0, 1], out=ones(2, 5)), ValueError, "out must have shape (2, 2), got (2, 5)"),
    "lengths without the batch": (
        lambda: MODEL(X, lengths=7),
        ValueError,
        "lengths must have shape (3,), one for each sequence, got ()",
    ),
    "lengths of another batch": (
        lambda: RNN_2_3(X, lengths=[7, 7]),
        ValueError,
        "lengths must have shape (3,), one for each sequence, got (2,)",
    ),
    "lengths of one sequence in a list": (
        lambda: RNN_2_3(X[0], lengths=[7]),
        ValueError,
        "lengths must have shape (), one for each sequence, got (1,)",
    ),
    "ragged lengths": (
        lambda: MODEL(X, lengths=[[1], [2, 3]]),
        ValueError,
        "lengths must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "floating lengths": (lambda: MODEL(X, lengths=ones(3)), TypeError, "lengths must be integers, got dtype float64"),
    "boolean lengths": (lambda: MODEL(X, lengths=[True, True, False]), TypeError, "lengths must be integers, got dtype bool"),
    "negative length": (
        lambda: MODEL(X, lengths=[7, -1, 8]),
        ValueError,
        "lengths must be from 0 to T=7, got -1 at position (1,)",
    ),
    "length beyond T": (
        lambda: MODEL(ones(1, 2, 7, 2), lengths=[[7, 8]]),
        ValueError,
        "lengths must be from 0 to T=7, got 8 at position (0, 1)",
    ),
    "length beyond T of tokens": (
        lambda: READER(np.zeros((2, 4), int), lengths=np.array([2**63, 0], np.uint64), return_sequences=False),
        ValueError,
        "lengths must be from 0 to T=4, got 9223372036854775808 at position (0,)",
    ),
    "out of the last step": (
        lambda: MODEL(X, return_sequences=False, out=ones(3, 7, 4)),
        ValueError,
        "out must have shape (3, 4), got (3, 7, 4)",
    ),
    "out overlaps tokens": (
        lambda: READER(ZEROS[:2].view(np.int64), out=ZEROS.reshape(2, 4)),
        ValueError,
        "out must share no memory with x, got an overlapping array; pass x.copy()",
    ),
    "h0 without the batch": (
        lambda: RNN_2_3(X, ones(3)),
        ValueError,
        "h0 must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (3,)",
    ),
    "h0 to be broadcast": (
        lambda: RNN_2_3(X, ones(1, 3)),
        ValueError,
        "h0 must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (1, 3)",
    ),
    "h0 of another size": (
        lambda: RNN_2_3(ones(7, 2), ones(4)),
        ValueError,
        "h0 must have shape (3,) for x of shape (7, 2) and hidden_size=3, got (4,)",
    ),
    "masked out": (
        lambda: RNN_2_3(X, out=MASKED),
        TypeError,
        "out must not be a masked array; pass out.filled(value)",
    ),
    "masked out of rnn_forward": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(3, 3), ones(3), out=MASKED),
        TypeError,
        "out must not be a masked array; pass out.filled(value)",
    ),
    "masked h0": (
        lambda: RNN_2_3(X, np.ma.masked_less(H0, 0)),
        TypeError,
        "h0 must not be a masked array; pass h0.filled(value)",
    ),
    "masked state": (
        lambda: MODEL(X, np.ma.masked_less(H0, 0)),
        TypeError,
        "state must not be a masked array; pass state.filled(value)",
    ),
    "out over h0 of rnn_forward": (
        lambda: rnn_forward(X[0], ones(3, 2), ones(3, 3), ones(4, 3), ones(3), h0=SHARED[27:30], out=SHARED[:28].reshape(7, 4)),
        ValueError,
        "out must share no memory with h0, got an overlapping array; pass h0.copy()",
    ),
    "out over a weight": (
        lambda: (lambda V: rnn_forward(ones(3, 2), ones(3, 2), ones(3, 3), V, ones(3), out=V))(ones(3, 3)),
        ValueError,
        "out must share no memory with V, got an overlapping array; pass V.copy()",
    ),
    "complex h0": (lambda: RNN_2_3(X, H0 * 1j), TypeError, "h0 must hold real numbers, got dtype complex128"),
    "h0 of rnn_forward": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), h0=ones(3)),
        ValueError,
        "h0 must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (3,)",
    ),
    "bare state": (
        lambda: MODEL(X, ones(2, 3)),
        ValueError,
        "state must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (2, 3)",
    ),
    "state in a tuple": (
        lambda: TWO(X, (H0, H0)),
        ValueError,
        "state[1] must have shape (3, 5) for x of shape (3, 7, 2) and hidden_size=5, got (3, 3)",
    ),
    "too few states": (lambda: TWO(X, (H0,)), ValueError, "state must have 2 entries, one for each recurrent layer, got 1"),
    "two states for one": (
        lambda: MODEL(X, [H0, H0]),
        ValueError,
        "state must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (2, 3, 3)",
    ),
    "too many states": (lambda: TWO(X, [H0] * 3), ValueError, "state must have 2 entries, one for each recurrent layer, got 3"),
    "LSTM with a bare state": (
        lambda: LSTM_2_3(X, H0),
        ValueError,
        "state must be None or a tuple with 2 entries, h and c, got ndarray",
    ),
    "LSTM with h alone": (lambda: LSTM_2_3(X, (H0,)), ValueError, "state must have 2 entries, h and c, got 1"),
    "LSTM with c of another size": (
        lambda: LSTM_2_3(X, (H0, ones(3, 4))),
        ValueError,
        "state[1] must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (3, 4)",
    ),
    "LSTM in a model with h alone": (
        lambda: Sequential(LSTM_2_3, RNN_3)(X, [[H0], None]),
        ValueError,
        "state[0] must have 2 entries, h and c, got 1",
    ),
    "LSTM in a model with c of another batch": (
        lambda: Sequential(RNN_2_3, LSTM_3)(X, [None, [H0, ones(2, 3)]]),
        ValueError,
        "state[1][1] must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (2, 3)",
    ),
    "bare state for two": (
        lambda: TWO(X, H0),
        ValueError,
        "state must be None or a tuple with 2 entries, one for each recurrent layer, got ndarray",
    ),
    "state for none": (
        lambda: Sequential(Dense(ones(4, 2)))(X, H0),
        ValueError,
        "state must be None or a tuple with 0 entries, one for each recurrent layer, got ndarray",
    ),
    "out is a list": (lambda: RNN_2_3(X, out=[]), TypeError, "out must be a numpy.ndarray, got list"),
    "out of another dtype": (
        lambda: RNN_2_3(X, out=ones(3, 7, 3, dtype=SINGLE)),
        TypeError,
        f"out must have dtype float64, the weights' dtype in native byte order, got {np.dtype(SINGLE)}",
    ),
    "out byte-swapped": (
        lambda: RNN_2_3(X, out=np.ones((3, 7, 3), np.dtype(float).newbyteorder("S"))),
        TypeError,
        f"out must have dtype float64, the weights' dtype in native byte order, got {np.dtype(float).newbyteorder('S')}",
    ),
    "out of another shape": (lambda: RNN_2_3(X, out=ones(3, 7, 2)), ValueError, "out must have shape (3, 7, 3), got (3, 7, 2)"),
    "out to be broadcast": (lambda: MODEL(X, out=ones(7, 4)), ValueError, "out must have shape (3, 7, 4), got (7, 4)"),
    "out not contiguous": (
        lambda: RNN_2_3(X, out=ones(3, 7, 6)[..., ::2]),
        ValueError,
        "out must be C-contiguous, got an array that is not",
    ),
    "out in Fortran order": (
        lambda: Dense(ones(4, 2))(X, out=np.asfortranarray(ones(3, 7, 4))),
        ValueError,
        "out must be C-contiguous, got an array that is not",
    ),
    "out misaligned": (
        lambda: RNN_2_3(X, out=np.zeros(3 * 7 * 3 * 8 + 1, np.uint8)[1:].view(float).reshape(3, 7, 3)),
        ValueError,
        "out must be aligned, got an array that is not",
    ),
    "out read-only": (
        lambda: RNN_2_3(X, out=frozen(ones(3, 7, 3))),
        ValueError,
        "out must be writable, got an array that is not",
    ),
    "out is x": (
        lambda: RNN(ones(2, 2), ones(2, 2))(SHARED[:14].reshape(7, 2), out=SHARED[:14].reshape(7, 2)),
        ValueError,
        "out must share no memory with x, got an overlapping array; pass x.copy()",
    ),
    "out overlaps x": (
        lambda: Dense(ones(2, 2))(SHARED[:14].reshape(7, 2), out=SHARED[13:27].reshape(7, 2)),
        ValueError,
        "out must share no memory with x, got an overlapping array; pass x.copy()",
    ),
    "out overlaps h0": (
        lambda: RNN_2_3(ones(7, 2), SHARED[20:23], out=SHARED[:21].reshape(7, 3)),
        ValueError,
        "out must share no memory with h0, got an overlapping array; pass h0.copy()",
    ),
    "out overlaps a state": (
        lambda: TWO(ones(7, 2), (None, SHARED[30:35]), out=SHARED[:35].reshape(7, 5)),
        ValueError,
        "out must share no memory with state[1], got an overlapping array; pass state[1].copy()",
    ),
    "out of rnn_forward": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), out=ones(3, 7, 3)),
        ValueError,
        "out must have shape (3, 7, 4), got (3, 7, 3)",
    ),
    "out over lengths": (
        lambda: (lambda n: RNN_2_3(X, lengths=n.view(np.int64)[:3], out=n.reshape(3, 7, 3)))(np.zeros(63)),
        ValueError,
        "out must share no memory with lengths, got an overlapping array; pass lengths.copy()",
    ),
    "integers for a reset": (
        lambda: RNN_2_3(X, H0, reset=[0, 1, 0]),
        TypeError,
        "reset must be boolean, got dtype int64",
    ),
    "a reset of another batch": (
        lambda: MODEL(X, reset=[True, False]),
        ValueError,
        "reset must have shape (3,), one for each sequence, got (2,)",
    ),
    "a reset of all": (
        lambda: LSTM_2_3(X, reset=True),
        ValueError,
        "reset must have shape (3,), one for each sequence, got ()",
    ),
    "a reset of objects": (
        lambda: GRU_2_3(X[0], reset=np.array(None)),
        TypeError,
        "reset must hold real numbers, got dtype object",
    ),
    "out over a reset": (
        lambda: RNN_2_3(X[0], reset=SHARED.view(bool)[8:9].reshape(()), out=SHARED[:21].reshape(7, 3)),
        ValueError,
        "out must share no memory with reset, got an overlapping array; pass reset.copy()",
    ),
}
