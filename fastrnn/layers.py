"""The layers: weights copied once, frozen, and called on arrays."""

from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from .arguments import (
    Array,
    NamedWeight,
    check_choice,
    check_data,
    check_layers,
    check_not_alone,
    check_states,
    check_vocabulary_size,
    check_weights,
    frozen_error,
)
from .calls import call, call_at_once
from .packing import Network, Part, pack_network
from .streaming import Stream

NONLINEARITIES = ("tanh", "relu", "sigmoid", "identity")
DENSE_ACTIVATIONS = (None, "softmax", "log_softmax", "sigmoid", "tanh", "relu")
# Bytes of a small table's products with the next weights, which are made when packing, not at every step: a step of V 29, E 256, H 256
# takes 3.7 us, not 6.7. More would take too long to make: 20 ms for 1 MB of V 1000, E 128.
FOLDED = 1 << 20


class Frozen:
    """What every layer is: attributes set once, and copied or pickled as the arguments it was made from."""

    _network: Network | None

    def __call__(self, x: ArrayLike, *state: Any, **options: Any) -> Any:
        raise NotImplementedError

    def predict(self, x: ArrayLike, *state: Any, **options: Any) -> Array:
        """Take what the call takes, and give its first result alone: the output, without the state."""
        result = self(x, *state, **options)
        output: Array = result[0] if isinstance(result, tuple) else result
        return output

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise frozen_error(self, name, "set")

    def __delattr__(self, name: str) -> NoReturn:
        raise frozen_error(self, name, "deleted")

    def _set(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    def _parts(self) -> list[Part]:
        raise NotImplementedError

    def _named(self, state: Any) -> list[tuple[str, Any]]:
        """Split a state as users give it into one entry for each recurrent layer, under the name they know it by."""
        count = len(self._packed().hidden_sizes)
        if count == 1 and state is not None and not isinstance(state, (tuple, list)):
            return [("state", state)]
        return [(f"state[{i}]", entry) for i, entry in enumerate(check_states(state, count))]

    def _returned(self, states: tuple[Array, ...]) -> Any:
        """Give states, one for each recurrent layer, as users get them."""
        return states

    def stream(self, state: Any = None) -> Stream:
        """Start a stream, which keeps the state from call to call: see `Stream`."""
        return Stream(self, state)

    def _packed(self) -> Network:
        """Pack at the first call: a layer inside a Sequential is never packed on its own."""
        network = self._network
        if network is None:
            network = pack_network(self._parts())
            self._set(_network=network)
        return network


def read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy.view()  # which nobody can make writable again


def rebuild(kind: type, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return kind(*arguments, **options)


class Recurrent(Frozen):
    """What recurrent layers whose state is their output have in common."""

    input_size: int
    hidden_size: int

    def __call__(
        self,
        x: ArrayLike,
        h0: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        return_sequences: bool = True,
        out: Array | None = None,
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
        return_sequences : bool
            Whether to return every step's output, or the last step's alone, without memory for the others.
        out : ndarray of the output's shape, optional
            Receives the output: C-contiguous, of the layer's dtype, sharing no memory with x or h0.

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
        network = self._network or self._packed()
        if lengths is None and return_sequences and out is None and (done := call_at_once(network, x, h0)) is not None:
            return done
        data = check_data("x", x, self.input_size, tokens=False)
        output, (h_n,) = call(network, data, [("h0", h0)], out, lengths=lengths, return_sequences=return_sequences)
        return output, h_n

    def _named(self, state: Any) -> list[tuple[str, Any]]:
        return [("state", state)]

    def _returned(self, states: tuple[Array, ...]) -> Any:
        return states[0]


class RNN(Recurrent):
    """Run an Elman layer over whole sequences: s_t = f(weight_ih x_t + weight_hh s_{t-1} + bias).

    Parameters
    ----------
    weight_ih : array_like of shape (hidden_size, input_size)
        Weights of the input, float32 or float64; the layer computes in the weights' dtype. Copied.
    weight_hh : array_like of shape (hidden_size, hidden_size)
        Weights of the state before.
    bias : array_like of shape (hidden_size,), optional
        Added at every step.
    nonlinearity : {"tanh", "relu", "sigmoid", "identity"}
        The function f.

    Attributes
    ----------
    weight_ih, weight_hh, bias : ndarray
        The weights, read only; bias may be None.
    nonlinearity : str
    input_size, hidden_size, output_size : int
        output_size is hidden_size: the output is the state after each step.
    dtype : numpy.dtype

    Raises
    ------
    TypeError
        For weights that are neither float32 nor float64, or of different dtypes.
    ValueError
        For sizes that disagree or are zero, or an unknown nonlinearity.

    References
    ----------
    J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990), 179-211.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> rnn = fastrnn.RNN(np.eye(3, 2), 0.5 * np.eye(3), nonlinearity="identity")
    >>> output, h_n = rnn(np.ones((4, 2)))
    >>> output[:, 0]
    array([1.   , 1.5  , 1.75 , 1.875])
    >>> h_n
    array([1.875, 1.875, 0.   ])
    """

    weight_ih: Array
    weight_hh: Array
    bias: Array | None
    nonlinearity: str
    input_size: int
    hidden_size: int
    output_size: int
    dtype: np.dtype[Any]

    def __init__(self, weight_ih: ArrayLike, weight_hh: ArrayLike, bias: ArrayLike | None = None, *, nonlinearity: str = "tanh") -> None:
        check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        named: list[NamedWeight] = [
            ("weight_ih", weight_ih, ("hidden_size", "input_size")),
            ("weight_hh", weight_hh, ("hidden_size", "hidden_size")),
        ]
        if bias is not None:
            named.append(("bias", bias, ("hidden_size",)))
        weights = [read_only(weight) for weight in check_weights(named)]
        self._set(
            weight_ih=weights[0],
            weight_hh=weights[1],
            bias=weights[2] if bias is not None else None,
            nonlinearity=nonlinearity,
            input_size=weights[0].shape[1],
            hidden_size=weights[0].shape[0],
            output_size=weights[0].shape[0],
            dtype=weights[0].dtype,
            _network=None,
        )

    def _parts(self) -> list[Part]:
        return [Part("elman", self.weight_ih, self.weight_hh, self.bias, self.nonlinearity)]

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), (self.weight_ih, self.weight_hh, self.bias), {"nonlinearity": self.nonlinearity})

    def __repr__(self) -> str:
        bias = "" if self.bias is not None else ", bias=None"
        return (
            f"RNN(input_size={self.input_size}, hidden_size={self.hidden_size}{bias}, "
            f"nonlinearity={self.nonlinearity!r}, dtype={self.dtype})"
        )


class Dense(Frozen):
    """Apply y = f(weight x + bias) at every step: the head on a recurrent layer.

    Parameters
    ----------
    weight : array_like of shape (output_size, input_size)
        float32 or float64; the layer computes in the weights' dtype. Copied.
    bias : array_like of shape (output_size,), optional
    activation : {None, "softmax", "log_softmax", "sigmoid", "tanh", "relu"}
        The function f; softmax and log_softmax are over the last axis, and stable for any finite logits.

    Attributes
    ----------
    weight, bias : ndarray
        The weights, read only; bias may be None.
    activation : str or None
    input_size, output_size : int
    dtype : numpy.dtype

    Raises
    ------
    TypeError
        For weights that are neither float32 nor float64, or of different dtypes.
    ValueError
        For sizes that disagree or are zero, or an unknown activation.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> head = fastrnn.Dense(np.zeros((4, 2)), activation="softmax")
    >>> head(np.ones((1, 2)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    weight: Array
    bias: Array | None
    activation: str | None
    input_size: int
    output_size: int
    dtype: np.dtype[Any]

    def __init__(self, weight: ArrayLike, bias: ArrayLike | None = None, *, activation: str | None = None) -> None:
        check_choice("activation", activation, DENSE_ACTIVATIONS)
        named: list[NamedWeight] = [("weight", weight, ("output_size", "input_size"))]
        if bias is not None:
            named.append(("bias", bias, ("output_size",)))
        weights = [read_only(weight) for weight in check_weights(named)]
        self._set(
            weight=weights[0],
            bias=weights[1] if bias is not None else None,
            activation=activation,
            input_size=weights[0].shape[1],
            output_size=weights[0].shape[0],
            dtype=weights[0].dtype,
            _network=None,
        )

    def __call__(self, x: ArrayLike, *, out: Array | None = None) -> Array:
        """Run the layer.

        Parameters
        ----------
        x : array_like of shape (..., T, input_size)
            Numbers of any real dtype; converted to the layer's dtype.
        out : ndarray of shape (..., T, output_size), optional
            Receives the output: C-contiguous, of the layer's dtype, sharing no memory with x.

        Returns
        -------
        ndarray of shape (..., T, output_size)

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape.
        """
        return call(self._packed(), check_data("x", x, self.input_size, tokens=False), [], out)[0]

    def _parts(self) -> list[Part]:
        return [Part("dense", self.weight, None, self.bias, self.activation)]

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), (self.weight, self.bias), {"activation": self.activation})

    def __repr__(self) -> str:
        bias = "" if self.bias is not None else ", bias=None"
        return (
            f"Dense(input_size={self.input_size}, output_size={self.output_size}{bias}, activation={self.activation!r}, dtype={self.dtype})"
        )


class Embedding(Frozen):
    """Make tokens vectors: each integer stands for its row of a table. The first layer of a `Sequential`, which then reads tokens.

    Parameters
    ----------
    weight : array_like of shape (input_size, output_size)
        The table, a row for each token of the vocabulary; float32 or float64. Copied.

    Attributes
    ----------
    weight : ndarray or None
        The table, read only; None where it is one-hot.
    input_size, output_size : int
        How many tokens there are, and how long their vectors are.
    dtype : numpy.dtype or None
        The table's; None where it is one-hot: the layer after it decides.

    Raises
    ------
    TypeError
        For a table that is neither float32 nor float64.
    ValueError
        For a table of another shape than two axes, or an empty one.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> embedding = fastrnn.Embedding(np.array([[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]]))
    >>> embedding([2, 0])
    array([[2. , 2.5],
           [0. , 0.5]])
    >>> rnn = fastrnn.RNN(np.eye(4, 2), 0.5 * np.eye(4))
    >>> fastrnn.Sequential(embedding, rnn).predict([2, 0, 1]).shape
    (3, 4)
    """

    weight: Array | None
    input_size: int
    output_size: int
    dtype: np.dtype[Any] | None

    def __init__(self, weight: ArrayLike) -> None:
        table = read_only(check_weights([("weight", weight, ("input_size", "output_size"))])[0])
        self._set(weight=table, input_size=len(table), output_size=table.shape[1], dtype=table.dtype, _network=None)

    @classmethod
    def one_hot(cls, V: int) -> "Embedding":
        """Stand for the V x V identity: a token's vector is one-hot. It is never made: the token selects a column of the next weights.

        Parameters
        ----------
        V : int
            How many tokens there are.

        Returns
        -------
        Embedding
            To be the first of a Sequential, before another layer.

        Examples
        --------
        >>> import numpy as np, fastrnn
        >>> rnn = fastrnn.RNN(np.array([[5.0, 6.0, 7.0]]), np.array([[2.0]]), nonlinearity="identity")
        >>> fastrnn.Sequential(fastrnn.Embedding.one_hot(3), rnn).predict([2, 0])  # 7, then 2 * 7 + 5
        array([[ 7.],
               [19.]])
        """
        size, embedding = check_vocabulary_size(V), cls.__new__(cls)
        embedding._set(weight=None, input_size=size, output_size=size, dtype=None, _network=None)
        return embedding

    def __call__(self, x: ArrayLike, *, out: Array | None = None) -> Array:
        """Look tokens up.

        Parameters
        ----------
        x : array_like of integers of shape (..., T)
            Tokens, from 0 to input_size - 1.
        out : ndarray of shape (..., T, output_size), optional
            Receives the vectors: C-contiguous, of the table's dtype, sharing no memory with x.

        Returns
        -------
        ndarray of shape (..., T, output_size)

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape, tokens beyond the vocabulary, and one-hot vectors, which are not made.
        """
        network = self._packed()
        return call(network, check_data("x", x, self.input_size, tokens=True), [], out)[0]

    def _parts(self) -> list[Part]:
        check_not_alone(self, self.input_size, alone=self.weight is None)
        assert self.weight is not None
        return [Part("dense", self.weight.T, None, None, None, feed="look_up")]

    def __reduce__(self) -> tuple[Any, ...]:
        if self.weight is None:
            return type(self).one_hot, (self.input_size,)
        return rebuild, (type(self), (self.weight,), {})

    def __repr__(self) -> str:
        if self.weight is None:
            return f"Embedding.one_hot({self.input_size})"
        return f"Embedding(input_size={self.input_size}, output_size={self.output_size}, dtype={self.dtype})"


def fold(table: Array, part: Part) -> Part:
    """Give the layer that selects, for each token, what it would compute from the table's row: the same bits, for x + -0.0 is x."""
    products = Dense(part.weight_ih, part.bias)(table)
    return part._replace(weight_ih=products.T, bias=np.full(products.shape[1], -0.0, table.dtype), feed="embed")


class Sequential(Frozen):
    """Run layers one after the other in one pass over the data: the same bits as the layers one by one, sooner.

    Parameters
    ----------
    *layers : Embedding, RNN or Dense
        Each takes what the one before gives; all of one dtype. An Embedding comes first and only there: the model reads tokens.

    Attributes
    ----------
    layers : tuple
    input_size, output_size : int
    dtype : numpy.dtype

    Raises
    ------
    TypeError
        For something that is not a layer, or layers of different dtypes.
    ValueError
        For no layer at all, sizes that disagree, or an Embedding that is not the first layer.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> rnn = fastrnn.RNN(np.eye(3, 2), 0.5 * np.eye(3))
    >>> model = fastrnn.Sequential(rnn, fastrnn.Dense(np.ones((4, 3)), activation="softmax"))
    >>> probs, state = model(np.ones((5, 10, 2)))
    >>> probs.shape, [h.shape for h in state]
    ((5, 10, 4), [(5, 3)])
    """

    layers: tuple[Embedding | RNN | Dense, ...]
    input_size: int
    output_size: int
    dtype: np.dtype[Any]

    def __init__(self, *layers: Embedding | RNN | Dense) -> None:
        check_layers(layers, (Recurrent, Dense), Embedding)
        first, last = layers[0], layers[-1]
        check_not_alone(first, first.input_size, alone=last.dtype is None)
        self._set(layers=layers, input_size=first.input_size, output_size=last.output_size, dtype=last.dtype, _network=None)

    def __call__(
        self,
        x: ArrayLike,
        state: object = None,
        *,
        lengths: ArrayLike | None = None,
        return_sequences: bool = True,
        out: Array | None = None,
    ) -> tuple[Array, tuple[Array, ...]]:
        """Run the layers.

        Parameters
        ----------
        x : array_like of shape (..., T, input_size), with an Embedding of integers of shape (..., T)
            Numbers of any real dtype, converted to the layers' dtype; with an Embedding tokens, from 0 to input_size - 1.
        state : tuple or list of array_like of shape (..., hidden_size), optional
            The state before the first step, one entry for each recurrent layer; None, whole or as an entry, means zeros.
            Where there is one recurrent layer, its state alone will do.
        lengths : array_like of int of shape (...), optional
            Steps of each sequence, in any order; T where not given. What lies beyond is not read.
        return_sequences : bool
            Whether to return every step's output, or the last step's alone: computed there only, without memory for the others.
        out : ndarray of the output's shape, optional
            Receives the output: C-contiguous, of the layers' dtype, sharing no memory with x or a state.

        Returns
        -------
        output : ndarray of shape (..., T, output_size)
            Zero past a sequence's end; without return_sequences (..., output_size), the output of a sequence's last step,
            zero where it has none.
        state : tuple of ndarray of shape (..., hidden_size)
            The states after the last step, one for each recurrent layer.

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape, tokens beyond the vocabulary, and lengths beyond T.
        """
        network, only = self._network or self._packed(), state[0] if isinstance(state, (tuple, list)) and len(state) == 1 else state
        if lengths is None and return_sequences and out is None and (done := call_at_once(network, x, only)) is not None:
            return done[0], done[1:]
        data = check_data("x", x, self.input_size, tokens=network.tokens, lengths=lengths)
        return call(network, data, self._named(state), out, lengths=lengths, return_sequences=return_sequences)

    def _parts(self) -> list[Part]:
        first, *others = self.layers
        parts = [part for layer in others for part in layer._parts()]
        if not isinstance(first, Embedding):
            return first._parts() + parts
        if first.weight is None:
            return [parts[0]._replace(feed="embed"), *parts[1:]]
        if parts and first.input_size * len(parts[0].weight_ih) * parts[0].weight_ih.itemsize <= FOLDED:
            return [fold(first.weight, parts[0]), *parts[1:]]
        return first._parts() + parts

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self), self.layers, {})

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"
