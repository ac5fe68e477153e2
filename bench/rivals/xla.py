"""JAX: the input's projection, a scan and the head in one jit. Dispatch in the calling thread halves the time of short calls."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.cases import DTYPES
from bench.rivals import Library, Way, time_major
from bench.rivals.cells import make_step
from bench.rows import Task

jax.config.update("jax_cpu_enable_async_dispatch", False)


class JAX(Library):
    dtypes = DTYPES
    environment = ("NPROC", "1")  # XLA reads it once, when a process first computes

    def running(self, threads: int, dtype: str) -> contextlib.AbstractContextManager[Any]:
        return jax.enable_x64(dtype == "float64")

    def ways(self, task: Task, threads: int) -> Iterator[Way]:
        if task.cell != "RNN":
            yield from cell_ways(task)
        else:
            yield from step_ways(task) if task.single else sequence_ways(task)


def sequence_ways(task: Task) -> Iterator[Way]:
    weights = tuple(None if a is None else jnp.asarray(a) for a in (task.U, task.W, task.V, task.b))
    transposed = tuple(a if a is None or a.ndim < 2 else a.T.copy() for a in weights)
    x = jnp.asarray(task.x if task.x.ndim < 3 else task.x.swapaxes(0, 1).copy())
    h0 = jnp.asarray(task.h0)
    runs = None if task.lengths is None else jnp.asarray((np.arange(len(x))[:, None] < task.lengths)[..., None])

    def forward(x, h0, UT, WT, VT, b, unroll=1, hoist=True):
        def project(x):
            return (UT[x] if task.tokens else x @ UT) + b

        def step(h, given):
            x_t, runs_t = given
            h = jnp.tanh((x_t if hoist else project(x_t)) + h @ WT)
            return h, h if runs_t is None else jnp.where(runs_t, h, 0)

        _, states = lax.scan(step, h0, (project(x) if hoist else x, runs), unroll=unroll)
        return states if VT is None else jax.nn.softmax(states @ VT)

    def as_given(x, h0, U, W, V, b, **options):
        return forward(x, h0, U.T, W.T, None if V is None else V.T, b, **options)

    # the fastest way differs from size to size
    ways = {
        "scan": jax.jit(lambda x, h0: as_given(x, h0, *weights)),
        "scan, unroll=8": jax.jit(lambda x, h0: as_given(x, h0, *weights, unroll=8)),
        "scan, projection inside": jax.jit(lambda x, h0: as_given(x, h0, *weights, hoist=False)),
        "scan, transposed weights": jax.jit(lambda x, h0: forward(x, h0, *transposed)),
        "scan, weights as arguments": functools.partial(jax.jit(as_given), U=weights[0], W=weights[1], V=weights[2], b=weights[3]),
    }
    for name, compiled in ways.items():
        yield Way(name, lambda compiled=compiled: compiled(x, h0).block_until_ready(), time_major)


def step_ways(task: Task) -> Iterator[Way]:
    U, W, b, x_t, h = (jnp.asarray(array) for array in (task.U, task.W, task.b, task.x, task.h0))
    compiled = jax.jit(lambda x_t, h: jnp.tanh(U @ x_t + W @ h + b))

    def step():
        nonlocal h
        h = compiled(x_t, h).block_until_ready()
        return h

    yield Way("jit", step, np.array)


def cell_ways(task: Task) -> Iterator[Way]:
    step, state = make_step(task, jnp), tuple(jnp.asarray(array) for array in task.states)
    x = jnp.asarray(task.x if task.x.ndim < 3 else task.x.swapaxes(0, 1).copy())
    compiled = jax.jit(step)

    def run_step():
        nonlocal state
        state = compiled(x, *state)
        return state[0].block_until_ready()

    def forward(x, state, unroll):
        def scanned(state, x_t):
            after = step(x_t, *state)
            return after, after[0]

        return lax.scan(scanned, state, x, unroll=unroll)[1]

    if task.single:
        yield Way("jit", run_step, np.array)
        return
    for name, unroll in {"scan": 1, "scan, unroll=8": 8}.items():
        scan = jax.jit(functools.partial(forward, unroll=unroll))
        yield Way(name, lambda scan=scan, first=state: scan(x, first).block_until_ready(), time_major)


library = JAX()
