"""Streaming: run a model step by step as the input comes in.

A stream keeps the state and its buffers from call to call. It gives the same bits as one call over the whole sequence.

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

>>> (state,) = stream.state                                 # a copy, (H,)
>>> bool((state == h_n).all())
True
>>> stream.state = (np.ones(H),)
>>> stream.reset()                                          # to state0, zeros where it isn't given

A batch streams too: the first step fixes the batch axes.

>>> stream = model.stream()
>>> stream.step(rng.random((8, I))).shape
(8, 10)

**Episodes.** `reset=` says which sequences start anew at a call's first step: from zeros, or from the stream's `state0`. A model's calls
take it too.

>>> stream = model.stream(state0=(np.full((8, H), 0.5),))   # where the stream begins, and where a reset goes
>>> over = np.arange(8) == 3                                # a boolean for each sequence
>>> stream.step(rng.random((8, I)), reset=over).shape       # sequence 3 starts from state0, the others go on
(8, 10)

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

A stream, or a bank, belongs to one thread at a time. Threads that step side by side need one each; they can share the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import native
from .arguments import Array, State, as_array, check_batch, check_causal, check_data, check_out, check_reset, check_step, no_lengths
from .calls import restart, start_states, views_of
from .forward import Prepared, Task, prepare, run_network, run_prepared
from .kernels.layout import HEAD_BYTES, TOGETHER
from .packing import FEWEST_ROWS, empty_aligned

if TYPE_CHECKING:
    from .layers import Model


def fits(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: Iterable[ArrayLike | None]) -> bool:
    """Tell whether out needs no further check."""
    right = type(out) is np.ndarray and out.shape == shape and out.dtype == dtype and out.flags.carray
    return right and not any(isinstance(array, np.ndarray) and np.may_share_memory(out, array) for array in inputs)


class Stream:
    """Run a model over a sequence as it comes, one step or several at a time, with the bits of a run over the whole.

    Made by the method `stream` of a layer or a model. The first call, or a state, fixes the batch shape. A stream begins at `state`, or
    else at `state0`, from which sequences that are reset start; where that isn't given, at zeros. A stream belongs to one thread at a
    time: two that use it together mix up its state.

    Attributes
    ----------
    state : ndarray or tuple of ndarray of shape (..., hidden_size)
        The state after the last step so far, as the model returns it; a copy, and copied when set. None as long as nothing has
        fixed the batch shape; setting None, or an entry that is None, goes to state0's.

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

    def __init__(self, model: Model, state: State = None, state0: State = None) -> None:
        check_causal("a stream", model._causal, model)
        self._model, self._network = model, model._packed()
        self._dtype, self._token = self._network.dtype, np.zeros(1, np.int64)
        self._space = np.empty(0, np.uint8)
        self._leading: tuple[int, ...] | None = None
        self._vector: tuple[int, ...] | None = None  # the shape of a step's input, where a step is one kernel call
        self._token_fits = False
        self._prepared: Prepared | None = None  # a step, where it is one kernel call
        self._plan: Array | None = None  # of a step that is never worth help
        self._first: tuple[Array, ...] | None = None  # each array of state0, where it is given
        named, first = model._named(state), model._split("state0", state0)
        given = [as_array(name, entry).shape[:-1] for name, entry in named + first if entry is not None]
        if any(entry is not None for _, entry in first):
            self._first = start_states(self._network, first, given[0], given="a stream", shape=given[0])[1]
        if given:
            self._begin(given[0], named)

    @property
    def state(self) -> Any:
        if self._leading is None:
            return None
        return self._model._joined(view.copy() for view in self._views)

    @state.setter
    def state(self, value: Any) -> None:
        named = self._model._named(value)
        given = [as_array(name, entry).shape for name, entry in named if entry is not None]
        if self._leading is None and not given:
            return
        self._begin(given[0][:-1] if self._leading is None else self._leading, named)

    def __reduce__(self) -> tuple[Any, ...]:
        return Stream, (self._model, self.state, None if self._first is None else self._model._joined(iter(self._first)))

    def reset(self) -> None:
        """Set the state to state0."""
        self.state = None

    def _begin(self, leading: tuple[int, ...], named: list[tuple[str, Any]]) -> None:
        network = self._network
        flat, views, _ = start_states(network, named, leading, given="a stream", shape=leading)
        for (_, value), view, first in zip(named, views, self._first or (), strict=False):
            if value is None:
                view[...] = first
        rows = max(FEWEST_ROWS, min(2 * math.prod(leading), 2 * TOGETHER, network.rows))
        prepared = self._prepare(leading, rows)
        self._space = empty_aligned(HEAD_BYTES + 2 * rows * network.widest * self._dtype.itemsize, np.uint8)
        self._flat, self._views, self._call, self._rows = flat, views, native.kept.call, rows
        self._result = *leading, network.output_size
        self._take(leading, prepared)

    def _prepare(self, leading: tuple[int, ...], rows: int) -> Prepared | None:
        """Prepare a step as a kernel call; it may be that one call won't do."""
        network = self._network
        return prepare(network, (*leading, 1, network.inputs), rows)

    def _take(self, leading: tuple[int, ...], prepared: Prepared | None) -> None:
        """Use what is prepared. What lets a step be one kernel call comes last: an interrupt before that costs only time."""
        network = self._network
        self._prepared, self._plan = prepared, None if prepared is None else prepared.plan
        self._leading = leading
        self._token_fits = not leading and prepared is not None and network.tokens
        self._vector = None if prepared is None or network.tokens else (*leading, network.input_size)

    def _run_prepared(self, read: Array, output: Array, flat: Array) -> None:
        """Make a step in one kernel call, in which workers may help."""
        prepared = self._prepared
        if prepared is not None and prepared.is_stale:
            prepared = self._prepare(self._result[:-1], self._rows)
            self._take(self._result[:-1], prepared)
        if prepared is None:
            after = flat.copy()  # several calls, and an interrupt may come between them
            run_network(self._network, Task(read[..., np.newaxis, :], after, output[..., np.newaxis, :]))
            flat[...] = after
        else:
            run_prepared(prepared, self._space, read, output, flat)

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
        """
        read: Array | None = None
        if isinstance(x_t, np.ndarray):
            if type(x_t) is np.ndarray and x_t.shape == self._vector and x_t.dtype == self._dtype and x_t.flags.carray:
                read = x_t
        elif type(x_t) is int and self._token_fits and 0 <= x_t < self._network.input_size:
            read = self._token
            read[0] = x_t
        if read is not None and (out is None or fits(out, self._result, self._dtype, (x_t, reset))):
            flat = self._flat if reset is None else self._restarted(check_reset(reset, self._result[:-1]))
            output = np.empty(self._result, self._dtype) if out is None else out
            if self._plan is not None:
                self._call(self._plan, self._space, read, output, flat)
            else:
                self._run_prepared(read, output, flat)
            if reset is not None:
                self._flat[...] = flat
            return output
        data = check_step("x_t", x_t, self._network.input_size, tokens=self._network.tokens)
        shape = (*data.shape[:-2], self._network.output_size)
        output, again = self._output("x_t", data, shape, reset, out)
        self._advance(data, again, output[..., np.newaxis, :])
        return output

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
        """
        no_lengths(lengths)
        data = check_data("x", x, self._network.input_size, tokens=self._network.tokens)
        output, again = self._output("x", data, (*data.shape[:-1], self._network.output_size), reset, out)
        self._advance(data, again, output)
        return output

    def _output(
        self, name: str, data: Array, shape: tuple[int, ...], reset: ArrayLike | None, out: Array | None
    ) -> tuple[Array, Array | None]:
        """Check what is left to check; give the output, and which sequences start anew."""
        leading = data.shape[:-2]
        if self._leading is not None:
            check_batch(name, leading, self._leading)
        again, inputs = None, [(name, data)]
        if reset is not None:
            again = check_reset(reset, leading)
            inputs.append(("reset", np.asarray(reset)))
        output = np.empty(shape, self._dtype) if out is None else check_out(out, shape, self._dtype, inputs)
        if self._leading is None:
            self._begin(leading, self._model._named(None))
        return output, again

    def _restarted(self, again: Array) -> Array:
        """Copy the state, and start those sequences anew."""
        flat = self._flat.copy()
        restart(views_of(self._network.states, flat, self._result[:-1]), again, self._first)
        return flat

    def _advance(self, data: Array, again: Array | None, output: Array) -> None:
        """Advance a copy of the state: a call that is interrupted leaves the stream where it was."""
        flat = self._flat.copy() if again is None else self._restarted(again)
        run_network(self._network, Task(data, flat, output))
        self._flat[...] = flat
