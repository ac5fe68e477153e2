"""NumPy as experts write it: projections hoisted out of the loop, arrays allocated before, ragged batches packed."""

from collections.abc import Iterator

import numpy as np

from bench.rivals import Way
from bench.rivals.loops import Loop
from bench.rows import Task


class Hoisted(Loop):
    cells = ("RNN",)

    def ways(self, task: Task, threads: int) -> Iterator[Way]:
        yield from step_ways(task) if task.single else sequence_ways(task)


def sequence_ways(task: Task) -> Iterator[Way]:
    """Pack the batch: step after step, the rows of the sequences that still run, the longest sequence first."""
    x = task.x[None] if task.x.ndim == (1 if task.tokens else 2) else task.x
    h0 = task.h0.reshape(len(x), -1)
    lengths = np.full(len(x), x.shape[1]) if task.lengths is None else task.lengths
    order = np.argsort(-lengths, kind="stable")
    runs = np.arange(x.shape[1])[:, None] < lengths[order]
    ends = runs.sum(axis=1).cumsum()
    packed = np.ascontiguousarray(x[order].swapaxes(0, 1)[runs])
    UT, b, VT = task.U.T.copy(), task.b, None if task.V is None else task.V.T.copy()
    states = np.empty((len(packed), len(b)), task.W.dtype)
    product = np.empty_like(h0)
    scores = None if VT is None else np.empty((len(packed), VT.shape[1]), states.dtype)
    steps = [(product[: len(s)], s) for s in np.split(states, ends[:-1]) if len(s)]
    if len(x) == 1:
        steps = [(p[0], s[0]) for p, s in steps]
    first = h0[order] if len(x) > 1 else h0[0]

    def forward(WT: np.ndarray) -> np.ndarray:
        if task.tokens:
            np.take(UT, packed, axis=0, out=states, mode="clip")
        else:
            np.dot(packed, UT, out=states)
        np.add(states, b, out=states)
        h = first
        for p, s in steps:
            np.dot(h[: len(p)], WT, out=p)
            np.add(s, p, out=s)
            np.tanh(s, out=s)
            h = s
        if VT is None:
            return states
        np.dot(states, VT, out=scores)
        np.subtract(scores, scores.max(axis=-1, keepdims=True), out=scores)
        np.exp(scores, out=scores)
        return np.divide(scores, scores.sum(axis=-1, keepdims=True), out=scores)

    def read(result: np.ndarray) -> np.ndarray:
        output = np.zeros((*runs.shape, result.shape[1]), result.dtype)
        output[runs] = result
        return output.swapaxes(0, 1)[np.argsort(order)]

    for layout in "CF":
        WT = np.asarray(task.W.T, order=layout)
        yield Way(f"hoisted, transposed weights in {layout} order", lambda WT=WT: forward(WT), read)


def step_ways(task: Task) -> Iterator[Way]:
    inputs = len(task.x)
    UW, xh, z = np.concatenate([task.U, task.W], axis=1), np.concatenate([task.x, task.h0]), np.empty_like(task.h0)
    x, h = xh[:inputs], xh[inputs:]

    def joined() -> np.ndarray:
        x[...] = task.x
        np.dot(UW, xh, out=z)
        np.add(z, task.b, out=z)
        return np.tanh(z, out=h)

    yield from Loop().ways(task, 1)
    yield Way("one product with [U W]", joined, np.array)


library = Hoisted()
