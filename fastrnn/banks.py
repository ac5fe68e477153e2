"""A bank: many sequences of one model, each with its own state, stepped when its input comes. Examples are in streaming.py."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from .arguments import Array, State, as_array, as_integer, check_causal, check_out, check_reset, check_row, check_step, convert
from .engine.execute import Task, run_network
from .engine.packing import INT64, Network, empty_aligned, read_only
from .engine.prepared import NOTHING, PreparedCall, prepare
from .engine.recent import Recent
from .engine.states import Stateful, start_states, views_of
from .frozen import Frozen
from .kernels.layout import BANK, CHANGE, FREE, HANDED, HEAD_BYTES, MOST_WRITTEN, ROW_STATE, TOGETHER, WRITTEN
from .native import machine_code
from .streaming import check_successor

MOST_AT_ONCE = 1024  # rows in one kernel call; more take so long that planning costs little beside them
MOST_COUNTS = 64  # prepared kernel calls, one for each number of rows


class Engine(NamedTuple):
    """A bank's model, and what its kernel calls need. It is one object, which `swap` replaces whole: no thread sees parts of two."""

    model: Stateful
    network: Network
    together: int  # rows of a layer in the workspace
    space: Array
    steps: Recent  # prepared kernel calls, by the number of rows


class Step(NamedTuple):
    """A prepared kernel call that steps a given number of rows."""

    prepared: PreparedCall
    serial: Callable[..., Any]  # takes x, the rows, out, a word for each row that is not 0 to reset it, and a team's words
    shared: Callable[..., Any]  # the same with workers
    never: Array  # the words that reset no row
    shape: tuple[int, ...]  # of x
    output: tuple[int, ...]


def engine_of(model: Stateful) -> Engine:
    network = model.packed()
    together = min(network.rows, 2 * TOGETHER)
    space = empty_aligned(HEAD_BYTES + 2 * together * network.widest * network.dtype.itemsize, np.uint8)
    return Engine(model, network, together, space, Recent(MOST_COUNTS))


def as_given(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return a copy that machine code accepts: its dtype is NumPy's usual object, which the dtype of an unpickled array is not."""
    copy = convert(array, dtype)
    return copy if copy.dtype is dtype else copy.view(dtype)


class Bank(Frozen):
    """Keep the states of many sequences, and step any of them together, with the bits of a stream for each.

    Made by the method `streams` of a layer or a model. A step costs what its rows cost, whatever the capacity is. A bank that two threads
    use at the same time may raise a RuntimeError in one of them, and its states stay sound. A signal's handler may step other rows than the
    call that it interrupts. Where a step takes several kernel calls, as of more than 1,024 rows, the error may come after its work.

    Parameters
    ----------
    model : layer or Sequential
    capacity : int
        How many rows there are.
    state0 : as the model takes a state of one sequence, optional
        The state that a row starts from when it is handed out, or reset; zeros where not given. Copied.

    Attributes
    ----------
    model : layer or Sequential
        Read only; `swap` changes it.
    capacity : int
    rows : ndarray of int
        The rows that are handed out, in ascending order; a read-only copy.
    state : ndarray or tuple of ndarray of shape (capacity, hidden_size)
        The states of all rows, as the model returns them; a read-only copy, and copied when set. Rows that aren't handed out are at state0,
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

    _remedy = "swap takes another model, state= other states"
    _engine: Engine
    _capacity: int
    _start: Array  # state0's arrays, one after the other
    _first: tuple[Array, ...]  # views of these arrays
    _flat: Array  # the arrays of the layers' states, `capacity` rows each
    _words: Array  # a word for each row (see layout.py); then the count of changes, of rows handed out or taken back
    _changes: memoryview  # the count of changes
    _free: list[int]  # a heap of free rows below _next; after an interrupt, it may also hold rows that are handed out
    _next: int  # this row and those above have never been handed out
    _known: tuple[int, Array]  # a count of changes, and the rows that were handed out then
    _in_use: Array  # the lock of kernel calls, and of other access to states
    _changing: Array  # the lock of add, drop and swap
    _hold: Callable[..., Any]

    def __init__(self, model: Stateful, capacity: int, state0: State = None) -> None:
        check_causal("a bank", model.causal, model)
        machine_code.addresses(["advance_rows", "hold"], "")
        capacity, engine = check_capacity(capacity), engine_of(model)
        network = engine.network
        start, first, _ = start_states(network, model.state_form.split("state0", state0), (), given="a row", shape=())
        self._set(_engine=engine, _capacity=capacity, _start=start, _first=first, _free=[], _next=0, _hold=machine_code.loaded.hold)
        # Pages of zeros take no memory until a row is written.
        self._set(_flat=np.zeros(capacity * sum(network.states), network.dtype), _words=np.zeros(capacity + 1, np.int64))
        self._set(_changes=memoryview(self._words[-1:].data), _known=(0, np.empty(0, np.int64)))
        self._set(_in_use=np.zeros(1, np.int64), _changing=np.zeros(1, np.int64))

    @property
    def model(self) -> Stateful:
        return self._engine.model

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def rows(self) -> Array:
        return read_only(self._all_rows())

    @property
    def state(self) -> Any:
        arrays, _ = self._hold(self._in_use, self._copied)
        return self.model.state_form.join(map(read_only, arrays))

    @state.setter
    def state(self, value: Any) -> None:
        network, leading = self._engine.network, (self._capacity,)
        named = self.model.state_form.split("state", value)
        flat, views, _ = start_states(network, named, leading, given="a bank", shape=leading)
        for (_, entry), view, first in zip(named, views, self._first, strict=True):
            if entry is None:
                view[...] = first
        self._hold(self._in_use, self._set_states, flat)

    def _copied(self) -> tuple[list[Array], Array]:
        """Return copies of all states, and the rows that are handed out. The lock is held."""
        free = self._words[:-1] & ROW_STATE == FREE
        views = [view.copy() for view in views_of(self._engine.network.states, self._flat, (self._capacity,))]
        for view, first in zip(views, self._first, strict=True):
            view[free] = first
        return views, np.flatnonzero(~free)

    def _set_states(self, flat: Array) -> None:
        """Set the states of all rows. The lock is held."""
        self._flat[...] = flat
        self._words[:-1] += CHANGE

    def __reduce__(self) -> tuple[Any, ...]:
        arrays, rows = self._hold(self._in_use, self._copied)
        state0 = self.model.state_form.join(iter(self._first))
        return Bank, (self.model, self._capacity, state0), (rows, [array[rows] for array in arrays])

    def __setstate__(self, kept: tuple[Array, list[Array]]) -> None:
        rows, states = kept
        for view, values in zip(views_of(self._engine.network.states, self._flat, (self._capacity,)), states, strict=True):
            view[rows] = values
        self._words[rows] = HANDED
        self._words[-1] += 1
        end = int(rows[-1]) + 1 if len(rows) else 0
        self._set(_next=end, _free=np.flatnonzero(self._words[:end] == FREE).tolist())

    def __repr__(self) -> str:
        return f"Bank({self.model!r}, capacity={self._capacity})"

    def add(self) -> int:
        """Hand out the lowest row that is free; it starts from state0.

        Returns
        -------
        int

        Raises
        ------
        IndexError
            Where all rows are handed out.
        RuntimeError
            Where another thread uses the bank.
        """
        return self._hold(self._changing, self._add)

    def _add(self) -> int:
        free, words = self._free, self._words
        while free and words[free[0]] & ROW_STATE != FREE:
            heapq.heappop(free)
        if not free:
            check_row_left(self._next, self._capacity)
            heapq.heappush(free, self._next)
        row = free[0]
        self._set(_next=max(self._next, row + 1))
        for view, first in zip(views_of(self._engine.network.states, self._flat, (self._capacity,)), self._first, strict=True):
            self._hold(self._in_use, np.copyto, view[row], first)
        self._mark(row, HANDED)
        heapq.heappop(free)
        return row

    def _mark(self, row: int, state: int) -> None:
        """Hand a row out, or take it back. NumPy sets both words in one call, so Ctrl-C leaves a sound bank, before it or after it."""
        changes = self._changes[0] + 1
        self._hold(self._in_use, self._words.__setitem__, [row, -1], [state + WRITTEN * (changes % MOST_WRITTEN), changes])

    def drop(self, i: int) -> None:
        """Take a row back; it may be handed out again.

        A finalizer (`__del__`) may run in the middle of another `add` or `drop`, and then gets a RuntimeError: it should note the row and
        drop it later.

        Parameters
        ----------
        i : int

        Raises
        ------
        ValueError
            For a row that isn't handed out.
        RuntimeError
            Where another thread uses the bank.
        """
        self._hold(self._changing, self._drop, i)

    def _drop(self, i: int) -> None:
        row = check_row(i, self._capacity, self._words)
        heapq.heappush(self._free, row)
        try:
            self._mark(row, FREE)
        except RuntimeError:  # in use by another thread
            self._free.remove(row)
            heapq.heapify(self._free)
            raise

    def swap(self, model: Stateful) -> None:
        """Take another model from the next step on, such as new weights of the same network. States, state0 and rows stay.

        Parameters
        ----------
        model : layer or Sequential
            Of the same input_size, output_size, dtype and form of state, and of tokens or of numbers as the present one.

        Raises
        ------
        TypeError, ValueError
            For another model; then nothing has changed.
        RuntimeError
            Where another thread uses the bank.
        """
        check_successor(self.model, model)
        self._hold(self._changing, self._swap, engine_of(model))

    def _swap(self, engine: Engine) -> None:
        self._hold(self._in_use, functools.partial(self._set, _engine=engine))

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
        RuntimeError
            Where another thread uses the bank, or changes the rows in the midst of a step of several kernel calls. No state has changed
            then; out may hold outputs.
        """
        rows: Any = self._all_rows() if at is None else at if type(at) is np.ndarray and at.ndim == 1 else check_at(at)
        count, engine = len(rows), self._engine
        ready = engine.steps.get(count)
        if ready is None or ready.prepared.is_stale:
            ready = self._prepare(engine, count)
        if ready is None:
            return self._step_many(engine, x, check_at(rows), reset, out)
        reset_mask = ready.never if reset is None else check_reset(reset, (count,)).astype(np.int64)
        done = None
        if out is None or reset is None:  # else out and reset may share memory
            done = self._advance(ready, x, rows, out, reset_mask)
        if done is None:
            data = self._checked(engine.network, x, count)
            if out is not None:
                self._check_out(engine.network, out, ready.output, data, reset)
            read = as_given(data.reshape(ready.shape), engine.network.x_dtype)
            self._checked(engine.network, read, count)  # again: another thread may have changed tokens before they were copied
            target = None if out is None else np.asarray(out).view(engine.network.dtype)
            done = self._advance(ready, read, as_given(check_at(rows), INT64), target, reset_mask)
            assert done is not None
        if type(done) is int:
            refuse_row(rows, done)
        return done if out is None else out

    def _advance(self, ready: Step, x: ArrayLike, rows: Array, out: Array | None, reset_mask: Array) -> Any:
        """Make the kernel call. Return the output, the position of a wrong row, or None if the arguments need all checks."""
        team = ready.prepared.take_team() if ready.prepared.thread_count else None
        if team is None:
            return ready.serial(x, rows, out, reset_mask, NOTHING)
        try:
            return ready.shared(x, rows, out, reset_mask, team.words)
        finally:
            team.give_back()

    def _all_rows(self) -> Array:
        """Return the rows that are handed out. They are found again if the count of changes differs: a signal handler may change it."""
        changes, rows = self._known
        if changes != self._changes[0]:
            changes = self._changes[0]
            rows = np.flatnonzero(self._words[: self._next] & ROW_STATE != FREE)
            self._set(_known=(changes, rows))
        return rows

    def _checked(self, network: Network, x: ArrayLike, count: int) -> Array:
        """Check x, and return it as sequences of one step."""
        data = check_step("x", x, network.input_size, tokens=network.tokens)
        check_count(data.shape[:-2], count)
        return data

    def _check_out(self, network: Network, out: Array, shape: tuple[int, ...], x: Array, reset: ArrayLike | None) -> Array:
        inputs = [("x", x)] if reset is None else [("x", x), ("reset", np.asarray(reset))]
        return check_out(out, shape, network.dtype, inputs)

    def _prepare(self, engine: Engine, count: int) -> Step | None:
        """Prepare and store the kernel call for `count` rows. None if one kernel call is not enough."""
        network = engine.network
        if count > MOST_AT_ONCE:
            return None
        prepared = prepare(network, (count,), (), engine.together, "step_rows", self._record())
        if prepared is None:
            return None
        own = engine.space, np.empty(count * sum(network.states), network.dtype), np.empty(count + 1, np.int64)
        serial, shared = (
            functools.partial(machine_code.loaded.advance_rows, self._in_use, prepared.serial if record is None else record, *own)
            for record in (prepared.serial, prepared.shared)
        )
        step = Step(
            prepared=prepared,
            serial=serial,
            shared=shared,
            never=np.zeros(count, np.int64),
            shape=(count,) if network.tokens else (count, network.input_size),
            output=(count, network.output_size),
        )
        engine.steps.keep(count, step)
        return step

    def _record(self) -> Array:
        """Return the bank's record, which the operations on its rows read."""
        return BANK.filled(
            states=machine_code.address_of(self._flat),
            capacity=self._capacity,
            handed=machine_code.address_of(self._words),
            start=machine_code.address_of(self._start),
        )

    def _step_many(self, engine: Engine, x: ArrayLike, rows: Array, reset: ArrayLike | None, out: Array | None) -> Array:
        """Advance a copy of the rows' states, in several kernel calls: an interrupted step leaves the bank as it was.

        The bank is locked only while states are copied: other rows may be stepped meanwhile.
        """
        network, count = engine.network, len(rows)
        data, shape = self._checked(network, x, count), (count, network.output_size)
        reset_mask = np.zeros(count, np.int64) if reset is None else check_reset(reset, (count,)).astype(np.int64)
        output = np.empty(shape, network.dtype) if out is None else self._check_out(network, out, shape, data, reset)
        own, states = np.empty(2 * count + 1, np.int64), np.empty(count * sum(network.states), network.dtype)
        own[:count] = rows
        bank = self._record()
        take, put = (np.append(network.job(function=machine_code.address(name), count=count), bank) for name in ("take_rows", "put_rows"))
        self._hold(self._in_use, machine_code.loaded.call, take, states, reset_mask, own)
        if own[count] >= 0:
            refuse_row(rows, int(own[count]))
        run_network(network, Task(data, states, output[:, np.newaxis, :]))
        self._hold(self._in_use, machine_code.loaded.call, put, states, reset_mask, own)
        if own[count] >= 0:
            refuse_changed_row(own, int(own[count]))
        return output


def check_capacity(value: object) -> int:
    capacity = as_integer(value)
    if capacity is None or capacity < 1:
        raise ValueError(f"capacity must be an integer from 1 up, got {value!r}")
    return capacity


def check_row_left(row: int, capacity: int) -> None:
    if row == capacity:
        raise IndexError(f"a bank of capacity={capacity} has handed out all its rows; drop one, or make a larger bank")


def check_at(value: ArrayLike) -> Array:
    """Check the dtype and axes of the rows of a bank that are to be stepped, and return them."""
    rows = as_array("at", value)
    if rows.dtype.kind not in "iu" and rows.size:
        raise TypeError(f"at must be integers, rows of the bank, got dtype {rows.dtype}")
    if rows.ndim != 1:
        raise ValueError(f"at must have one axis, a row of the bank for each of x, got shape {rows.shape}")
    return rows


def refuse_row(rows: Array, wrong: int) -> NoReturn:
    """Raise ValueError for the row at position `wrong`, the first that is repeated or not handed out."""
    fault = "distinct rows" if rows[wrong] in rows[:wrong] else "rows that the bank has handed out"
    raise ValueError(f"at must hold {fault}, got {rows[wrong]} at position {wrong}")


def refuse_changed_row(rows: Array, changed: int) -> NoReturn:
    raise RuntimeError(
        f"row {rows[changed]} of the bank was stepped, set, reset or dropped while this call stepped it in several pieces; "
        "no state has changed"
    )


def check_count(leading: tuple[int, ...], rows: int) -> None:
    """Check that a bank's input has one step for each row."""
    if leading != (rows,):
        raise ValueError(f"x must have the leading axes {(rows,)}, one step for each row of the bank in at, got {leading}")
