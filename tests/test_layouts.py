"""Lengths, resets and states of several leading axes mean the same in any memory layout."""

import numpy as np
import pytest

import fastrnn

from .cases import assert_same_results, flat

RNG = np.random.default_rng(0)
X, TOKENS = RNG.random((2, 3, 9, 4)), RNG.integers(0, 4, (2, 3, 9))
LENGTHS, RESET, STATE = np.array([[9, 1, 4], [0, 7, 2]]), np.array([[True, False, False], [True, True, False]]), RNG.random((2, 3, 5))
LAYER, OTHER = (fastrnn.RNN(RNG.uniform(-1, 1, (5, 4)), RNG.uniform(-0.4, 0.4, (5, 5))) for _ in range(2))
HEAD = fastrnn.Dense(RNG.random((4, 5)), activation="softmax")
READER, BOTH = fastrnn.Sequential(fastrnn.Embedding.one_hot(4), LAYER, HEAD), fastrnn.Bidirectional(LAYER, OTHER)
CALLS = {
    "a layer": lambda change: LAYER(X, change(STATE), lengths=change(LENGTHS), reset=change(RESET)),
    "the last step": lambda change: READER(TOKENS, change(STATE), lengths=change(LENGTHS), reset=change(RESET), return_sequences=False),
    "both directions": lambda change: BOTH(X, (change(STATE), None), lengths=change(LENGTHS), reset=change(RESET)),
    "likelihood": lambda change: (fastrnn.log_likelihood(READER, TOKENS, change(STATE), lengths=change(LENGTHS)), ()),
    "a stream": lambda change: (LAYER.stream(change(STATE)).step(X[..., 0, :], reset=change(RESET)), ()),
    "unpad": lambda change: (np.concatenate(fastrnn.unpad(X, change(LENGTHS))), ()),
}
CHANGES = {
    "Fortran": np.asfortranarray,
    "turned round": lambda array: array[::-1, ::-1].copy()[::-1, ::-1],
    "with gaps": lambda array: array.repeat(2, axis=1)[:, ::2],
    "another byte order": lambda array: array.astype(array.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", CALLS)
def test_layouts(kind, change):
    """A call gives the bits that it gives where these arrays are in C order."""
    (output, state), (expected, last) = (CALLS[kind](one) for one in (CHANGES[change], np.ascontiguousarray))
    assert_same_results((output, flat(state)), (expected, flat(last)))


def test_lengths_in_fortran_order():
    """Each sequence has its own length, not that of another one."""
    output, _ = LAYER(X, lengths=np.asfortranarray(LENGTHS))
    for index in np.ndindex(LENGTHS.shape):
        np.testing.assert_array_equal(output[index][: LENGTHS[index]], LAYER(X[index][: LENGTHS[index]])[0])
        assert not output[index][LENGTHS[index] :].any()
