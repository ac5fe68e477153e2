"""What lies beyond `lengths=` is not read, whatever is there: not checked, not converted."""

import sys

import numpy as np
import pytest

import fastrnn
from fastrnn import arguments

from .exhaustive import few
from .process import python

# Rows of which the first is whole, and the others have one page that can be read: who reads on, dies.
GUARDED = """
import ctypes, mmap, sys
import numpy as np, fastrnn
way, dtype, (rows, steps), rng = sys.argv[1], np.dtype(sys.argv[2]), (3, 8 * mmap.PAGESIZE), np.random.default_rng(0)
memory = mmap.mmap(-1, rows * steps * dtype.itemsize)
x = np.frombuffer(memory, dtype).reshape(rows, steps)
for row in x[1:]:
    address, size = row.ctypes.data + mmap.PAGESIZE, row.nbytes - mmap.PAGESIZE
    assert not ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), 0)
def rnn(inputs):
    return fastrnn.RNN(rng.random((4, inputs)), rng.random((4, 4)))
def tokens(*layers):
    head = fastrnn.Dense(rng.random((5, layers[0].output_size)), activation="softmax")
    return fastrnn.Sequential(fastrnn.Embedding.one_hot(5), *layers, head)
lengths, both = [steps, mmap.PAGESIZE // dtype.itemsize, 0], lambda inputs: fastrnn.Bidirectional(rnn(inputs), rnn(inputs))
{
    "tokens": lambda: tokens(rnn(5))(x, lengths=lengths),
    "the last step": lambda: tokens(rnn(5))(x, lengths=lengths, return_sequences=False),
    "both directions of tokens": lambda: tokens(both(5))(x, lengths=lengths),
    "likelihood": lambda: fastrnn.log_likelihood(tokens(rnn(5)), x, lengths=lengths),
    "numbers": lambda: rnn(1)(x[..., np.newaxis], lengths=lengths),
    "both directions": lambda: both(1)(x[..., np.newaxis], lengths=lengths),
    "unpad": lambda: fastrnn.unpad(x, lengths),
}[way]()
print("unread")
"""
WAYS = ("tokens", "the last step", "both directions of tokens", "likelihood", "numbers", "both directions", "unpad")


@pytest.mark.skipif(sys.platform == "win32", reason="has no mprotect")
@pytest.mark.parametrize("dtype", few(["int64", ">i4"], ">i4"))
@pytest.mark.parametrize("way", WAYS)
def test_pages_that_cannot_be_read(way, dtype):
    """No page past a sequence's end is touched, as the engine reads x and converted."""
    assert python(GUARDED, way, dtype) == "unread\n"


MODEL = fastrnn.Sequential(fastrnn.Embedding.one_hot(3), fastrnn.RNN(np.ones((2, 3)), np.eye(2)))


def test_a_trillion_tokens():
    """Of 2**40 tokens three are read, and the fourth is not even looked at."""
    tokens = np.broadcast_to(np.int64(1), (1, 2**40))
    last, _ = MODEL(tokens, lengths=[3], return_sequences=False)
    np.testing.assert_array_equal(last, MODEL(tokens[:, :3])[0][:, -1])


@pytest.mark.parametrize("gathered", [1, 6, 1 << 16])
def test_the_first_token_beyond_the_vocabulary(gathered, monkeypatch):
    """It is named by its position, in C order, whether sequences are looked at one by one, some together, or all."""
    monkeypatch.setattr(arguments, "GATHERED", gathered)
    rng = np.random.default_rng(0)
    for _ in range(50):
        tokens, lengths = rng.integers(0, 3, (2, 3, 7)), rng.integers(0, 8, (2, 3))
        wrong = (rng.random(tokens.shape) < 0.05) & (np.arange(7) < lengths[..., np.newaxis])
        tokens[(rng.random(tokens.shape) < 0.5) & (np.arange(7) >= lengths[..., np.newaxis])] = 9
        tokens[wrong] = -1
        if not wrong.any():
            assert MODEL(np.asfortranarray(tokens), lengths=lengths)[0].shape == (2, 3, 7, 2)
            continue
        with pytest.raises(ValueError, match="x must hold") as raised:
            MODEL(tokens, lengths=lengths)
        at = tuple(np.argwhere(wrong)[0].tolist())
        assert str(raised.value) == f"x must hold integers from 0 to 2 for a vocabulary of 3, got -1 at position {at}"
