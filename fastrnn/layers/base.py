"""What layers and models have in common: attributes set once, their arguments, and how a call is made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array, State, check_data, check_weights
from ..engine.calls import call, checked_call, checked_call_for_last
from ..engine.packing import LayerSpec, Network, pack_network, read_only
from ..engine.progress import shown
from ..engine.stages import Stages
from ..engine.states import StateForm, TupleForm
from ..frozen import Frozen
from .summary import summary_of

if TYPE_CHECKING:
    from ..banks import Bank
    from ..streaming import Stream


class Model(Frozen):
    """What every layer, and every model of layers, is: attributes set once, and copied or pickled as the arguments it was made from.

    A type for programs that take any of them; it is not made itself.

    Attributes
    ----------
    input_size, output_size : int
    dtype : numpy.dtype or None
        None for one-hot vectors alone, which take the next layer's.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> def outputs(model: fastrnn.Model, x: np.ndarray) -> np.ndarray:
    ...     return model.predict(x)
    >>> outputs(fastrnn.Dense(np.ones((1, 2))), np.ones((3, 2))).shape
    (3, 1)
    """

    input_size: int
    output_size: int
    dtype: np.dtype[Any] | None
    _network: Network | None
    _stages: Stages | None
    state_form: StateForm
    causal = True  # whether no output depends on later steps
    _arguments: tuple[str, ...]  # names of what it is made from, each an attribute
    _options: tuple[str, ...]  # and of what a repr names

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), self._described())

    def summary(self) -> str:
        """Give a table of the layers: what they give, how many parameters they have, and how many bytes those are.

        Returns
        -------
        str
            Some lines, to be printed.

        Examples
        --------
        >>> import numpy as np, fastrnn
        >>> gru = fastrnn.GRU(np.ones((12, 3)), np.ones((12, 4)))
        >>> print(fastrnn.Sequential(fastrnn.Bidirectional(gru, gru), fastrnn.Dense(np.ones((2, 8)), np.ones(2))).summary())
        layer            output       parameters  bytes
        Bidirectional    (..., T, 8)           0      0
          forward: GRU   (..., T, 4)          84    672
          backward: GRU  (..., T, 4)          84    672
        Dense            (..., T, 2)          18    144
        total                                186  1,488
        """
        return summary_of(getattr(self, "layers", (self,)))

    def _described(self) -> dict[str, Any]:
        """Give the arguments that this layer was made from, by their names."""
        return {name: getattr(self, name) for name in (*self._arguments, *self._options)}

    @classmethod
    def _from_described(cls, **arguments: Any) -> Any:
        """Make the layer again."""
        return cls(**arguments)

    def __call__(self, x: ArrayLike, *state: Any, **options: Any) -> Any:
        raise NotImplementedError

    def predict(self, x: ArrayLike, *state: Any, **options: Any) -> Array:
        """Take what the call takes, and give its first result alone: the output, without the state."""
        result = self(x, *state, **options)
        output: Array = result[0] if isinstance(result, tuple) else result
        return output

    def _parts(self) -> list[LayerSpec]:
        raise NotImplementedError

    def stream(self, state: State = None, *, state0: State = None) -> Stream:
        """Start a stream, which keeps the state from call to call, at `state`, or else at `state0`, where a reset goes: see `Stream`."""
        from ..streaming import Stream  # which needs a model's engine, and no layer

        return Stream(self, state, state0)

    def streams(self, capacity: int, state0: State = None) -> Bank:
        """Make a bank of so many states, each of a sequence of its own, which step together or apart: see `Bank`."""
        from ..banks import Bank

        return Bank(self, capacity, state0)

    def jit(self) -> Any:
        """Give the model as an argument for functions that Numba compiles, which call `fastrnn.jit.step` and `fastrnn.jit.forward`.

        Returns
        -------
        fastrnn.jit.Net
            See `fastrnn.jit`, which has examples.
        """
        from ..jit import Net  # imports Numba

        return Net(self)

    def packed(self) -> Network:
        """Return the model as the engine runs it, packed at the first call: a layer inside a Sequential is never packed on its own."""
        network = self._network
        if network is None:
            network = pack_network(self._parts())
            self._set(_network=network)
        return network


def rebuild(kind: type[Model], arguments: dict[str, Any]) -> Any:
    return kind._from_described(**arguments)


class Weighted(Model):
    """What layers with weights and a bias have in common."""

    bias: Array | None
    input_size: int
    output_size: int
    dtype: np.dtype[Any]

    def _set_weights(self, named: list[tuple[str, Any, tuple[str, ...]]]) -> None:
        """Check weights, given by their names and axes, and set them, and the dtype. All but those named weight... may be None."""
        given = [entry for entry in named if entry[1] is not None or entry[0].startswith("weight")]
        checked = {name: read_only(weight) for (name, _, _), weight in zip(given, check_weights(given), strict=True)}
        self._set(**{name: checked.get(name) for name, _, _ in named}, dtype=checked[named[0][0]].dtype, _network=None)

    def __repr__(self) -> str:
        hidden = getattr(self, "hidden_size", None)
        sizes = {
            "input_size": self.input_size,
            "hidden_size": hidden,
            "output_size": None if hidden == self.output_size else self.output_size,
        }
        shown = [f"{name}={size}" for name, size in sizes.items() if size is not None]
        shown += ["bias=None"] * (self.bias is None)
        for name, value in self._shown().items():
            shown.append(f"{name}={f'array of shape {value.shape}' if isinstance(value, np.ndarray) else repr(value)}")
        return f"{type(self).__name__}({', '.join([*shown, f'dtype={self.dtype}'])})"

    def _shown(self) -> dict[str, Any]:
        """Give the options that a repr names."""
        return {name: getattr(self, name) for name in self._options if getattr(self, name) is not None}


class Stateless(Model):
    """What layers without a state have in common."""

    state_form = TupleForm()

    def _run(self, x: ArrayLike, out: Array | None, *, tokens: bool, progress: bool) -> Array:
        network = self.packed()
        data = check_data("x", x, self.input_size, tokens=tokens)
        if not progress:  # 0.3 us less than with what shows nothing
            return call(network, data, [], out)[0]
        with shown(True, math.prod(data.shape[:-1])):
            return call(network, data, [], out)[0]


class Recurrent(Model):
    """What recurrent layers have in common. The state is an array, their output, where they don't say otherwise."""

    _gates: int  # matrices stacked in weight_ih and weight_hh
    input_size: int
    hidden_size: int
    output_size: int
    dtype: np.dtype[Any]

    def _run(self, x: ArrayLike, name: str, state: Any, out: Array | None, *, progress: bool, **options: Any) -> tuple[Array, Any]:
        data = check_data("x", x, self.input_size, tokens=False)
        given = self.state_form.split(name, state)
        with shown(progress, math.prod(data.shape[:-1])):
            output, arrays = call(self.packed(), data, given, out, **options)
        return output, self.state_form.join(iter(arrays))


class Hidden(Recurrent):
    """What recurrent layers have in common whose state is their output."""

    def __call__(
        self,
        x: ArrayLike,
        h0: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        return_sequences: bool = True,
        out: Array | None = None,
        progress: bool = False,
    ) -> tuple[Array, Array]:
        """Run the layer.

        Parameters
        ----------
        x : array_like of shape (..., T, input_size)
            Numbers of any real dtype; converted to the layer's dtype.
        h0 : array_like of shape (..., hidden_size), optional
            The state before the first step; zeros where not given. Not broadcast.
        lengths : array_like of int of shape (...), optional
            Steps of each sequence, in any order; T where not given. What lies beyond is not read.
        reset : array_like of bool of shape (...), optional
            Which sequences start from zeros, whatever state is given, and whatever their lengths are.
        return_sequences : bool
            Whether to return every step's output, or the last step's alone; for that, a long call needs no memory for the others.
        out : ndarray of the output's shape, optional
            Receives the output: C-contiguous, of the layer's dtype, sharing no memory with x or h0.
        progress : bool
            Whether to show a bar of the steps done, by tqdm (extra `progress`). A call below 50 ms ends before it moves.

        Returns
        -------
        output : ndarray of shape (..., T, hidden_size)
            The state after each step, zero past a sequence's end; without return_sequences (..., hidden_size), the state
            after a sequence's last step, zero where it has none.
        h_n : ndarray of shape (..., hidden_size)
            The state after the last step; h0 where there is none.

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape, and lengths beyond T.
        """
        network = self._network or self.packed()
        plain = lengths is None and reset is None and not progress
        at_once = checked_call if return_sequences else checked_call_for_last
        if plain and (done := at_once(network, x, h0, out)) is not None:
            return done
        options: dict[str, Any] = {"lengths": lengths, "reset": reset, "return_sequences": return_sequences, "progress": progress}
        return self._run(x, "h0", h0, out, **options)
