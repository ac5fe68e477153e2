"""Streaming: run a model step by step as the input comes in.

A stream stores the state and its buffers from call to call. It gives the same bits as one call over the whole sequence.

>>> import numpy as np
>>> import fastrnn
>>> rng = np.random.default_rng(0)
>>> T, I, H, O = 100, 32, 64, 10
>>> inputs, U, W, V, b = (rng.uniform(-0.1, 0.1, shape) for shape in [(T, I), (H, I), (H, H), (O, H), (H,)])
>>> model = fastrnn.Sequential(fastrnn.RNN(U, W, b), fastrnn.Dense(V, activation="softmax"))
>>> whole, (h_n,) = model(inputs)
>>> stream = model.stream()
>>> y = stream.step(inputs[0])                              # (I,) -> (O,); a model with an Embedding takes an integer
>>> rest = stream(inputs[1:])                               # (T - 1, I) -> (T - 1, O)
>>> bool((y == whole[0]).all() and (rest == whole[1:]).all())
True

The state can be read, set and reset:

>>> (state,) = stream.state                                 # a copy that can't be written to, (H,)
>>> bool((state == h_n).all())
True
>>> stream.state = (np.ones(H),)
>>> stream.reset()                                          # to state0, zeros where it isn't given; of a batch, reset(mask) some

A batch streams too: the first step fixes the batch axes.

>>> stream = model.stream()
>>> stream.step(rng.random((8, I))).shape
(8, 10)

**Episodes.** `reset=` says which sequences start anew at a call's first step: from zeros, or from the stream's `state0`. A model's calls
take it too.

>>> stream = model.stream(state0=(np.full((8, H), 0.5),))   # where the stream begins, and where a reset goes
>>> stream.step(rng.random((8, I))).shape
(8, 10)
>>> over = np.arange(8) == 3                                # a boolean for each sequence
>>> stream.step(rng.random((8, I)), reset=over).shape       # sequence 3 starts from state0, the others go on
(8, 10)

**New weights.** `swap` puts another model of the same sizes in the model's place. The state stays.

>>> stream.swap(fastrnn.Sequential(fastrnn.RNN(U, W), fastrnn.Dense(V, activation="softmax")))

**Many states, one model.** A bank hands out rows, each with a state of its own. One call steps those whose input has come, with the bits
of a stream for each: requests of a server, characters in a game, sensors.

>>> bank = model.streams(1000)
>>> one, other, third = bank.add(), bank.add(), bank.add()  # integers; each starts from state0, zeros where it isn't given
>>> bank.step(inputs[:2], at=[third, one]).shape            # (2, I) -> (2, O), in the order of at
(2, 10)
>>> bank.drop(third)                                        # it may be handed out again
>>> bank.step(inputs[:2]).shape                             # all that are handed out, in ascending order: one, other
(2, 10)

**A server.** With asyncio, what arrives within a tick is stepped in one call. Each client waits for its own answer.

>>> import asyncio
>>> async def serve(bank, arrived):
...     while True:
...         await asyncio.sleep(0.001)                      # a tick
...         now, arrived[:] = arrived[:], []
...         outputs = bank.step(np.array([x for _, x, _ in now]), at=[row for row, _, _ in now]) if now else []
...         for (_, _, answer), y in zip(now, outputs):
...             answer.cancelled() or answer.set_result(y)
>>> async def ask(arrived, row, x):
...     arrived.append((row, x, answer := asyncio.get_running_loop().create_future()))
...     return await answer
>>> async def clients():
...     bank, arrived = model.streams(1000), []
...     server = asyncio.create_task(serve(bank, arrived))
...     answers = await asyncio.gather(*[ask(arrived, bank.add(), x) for x in np.tile(inputs, (10, 1))])
...     server.cancel()
...     return [bool((y == model.stream().step(x)).all()) for y, x in zip(answers, np.tile(inputs, (10, 1)))]
>>> answers = asyncio.run(clients())
>>> len(answers), all(answers)
(1000, True)

Threads that step at the same time need a stream or a bank each; they can share the model. If two threads use the same one at the same
time, one of them gets a RuntimeError. So does a signal handler that uses a stream in the middle of a long call.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arguments import (
    REAL_KINDS,
    Array,
    State,
    as_array,
    check_causal,
    check_data,
    check_model,
    check_out,
    check_reset,
    check_step,
    convert,
)
from .engine.execute import Task, is_readable_in_place, readable, run_network
from .engine.packing import FEWEST_ROWS, Network, empty_aligned, read_only
from .engine.prepared import PreparedCall, prepare, run_job
from .engine.states import Named, Stateful, restart, start_states, views_of
from .frozen import Frozen
from .kernels.layout import HEAD_BYTES, TOGETHER
from .native import machine_code


def check_successor(present: Stateful, other: Any) -> None:
    """Check that a model can replace another in a stream or a bank: input, output and state must have the same form."""
    check_causal("a stream or a bank", check_model(other).causal, other)
    check_swap(describe(present), describe(other))


def describe(model: Stateful) -> dict[str, object]:
    """Return what two models must have in common. The keys are words for errors."""
    network = model.packed()
    sizes: Any = iter(network.states)
    return {
        "input_size": model.input_size,
        "output_size": model.output_size,
        "dtype": network.dtype,
        "input given as": "tokens" if network.tokens else "numbers",
        "states of sizes": model.state_form.join(sizes),
        "kept states of sizes": network.states,  # of all arrays, those too that users never see
    }


def as_read(x: ArrayLike, network: Network, out: object) -> Array | None:
    """Return a small array as kernels read it. None if it needs no conversion, has no numbers, or may share memory with out."""
    if type(x) is not np.ndarray or x.dtype.kind not in ("iu" if network.tokens else REAL_KINDS):
        return None
    if isinstance(out, np.ndarray) and np.may_share_memory(out, x):
        return None
    read = readable(x, network.x_dtype)
    return None if read is x else read


class Running(NamedTuple):
    """What a stream has as soon as its batch shape is fixed."""

    network: Network
    leading: tuple[int, ...]
    flat: Array  # the arrays of the layers' states (N, H), one after the other
    space: Array
    rows: int  # rows of a layer in the workspace
    prepared: PreparedCall | None  # a step, if one kernel call is enough for it


def owning(call: functools.partial[Any], *owners: object) -> functools.partial[Any]:
    """Return the call with references to the owners of memory that it uses: another thread may swap the model meanwhile."""
    vars(call)["owners"] = owners
    return call


class Stream(Frozen):
    """Run a model over a sequence as it comes, one step or several at a time, with the bits of a run over the whole.

    Made by the method `stream` of a layer or a model. The first call, or a state, fixes the batch shape. A stream begins at `state`, or
    else at `state0`, from which sequences that are reset start; where that isn't given, at zeros. A stream that two threads use at the
    same time raises a RuntimeError in one of them, and its state stays sound.

    Attributes
    ----------
    model : layer or Sequential
        Read only; `swap` changes it.
    state : ndarray or tuple of ndarray of shape (..., hidden_size)
        The state after the last step so far, as the model returns it; a read-only copy, and copied when set. None as long as nothing
        has fixed the batch shape; setting None, or an entry that is None, goes to state0's.

    Raises
    ------
    RuntimeError
        From whatever is done with a stream, reading its state included, while another thread uses it.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> stream = fastrnn.RNN(np.eye(2), 0.5 * np.eye(2), nonlinearity="identity").stream()
    >>> stream.step(np.array([1.0, 2.0]))
    array([1., 2.])
    >>> stream(np.ones((2, 2)))
    array([[1.5 , 2.  ],
           [1.75, 2.  ]])
    >>> stream.state
    array([1.75, 2.  ])
    """

    _remedy = "swap takes another model, state= another state"
    _model: Stateful
    _network: Network
    _first: tuple[Array, ...] | None  # the arrays of state0, if it is given
    _in_use: Array  # the lock: a word that a call sets while it runs
    _hold: Callable[..., Any]
    _running: Running | None
    _quick: Callable[..., Array | None] | None  # makes a step in one kernel call; returns None if the arguments need all checks

    def __init__(self, model: Stateful, state: State = None, state0: State = None) -> None:
        check_causal("a stream", model.causal, model)
        machine_code.addresses(["advance", "hold"], "")
        self._set(_model=model, _network=model.packed(), _first=None, _in_use=np.zeros(1, np.int64), _hold=machine_code.loaded.hold)
        self._set(_running=None, _quick=None)
        named, first = model.state_form.split("state", state), model.state_form.split("state0", state0)
        given = [as_array(name, entry).shape[:-1] for name, entry in named + first if entry is not None]
        if any(entry is not None for _, entry in first):
            self._set(_first=start_states(self._network, first, given[0], given="a stream", shape=given[0])[1])
        if given:
            self._begin(given[0], named)

    @property
    def model(self) -> Stateful:
        return self._model

    @property
    def state(self) -> Any:
        running = self._running
        if running is None:
            return None
        flat = self._hold(self._in_use, running.flat.copy)
        return self._model.state_form.join(map(read_only, views_of(running.network.states, flat, running.leading)))

    @state.setter
    def state(self, value: Any) -> None:
        self._hold(self._in_use, self._set_state, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Stream, (self._model, self.state, None if self._first is None else self._model.state_form.join(iter(self._first)))

    def __repr__(self) -> str:
        return f"Stream({self._model!r})"

    def reset(self, mask: ArrayLike | None = None, /) -> None:
        """Set the state to state0's.

        Parameters
        ----------
        mask : array_like of bool of shape (...), optional
            Which sequences; all where not given. A bool where there are no leading axes.

        Raises
        ------
        TypeError, ValueError
            For a mask of another dtype or shape, or before the first step or state.
        RuntimeError
            Where another thread uses the stream.
        """
        self._hold(self._in_use, self._reset, mask)

    def swap(self, model: Stateful) -> None:
        """Take another model from the next step on, such as new weights of the same network. The state, state0 and the batch shape stay.

        Parameters
        ----------
        model : layer or Sequential
            Of the same input_size, output_size, dtype and form of state, and of tokens or of numbers as the present one.

        Raises
        ------
        TypeError, ValueError
            For another model; then nothing has changed.
        RuntimeError
            Where another thread uses the stream.
        """
        check_successor(self._model, model)
        self._hold(self._in_use, self._swap, model)

    def _set_state(self, value: Any) -> None:
        named, running = self._model.state_form.split("state", value), self._running
        given = [as_array(name, entry).shape for name, entry in named if entry is not None]
        if running is None and given:
            self._begin(given[0][:-1], named)
        elif running is not None:
            running.flat[...] = self._started(running.leading, named)

    def _reset(self, mask: ArrayLike | None) -> None:
        running = self._running
        if mask is None:
            self._set_state(None)
            return
        check_mask_begun(running is not None)
        assert running is not None
        running.flat[...] = self._restarted(running, check_reset(mask, running.leading, "mask"))

    def _swap(self, model: Stateful) -> None:
        network, running = model.packed(), self._running
        if running is None:
            self._set(_model=model, _network=network)
        else:
            self._run_on(network, running.leading, running.flat, _model=model, _network=network)

    def _started(self, leading: tuple[int, ...], named: Named) -> Array:
        """Return a state's arrays, one after the other. An entry that is None is replaced by state0's."""
        flat, views, _ = start_states(self._network, named, leading, given="a stream", shape=leading)
        for (_, value), view, first in zip(named, views, self._first or (), strict=False):
            if value is None:
                view[...] = first
        return flat

    def _begin(self, leading: tuple[int, ...], named: Named) -> None:
        self._run_on(self._network, leading, self._started(leading, named))

    def _run_on(self, network: Network, leading: tuple[int, ...], flat: Array, **attributes: object) -> None:
        """Prepare a step, and use it from now on."""
        rows = max(FEWEST_ROWS, min(2 * math.prod(leading), 2 * TOGETHER, network.rows))
        space = empty_aligned(HEAD_BYTES + 2 * rows * network.widest * network.dtype.itemsize, np.uint8)
        prepared = prepare(network, leading, (), rows)
        running, quick = Running(network, leading, flat, space, rows, prepared), None
        if prepared is not None and not prepared.thread_count:
            first = np.zeros_like(flat) if self._first is None else np.concatenate([array.ravel() for array in self._first])
            quick = owning(functools.partial(machine_code.loaded.advance, self._in_use, prepared.serial, space, flat, first), network)
        self._set(_running=running, _quick=quick, **attributes)

    def step(self, x_t: ArrayLike, *, reset: ArrayLike | None = None, out: Array | None = None) -> Array:
        """Advance by one time step.

        Parameters
        ----------
        x_t : array_like of shape (..., input_size), with an Embedding of integers of shape (...)
            A vector, or a token, for each sequence.
        reset : array_like of bool of shape (...), optional
            Which sequences start from state0 before this step; a bool where there are no leading axes.
        out : ndarray of shape (..., output_size), optional
            Receives the output: C-contiguous, of the model's dtype, sharing no memory with x_t.

        Returns
        -------
        ndarray of shape (..., output_size)

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape, and tokens out of range.
        RuntimeError
            Where another thread uses the stream.
        """
        quick = self._quick
        if quick is not None:
            if (done := quick(x_t, out, reset)) is not None:
                return done
            read = as_read(x_t, self._network, out)
            if read is not None and (done := quick(read, out, reset)) is not None:
                return done
        return self._hold(self._in_use, self._step, x_t, reset, out)

    def __call__(self, x: ArrayLike, *, lengths: None = None, reset: ArrayLike | None = None, out: Array | None = None) -> Array:
        """Advance by several time steps.

        Parameters
        ----------
        x : array_like of shape (..., T, input_size), with an Embedding of integers of shape (..., T)
        lengths : None
            A stream's sequences advance together.
        reset : array_like of bool of shape (...), optional
            Which sequences start from state0 before the first of these steps; a bool where there are no leading axes.
        out : ndarray of shape (..., T, output_size), optional
            Receives the output: C-contiguous, of the model's dtype, sharing no memory with x.

        Returns
        -------
        ndarray of shape (..., T, output_size)

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape, tokens out of range, and lengths.
        RuntimeError
            Where another thread uses the stream.
        """
        no_lengths(lengths)
        return self._hold(self._in_use, self._run, x, reset, out)

    # The methods below run while the stream's lock is held.

    def _step(self, x_t: ArrayLike, reset: ArrayLike | None, out: Array | None) -> Array:
        data = check_step("x_t", x_t, self._network.input_size, tokens=self._network.tokens)
        output, reset_mask = self._output("x_t", data, (*data.shape[:-2], self._network.output_size), reset, out)
        running = self._fresh()
        if running.prepared is None:
            self._advance(running, data, reset_mask, output[..., np.newaxis, :])
            return output
        read, flat = readable(data, running.network.x_dtype), running.flat if reset_mask is None else self._restarted(running, reset_mask)
        if not is_readable_in_place(read, running.network.x_dtype):
            read = convert(read, running.network.x_dtype)
        run_job(running.prepared, running.space, read, output, flat)
        if reset_mask is not None:
            running.flat[...] = flat
        return output

    def _run(self, x: ArrayLike, reset: ArrayLike | None, out: Array | None) -> Array:
        data = check_data("x", x, self._network.input_size, tokens=self._network.tokens, padded=False)
        output, reset_mask = self._output("x", data, (*data.shape[:-1], self._network.output_size), reset, out)
        assert self._running is not None
        self._advance(self._running, data, reset_mask, output)
        return output

    def _fresh(self) -> Running:
        """Return `_running`, prepared again if the number of threads has changed."""
        running = self._running
        assert running is not None
        if running.prepared is not None and running.prepared.is_stale:
            self._run_on(running.network, running.leading, running.flat)
            return self._fresh()
        return running

    def _output(
        self, name: str, data: Array, shape: tuple[int, ...], reset: ArrayLike | None, out: Array | None
    ) -> tuple[Array, Array | None]:
        """Check the remaining arguments. Return the output array, and the mask of the sequences to reset."""
        leading = data.shape[:-2]
        if self._running is not None:
            check_batch(name, leading, self._running.leading)
        reset_mask, inputs = None, [(name, data)]
        if reset is not None:
            reset_mask = check_reset(reset, leading)
            inputs.append(("reset", np.asarray(reset)))
        output = np.empty(shape, self._network.dtype) if out is None else check_out(out, shape, self._network.dtype, inputs)
        if self._running is None:
            self._begin(leading, self._model.state_form.split("state", None))
        return output, reset_mask

    def _restarted(self, running: Running, reset_mask: Array) -> Array:
        """Return a copy of the state in which the masked sequences are reset."""
        flat = running.flat.copy()
        restart(views_of(running.network.states, flat, running.leading), reset_mask, self._first)
        return flat

    def _advance(self, running: Running, data: Array, reset_mask: Array | None, output: Array) -> None:
        """Advance a copy of the state, and then store it: an interrupted call leaves the stream where it was."""
        flat = running.flat.copy() if reset_mask is None else self._restarted(running, reset_mask)
        run_network(running.network, Task(data, flat, output))
        running.flat[...] = flat


def check_batch(name: str, leading: tuple[int, ...], fixed: tuple[int, ...]) -> None:
    """Check that an input has the leading axes of a stream's first one."""
    if leading != fixed:
        raise ValueError(f"{name} must have the leading axes {fixed} that this stream began with, got {leading}; start another stream")


def check_mask_begun(begun: bool) -> None:
    if not begun:
        raise ValueError("mask must not be given before the stream's first step or state, which fixes how many sequences there are")


def check_swap(present: dict[str, object], other: dict[str, object]) -> None:
    """Check that a model can replace another: their descriptions must be equal. An error names the first difference."""
    for what, value in present.items():
        if other[what] != value:
            raise ValueError(f"model must have {what} {value}, as the model before it has, got {other[what]}")


def no_lengths(lengths: object) -> None:
    if lengths is not None:
        raise TypeError("lengths must not be given to a stream, whose sequences advance together")
