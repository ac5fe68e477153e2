"""Calls that are kept ready: as many as are promised, and only for the number of threads that they were prepared for."""

import numpy as np
import pytest

import fastrnn
from fastrnn import functional
from fastrnn.engine import packing, prepared, threads
from fastrnn.engine.recent import Recent

from .cases import Case, assert_same_bits
from .sharing import PROMPT_SPINS, at_once, never, team, word

KINDS = 3 * max(functional.MOST_RECENT, packing.MOST_KINDS)


def test_shapes_of_the_notebooks_function(monkeypatch):
    """Calls of many shapes keep no more than MOST_RECENT of them ready, and have a model's bits."""
    monkeypatch.setattr(functional, "recent", Recent(functional.MOST_RECENT))
    U, W, V, b = np.full((4, 2), 0.1), np.full((4, 4), 0.1), np.full((3, 4), 0.1), np.full(4, 0.1)
    model = fastrnn.Sequential(fastrnn.RNN(U, W, b), fastrnn.Dense(V, activation="softmax"))
    kept = []
    for steps in (*range(1, KINDS), *range(1, KINDS)):
        x = np.linspace(-1, 1, 2 * steps).reshape(steps, 2)
        assert_same_bits(fastrnn.rnn_forward(x, U, W, V, b), model(x)[0])
        kept.append(len(functional.recent))
    assert max(kept) == functional.MOST_RECENT


@pytest.mark.parametrize("options", [lambda steps: {}, lambda steps: {"lengths": [1, steps]}], ids=["plain", "of lengths"])
def test_shapes_of_a_model(options):
    """Nor do calls of a model keep more than MOST_KINDS."""
    layer = Case("", (("RNN", "tanh"),), (2, 4)).layer(np.float64)
    kept = []
    for steps in range(1, KINDS):
        layer(np.ones((2, steps, 2)), **options(steps))
        kept.append(len(layer.packed().calls))
    assert max(kept) == packing.MOST_KINDS


def test_workspaces():
    """No more than MOST_IDLE workspaces are kept for later calls."""
    for space in [prepared.take_space(1) for _ in range(2 * prepared.MOST_IDLE)]:
        prepared.give_back(space)
    assert len(prepared.idle) == prepared.MOST_IDLE


def test_what_was_prepared_for_one_thread(monkeypatch):
    """A short call, a step of a stream and one of a bank, prepared for one thread, have help as soon as there are more; and the reverse."""
    model, x = Case("", (("RNN", "tanh"),), (30, 70)).layer(np.float32), np.ones((64, 1, 30), np.float32)
    stream, bank = model.stream(), model.streams(64)
    for _ in range(64):
        bank.add()
    monkeypatch.setattr(threads.Pool, "is_at_hand", lambda pool: True)
    for count in (1, 3, 1, 2):
        with team(count, PROMPT_SPINS, never if count == 1 else at_once) as watch:
            for call in (lambda: model(x), lambda: stream.step(x[:, 0]), lambda: bank.step(x[:, 0])):
                before = len(watch.taken)
                call()
                assert [word(taken, "workers") for taken in watch.taken[before:]] == [count - 1] * (count > 1)
