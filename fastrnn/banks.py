"""A bank: the states of many sequences, each fed when its input comes, by one model. Examples are in streaming.py."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import native
from .arguments import (
    Array,
    State,
    check_at,
    check_capacity,
    check_causal,
    check_count,
    check_out,
    check_reset,
    check_row,
    check_row_left,
    check_step,
    convert,
    refuse_row,
)
from .calls import start_states, views_of
from .forward import Prepared, Task, prepare, run_network, run_prepared
from .kernels.layout import BANK, FREE, HANDED, HEAD_BYTES, JOB, TOGETHER
from .packing import INT64, empty_aligned
from .streaming import fits

if TYPE_CHECKING:
    from .layers import Model

MOST_AT_ONCE = 1024  # rows of one kernel call; more take so long that planning doesn't count
MOST_COUNTS = 64  # of rows, for which kernel calls are kept ready
WRONG = JOB.words + BANK.offsets["wrong"]


class Ready(NamedTuple):
    """A kernel call that steps so many rows."""

    prepared: Prepared
    rows: Array  # which rows: the plans have its address
    states: Array  # where they are stepped
    never: Array  # for no reset at all
    vectors: tuple[int, ...] | None  # the shape of x, where it holds no tokens
    output: tuple[int, ...]


class Bank:
    """Keep the states of many sequences, and step any of them together, with the bits of a stream for each.

    Made by the method `streams` of a layer or a model. A step costs what its rows cost, whatever the capacity is. A bank belongs to
    one thread at a time: two that use it together mix up its states.

    Parameters
    ----------
    model : layer or Sequential
    capacity : int
        How many rows there are.
    state0 : as the model takes a state of one sequence, optional
        The state that a row starts from when it is handed out, or reset; zeros where not given. Copied.

    Attributes
    ----------
    capacity : int
    rows : ndarray of int
        The rows that are handed out, in ascending order; a copy.
    state : ndarray or tuple of ndarray of shape (capacity, hidden_size)
        The states of all rows, as the model returns them; a copy, and copied when set. Rows that aren't handed out are at state0,
        and stay there; None, whole or as an entry, sets all rows to state0's.

    Raises
    ------
    ValueError
        For a capacity below 1, and a state0 of another shape.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> bank = fastrnn.RNN(np.eye(2), 0.5 * np.eye(2), nonlinearity="identity").streams(8)
    >>> one, other = bank.add(), bank.add()
    >>> bank.step([[1.0, 2.0]], at=[other])
    array([[1., 2.]])
    >>> bank.step([[4.0, 4.0], [0.0, 0.0]])
    array([[4. , 4. ],
           [0.5, 1. ]])
    """

    def __init__(self, model: Model, capacity: int, state0: State = None) -> None:
        check_causal("a bank", model._causal, model)
        self._model, self._network, self._capacity = model, model._packed(), check_capacity(capacity)
        network, self._dtype = self._network, self._network.dtype
        self._start, self._first, _ = start_states(network, model._split("state0", state0), (), given="a row", shape=())
        # Pages of zeros that no row has touched take no memory.
        self._flat = np.zeros(self._capacity * sum(network.states), network.dtype)
        self._views = views_of(network.states, self._flat, (self._capacity,))
        self._handed = np.zeros(self._capacity, np.int64)  # FREE or HANDED, of each row
        self._free: list[int] = []  # a heap of rows below _next; after an interrupt, of rows that are handed out, too
        self._next = 0  # from here on no row has ever been handed out
        self._rows: Array | None = None  # all that are handed out, as long as that is so
        self._ready: dict[int, Ready] = {}
        self._together = min(network.rows, 2 * TOGETHER)
        self._space = empty_aligned(HEAD_BYTES + 2 * self._together * network.widest * network.dtype.itemsize, np.uint8)

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def rows(self) -> Array:
        return self._all_rows().copy()

    @property
    def state(self) -> Any:
        views, free = [view.copy() for view in self._views], self._handed == FREE
        for view, first in zip(views, self._first, strict=True):
            view[free] = first
        return self._model._joined(iter(views))

    @state.setter
    def state(self, value: Any) -> None:
        named, leading = self._model._named(value), (self._capacity,)
        flat, views, _ = start_states(self._network, named, leading, given="a bank", shape=leading)
        for (_, entry), view, first in zip(named, views, self._first, strict=True):
            if entry is None:
                view[...] = first
        self._flat[...] = flat

    def __reduce__(self) -> tuple[Any, ...]:
        rows = self.rows
        state0 = self._model._joined(iter(self._first))
        return Bank, (self._model, self._capacity, state0), (rows, [view[rows] for view in self._views])

    def __setstate__(self, kept: tuple[Array, list[Array]]) -> None:
        rows, states = kept
        for view, values in zip(self._views, states, strict=True):
            view[rows] = values
        self._handed[rows] = HANDED
        self._next = int(rows[-1]) + 1 if len(rows) else 0
        self._free = np.flatnonzero(self._handed[: self._next] == FREE).tolist()

    def add(self) -> int:
        """Hand out the lowest row that is free; it starts from state0.

        Returns
        -------
        int

        Raises
        ------
        IndexError
            Where all rows are handed out.
        """
        free = self._free
        while free and self._handed[free[0]] == HANDED:
            heapq.heappop(free)
        if not free:
            check_row_left(self._next, self._capacity)
            heapq.heappush(free, self._next)
        row = free[0]
        self._next, self._rows = max(self._next, row + 1), None
        for view, first in zip(self._views, self._first, strict=True):
            view[row] = first
        self._handed[row] = HANDED  # the one act that counts: before it, and after it, Ctrl-C leaves a sound bank
        heapq.heappop(free)
        return row

    def drop(self, i: int) -> None:
        """Take a row back; it may be handed out again.

        Parameters
        ----------
        i : int

        Raises
        ------
        ValueError
            For a row that isn't handed out.
        """
        row = check_row(i, self._handed)
        self._rows = None
        heapq.heappush(self._free, row)
        self._handed[row] = FREE

    def step(self, x: ArrayLike, *, at: ArrayLike | None = None, reset: ArrayLike | None = None, out: Array | None = None) -> Array:
        """Advance some rows by one time step.

        Parameters
        ----------
        x : array_like of shape (n, input_size), with an Embedding of integers of shape (n,)
            A vector, or a token, for each row in `at`.
        at : array_like of int of shape (n,), optional
            The rows, in any order, each once; all that are handed out, in ascending order, where not given.
        reset : array_like of bool of shape (n,), optional
            Which of them start from state0 before this step.
        out : ndarray of shape (n, output_size), optional
            Receives the output: C-contiguous, of the model's dtype, sharing no memory with x or reset.

        Returns
        -------
        ndarray of shape (n, output_size)
            In the order of `at`.

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape, rows that aren't handed out or come twice, and tokens out of range.
        """
        quick = type(at) is np.ndarray and at.dtype is INT64 and at.ndim == 1
        rows: Any = self._all_rows() if at is None else at if quick else check_at(at)
        count, dtype = len(rows), self._dtype
        ready = self._ready.get(count)
        if ready is None or ready.prepared.is_stale:
            ready = self._prepare(count)
        if ready is None:
            return self._step_many(x, rows, reset, out)
        if not (type(x) is np.ndarray and x.shape == ready.vectors and x.dtype == dtype and x.flags.carray):
            x = convert(self._checked(x, count), self._network.x_dtype)
        again = ready.never if reset is None else check_reset(reset, (count,)).astype(np.int64)
        if out is None:
            output = np.empty(ready.output, dtype)
        else:
            output = out if fits(out, ready.output, dtype, (x, reset)) else self._check_out(out, ready.output, x, reset)
        ready.rows[...] = rows
        plan = run_prepared(ready.prepared, self._space, x, output, ready.states, again)
        if plan[WRONG] >= 0:
            refuse_row(rows, int(plan[WRONG]))
        return output

    def _all_rows(self) -> Array:
        if self._rows is None:
            self._rows = np.flatnonzero(self._handed[: self._next] == HANDED)
        return self._rows

    def _checked(self, x: ArrayLike, count: int) -> Array:
        """Check x, and give it as sequences of one step."""
        data = check_step("x", x, self._network.input_size, tokens=self._network.tokens)
        check_count(data.shape[:-2], count)
        return data

    def _check_out(self, out: Array, shape: tuple[int, ...], x: Array, reset: ArrayLike | None) -> Array:
        inputs = [("x", x)] if reset is None else [("x", x), ("reset", np.asarray(reset))]
        return check_out(out, shape, self._dtype, inputs)

    def _prepare(self, count: int) -> Ready | None:
        """Prepare the kernel call for so many rows, and keep it for the next such step; None where one call won't do."""
        network = self._network
        shape = count, 1, network.inputs
        prepared = prepare(network, shape, self._together, "step_rows") if count <= MOST_AT_ONCE else None
        if prepared is None:
            return None
        rows = np.empty(count, np.int64)
        helped = None if prepared.helped is None else self._plan(prepared.helped, rows)
        ready = Ready(
            prepared=prepared._replace(alone=self._plan(prepared.alone, rows), helped=helped),
            rows=rows,
            states=np.empty(count * sum(network.states), network.dtype),
            never=np.zeros(count, np.int64),
            vectors=None if network.tokens else (count, network.input_size),
            output=(count, network.output_size),
        )
        if len(self._ready) >= MOST_COUNTS:
            self._ready.clear()
        self._ready[count] = ready
        return ready

    def _plan(self, job: Array, rows: Array) -> Array:
        """Add to a job what it is to know of the bank."""
        bank = BANK.filled(
            states=native.address_of(self._flat),
            capacity=self._capacity,
            handed=native.address_of(self._handed),
            start=native.address_of(self._start),
            rows=native.address_of(rows),
        )
        return np.concatenate([job, bank])

    def _step_many(self, x: ArrayLike, rows: Array, reset: ArrayLike | None, out: Array | None) -> Array:
        """Advance a copy of the rows' states, in bounded pieces: a call that is interrupted leaves the bank as it was."""
        network, count = self._network, len(rows)
        data, shape = self._checked(x, count), (count, network.output_size)
        again = np.zeros(count, np.int64) if reset is None else check_reset(reset, (count,)).astype(np.int64)
        output = np.empty(shape, network.dtype) if out is None else self._check_out(out, shape, data, reset)
        copied, states = rows.astype(np.int64), np.empty(count * sum(network.states), network.dtype)
        take, put = (self._plan(network.job(function=native.address(name), count=count), copied) for name in ("take_rows", "put_rows"))
        native.kept.call(take, states, again)
        if take[WRONG] >= 0:
            refuse_row(rows, int(take[WRONG]))
        run_network(network, Task(data, states, output[:, np.newaxis, :]))
        native.kept.call(put, states, again)
        return output
