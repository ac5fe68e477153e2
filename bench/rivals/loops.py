"""The notebook's loop, as fastrnn/functional.py shows it."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import threadpoolctl

from bench.cases import DTYPES
from bench.rivals import Library, Way, time_major
from bench.rivals.cells import make_step
from bench.rows import Task

BLAS = threadpoolctl.ThreadpoolController().select(user_api="blas")


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z)
    return powers / powers.sum()


def one(task: Task) -> list[np.ndarray]:
    state_t, outputs = task.h0, []
    for x_t in task.x:
        state_t = np.tanh((task.U[:, x_t] if task.tokens else task.U @ x_t) + task.W @ state_t + task.b)
        outputs.append(state_t if task.V is None else softmax(task.V @ state_t))
    return outputs


def batch(task: Task) -> list[np.ndarray]:
    """Run the loop over a batch, all sequences at once."""
    state_t, outputs = task.h0, []
    for t in range(task.x.shape[1]):
        state_t = np.tanh(task.x[:, t] @ task.U.T + state_t @ task.W.T + task.b)
        outputs.append(state_t if task.lengths is None else np.where(t < task.lengths[:, None], state_t, 0))
    return outputs


def cell_ways(task: Task) -> Iterator[Way]:
    step_of_cell, state = make_step(task), task.states

    def step() -> np.ndarray:
        nonlocal state
        state = step_of_cell(task.x, *state)
        return state[0]

    def loop() -> list[np.ndarray]:
        after, outputs = task.states, []
        for t in range(task.x.shape[-2]):
            after = step_of_cell(task.x[..., t, :], *after)
            outputs.append(after[0])
        return outputs

    yield Way("one step", step, np.array) if task.single else Way("loop", loop, time_major)


def directions(task: Task) -> np.ndarray:
    outputs = []
    for U, W, b, x in zip(task.U, task.W, task.b, (task.x, task.x[..., ::-1, :]), strict=True):
        one = dataclasses.replace(task, x=x, U=U, W=W, b=b, c0=task.h0, cell="LSTM")
        (way,) = cell_ways(one)
        outputs.append(way.read(way.call()))
    return np.concatenate([outputs[0], outputs[1][..., ::-1, :]], axis=-1)


class Loop(Library):
    dtypes = DTYPES
    cells = ("RNN", "GRU", "LSTM", "BiLSTM", "leaky")

    def running(self, threads: int, dtype: str) -> contextlib.AbstractContextManager[Any]:
        return BLAS.limit(limits=threads)

    def ways(self, task: Task, threads: int) -> Iterator[Way]:
        if task.cell == "BiLSTM":
            yield Way("loop of each direction", functools.partial(directions, task), np.array)
            return
        if task.cell != "RNN":
            yield from cell_ways(task)
            return
        state_t = task.h0

        def step() -> np.ndarray:
            nonlocal state_t
            state_t = np.tanh(task.U @ task.x + task.W @ state_t + task.b)
            return state_t

        if task.single:
            yield Way("one step", step, np.array)
        else:
            loop = one if task.x.ndim < 3 else batch
            yield Way("loop", lambda: loop(task), time_major)


library = Loop()
