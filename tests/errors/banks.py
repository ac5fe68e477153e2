"""Errors of banks: their rows, steps and states."""

import numpy as np
import pytest

import fastrnn
from fastrnn import Embedding, Sequential

from .given import H0, LSTM_2_3, MODEL, READER, RNN_2_3, SHARED, banked, ones


def changed_in_the_midst():
    """Step a bank in several pieces, and one of its rows between two of them."""
    bank, banks = banked(RNN_2_3), fastrnn.banks
    run_network = banks.run_network

    def meddle(*arguments):
        run_network(*arguments)
        patch.undo()
        bank.step(ones(1, 2), at=[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(banks, "MOST_AT_ONCE", 0)
        patch.setattr(banks, "run_network", meddle)
        bank.step(ones(2, 2))


ERRORS = {
    "a bank of no rows": (lambda: RNN_2_3.streams(0), ValueError, "capacity must be an integer from 1 up, got 0"),
    "a bank of any size": (lambda: MODEL.streams(None), ValueError, "capacity must be an integer from 1 up, got None"),
    "a batch for a bank's state0": (
        lambda: RNN_2_3.streams(5, H0),
        ValueError,
        "state0 must have shape (3,) for a row of shape () and hidden_size=3, got (3, 3)",
    ),
    "half a state0 of a bank": (
        lambda: Sequential(LSTM_2_3).streams(5, [(ones(3), ones(2))]),
        ValueError,
        "state0[0][1] must have shape (3,) for a row of shape () and hidden_size=3, got (2,)",
    ),
    "a full bank": (
        lambda: banked(RNN_2_3, rows=6),
        IndexError,
        "a bank of capacity=5 has handed out all its rows; drop one, or make a larger bank",
    ),
    "a row dropped twice": (
        lambda: [banked(RNN_2_3).drop(i) for i in (0, 2)],
        ValueError,
        "i must be a row that the bank has handed out, got 2",
    ),
    "a row dropped that a bank can't have": (
        lambda: banked(RNN_2_3).drop(-1),
        ValueError,
        "i must be a row that the bank has handed out, got -1",
    ),
    "half a row dropped": (
        lambda: banked(RNN_2_3).drop(0.5),
        ValueError,
        "i must be a row that the bank has handed out, got 0.5",
    ),
    "a row of a bank twice": (
        lambda: banked(RNN_2_3).step(ones(3, 2), at=[0, 1, 0]),
        ValueError,
        "at must hold distinct rows, got 0 at position 2",
    ),
    "a row of a bank that was not handed out": (
        lambda: banked(RNN_2_3).step(ones(3, 2), at=[2, 1, 2]),
        ValueError,
        "at must hold rows that the bank has handed out, got 2 at position 0",
    ),
    "a row beyond a bank": (
        lambda: banked(READER).step([0, 1], at=np.array([1, 2**64 - 1], np.uint64)),
        ValueError,
        "at must hold rows that the bank has handed out, got 18446744073709551615 at position 1",
    ),
    "a row twice among many": (
        lambda: banked(RNN_2_3, capacity=2000, rows=2000).step(ones(2000, 2), at=[*range(1999), 7]),
        ValueError,
        "at must hold distinct rows, got 7 at position 1999",
    ),
    "a mask for a bank's rows": (
        lambda: banked(RNN_2_3).step(ones(1, 2), at=[True, False]),
        TypeError,
        "at must be integers, rows of the bank, got dtype bool",
    ),
    "a single row of a bank": (
        lambda: banked(RNN_2_3).step(ones(2), at=1),
        ValueError,
        "at must have one axis, a row of the bank for each of x, got shape ()",
    ),
    "too few vectors for a bank": (
        lambda: banked(RNN_2_3).step(ones(1, 2)),
        ValueError,
        "x must have the leading axes (2,), one step for each row of the bank in at, got (1,)",
    ),
    "too many tokens for a bank": (
        lambda: banked(READER).step([0, 1], at=[1]),
        ValueError,
        "x must have the leading axes (1,), one step for each row of the bank in at, got (2,)",
    ),
    "vectors of another size for a bank": (
        lambda: banked(MODEL).step(ones(2, 3)),
        ValueError,
        "x must have shape (..., 2) for input_size=2, got (2, 3)",
    ),
    "a token beyond the vocabulary in a bank": (
        lambda: banked(READER).step([0, 2]),
        ValueError,
        "x must hold integers from 0 to 1 for a vocabulary of 2, got 2 at position (1,)",
    ),
    "a reset of a whole bank": (
        lambda: banked(RNN_2_3).step(ones(2, 2), reset=[True] * 5),
        ValueError,
        "reset must have shape (2,), one for each sequence, got (5,)",
    ),
    "out of a bank": (
        lambda: banked(RNN_2_3).step(ones(2, 2), out=ones(5, 3)),
        ValueError,
        "out must have shape (2, 3), got (5, 3)",
    ),
    "out over a bank's input": (
        lambda: banked(RNN_2_3).step(SHARED[:4].reshape(2, 2), out=SHARED[3:9].reshape(2, 3)),
        ValueError,
        "out must share no memory with x, got an overlapping array; pass x.copy()",
    ),
    "out over a bank's reset": (
        lambda: banked(RNN_2_3).step(ones(2, 2), reset=SHARED.view(bool)[8:10], out=SHARED[:6].reshape(2, 3)),
        ValueError,
        "out must share no memory with reset, got an overlapping array; pass reset.copy()",
    ),
    "state of another bank": (
        lambda: setattr(banked(RNN_2_3), "state", ones(2, 3)),
        ValueError,
        "state must have shape (5, 3) for a bank of shape (5,) and hidden_size=3, got (2, 3)",
    ),
    "a bank of vectors that aren't made": (
        lambda: Embedding.one_hot(4).streams(5),
        ValueError,
        "Embedding.one_hot(4) must have a layer after it, of input_size=4, whose weights it selects from; "
        "make it the first of others: Sequential(Embedding.one_hot(4), ...)",
    ),
    "a row that changes in the midst": (
        changed_in_the_midst,
        RuntimeError,
        "row 1 of the bank was stepped, set, reset or dropped while this call stepped it in several pieces; no state has changed",
    ),
}
