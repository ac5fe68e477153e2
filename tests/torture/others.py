"""Other people's programs: functions that Numba compiles, and Dask."""

import threading

import numpy as np

import fastrnn

from ..cases import assert_same_bits, flat, nested
from ..situations import CAUSAL
from .work import pick, plain_run, situation

# Every form of a state takes seconds to compile: these have three of them.
COMPILED = [
    case
    for case in CAUSAL
    if case.name in ("rnn-tanh", "rnn-relu", "gru", "gru-before", "lstm", "lstm-peephole", "rnn-softmax", "gru-softmax")
]


SMALL = fastrnn.RNN([[1.0]], [[1.0]])


def compiled_functions():
    import numba

    import fastrnn.jit

    @numba.njit(nogil=True)
    def at_once(net, x, state, out):
        fastrnn.jit.forward(net, x, state, out)

    @numba.njit(nogil=True)
    def by_steps(net, x, state, out):
        for t in range(len(x)):
            fastrnn.jit.step(net, x[t], state, out[t])

    @numba.njit(nogil=True)
    def probabilities(x, U, W, V, b):
        return fastrnn.rnn_forward(x, U, W, V, b)

    return at_once, by_steps, probabilities


functions: list = []  # compiled once in a process


def check_notebook(order, probabilities):
    """The notebook's function, of weights and of an x that may have to be converted."""
    steps, sizes = int(order.integers(60)), [int(size) for size in order.integers(1, 300, 3)]
    inputs, hidden, outputs = sizes
    shapes = (hidden, inputs), (hidden, hidden), (outputs, hidden), (hidden,)
    weights = [order.uniform(-0.1, 0.1, shape).astype(np.float32) for shape in shapes]
    x = order.uniform(-1, 1, (steps, inputs)).astype(pick(order, [np.float32, np.float64]))
    assert_same_bits(probabilities(x, *weights), fastrnn.rnn_forward(x, *weights))


def compiled(rng, counts):
    """Threads without Python's lock run one net over sequences of their own, at once, in parts and by steps, and misuse it."""
    functions.extend(() if functions else compiled_functions())
    s = situation(rng, COMPILED)
    (*runs, probabilities), net, wrong = functions, s.model.jit(), []

    def call(seed):
        try:
            order = np.random.default_rng(seed)
            for _ in range(20):
                x = np.ascontiguousarray(order.standard_normal((int(order.integers(12)), s.sizes[0])), s.dtype)
                arrays = [np.zeros(size, s.dtype) for size in s.model.packed().states]
                state, out = nested(s.model, arrays), np.full((len(x), s.model.output_size), np.nan, s.dtype)
                cut = int(order.integers(len(x), endpoint=True))
                for part in (slice(cut), slice(cut, None)):
                    pick(order, runs)(net, x[part], state, out[part])
                result = s.model(x)
                assert_same_bits(out, result[0])
                for one, other in zip(arrays, flat(result[1]), strict=True):
                    assert_same_bits(one, other)
                check_notebook(order, probabilities)
            try:  # of a small net, which then is kept for ever: where compiled code raises, Numba drops no reference that it holds
                runs[0](SMALL.jit(), np.ones((2, 1)), np.zeros(1), np.empty((2, 2)))
                raise AssertionError("not refused")
            except ValueError:
                counts["malformed"] += 1
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=call, args=(int(seed),)) for seed in rng.integers(1 << 30, size=pick(rng, [1, 2, 8]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
    counts["calls"] += 60 * len(threads)


def chunked(rng, counts):
    """Data cut into chunks in any way gives the bits of one call."""
    import dask
    import dask.array

    import fastrnn.dask

    s = situation(rng, CAUSAL)
    model, x, states, whole = plain_run(s)
    chunks = tuple(tuple(np.diff([0, *sorted(rng.integers(0, size + 1, size=rng.integers(3))), size]).tolist()) for size in x.shape[:-1])
    given = dask.array.from_array(x, (*chunks, (x.shape[-1],)))
    with dask.config.set(scheduler=pick(rng, ["threads", "synchronous"])):
        output, state = fastrnn.dask.forward(model, given, nested(model, states) if states else None)
        output, state = dask.compute(output, state)
    assert_same_bits(output, whole[0])
    for one, other in zip(flat(state), whole[1], strict=True):
        assert_same_bits(one, other)
    counts["calls"] += 1
    counts["steps"] += s.steps * len(s.members())
