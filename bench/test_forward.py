"""Times the notebook's loop, a model and `rnn_forward`, each compared with the reference first."""

import numpy as np
import pytest
from scipy.special import softmax

import fastrnn
from bench.cases import DTYPES, RECURRENCES, SHAPES, compare_and_time, problem


def notebook(p):
    """Run the notebook's code over one sequence."""
    state_t = p.h0
    outputs = []
    for x_t in p.x:
        state_t = np.tanh(p.U @ x_t + p.W @ state_t + p.b)
        outputs.append(state_t if p.V is None else softmax(p.V @ state_t))
    return np.concatenate(outputs, axis=0)


def notebook_batch(p):
    """Run the same for a batch, all sequences at once."""
    state_t = p.h0
    outputs = []
    for t in range(p.x.shape[1]):
        state_t = np.tanh(p.x[:, t] @ p.U.T + state_t @ p.W.T + p.b)
        outputs.append(state_t)
    return np.stack(outputs, axis=1)


def notebook_loop(p):
    return lambda: notebook_batch(p) if p.x.ndim > 2 else notebook(p)


def model(p):
    rnn = fastrnn.RNN(p.U, p.W, p.b)
    layer = rnn if p.V is None else fastrnn.Sequential(rnn, fastrnn.Dense(p.V, activation="softmax"))
    return lambda: layer(p.x, p.h0)[0]


def rnn_forward(p):
    return lambda: fastrnn.rnn_forward(p.x, p.U, p.W, p.V, p.b, h0=p.h0)


WAYS = {"notebook loop": notebook_loop, "model(x)": model, "rnn_forward(x, U, W, V, b)": rnn_forward}

ROWS = [
    pytest.param(shape, dtype, way, id=f"{shape.name}-{dtype}-{way}")
    for shape in (*SHAPES, *RECURRENCES)
    for dtype in DTYPES
    for way in WAYS
    if shape.outputs or way != "rnn_forward(x, U, W, V, b)"
]


@pytest.mark.parametrize(("shape", "dtype", "way"), ROWS)
def test_forward(benchmark, shape, dtype, way):
    """Each way runs a whole sequence, or a batch of whole sequences."""
    p = problem(shape, dtype)
    compare_and_time(benchmark, f"{shape}, {dtype}", way, WAYS[way](p), p.expected)
