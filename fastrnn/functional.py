"""The notebook's cell as one function.

Many notebooks hold this loop:

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> T, I, H, O = 100, 32, 64, 10
>>> inputs, U, W, V, b = (rng.uniform(-0.1, 0.1, shape) for shape in [(T, I), (H, I), (H, H), (O, H), (H,)])
>>> state_t, outputs = np.zeros(H), []
>>> for x_t in inputs:
...     state_t = np.tanh(U @ x_t + W @ state_t + b)
...     powers = np.exp(V @ state_t)
...     outputs.append(powers / powers.sum())

One call replaces it:

>>> import fastrnn
>>> probs = fastrnn.rnn_forward(inputs, U, W, V, b)  # (T, O)
>>> bool(np.allclose(probs, outputs, rtol=0, atol=1e-12))
True

Functions that Numba compiles can call it in the same way, also cached ones, in `prange` and on any thread. There, all weights must be
arrays of one dtype, and the nonlinearity the name of one without parameters:

>>> import numba
>>> @numba.njit
... def likeliest(inputs, U, W, V, b):
...     return fastrnn.rnn_forward(inputs, U, W, V, b)[-1].argmax()
>>> bool(likeliest(inputs, U, W, V, b) == probs[-1].argmax())
True

Every call checks and packs the weights. A model does that once, and gives the same bits:

>>> model = fastrnn.Sequential(fastrnn.RNN(U, W, b), fastrnn.Dense(V, activation="softmax"))
>>> bool((model(inputs)[0] == probs).all())
True
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arguments import Activation, Array, NamedWeight, as_array, check_activation, check_numbers, check_out, check_state, check_weights
from .engine.execute import Task, assign, is_readable_in_place, readable, run_network
from .engine.packing import LayerSpec, network_of, pack_network
from .engine.prepared import pack_and_run, prepare_pack_and_run
from .engine.recent import Recent

MOST_RECENT = 16


class OneUse(NamedTuple):
    """A kernel call for arrays of known shapes, which packs the weights and runs."""

    job: Array
    parameters: Array  # of the nonlinearity; the job holds their address
    output: tuple[int, ...]
    state: tuple[int, ...]


recent = Recent(MOST_RECENT)  # calls by the arguments' shapes, dtype and nonlinearity; such arguments have passed the checks


def rnn_forward(
    x: ArrayLike,
    U: ArrayLike,
    W: ArrayLike,
    V: ArrayLike,
    b: ArrayLike,
    *,
    c: ArrayLike | None = None,
    h0: ArrayLike | None = None,
    nonlinearity: Activation = "tanh",
    out: Array | None = None,
) -> Array:
    """Compute softmax(V s_t + c) for every step of s_t = f(U x_t + W s_{t-1} + b).

    For more than one call with the same weights make an `RNN` and a `Dense` once.

    Parameters
    ----------
    x : array_like of shape (..., T, I)
        Numbers of any real dtype; converted to the weights' dtype.
    U : array_like of shape (H, I)
        float32 or float64, as all the weights; all of one dtype.
    W : array_like of shape (H, H)
    V : array_like of shape (O, H)
    b : array_like of shape (H,)
    c : array_like of shape (O,), optional
    h0 : array_like of shape (..., H), optional
        The state before the first step; zeros where not given. Not broadcast.
    nonlinearity : str or tuple
        The function f, as for `RNN`.
    out : ndarray of shape (..., T, O), optional
        Receives the result: C-contiguous, of the weights' dtype, sharing no memory with the inputs.

    Returns
    -------
    ndarray of shape (..., T, O)
        Each row sums to one.

    Raises
    ------
    TypeError, ValueError
        For arguments of another dtype or shape.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> rng = np.random.default_rng(0)
    >>> x, U, W, V, b = (rng.random(shape) for shape in ((100, 32), (64, 32), (64, 64), (5, 64), (64,)))
    >>> fastrnn.rnn_forward(x, U, W, V, b).shape
    (100, 5)
    """
    arrays: tuple[Any, ...] = (x, U, W, b, V) if c is None else (x, U, W, b, V, c)
    if out is None and (known := recent.get(key_of(arrays, nonlinearity))) is not None:
        dtype = arrays[0].dtype
        states = first_states(h0, known.state, dtype)
        if states is not None:
            output = np.empty(known.output, dtype)
            pack_and_run(known.job, arrays[0], output, states, weights_of(arrays))
            return output
    nonlinearity = check_activation("nonlinearity", nonlinearity)
    check_no_bias(b)
    named: list[NamedWeight] = [("U", U, ("H", "I")), ("W", W, ("H", "H")), ("V", V, ("O", "H")), ("b", b, ("H",))]
    if c is not None:
        named.append(("c", c, ("O",)))
    weights = check_weights(named)
    data = check_numbers("x", as_array("x", x), weights[0].shape[1])
    shape, dtype = (*data.shape[:-1], len(weights[2])), weights[0].dtype
    if h0 is not None:
        h0 = check_state("h0", h0, (*data.shape[:-2], len(weights[1])), given="x", shape=data.shape)
    if out is None:
        output = np.empty(shape, dtype)
    else:
        inputs = [("x", data), *((name, array) for (name, _, _), array in zip(named, weights, strict=True))]
        output = check_out(out, shape, dtype, [*inputs, ("h0", h0)] if h0 is not None else inputs)
    run(data, weights, h0, output, nonlinearity)
    return output


def key_of(arrays: tuple[Any, ...], nonlinearity: Activation) -> Hashable:
    """Return what a kernel call depends on, as a key of `recent`. None if an array can't be read in place."""
    dtype = arrays[0].dtype if type(arrays[0]) is np.ndarray else None
    for array in arrays:
        if type(array) is not np.ndarray or dtype is None:
            return None
        if not ((array.dtype is dtype and array.flags.carray) or is_readable_in_place(array, dtype)):  # the first test is faster
            return None
    # a tuple is replaced by its text: True equals 1 but is refused, and its entries may have no hash
    function = nonlinearity if type(nonlinearity) is str else (repr(nonlinearity),)
    return (function, dtype, *[array.shape for array in arrays])


def first_states(h0: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """Return a copy of the states before the first step, or zeros. None if h0 needs all checks."""
    if h0 is None:
        return np.zeros(shape, dtype)
    return h0.copy() if type(h0) is np.ndarray and h0.dtype is dtype and h0.shape == shape else None


def weights_of(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the weights in the order in which a network packs them. For a missing c comes b, which is not read."""
    return (*arrays[1:], arrays[3]) if len(arrays) == 5 else arrays[1:]


def run(x: Array, weights: list[Array], h0: Array | None, output: Array, nonlinearity: Activation) -> None:
    """Run with checked arguments, in one kernel call if that is enough."""
    U, W, V, b, *rest = weights
    x = readable(x, U.dtype)
    arrays = x, U, W, b, V, *rest
    parts = [LayerSpec("elman", U, W, b, nonlinearity), LayerSpec("dense", V, None, rest[0] if rest else None, "softmax")]
    key = key_of(arrays, nonlinearity)
    if key is not None and key not in recent:
        network = network_of(parts, ["pack_and_run"])
        job = prepare_pack_and_run(network, x.shape)
        if job is not None:
            recent.keep(key, OneUse(job, network.parameters, output.shape, (*x.shape[:-2], len(W))))
    known = recent.get(key)
    if known is None:
        run_network(pack_network(parts), Task(x, None, output, h0=h0))
        return
    states = np.zeros(known.state, x.dtype)
    if h0 is not None:
        assign(states, h0)
    pack_and_run(known.job, x, output, states, weights_of(arrays))


def check_no_bias(value: object) -> None:
    if value is None:
        raise TypeError("b must hold real numbers, got None; where there is no bias pass numpy.zeros_like(U[:, 0])")
