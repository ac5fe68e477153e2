"""Make `rnn_forward` callable in functions that Numba compiles. Its implementation is imported when such a function is compiled."""

from numba.extending import overload

from .functional import rnn_forward


@overload(rnn_forward)
def overloaded(x, U, W, V, b, c=None, h0=None, nonlinearity="tanh", out=None):
    from .compiled_forward import compiled

    return compiled(x, U, W, V, b, c, h0, nonlinearity, out)
