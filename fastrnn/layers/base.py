"""The layers: weights copied once, frozen, and called on arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import (
    DENSE_ACTIVATIONS,
    Activation,
    Array,
    DenseActivation,
    State,
    check_activation,
    check_choice,
    check_data,
    check_layers,
    check_leak,
    check_not_alone,
    check_states,
    check_vocabulary_size,
    check_weights,
)
from ..banks import Bank
from ..engine.calls import call, call_at_once, flat_state, last_at_once
from ..engine.packing import Network, Part, pack_network, read_only
from ..engine.progress import shown
from ..engine.stages import Stage, Stages, call_stages
from ..frozen import Frozen
from ..streaming import Stream
from .summary import summary_of

# Bytes of a small table's products with the next weights, which are made when packing, not at every step: a step of V 29, E 256, H 256
# takes 3.6 us, not 6.4. More would take too long to make: 1 MB of V 1000, E 128 takes some ms.
FOLDED = 1 << 20


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
    _causal = True  # whether no output depends on later steps
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

    def _parts(self) -> list[Part]:
        raise NotImplementedError

    def _named(self, state: Any) -> list[tuple[str, Any]]:
        """Split a state as users give it into its arrays, each under the name that they know it by."""
        return self._split("state", state)

    def _split(self, name: str, state: Any) -> list[tuple[str, Any]]:
        raise NotImplementedError

    def _joined(self, states: Iterator[Array]) -> Any:
        """Take as many arrays as this layer's state has, and give them as users get them."""
        raise NotImplementedError

    def stream(self, state: State = None, *, state0: State = None) -> Stream:
        """Start a stream, which keeps the state from call to call, at `state`, or else at `state0`, where a reset goes: see `Stream`."""
        return Stream(self, state, state0)

    def streams(self, capacity: int, state0: State = None) -> Bank:
        """Make a bank of so many states, each of a sequence of its own, which step together or apart: see `Bank`."""
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

    def _packed(self) -> Network:
        """Pack at the first call: a layer inside a Sequential is never packed on its own."""
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

    def _split(self, name: str, state: Any) -> list[tuple[str, Any]]:
        return check_states(name, state, 0)

    def _joined(self, states: Iterator[Array]) -> Any:
        return ()

    def _run(self, x: ArrayLike, out: Array | None, *, tokens: bool, progress: bool) -> Array:
        network = self._packed()
        data = check_data("x", x, self.input_size, tokens=tokens)
        if not progress:  # 0.3 us less than with what shows nothing
            return call(network, data, [], out)[0]
        with shown(True, math.prod(data.shape[:-1])):
            return call(network, data, [], out)[0]


class Recurrent(Model):
    """What recurrent layers have in common. The state is an array, their output, where they don't say otherwise."""

    input_size: int
    hidden_size: int
    output_size: int
    dtype: np.dtype[Any]

    def _run(self, x: ArrayLike, name: str, state: Any, out: Array | None, *, progress: bool, **options: Any) -> tuple[Array, Any]:
        data = check_data("x", x, self.input_size, tokens=False)
        given = self._split(name, state)
        with shown(progress, math.prod(data.shape[:-1])):
            output, arrays = call(self._packed(), data, given, out, **options)
        return output, self._joined(iter(arrays))

    def _split(self, name: str, state: Any) -> list[tuple[str, Any]]:
        return [(name, state)]

    def _joined(self, states: Iterator[Array]) -> Any:
        return next(states)


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
        network = self._network or self._packed()
        plain = lengths is None and reset is None and not progress
        at_once = call_at_once if return_sequences else last_at_once
        if plain and (done := at_once(network, x, h0, out)) is not None:
            return done
        options: dict[str, Any] = {"lengths": lengths, "reset": reset, "return_sequences": return_sequences, "progress": progress}
        return self._run(x, "h0", h0, out, **options)


class RNN(Hidden, Weighted):
    """Run an Elman layer over whole sequences: s_t = f(weight_ih x_t + weight_hh s_{t-1} + bias).

    Parameters
    ----------
    weight_ih : array_like of shape (hidden_size, input_size)
        Weights of the input, float32 or float64; the layer computes in the weights' dtype. Copied.
    weight_hh : array_like of shape (hidden_size, hidden_size)
        Weights of the state before.
    bias : array_like of shape (hidden_size,), optional
        Added at every step.
    nonlinearity : {"tanh", "relu", "sigmoid", "identity", "hard_sigmoid", "softplus", "softsign"} or tuple
        The function f. One with parameters is a tuple: ("leaky_relu", alpha) is alpha x below zero, ("elu", alpha) is
        alpha (e^x - 1) below zero, ("hard_sigmoid", alpha, beta) is max(0, min(1, alpha x + beta)). Without parameters
        hard_sigmoid is relu6(x + 3) / 6. softplus is log(1 + e^x), softsign x / (1 + abs(x)).
    leak : float, or array_like of shape (hidden_size,)
        How much of its new value a unit takes at a step, above 0; with 1, all of it, it is a plain unit.
    leak_at : {"output", "input"}
        With z = weight_ih x_t + bias: "output" is h_t = (1 - leak) h_{t-1} + leak f(z + weight_hh h_{t-1}), the reservoir
        computer's form; "input" is v_t = (1 - leak) v_{t-1} + leak (z + weight_hh f(v_{t-1})), the rate network's, whose
        output is f(v_t) and whose state is v_t. A leak inside f, f((1 - leak) h_{t-1} + leak (z + weight_hh h_{t-1})), is a
        plain RNN of other weights: leak * weight_ih, (1 - leak) I + leak * weight_hh and leak * bias.

    Attributes
    ----------
    weight_ih, weight_hh, bias : ndarray
        The weights, read only; bias may be None.
    nonlinearity : str or tuple
    leak : float or ndarray
    leak_at : str
    input_size, hidden_size, output_size : int
        output_size is hidden_size: the output is the state after each step, or f of it where the leak is at the input.
    dtype : numpy.dtype

    Raises
    ------
    TypeError
        For weights that are neither float32 nor float64, or of different dtypes, and parameters of a nonlinearity that are no real numbers.
    ValueError
        For sizes that disagree or are zero, an unknown nonlinearity, or a leak that isn't in (0, 1].

    References
    ----------
    J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990), 179-211;
    H. Jaeger et al., "Optimization and applications of echo state networks with leaky-integrator neurons", Neural Networks 20
    (2007), 335-352 (the leak at the output).

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
    nonlinearity: Activation
    leak: float | Array
    leak_at: Literal["output", "input"]
    _arguments = ("weight_ih", "weight_hh", "bias")
    _options = ("nonlinearity", "leak", "leak_at")

    def __init__(
        self,
        weight_ih: ArrayLike,
        weight_hh: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        nonlinearity: Activation = "tanh",
        leak: float | ArrayLike = 1.0,
        leak_at: Literal["output", "input"] = "output",
    ) -> None:
        nonlinearity = check_activation("nonlinearity", nonlinearity)
        check_choice("leak_at", leak_at, ("output", "input"))
        self._set_weights(
            [
                ("weight_ih", weight_ih, ("hidden_size", "input_size")),
                ("weight_hh", weight_hh, ("hidden_size", "hidden_size")),
                ("bias", bias, ("hidden_size",)),
            ]
        )
        hidden, inputs = self.weight_ih.shape
        self._set(nonlinearity=nonlinearity, leak=check_leak(leak, hidden, self.dtype), leak_at=leak_at)
        self._set(input_size=inputs, hidden_size=hidden, output_size=hidden)

    def _parts(self) -> list[Part]:
        if self._plain:
            return [Part("elman", self.weight_ih, self.weight_hh, self.bias, self.nonlinearity)]
        leaks = np.full(self.hidden_size, self.leak, self.dtype)
        return [Part(f"leaky_{self.leak_at}", self.weight_ih, self.weight_hh, self.bias, self.nonlinearity, vector_hh=leaks)]

    @property
    def _plain(self) -> bool:
        return isinstance(self.leak, float) and self.leak == 1 and self.leak_at == "output"

    def _split(self, name: str, state: Any) -> list[tuple[str, Any]]:
        return [(name, state)] if self.leak_at == "output" else [(name, None), (name, state)]

    def _joined(self, states: Iterator[Array]) -> Any:
        first = next(states)
        return first if self.leak_at == "output" else next(states)

    def _shown(self) -> dict[str, Any]:
        return {"nonlinearity": self.nonlinearity} if self._plain else super()._shown()


class Dense(Stateless, Weighted):
    """Apply y = f(weight x + bias) at every step: the head on a recurrent layer.

    Parameters
    ----------
    weight : array_like of shape (output_size, input_size)
        float32 or float64; the layer computes in the weights' dtype. Copied.
    bias : array_like of shape (output_size,), optional
    activation : str or tuple
        The function f: one that an `RNN` takes for its nonlinearity, or "softmax" or "log_softmax", which are over the last axis,
        and stable for any finite logits.

    Attributes
    ----------
    weight, bias : ndarray
        The weights, read only; bias may be None.
    activation : str or tuple
    input_size, output_size : int
    dtype : numpy.dtype

    Raises
    ------
    TypeError
        For weights that are neither float32 nor float64, or of different dtypes, and parameters of an activation that are no real numbers.
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
    activation: DenseActivation
    _arguments = ("weight", "bias")
    _options = ("activation",)

    def __init__(self, weight: ArrayLike, bias: ArrayLike | None = None, *, activation: DenseActivation = "identity") -> None:
        activation = check_activation("activation", activation, DENSE_ACTIVATIONS)
        self._set_weights([("weight", weight, ("output_size", "input_size")), ("bias", bias, ("output_size",))])
        self._set(activation=activation, input_size=self.weight.shape[1], output_size=len(self.weight))

    def __call__(self, x: ArrayLike, *, out: Array | None = None, progress: bool = False) -> Array:
        """Run the layer.

        Parameters
        ----------
        x : array_like of shape (..., T, input_size)
            Numbers of any real dtype; converted to the layer's dtype.
        out : ndarray of shape (..., T, output_size), optional
            Receives the output: C-contiguous, of the layer's dtype, sharing no memory with x.
        progress : bool
            Whether to show a bar of the steps done, by tqdm (extra `progress`). A call below 50 ms ends before it moves.

        Returns
        -------
        ndarray of shape (..., T, output_size)

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape.
        """
        return self._run(x, out, tokens=False, progress=progress)

    def _parts(self) -> list[Part]:
        return [Part("dense", self.weight, None, self.bias, self.activation)]


class Embedding(Stateless):
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
    def one_hot(cls, V: int) -> Embedding:
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

    def __call__(self, x: ArrayLike, *, out: Array | None = None, progress: bool = False) -> Array:
        """Look tokens up.

        Parameters
        ----------
        x : array_like of integers of shape (..., T)
            Tokens, from 0 to input_size - 1.
        out : ndarray of shape (..., T, output_size), optional
            Receives the vectors: C-contiguous, of the table's dtype, sharing no memory with x.
        progress : bool
            Whether to show a bar of the steps done, by tqdm (extra `progress`). A call below 50 ms ends before it moves.

        Returns
        -------
        ndarray of shape (..., T, output_size)

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape, tokens beyond the vocabulary, and one-hot vectors, which are not made.
        """
        return self._run(x, out, tokens=True, progress=progress)

    def _parts(self) -> list[Part]:
        check_not_alone(self, self.input_size, alone=self.weight is None)
        assert self.weight is not None
        return [Part("dense", self.weight.T, None, None, "identity", feed="look_up")]

    def _described(self) -> dict[str, Any]:
        return {"one_hot": self.input_size} if self.weight is None else {"weight": self.weight}

    @classmethod
    def _from_described(cls, *, one_hot: int | None = None, **weight: Any) -> Embedding:
        return cls(**weight) if one_hot is None else cls.one_hot(one_hot)

    def __repr__(self) -> str:
        if self.weight is None:
            return f"Embedding.one_hot({self.input_size})"
        return f"Embedding(input_size={self.input_size}, output_size={self.output_size}, dtype={self.dtype})"


def fold(table: Array, part: Part) -> Part:
    """Give the layer that selects, for each token, what it would compute from the table's row: the same bits, for x + -0.0 is x."""
    products = Dense(part.weight_ih, part.bias)(table)
    return part._replace(weight_ih=products.T, bias=np.full(products.shape[1], -0.0, table.dtype), feed="embed")


def parts_of(layers: Sequence[Any]) -> list[Part]:
    """Give layers as the engine sees them: an Embedding and the layer after it may become one."""
    first, *others = layers
    parts: list[Part] = [part for layer in others for part in layer._parts()]
    if not isinstance(first, Embedding):
        return first._parts() + parts
    if first.weight is None:
        return [parts[0]._replace(feed="embed"), *parts[1:]]
    if parts and first.input_size * len(parts[0].weight_ih) * parts[0].weight_ih.itemsize <= FOLDED:
        return [fold(first.weight, parts[0]), *parts[1:]]
    return first._parts() + parts


def network_of_layers(layers: Sequence[Any]) -> Network:
    return pack_network(parts_of(layers))


def stages_of(layers: Sequence[Any]) -> Iterator[Stage]:
    """Cut layers into stages: each Bidirectional is one, together with an Embedding before it, and so are the layers between two."""
    between: list[Any] = []
    for layer in layers:
        if layer._causal:
            between.append(layer)
            continue
        before = between if [type(one) for one in between] == [Embedding] else []
        if between and not before:
            yield Stage((network_of_layers(between),))
        between = []
        yield layer._stage(before)
    if between:
        yield Stage((network_of_layers(between),))


class Sequential(Model):
    """Run layers one after the other in one pass over the data: the same bits as the layers one by one, sooner.

    Parameters
    ----------
    *layers : Embedding, RNN, GRU, LSTM, Bidirectional or Dense
        Each takes what the one before gives; all of one dtype. An Embedding comes first and only there: the model reads tokens.
    return_sequences : bool
        What a call does that isn't told: give every step's output, or the last step's alone. Streams and generation are no such calls.

    Attributes
    ----------
    layers : tuple
    return_sequences : bool
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

    layers: tuple[Embedding | Recurrent | Dense, ...]
    return_sequences: bool
    input_size: int
    output_size: int
    dtype: np.dtype[Any]
    _arguments = ("layers",)
    _options = ("return_sequences",)

    def __init__(self, *layers: Embedding | Recurrent | Dense, return_sequences: bool = True) -> None:
        check_layers(layers, (Recurrent, Dense), Embedding)
        first, last = layers[0], layers[-1]
        check_not_alone(first, first.input_size, alone=last.dtype is None)
        self._set(layers=layers, input_size=first.input_size, output_size=last.output_size, dtype=last.dtype, _network=None)
        self._set(return_sequences=bool(return_sequences), _stages=None, _causal=all(layer._causal for layer in layers))

    def __call__(
        self,
        x: ArrayLike,
        state: State = None,
        *,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        return_sequences: bool | None = None,
        out: Array | None = None,
        progress: bool = False,
    ) -> tuple[Array, tuple[Any, ...]]:
        """Run the layers.

        Parameters
        ----------
        x : array_like of shape (..., T, input_size), with an Embedding of integers of shape (..., T)
            Numbers of any real dtype, converted to the layers' dtype; with an Embedding tokens, from 0 to input_size - 1.
        state : tuple or list of array_like of shape (..., hidden_size), optional
            The state before the first step, one entry for each recurrent layer; None, whole or as an entry, means zeros.
            Where there is one recurrent layer, its state alone will do. A Bidirectional counts as one; its state is a pair.
        lengths : array_like of int of shape (...), optional
            Steps of each sequence, in any order; T where not given. What lies beyond is not read.
        reset : array_like of bool of shape (...), optional
            Which sequences start from zeros, whatever state is given, and whatever their lengths are.
        return_sequences : bool, optional
            Whether to return every step's output, or the last step's alone; for that, a long call computes no others. The model's
            own return_sequences where not given. Where the last recurrent layer is a Bidirectional, its last output
            is what its two directions end with.
        out : ndarray of the output's shape, optional
            Receives the output: C-contiguous, of the layers' dtype, sharing no memory with x or a state.
        progress : bool
            Whether to show a bar of the steps done, by tqdm (extra `progress`). A call below 50 ms ends before it moves.

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
        if return_sequences is None:
            return_sequences = self.return_sequences
        network = self._network
        if network is None:
            if not self._causal:
                return self._run_stages(x, state, out, progress, lengths=lengths, reset=reset, return_sequences=return_sequences)
            network = self._packed()
        plain = lengths is None and reset is None and not progress
        at_once = call_at_once if return_sequences else last_at_once
        if plain and (done := at_once(network, x, flat_state(network, state), out)) is not None:
            return done[0], done[1:] if len(network.states) == 1 else self._joined(iter(done[1]))
        data = check_data("x", x, self.input_size, tokens=network.tokens, lengths=lengths)
        states = self._named(state)
        with shown(progress, math.prod(data.shape[:-1])):
            output, arrays = call(network, data, states, out, lengths=lengths, reset=reset, return_sequences=return_sequences)
        return output, self._joined(iter(arrays))

    def _split(self, name: str, state: Any) -> list[tuple[str, Any]]:
        recurrent = [layer for layer in self.layers if isinstance(layer, Recurrent)]
        entries = check_states(name, state, len(recurrent))
        return [array for layer, entry in zip(recurrent, entries, strict=True) for array in layer._split(*entry)]

    def _joined(self, states: Iterator[Array]) -> Any:
        return tuple([layer._joined(states) for layer in self.layers if isinstance(layer, Recurrent)])

    def _run_stages(
        self, x: ArrayLike, state: Any, out: Array | None, progress: bool, *, lengths: ArrayLike | None, **options: Any
    ) -> tuple[Array, tuple[Any, ...]]:
        stages = self._staged()
        data = check_data("x", x, self.input_size, tokens=stages.tokens, lengths=lengths)
        with shown(progress, math.prod(data.shape[:-1]), stages.passes):
            output, arrays = call_stages(stages, data, self._named(state), out, lengths=lengths, **options)
        return output, self._joined(iter(arrays))

    def _staged(self) -> Stages:
        """Pack at the first call what holds a Bidirectional."""
        stages = self._stages
        if stages is None:
            stages = Stages(stages_of(self.layers))
            self._set(_stages=stages)
        return stages

    def _parts(self) -> list[Part]:
        return parts_of(self.layers)

    @classmethod
    def _from_described(cls, *, layers: Sequence[Any] = (), **options: Any) -> Sequential:
        return cls(*layers, **options)

    def __repr__(self) -> str:
        shown = [*map(repr, self.layers), *["return_sequences=False"] * (not self.return_sequences)]
        return f"Sequential({', '.join(shown)})"
