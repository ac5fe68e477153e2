"""Ctrl-C in a long call is answered within a second."""

import sys

import pytest

from .exhaustive import few
from .process import python

THREADS = (1, 2, 3)

INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
import fastrnn

signal.signal(signal.SIGINT, signal.default_int_handler)
weights = [np.random.default_rng(i).uniform(-0.05, 0.05, shape) for i, shape in enumerate(((300, 4), (300, 300), (2, 300)))]
{define}
some = x[:3] if x.ndim == 2 else x[:3, :3]
before = x[0].copy()  # all of x is alike
assert (x == before).all()

def send(begun):
    while time.process_time() - begun < 0.1:  # in the middle of the call, however little of the processors it gets
        time.sleep(0.01)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

for count in map(int, sys.argv[1:]):
    fastrnn.set_num_threads(count)
    few, sent = model(some), []
    sender = threading.Thread(target=send, args=(time.process_time(),))
    sender.start()
    started = time.perf_counter()
    try:
        model(x)
    except KeyboardInterrupt:
        print(time.perf_counter() - sent[0])
    else:
        raise AssertionError(f"{{count}} threads: the call was over in {{time.perf_counter() - started}} s")
    busy = time.process_time()
    time.sleep(0.15)
    assert time.process_time() - busy < 0.05, f"{{count}} threads: somebody goes on"
    assert (x == before).all(), f"{{count}} threads: the input is another one"
    np.testing.assert_array_equal(model(some)[0], few[0])
"""
MODEL = "model = fastrnn.Sequential(fastrnn.RNN(*weights[:2]), fastrnn.Dense(weights[2], activation='softmax'))\n"
SQUARE = "rnn, head = fastrnn.RNN(weights[1], weights[1]), fastrnn.Dense(weights[1], activation='softmax')\n"
SQUARE += "square = fastrnn.Sequential(fastrnn.Embedding.one_hot(300), rnn, head)\n"
DEFINITIONS = {
    "one long sequence": MODEL + "x = np.ones((4_000_000, 4))",
    "a converted one": MODEL + "x = np.ones((4_000_000, 4), np.float32)",
    "a large batch": MODEL + "x = np.ones((200_000, 20, 4))",
    "wide rows": "model = lambda x: (fastrnn.Dense(np.full((50_000, 4), 0.1), activation='softmax')(x),); x = np.ones((3000, 5, 4))",
    "long and many": MODEL + "x = np.ones((100, 40_000, 4))",
    "a large layer": "weights[1] = np.tile(weights[1], (2, 2)) / 2; rnn = fastrnn.RNN(np.tile(weights[0], (2, 1)), weights[1]); "
    "model, x = lambda x: rnn(x, return_sequences=False), np.ones((1_000_000, 4))",
    "the last step": MODEL + "whole, x = model, np.ones((4_000_000, 4)); model = lambda x: whole(x, return_sequences=False)",
    "lengths": MODEL + "whole, x = model, np.ones((100, 40_000, 4)); model = lambda x: whole(x, lengths=np.full(len(x), x.shape[1] - 1))",
    "log-likelihood": SQUARE + "x = np.zeros((100, 10_000), int); model = lambda x: fastrnn.log_likelihood(square, x)",
    "generation": SQUARE + "x = np.zeros((1_000_000, 1)); model = lambda x: fastrnn.generate(square, 0, len(x), rng=0, top_k=10)",
    # only a call that ends sets the state back: one that is interrupted must have left it where it was
    "a stream": MODEL
    + "stream, x = model.stream(), np.ones((4_000_000, 4)); model = lambda x: (stream(x), setattr(stream, 'state', None))",
}


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT can be sent there")
@pytest.mark.parametrize("define", few(DEFINITIONS, "a large batch", "a stream"))
def test_interrupt(define):
    """KeyboardInterrupt comes within a second of the signal, changes no input, leaves nobody at work, and the next call is right."""
    answers = python(INTERRUPTED.format(define=define), *THREADS).split()
    assert len(answers) == len(THREADS)
    assert max(map(float, answers)) < 1, answers
