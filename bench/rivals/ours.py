"""fastrnn: NumPy arrays in, NumPy arrays out, into a new array or into `out`."""

import contextlib
import functools
from collections.abc import Iterator

import numpy as np

import fastrnn
from bench.cases import DTYPES
from bench.rivals import Library, Way
from bench.rows import Task


class FastRNN(Library):
    dtypes = DTYPES
    cells = ("RNN", "GRU", "LSTM", "BiLSTM", "leaky")

    @contextlib.contextmanager
    def running(self, threads: int, dtype: str) -> Iterator[None]:
        before = fastrnn.get_num_threads()
        fastrnn.set_num_threads(threads)
        try:
            yield
        finally:
            fastrnn.set_num_threads(before)

    def ways(self, task: Task, threads: int) -> Iterator[Way]:
        rnn, h0 = task.layer(fastrnn), task.h0 if task.c0 is None else task.states
        first = [fastrnn.Embedding.one_hot(task.U.shape[1])] if task.tokens else []
        model = rnn if task.V is None else fastrnn.Sequential(*first, rnn, fastrnn.Dense(task.V, activation="softmax"))
        if task.cell == "BiLSTM":
            out = np.empty(task.expected.shape, task.W.dtype)
            yield Way("model(x)", lambda: model(task.x)[0], np.array)
            yield Way("model(x, out=out)", lambda: model(task.x, out=out)[0], np.array)
            return
        if task.single:
            if task.x.ndim == 2:
                yield step_of_bank(rnn, task)
            yield step_in_stream(rnn, task) if task.stream else step_by_call(rnn, task)
            return
        out = np.empty(task.expected.shape, task.W.dtype)
        if task.lengths is not None:
            yield Way("rnn(x, h0, lengths=lengths)", lambda: model(task.x, h0, lengths=task.lengths)[0], np.array)
            yield Way("rnn(x, h0, lengths=lengths, out=out)", lambda: model(task.x, h0, lengths=task.lengths, out=out)[0], np.array)
        else:
            yield Way("model(x, h0)", lambda: model(task.x, h0)[0], np.array)
            yield Way("model(x, h0, out=out)", lambda: model(task.x, h0, out=out)[0], np.array)


def step_in_stream(rnn: fastrnn.RNN | fastrnn.LSTM, task: Task) -> Way:
    return Way("stream.step(x_t)", functools.partial(rnn.stream(task.h0 if task.c0 is None else task.states).step, task.x), np.array)


def step_of_bank(rnn: fastrnn.LSTM, task: Task) -> Way:
    bank = rnn.streams(len(task.x))
    for _ in task.x:
        bank.add()
    bank.state = task.states
    return Way("bank.step(x)", functools.partial(bank.step, task.x), np.array)


def step_by_call(rnn: fastrnn.RNN, task: Task) -> Way:
    x, h = task.x[None], task.h0

    def step() -> np.ndarray:
        nonlocal h
        _, h = rnn(x, h)
        return h

    return Way("rnn(x, h)", step, np.array)


library = FastRNN()
