"""fastrnn: arrays in, arrays out, new ones or those given."""

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

    @contextlib.contextmanager
    def running(self, threads: int, dtype: str) -> Iterator[None]:
        before = fastrnn.get_num_threads()
        fastrnn.set_num_threads(threads)
        try:
            yield
        finally:
            fastrnn.set_num_threads(before)

    def ways(self, task: Task, threads: int) -> Iterator[Way]:
        rnn = fastrnn.RNN(task.U, task.W, task.b)
        model = rnn if task.V is None else fastrnn.Sequential(rnn, fastrnn.Dense(task.V, activation="softmax"))
        if task.streamed:
            stream = rnn.stream(task.h0)
            yield Way("stream.step(x_t)", functools.partial(stream.step, task.x), np.array)
            return
        out = np.empty(task.expected.shape, task.W.dtype)
        if task.lengths is not None:
            yield Way("rnn(x, h0, lengths=lengths)", lambda: model(task.x, task.h0, lengths=task.lengths)[0], np.array)
            yield Way("rnn(x, h0, lengths=lengths, out=out)", lambda: model(task.x, task.h0, lengths=task.lengths, out=out)[0], np.array)
        else:
            yield Way("model(x, h0)", lambda: model(task.x, task.h0)[0], np.array)
            yield Way("model(x, h0, out=out)", lambda: model(task.x, task.h0, out=out)[0], np.array)


library = FastRNN()
