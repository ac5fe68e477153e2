"""A bank's rows end where its capacity does, whatever lies behind."""

import numpy as np
import pytest

import fastrnn
from fastrnn import banks
from fastrnn.kernels.layout import HANDED

MODEL = fastrnn.RNN(np.ones((3, 2)), np.eye(3))


class Followed:
    """NumPy, but that the words of every array of zeros are followed by one that says HANDED."""

    def __getattr__(self, name):
        return getattr(np, name)

    def zeros(self, size, dtype):
        words = np.full(size + 1, HANDED, dtype)
        words[:size] = 0
        return words[:size]


@pytest.mark.parametrize("count", [1, 3, banks.MOST_AT_ONCE + 1])
def test_the_row_behind_the_last(count, monkeypatch):
    """Row `capacity` is refused where the word behind the bank's own says that it is handed out, alone, among others and among many."""
    monkeypatch.setattr(banks, "np", Followed())
    bank = MODEL.streams(count)
    rows = [bank.add() for _ in range(count)]
    before = bank.state
    with pytest.raises(ValueError, match="at must") as raised:
        bank.step(np.ones((count, 2)), at=[*rows[1:], count])
    assert str(raised.value) == f"at must hold rows that the bank has handed out, got {count} at position {count - 1}"
    np.testing.assert_array_equal(bank.state, before)
