"""Banks whose `add` was interrupted more than once."""

import numpy as np

import fastrnn
from fastrnn import banks


def test_rows_after_several_interrupts(monkeypatch):
    """However often `add` is interrupted after it has handed a row out, and that row is dropped, each row is handed out once."""
    bank, pop = fastrnn.RNN(np.eye(2), np.eye(2)).streams(6), banks.heapq.heappop
    for row in [bank.add() for _ in range(4)][1:]:
        bank.drop(row)

    def interrupt(heap):
        if bank.rows.tolist() == [0, 1]:
            raise KeyboardInterrupt
        return pop(heap)

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(banks.heapq, "heappop", interrupt)
            try:
                bank.add()
            except KeyboardInterrupt:
                assert bank.rows.tolist() == [0, 1]
        bank.drop(1)
    assert sorted(bank.add() for _ in range(5)) == [1, 2, 3, 4, 5]
