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
>>> stream.reset()                                          # to zeros

A batch streams too: the first step fixes the batch axes.

>>> stream = model.stream()
>>> stream.step(rng.random((8, I))).shape
(8, 10)

A stream belongs to one thread at a time. Threads that step side by side need a stream each; they can share the model.
"""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from . import native
from .arguments import Array, as_array, check_batch, check_causal, check_data, check_out, check_step, no_lengths
from .calls import start_states
from .forward import Task, run_network
from .kernels.layout import HEAD_BYTES
from .packing import FEWEST_ROWS, Network, empty_aligned
from .plan import WORK


class Model(Protocol):
    """What a stream needs of a layer or a Sequential."""

    _causal: bool

    def _packed(self) -> Network: ...
    def _named(self, state: Any) -> list[tuple[str, Any]]: ...
    def _joined(self, states: Iterator[Array]) -> Any: ...


class Stream:
    """Run a model over a sequence as it comes, one step or several at a time, with the bits of a run over the whole.

    Made by the method `stream` of a layer or a model. The first call, or a state, fixes the batch shape. A stream belongs to
    one thread at a time: two that use it together mix up its state.

    Attributes
    ----------
    state : ndarray or tuple of ndarray of shape (..., hidden_size)
        The state after the last step so far, as the model returns it; a copy, and copied when set. None as long as nothing has
        fixed the batch shape; setting None is `reset`.

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

    def __init__(self, model: Model, state: Any = None) -> None:
        check_causal("a stream", model._causal, model)
        self._model, self._network = model, model._packed()
        self._dtype, self._token = self._network.dtype, np.zeros(1, np.int64)
        self._buffer = FEWEST_ROWS * self._network.widest
        self._space = empty_aligned(HEAD_BYTES + 2 * self._buffer * self._dtype.itemsize, np.uint8)
        self._leading: tuple[int, ...] | None = None
        self._vector: tuple[int, ...] | None = None  # the shape of a step's input, where a step is one kernel call
        self._token_fits = False
        self.state = state

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
        return Stream, (self._model, self.state)

    def reset(self) -> None:
        """Set the state to zeros."""
        self.state = None

    def _begin(self, leading: tuple[int, ...], named: list[tuple[str, Any]]) -> None:
        network, sequences = self._network, math.prod(leading)
        flat, views, _ = start_states(network, named, leading, given="a stream", shape=leading)
        plan = network.job(
            function=native.address("begin"),
            steps=1,
            count=sequences,
            block=min(max(sequences, 1), FEWEST_ROWS // 2),
            chunk=1,
            total=sequences,
            x_sequence=1 if network.tokens else network.input_size,
            x_step=1 if network.tokens else network.input_size,
            out_sequence=network.output_size,
            out_step=network.output_size,
            out_size=network.output_size,
            buffer=self._buffer,
        )
        small = 0 < sequences * network.work <= WORK
        self._flat, self._views, self._plan, self._call = flat, views, plan, native.kept.call
        self._token_fits, self._result = not leading and small and network.tokens, (*leading, network.output_size)
        self._leading, self._vector = leading, (*leading, network.input_size) if small and not network.tokens else None

    def step(self, x_t: ArrayLike, *, out: Array | None = None) -> Array:
        """Advance by one time step.

        Parameters
        ----------
        x_t : array_like of shape (..., input_size), with an Embedding of integers of shape (...)
            A vector, or a token, for each sequence.
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
        if read is not None and (out is None or self._fits(out, x_t)):
            output = np.empty(self._result, self._dtype) if out is None else out
            self._call(self._plan, self._space, read, output, self._flat)
            return output
        data = check_step("x_t", x_t, self._network.input_size, tokens=self._network.tokens)
        output = self._output("x_t", data, (*data.shape[:-2], self._network.output_size), out)
        self._advance(data, output[..., np.newaxis, :])
        return output

    def _fits(self, out: Array, x_t: ArrayLike) -> bool:
        """Whether out needs no further check; any other out gets the error that it deserves, or is taken the slow way."""
        fits = type(out) is np.ndarray and out.shape == self._result and out.dtype == self._dtype and out.flags.carray
        return fits and not (isinstance(x_t, np.ndarray) and np.may_share_memory(out, x_t))

    def __call__(self, x: ArrayLike, *, lengths: None = None, out: Array | None = None) -> Array:
        """Advance by several time steps.

        Parameters
        ----------
        x : array_like of shape (..., T, input_size), with an Embedding of integers of shape (..., T)
        lengths : None
            A stream's sequences advance together.
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
        output = self._output("x", data, (*data.shape[:-1], self._network.output_size), out)
        self._advance(data, output)
        return output

    def _output(self, name: str, data: Array, shape: tuple[int, ...], out: Array | None) -> Array:
        leading = data.shape[:-2]
        if self._leading is not None:
            check_batch(name, leading, self._leading)
        output = np.empty(shape, self._dtype) if out is None else check_out(out, shape, self._dtype, [(name, data)])
        if self._leading is None:
            self._begin(leading, self._model._named(None))
        return output

    def _advance(self, data: Array, output: Array) -> None:
        """Advance a copy of the state: a call that is interrupted leaves the stream where it was."""
        flat = self._flat.copy()
        run_network(self._network, Task(data, flat, output))
        self._flat[...] = flat
