"""A bar of the steps done: asked for, it shows them all, and changes no bit."""

import sys

import numpy as np
import pytest
import tqdm.auto

import fastrnn

from .bars import Recorded
from .cases import assert_same_bits, flat
from .process import python

RNG = np.random.default_rng(0)


def weights(*shape):
    return RNG.uniform(-0.1, 0.1, shape).astype(np.float32)


GRU, LSTM, RNN = (
    fastrnn.GRU(weights(300, 8), weights(300, 100)),
    fastrnn.LSTM(weights(400, 8), weights(400, 100)),
    fastrnn.RNN(weights(40, 8), weights(40, 40)),
)
HEAD = fastrnn.Dense(weights(20, 100), activation="softmax")
TABLE = fastrnn.Embedding(weights(20, 8))
READER = fastrnn.Sequential(TABLE, GRU, HEAD)
BOTH = fastrnn.Bidirectional(GRU, fastrnn.GRU(weights(300, 8), weights(300, 100)), merge="sum")
MANY, LENGTHS = RNG.random((5, 9000, 8), np.float32), [9000, 0, 20, 8000, 1]
LONG, TOKENS = RNG.random((60_000, 8), np.float32), RNG.integers(0, 20, (2, 20_000))
HEADED = RNG.random((200_000, 100), np.float32)
CALLS = {
    "a layer": (lambda **options: GRU(LONG, **options), 60_000),
    "an LSTM": (lambda **options: LSTM(LONG, **options), 60_000),
    "a short call": (lambda **options: RNN(LONG[:3], **options), 3),
    "a head": (lambda **options: HEAD(HEADED, **options), 200_000),
    "vectors": (lambda **options: TABLE(TOKENS[:, :4], **options), 8),
    "nothing": (lambda **options: RNN(LONG[:0], **options), 0),
    "the last step": (lambda **options: fastrnn.Sequential(GRU, HEAD)(LONG, return_sequences=False, **options), 60_000),
    "lengths": (lambda **options: fastrnn.Sequential(GRU)(MANY, lengths=LENGTHS, **options), 45_000),
    "both directions": (lambda **options: BOTH(MANY, **options), 45_000),
    "both directions on two threads": (lambda **options: BOTH(LONG, **options), 60_000),
    "both directions in a model": (lambda **options: fastrnn.Sequential(BOTH, HEAD)(MANY, lengths=LENGTHS, **options), 45_000),
    "predict": (lambda **options: READER.predict(TOKENS, **options), 40_000),
    "likelihood": (lambda **options: fastrnn.log_likelihood(READER, TOKENS, **options), 39_998),
    "generation": (lambda **options: fastrnn.generate(READER, [1, 2, 3], 10_000, rng=0, **options), 30_000),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_bar(kind, recorded, capsys):
    """It goes up to all steps, in parts where the call is long, is closed, and the results have the same bits."""
    call, total = CALLS[kind]
    expected, given = flat(call()), flat(call(progress=True))
    for one, other in zip(given, expected, strict=True):
        assert_same_bits(np.asarray(one), np.asarray(other))
    (bar,) = recorded
    assert bar.total == bar.n == total
    assert bar.seen == sorted(bar.seen)
    assert len(set(bar.seen)) > 3 or total < 10
    assert fastrnn.engine.progress.BAR.get() is None
    assert capsys.readouterr().err
    call()
    assert len(recorded) == 1


@pytest.mark.parametrize("kind", [kind for kind in CALLS if "both" in kind])
def test_a_bar_over_two_directions(kind, recorded):
    """It arrives with the last piece of the last direction, not with the first direction's; no piece leaves it where it was."""
    call, total = CALLS[kind]
    call(progress=True)
    (bar,) = recorded
    *way, arrived, closed = bar.seen
    assert (arrived, closed) == (sum(LENGTHS) if "model" in kind else total, total)
    assert len(set(way)) == len(way) > 2
    assert max(way) < arrived


def test_an_interrupt_ends_the_bar(monkeypatch):
    """An error in the middle of a call leaves no bar to the next one."""

    class Failing(Recorded):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(Recorded, "made", [], raising=False)
    monkeypatch.setattr(tqdm.auto, "tqdm", Failing)
    with pytest.raises(KeyboardInterrupt):
        GRU(LONG, progress=True)
    assert fastrnn.engine.progress.BAR.get() is None
    assert Recorded.made[0].disable  # closed
    GRU(LONG)


def test_without_tqdm(monkeypatch):
    """tqdm is imported where a bar is asked for, and nowhere else; where it isn't installed, the error says how to have it."""
    assert python("import sys, numpy, fastrnn; fastrnn.Dense(numpy.ones((1, 1)))([[1]]); print('tqdm' in sys.modules)") == "False\n"
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"^progress=True needs tqdm; pip install 'fastrnn\[progress\]'$"):
        RNN(LONG[:3], progress=True)
