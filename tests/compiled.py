"""Functions that Numba compiles, for several test files."""

import numba

import fastrnn
import fastrnn.jit


@numba.njit
def step(net, x_t, state, out):
    return fastrnn.jit.step(net, x_t, state, out)


@numba.njit
def forward(net, x, state, out):
    return fastrnn.jit.forward(net, x, state, out)


@numba.njit
def rnn_forward(x, U, W, V, b):
    return fastrnn.rnn_forward(x, U, W, V, b, None, None, "identity")
