"""Bidirectional layers: one layer reads each sequence from its beginning, another from its end.

>>> import numpy as np
>>> import fastrnn
>>> rng = np.random.default_rng(0)
>>> T, I, H, O = 100, 32, 64, 10
>>> def gru(inputs):
...     shapes = (3 * H, inputs), (3 * H, H), (3 * H,)
...     return fastrnn.GRU(*[rng.uniform(-0.1, 0.1, shape) for shape in shapes])
>>> both = fastrnn.Bidirectional(gru(I), gru(I))
>>> output, (forward, backward) = both(rng.random((8, T, I)))   # (8, T, I) -> (8, T, 2 H), and the last states (8, H)
>>> bool((output[:, -1, :H] == forward).all() and (output[:, 0, H:] == backward).all())
True

Layers of all kinds can be stacked. With `lengths=` each sequence is read backwards within its own length.

>>> head = fastrnn.Dense(rng.uniform(-0.1, 0.1, (O, 2 * H)), activation="softmax")
>>> model = fastrnn.Sequential(both, fastrnn.Bidirectional(gru(2 * H), gru(2 * H)), head)
>>> sequences = [rng.random((length, I)) for length in (5, 90, 0, 31)]
>>> x, lengths = fastrnn.pad(sequences)
>>> probs, (first, second) = model(x, lengths=lengths)          # (4, 90, O), and a pair of states for each Bidirectional
>>> bool((probs[0, :5] == model.predict(sequences[0])).all())   # the same bits as alone
True

With `return_sequences=False` there is one output for each sequence: the forward layer's output at the last step, merged with the
backward layer's at the first.

>>> ends, (forward, backward) = both(x, lengths=lengths, return_sequences=False)    # (4, 2 H)
>>> bool((ends[0] == np.concatenate([forward[0], backward[0]])).all())
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

from numpy.typing import ArrayLike

from ..arguments import Array, State, check_choice, check_data, one_of
from ..engine.progress import shown
from ..engine.stages import Stage, Stages, call_stages
from ..engine.states import PairForm
from .base import Recurrent
from .embedding import Embedding
from .recurrent import RECURRENT
from .sequential import network_of_layers

Merge = Literal["concat", "sum", "mean", "product"]


class Bidirectional(Recurrent):
    """Run one recurrent layer over each sequence forwards and one backwards, and merge their outputs step by step.

    Parameters
    ----------
    forward, backward : recurrent layer
        Any kinds but Bidirectional, with equal input_size and dtype.
    merge : {"concat", "sum", "mean", "product"}
        How the two outputs of a step are merged: concatenated, forward's first, or their sum, mean or product. For the last three
        both layers need the same output_size.

    Attributes
    ----------
    forward, backward : recurrent layer
    merge : str
    input_size, output_size : int
    dtype : numpy.dtype

    Raises
    ------
    TypeError
        For something that is not a recurrent layer, or layers of different dtypes.
    ValueError
        For sizes that disagree, or an unknown merge.

    References
    ----------
    M. Schuster and K. K. Paliwal, "Bidirectional recurrent neural networks", IEEE Transactions on Signal Processing 45 (1997),
    2673-2681.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> count = fastrnn.RNN(np.eye(1), np.eye(1), nonlinearity="identity")
    >>> output, (h_forward, h_backward) = fastrnn.Bidirectional(count, count)(np.ones((4, 1)))
    >>> output
    array([[1., 4.],
           [2., 3.],
           [3., 2.],
           [4., 1.]])
    """

    forward: Recurrent
    backward: Recurrent
    merge: Merge
    causal = False
    _arguments = ("forward", "backward")
    _options = ("merge",)

    def __init__(self, forward: Recurrent, backward: Recurrent, *, merge: Merge = "concat") -> None:
        check_choice("merge", merge, get_args(Merge))
        check_directions(forward, backward, merge, RECURRENT)
        outputs = forward.output_size + (backward.output_size if merge == "concat" else 0)
        self._set(forward=forward, backward=backward, merge=merge, _network=None, _stages=None)
        form = PairForm((forward.state_form, backward.state_form), "forward's and backward's")
        self._set(input_size=forward.input_size, output_size=outputs, dtype=forward.dtype, state_form=form)

    def __call__(
        self,
        x: ArrayLike,
        state: State = None,
        *,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        return_sequences: bool = True,
        out: Array | None = None,
        progress: bool = False,
    ) -> tuple[Array, tuple[Any, Any]]:
        """Run both layers.

        Parameters
        ----------
        x : array_like of shape (..., T, input_size)
            Numbers of any real dtype; converted to the layers' dtype.
        state : pair of states, optional
            The forward layer's state before the first step, and the backward layer's before the last step. Each is as its layer
            takes it, zeros where not given. Not broadcast.
        lengths : array_like of int of shape (...), optional
            Steps of each sequence, in any order; T where not given. Each sequence is read backwards from its own end. Steps
            beyond are not read.
        reset : array_like of bool of shape (...), optional
            True for each sequence whose two layers start from zeros, whatever its state.
        return_sequences : bool
            Whether to return every step's output, or only the merged last outputs of the two directions.
        out : ndarray of the output's shape, optional
            Receives the output: C-contiguous, of the layers' dtype, sharing no memory with x or the state.
        progress : bool
            Whether to show a bar of the steps done, by tqdm (extra `progress`). A call below 50 ms ends before it moves.

        Returns
        -------
        output : ndarray of shape (..., T, output_size)
            Zero past a sequence's end; without return_sequences (..., output_size): the forward layer's output at a sequence's
            last step merged with the backward layer's at the first, zero where it has none.
        state : pair of states
            Those of the forward layer after the last step, and of the backward layer after the first.

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape, and lengths beyond T.
        """
        data, given = check_data("x", x, self.input_size, tokens=False), self.state_form.split("state", state)
        stages = self.staged()
        options: dict[str, Any] = {"lengths": lengths, "reset": reset, "return_sequences": return_sequences}
        with shown(progress, math.prod(data.shape[:-1]), stages.passes):
            output, arrays = call_stages(stages, data, given, out, **options)
        return output, self.state_form.join(iter(arrays))

    def _stage(self, before: Sequence[Embedding]) -> Stage:
        """Pack both layers, each with the Embedding before it, if any. Tokens are looked up twice, but their vectors need no memory."""
        return Stage(tuple([network_of_layers([*before, layer]) for layer in (self.forward, self.backward)]), self.merge)

    def staged(self) -> Stages:
        """Return both layers as the engine runs them. They are packed at the first call."""
        if self._stages is None:
            self._set(_stages=Stages([self._stage([])]))
        assert self._stages is not None
        return self._stages

    def __repr__(self) -> str:
        return f"Bidirectional({self.forward!r}, {self.backward!r}, merge={self.merge!r})"


def check_directions(forward: Any, backward: Any, merge: str, kinds: tuple[type, ...]) -> None:
    """Check the two layers of a Bidirectional."""
    for name, layer in (("forward", forward), ("backward", backward)):
        if not isinstance(layer, kinds):
            raise TypeError(f"{name} must be {one_of(kinds)}, got {type(layer).__name__}")
    if forward.dtype != backward.dtype:
        raise TypeError(f"forward and backward must have the same dtype, got {forward.dtype} and {backward.dtype}")
    if forward.input_size != backward.input_size:
        raise ValueError(f"forward and backward must have the same input_size, got {forward.input_size} and {backward.input_size}")
    if merge != "concat" and forward.output_size != backward.output_size:
        sizes = f"{forward.output_size} and {backward.output_size}"
        raise ValueError(f"forward and backward must have the same output_size for merge={merge!r}, got {sizes}")
