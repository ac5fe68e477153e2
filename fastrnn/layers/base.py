"""The base classes of layers and models: attributes set once, copies and pickles, and the call."""

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
    """The type of every layer, and of every model of layers.

    Use it in annotations; it has no instances of its own. Attributes are set once. Copies and pickles are made from the arguments.

    Attributes
    ----------
    input_size, output_size : int
    dtype : numpy.dtype or None
        None for one-hot vectors, which take the next layer's dtype.

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
    # Set by the package, which stands above: an import in a method fails while Python shuts down.
    _stream_class: type[Stream]
    _bank_class: type[Bank]
    state_form: StateForm
    causal = True  # whether no output depends on later steps
    _arguments: tuple[str, ...]  # names of the arguments it is made from, each also an attribute
    _options: tuple[str, ...]  # names of further arguments, which a repr shows

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), self._described())

    def summary(self) -> str:
        """Return a table of the layers: the shape of their output, the number of their parameters, and the parameters' bytes.

        Returns
        -------
        str
            Several lines, to print.

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
        """Return the arguments that this layer was made from, by their names."""
        return {name: getattr(self, name) for name in (*self._arguments, *self._options)}

    @classmethod
    def _from_described(cls, **arguments: Any) -> Any:
        """Make a layer from what `_described` returned."""
        return cls(**arguments)

    def __call__(self, x: ArrayLike, *state: Any, **options: Any) -> Any:
        raise NotImplementedError

    def predict(self, x: ArrayLike, *state: Any, **options: Any) -> Array:
        """Call the model with the same arguments, and return only the output, without the state."""
        result = self(x, *state, **options)
        output: Array = result[0] if isinstance(result, tuple) else result
        return output

    def _parts(self) -> list[LayerSpec]:
        raise NotImplementedError

    def stream(self, state: State = None, *, state0: State = None) -> Stream:
        """Return a `Stream`, which stores the state between calls. It starts at `state`, else at `state0`; a reset returns to `state0`."""
        return self._stream_class(self, state, state0)

    def streams(self, capacity: int, state0: State = None) -> Bank:
        """Return a `Bank` of `capacity` states, one for each sequence. Sequences step together or separately."""
        return self._bank_class(self, capacity, state0)

    def jit(self) -> Any:
        """Return the model as an argument for functions that Numba compiles. They call `fastrnn.jit.step` and `fastrnn.jit.forward`.

        Returns
        -------
        fastrnn.jit.Net
            See `fastrnn.jit`, which has examples.
        """
        from ..jit import Net  # imports Numba

        return Net(self)

    def packed(self) -> Network:
        """Return the model as the engine runs it. It is packed at the first call: a layer used only inside a Sequential never is."""
        network = self._network
        if network is None:
            network = pack_network(self._parts())
            self._set(_network=network)
        return network


def rebuild(kind: type[Model], arguments: dict[str, Any]) -> Any:
    return kind._from_described(**arguments)


class Weighted(Model):
    """The base of layers with weights and a bias."""

    bias: Array | None
    input_size: int
    output_size: int
    dtype: np.dtype[Any]

    def _set_weights(self, named: list[tuple[str, Any, tuple[str, ...]]]) -> None:
        """Check and set weights, given with their names and axes, and the dtype. Only those whose name begins with weight must be given."""
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
        """Return the options that a repr shows."""
        return {name: getattr(self, name) for name in self._options if getattr(self, name) is not None}


class Stateless(Model):
    """The base of layers without a state."""

    state_form = TupleForm()

    def _run(self, x: ArrayLike, out: Array | None, *, tokens: bool, progress: bool) -> Array:
        network = self.packed()
        data = check_data("x", x, self.input_size, tokens=tokens)
        if not progress:  # 0.3 us faster than entering shown(False)
            return call(network, data, [], out)[0]
        with shown(True, math.prod(data.shape[:-1])):
            return call(network, data, [], out)[0]


class Recurrent(Model):
    """The base of recurrent layers."""

    _gates: int  # the number of matrices stacked in weight_ih, and in weight_hh
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
    """The base of recurrent layers whose state is one array."""

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
            Steps of each sequence, in any order; T where not given. Steps beyond are not read.
        reset : array_like of bool of shape (...), optional
            True for each sequence that starts from zeros, whatever its state and its length.
        return_sequences : bool
            Whether to return every step's output, or only the last step's. Then a long call needs no memory for the others.
        out : ndarray of the output's shape, optional
            Receives the output: C-contiguous, of the layer's dtype, sharing no memory with x or h0.
        progress : bool
            Whether to show a bar of the steps done, by tqdm (extra `progress`). A call below 50 ms ends before it moves.

        Returns
        -------
        output : ndarray of shape (..., T, hidden_size)
            The state after each step, or f of it for an `RNN` whose leak is at the input; zero past a sequence's end. Without
            return_sequences (..., hidden_size): the output of a sequence's last step, zero where it has none.
        h_n : ndarray of shape (..., hidden_size)
            The state after the last step; h0 where there is none.

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape, and lengths beyond T.
        """
        network = self._network or self.packed()
        plain = lengths is None and reset is None and not progress
        direct_call = checked_call if return_sequences else checked_call_for_last
        if plain and (done := direct_call(network, x, h0, out)) is not None:
            return done
        options: dict[str, Any] = {"lengths": lengths, "reset": reset, "return_sequences": return_sequences, "progress": progress}
        return self._run(x, "h0", h0, out, **options)
