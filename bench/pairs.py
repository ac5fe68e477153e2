"""Pairs of measurements taken in turns: two ways to one result, and a NumPy product after a call on one thread or on all."""

import asyncio
import contextlib
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import fastrnn
from bench.cases import DTYPES, SHAPES, Shape, problem
from bench.contestants import WARM_UP, check, time_warm
from bench.results import OURS, Results, rounded
from bench.rivals import Way, load
from bench.rows import Task
from bench.timing import settle
from fastrnn.native.processor import processors

ROUNDS = 31
CALLS = 200  # in a block: some milliseconds
SIDE = 1000  # of the matrices that NumPy multiplies
BATCH, SEQUENCE = (next(shape for shape in SHAPES if shape.name == name) for name in ("batch of small", "medium"))

Sample = Callable[[], float]  # gives seconds


@dataclass(frozen=True)
class Pair:
    """Two measurements. The second one is given as a multiple of the first one."""

    name: str
    names: tuple[str, str]
    prepare: Callable[[], tuple[Sample, Sample]]


def rnn_forward_and_model(dtype: str) -> tuple[Sample, Sample]:
    """A call of each at the notebook's shape, checked."""
    p = problem(SHAPES[0], dtype)
    model = fastrnn.Sequential(fastrnn.RNN(p.U, p.W, p.b), fastrnn.Dense(p.V, activation="softmax"))
    ways = (
        Way("model(x)", lambda: model(p.x, p.h0)[0], np.array),
        Way("rnn_forward(x, U, W, V, b)", lambda: fastrnn.rnn_forward(p.x, p.U, p.W, p.V, p.b, h0=p.h0), np.array),
    )
    for way in ways:
        check(way, Task(**vars(p)))
    return lambda: time_warm(ways[0], CALLS), lambda: time_warm(ways[1], CALLS)


def products_after(shape: Shape) -> tuple[Sample, Sample]:
    """NumPy's product on all threads, right after calls of fastrnn on one thread, and right after calls on all."""
    p = problem(shape, "float32")
    rnn, out, matrix = fastrnn.RNN(p.U, p.W, p.b), np.empty((*p.x.shape[:-1], shape.hidden), np.float32), np.ones((SIDE, SIDE))
    product = np.empty_like(matrix)

    def sample(threads: int) -> float:
        with load(OURS).running(threads, "float32"):
            start = time.perf_counter()
            while time.perf_counter() - start < WARM_UP:
                rnn(p.x, p.h0, out=out)
            start = time.perf_counter()
            np.dot(matrix, matrix, out=product)
            return time.perf_counter() - start

    return lambda: sample(1), lambda: sample(processors())


def timed(call: Callable[[], object], calls: int) -> Sample:
    """Give the seconds of a call, of several one after the other."""

    def sample() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls

    return sample


def drawn(*sizes: int, bound: float = 0.1) -> np.ndarray:
    return np.random.default_rng(len(sizes)).uniform(-bound, bound, sizes).astype(np.float32)


def compiled_loops(units: int) -> tuple[Sample, Sample]:
    """Steps in a function that Numba compiles: a loop by hand with fastmath, and `jit.step`."""
    import numba

    import fastrnn.jit

    U, W, b = drawn(units, units), drawn(units, units), drawn(units)
    rnn, x, steps = fastrnn.RNN(U, W, b), drawn(units, bound=1), 100
    net, out = rnn.jit(), np.empty(units, np.float32)

    @numba.njit(fastmath=True)
    def by_hand(U, W, b, x, h, steps):  # type: ignore[no-untyped-def]
        new = np.empty_like(h)
        for _ in range(steps):
            for i in range(len(h)):
                z = b[i]
                for k in range(len(x)):
                    z += U[i, k] * x[k]
                for k in range(len(h)):
                    z += W[i, k] * h[k]
                new[i] = np.tanh(z)
            h[:] = new
        return h

    @numba.njit
    def by_net(net, x, h, out, steps):  # type: ignore[no-untyped-def]
        for _ in range(steps):
            fastrnn.jit.step(net, x, h, out)
        return h

    def first() -> np.ndarray:
        return by_hand(U, W, b, x, np.zeros(units, np.float32), steps)

    def second() -> np.ndarray:
        return by_net(net, x, np.zeros(units, np.float32), out, steps)

    np.testing.assert_allclose(first(), second(), atol=1e-5)
    return timed(first, CALLS // 20 + 1), timed(second, CALLS // 20 + 1)


def streams_and_bank(rows: int) -> tuple[Sample, Sample]:
    """A step of many states of an LSTM: a stream for each, and a bank."""
    lstm, x = fastrnn.LSTM(drawn(512, 32), drawn(512, 128)), drawn(rows, 32, bound=1)
    streams, bank = [lstm.stream() for _ in range(rows)], lstm.streams(rows)
    for _ in range(rows):
        bank.add()
    np.testing.assert_array_equal([stream.step(x_t) for stream, x_t in zip(streams, x, strict=True)], bank.step(x))
    return timed(lambda: [stream.step(x_t) for stream, x_t in zip(streams, x, strict=True)], 3), timed(lambda: bank.step(x), 3)


async def serve(bank: fastrnn.Bank, arrived: list) -> None:
    while True:
        await asyncio.sleep(0)
        now, arrived[:] = arrived[:], []
        if now:
            for (_, _, answer), y in zip(now, bank.step(np.array([x for _, x, _ in now]), at=[row for row, _, _ in now]), strict=True):
                answer.set_result(y)


def thousand_clients() -> tuple[Sample, Sample]:
    """A step of each of 1,000 clients of asyncio's: a thread for each step, and one bank that steps what has arrived."""
    model, x = fastrnn.Sequential(fastrnn.RNN(drawn(64, 32), drawn(64, 64)), fastrnn.Dense(drawn(10, 64))), drawn(1000, 32, bound=1)
    streams = [model.stream() for _ in x]
    bank = model.streams(len(x))
    rows = [bank.add() for _ in x]

    async def by_threads() -> list:
        return await asyncio.gather(*[asyncio.to_thread(stream.step, x_t) for stream, x_t in zip(streams, x, strict=True)])

    async def by_bank() -> list:
        arrived: list = []
        server = asyncio.create_task(serve(bank, arrived))

        async def ask(row: int, x_t: np.ndarray) -> np.ndarray:
            answer = asyncio.get_running_loop().create_future()
            arrived.append((row, x_t, answer))
            return await answer

        answers = await asyncio.gather(*[ask(row, x_t) for row, x_t in zip(rows, x, strict=True)])
        server.cancel()
        return answers

    np.testing.assert_array_equal(asyncio.run(by_threads()), asyncio.run(by_bank()))
    return timed(lambda: asyncio.run(by_threads()), 1), timed(lambda: asyncio.run(by_bank()), 1)


def without_and_with_progress(call: Callable[..., object]) -> tuple[Sample, Sample]:
    """A call of more than 0.1 s, without a bar and with one."""

    def shown() -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            call(progress=True)

    return timed(call, 1), timed(shown, 1)


def layer_and_progress() -> tuple[Sample, Sample]:
    gru, x = fastrnn.GRU(drawn(768, 64), drawn(768, 256)), drawn(30_000, 64, bound=1)
    return without_and_with_progress(lambda **options: gru(x, **options))


def dask_and_progress() -> tuple[Sample, Sample]:
    """The same by Dask's threads, from the making of the graph on."""
    import dask.array as da

    import fastrnn.dask

    gru, x = fastrnn.GRU(drawn(768, 64), drawn(768, 256)), da.from_array(drawn(30_000, 64, bound=1), (1000, 64))
    return without_and_with_progress(lambda **options: fastrnn.dask.forward(gru, x, **options)[0].compute())


def two_layers_and_bidirectional() -> tuple[Sample, Sample]:
    """Both directions: two layers and a reversed copy, and `Bidirectional`."""
    one, other = fastrnn.GRU(drawn(384, 64), drawn(384, 128)), fastrnn.GRU(drawn(384, 64, bound=0.05), drawn(384, 128))
    both, x = fastrnn.Bidirectional(one, other), drawn(500, 64, bound=1)

    def by_hand() -> np.ndarray:
        return np.concatenate([one(x)[0], other(x[::-1])[0][::-1]], axis=-1)

    np.testing.assert_array_equal(by_hand(), both(x)[0])
    return timed(by_hand, 3), timed(lambda: both(x), 3)


def reservoirs() -> tuple[Sample, Sample]:
    """All states of a batch of sequences: reservoirpy's reservoir, whose weights are the same, and the transformer.

    reservoirpy may have dense or sparse weights, and run in one process or several: the fastest of the four is timed.
    """
    import scipy.sparse
    from reservoirpy.nodes import Reservoir

    import fastrnn.sklearn

    X = np.random.default_rng(0).uniform(-1, 1, (50, 200, 4))
    transformer = fastrnn.sklearn.Reservoir(500, leak=0.3, bias_scaling=0.5, output="all", random_state=0).fit(X)
    layer, ways = transformer.layer_, []
    for weight_hh in (layer.weight_hh, scipy.sparse.csr_array(layer.weight_hh)):
        node = Reservoir(lr=layer.leak, Win=layer.weight_ih, W=weight_hh, bias=layer.bias)
        node.initialize(X)

        def run(workers: int, node: Reservoir = node) -> np.ndarray:
            node.state = {"out": np.zeros(layer.hidden_size)}
            return node.run(X, workers=workers)

        ways += [timed(lambda workers=workers, run=run: run(workers), 1) for workers in sorted({1, processors()})]
        np.testing.assert_allclose(transformer.transform(X), run(1), atol=1e-12)
    return min(ways, key=lambda way: min(way(), way())), timed(lambda: transformer.transform(X), 3)


PAIRS = (
    *(
        Pair(f"notebook's shape, {dtype}", ("model(x)", "rnn_forward(x, U, W, V, b)"), lambda dtype=dtype: rnn_forward_and_model(dtype))
        for dtype in DTYPES
    ),
    *(
        Pair(
            f"NumPy's product of two {SIDE:,} x {SIDE:,} float64 matrices, after fastrnn's {kind}",
            ("after one thread", "after all threads"),
            lambda shape=shape: products_after(shape),
        )
        for kind, shape in (("batch", BATCH), ("single sequence", SEQUENCE))
    ),
    *(
        Pair(
            f"100 steps of {units} units inside a function that Numba compiles",
            ("a fastmath loop", "jit.step"),
            lambda units=units: compiled_loops(units),
        )
        for units in (64, 128)
    ),
    Pair("a step of 256 states, LSTM of 128 units", ("a stream for each", "a bank"), lambda: streams_and_bank(256)),
    Pair("a step of each of 1,000 asyncio clients, 64 units", ("asyncio.to_thread", "a bank"), thousand_clients),
    Pair("GRU of 256 units, 30,000 steps", ("without progress", "progress=True"), layer_and_progress),
    Pair("the same in 30 chunks by dask.forward", ("without progress", "progress=True"), dask_and_progress),
    Pair("both directions: GRU of 128 units, 500 steps", ("two layers, reversed by hand", "Bidirectional"), two_layers_and_bidirectional),
    Pair("all states of a reservoir of 500 units: 50 sequences, 200 steps", ("reservoirpy", "sklearn.Reservoir.transform"), reservoirs),
)


def measure_pairs(rounds: int = ROUNDS) -> list[Results]:
    """Measure every pair: the median seconds of the first and of the second measurement."""
    measured = []
    with tqdm(total=len(PAIRS) * rounds, disable=None) as progress:
        for pair in PAIRS:
            progress.set_postfix_str(pair.name)
            samples, seconds = pair.prepare(), ([], [])
            for turn in range(rounds):
                for i in (turn % 2, 1 - turn % 2):
                    settle()
                    seconds[i].append(samples[i]())
                progress.update()
            medians = [rounded(statistics.median(taken)) for taken in seconds]
            measured.append({"name": pair.name, "first": pair.names[0], "second": pair.names[1], "seconds": medians})
    return measured
