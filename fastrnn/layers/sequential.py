"""Layers one after the other; without a Bidirectional they run in one pass over the data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array, State, check_data, check_not_alone
from ..engine.calls import call, checked_call, checked_call_for_last
from ..engine.packing import LayerSpec, Network, pack_network
from ..engine.progress import shown
from ..engine.stages import Stage, Stages, call_stages
from ..engine.states import TupleForm
from .base import Model, Recurrent
from .dense import Dense
from .embedding import Embedding

# Up to this many bytes, a table's products with the next layer's weights are computed when packing, not at every step: a step of V 29,
# E 256, H 256 takes 3.6 us instead of 6.4. Larger products would take too long to compute: 1 MB of V 1000, E 128 takes some ms.
FOLDED = 1 << 20


def fold(table: Array, part: LayerSpec) -> LayerSpec:
    """Return a layer that looks up each token's product with the weights. It gives the same bits, since x + -0.0 is x."""
    products = Dense(part.weight_ih, part.bias)(table)
    return part._replace(weight_ih=products.T, bias=np.full(products.shape[1], -0.0, table.dtype), feed="embed")


def parts_of(layers: Sequence[Any]) -> list[LayerSpec]:
    """Return layers as the engine runs them: an Embedding and the layer after it may become one."""
    first, *others = layers
    parts: list[LayerSpec] = [part for layer in others for part in layer._parts()]
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
    """Yield stages, each run in one pass: a Bidirectional, with an Embedding directly before it; or all layers between two of them."""
    between: list[Any] = []
    for layer in layers:
        if layer.causal:
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
    """Run layers one after the other in one call: the same bits as calling them one by one, but faster.

    Parameters
    ----------
    *layers : Embedding, recurrent layer, Bidirectional or Dense
        Each reads the output of the one before. All have one dtype. An Embedding can only come first: then the model reads tokens.
    return_sequences : bool
        The default of a call: whether to return every step's output, or only the last step's. Streams and generation ignore it.

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
    state_form: TupleForm
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
        form = TupleForm([layer.state_form for layer in layers if isinstance(layer, Recurrent)])
        causal = all(layer.causal for layer in layers)
        self._set(return_sequences=bool(return_sequences), state_form=form, causal=causal, _stages=None)

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
            A model with one recurrent layer also takes that layer's state itself. A Bidirectional counts as one; its state is a pair.
        lengths : array_like of int of shape (...), optional
            Steps of each sequence, in any order; T where not given. Steps beyond are not read.
        reset : array_like of bool of shape (...), optional
            True for each sequence that starts from zeros, whatever its state and its length.
        return_sequences : bool, optional
            Whether to return every step's output, or only the last step's. Then layers after the recurrent ones compute no others
            in a long call. The model's own return_sequences where not given. If the last recurrent layer is a Bidirectional, its last
            output is the merged last outputs of its two directions.
        out : ndarray of the output's shape, optional
            Receives the output: C-contiguous, of the layers' dtype, sharing no memory with x or a state.
        progress : bool
            Whether to show a bar of the steps done, by tqdm (extra `progress`). A call below 50 ms ends before it moves.

        Returns
        -------
        output : ndarray of shape (..., T, output_size)
            Zero past a sequence's end. Without return_sequences (..., output_size): the output of a sequence's last step, zero
            where it has none.
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
            if not self.causal:
                return self._run_stages(x, state, out, progress, lengths=lengths, reset=reset, return_sequences=return_sequences)
            network = self.packed()
        plain = lengths is None and reset is None and not progress
        direct_call = checked_call if return_sequences else checked_call_for_last
        if plain and (done := direct_call(network, x, self.state_form.flat(state), out)) is not None:
            return done[0], done[1:] if len(network.states) == 1 else self.state_form.join(iter(done[1]))
        data = check_data("x", x, self.input_size, tokens=network.tokens, lengths=lengths)
        states = self.state_form.split("state", state)
        with shown(progress, math.prod(data.shape[:-1])):
            output, arrays = call(network, data, states, out, lengths=lengths, reset=reset, return_sequences=return_sequences)
        return output, self.state_form.join(iter(arrays))

    def _run_stages(
        self, x: ArrayLike, state: Any, out: Array | None, progress: bool, *, lengths: ArrayLike | None, **options: Any
    ) -> tuple[Array, tuple[Any, ...]]:
        stages = self.staged()
        data = check_data("x", x, self.input_size, tokens=stages.tokens, lengths=lengths)
        with shown(progress, math.prod(data.shape[:-1]), stages.passes):
            output, arrays = call_stages(stages, data, self.state_form.split("state", state), out, lengths=lengths, **options)
        return output, self.state_form.join(iter(arrays))

    def staged(self) -> Stages:
        """Return the stages by which the engine runs a model that holds a Bidirectional. They are packed at the first call."""
        stages = self._stages
        if stages is None:
            stages = Stages(stages_of(self.layers))
            self._set(_stages=stages)
        return stages

    def _parts(self) -> list[LayerSpec]:
        return parts_of(self.layers)

    @classmethod
    def _from_described(cls, *, layers: Sequence[Any] = (), **options: Any) -> Sequential:
        return cls(*layers, **options)

    def __repr__(self) -> str:
        shown = [*map(repr, self.layers), *["return_sequences=False"] * (not self.return_sequences)]
        return f"Sequential({', '.join(shown)})"


def check_layers(layers: Sequence[Any], kinds: tuple[type, ...], embedding: type) -> None:
    """Check that layers can follow one another: their dtypes, their sizes, and an Embedding only first."""
    if not layers:
        raise ValueError("layers must be at least one, got none")
    for i, layer in enumerate(layers):
        if not isinstance(layer, (*kinds, embedding)):
            raise TypeError(f"layers[{i}] must be a layer, got {type(layer).__name__}")
        if i and isinstance(layer, embedding):
            raise ValueError(f"layers[{i}] must be no Embedding: it reads tokens, so it comes first and only there; got {layer!r}")
    for i, (below, above) in enumerate(itertools.pairwise(layers)):
        if below.dtype is not None and above.dtype != below.dtype:  # one-hot vectors have no dtype; NumPy takes None for float64
            raise TypeError(f"layers[{i}] and layers[{i + 1}] must have the same dtype, got {below.dtype} and {above.dtype}")
        if above.input_size != below.output_size:
            raise ValueError(
                f"layers[{i + 1}] must have input_size={below.output_size}, the output_size of layers[{i}], got {above.input_size}"
            )
