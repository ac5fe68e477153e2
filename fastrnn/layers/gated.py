"""The gated layers, GRU and LSTM.

Weights are stacked gate by gate as in PyTorch. PyTorch has two biases; the layers take their sum. A GRU's candidate n needs both, since
the reset gate multiplies only one of them.

>>> import numpy as np
>>> import fastrnn
>>> rng = np.random.default_rng(0)
>>> T, I, H, P = 100, 32, 64, 16
>>> x, W_gru, U_gru, b_ih, b_hh = (rng.uniform(-0.1, 0.1, s) for s in [(T, I), (3 * H, I), (3 * H, H), (3 * H,), (3 * H,)])
>>> bias = b_ih + np.append(b_hh[: 2 * H], np.zeros(H))
>>> gru = fastrnn.GRU(W_gru, U_gru, bias, b_hh[2 * H :])
>>> output, h_n = gru(x)                                         # (T, H) and (H,)

An LSTM's state is the pair (h, c). With a projection it may have fewer outputs than units.

>>> W, U, b = (rng.uniform(-0.1, 0.1, s) for s in [(4 * H, I), (4 * H, H), (4 * H,)])
>>> lstm = fastrnn.LSTM(W, U, b)
>>> output, (h_n, c_n) = lstm(x)                                 # (T, H), (H,) and (H,)
>>> more, (h_n, c_n) = lstm(x, (h_n, c_n))                       # continues from there
>>> projected = fastrnn.LSTM(W, U[:, :P], b, projection=rng.uniform(-0.1, 0.1, (P, H)))
>>> output, (h_n, c_n) = projected(x)
>>> output.shape, h_n.shape, c_n.shape
((100, 16), (16,), (64,))

In a model each recurrent layer has one entry of the state.

>>> model = fastrnn.Sequential(gru, fastrnn.LSTM(np.ones((4 * P, H)), np.ones((4 * P, P))), fastrnn.Dense(np.ones((5, P))))
>>> y, (h_n, (h2_n, c2_n)) = model(x)
>>> y.shape, h_n.shape, h2_n.shape
((100, 5), (64,), (16,))
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Activation, Array, State, check_activation
from ..engine.calls import checked_call, checked_call_for_last
from ..engine.packing import LayerSpec
from ..engine.states import ArrayForm, PairForm
from ..kernels.layout import CELLS
from .base import Hidden, Recurrent, Weighted


class Gated(Weighted, Recurrent):
    """The base of the gated layers."""

    weight_ih: Array
    weight_hh: Array
    activation: Activation
    recurrent_activation: Activation

    def _begin(self, named: list[tuple[str, Any, tuple[str, ...]]], activation: Activation, recurrent_activation: Activation) -> None:
        """Check and set activations and weights. Weights come with their names; optional ones may be None."""
        functions = {"activation": activation, "recurrent_activation": recurrent_activation}
        self._set(**{name: check_activation(name, function) for name, function in functions.items()})
        self._set_weights(named)
        self._set(input_size=self.weight_ih.shape[1], output_size=self.weight_hh.shape[1])


class GRU(Gated, Hidden):
    """Run a gated recurrent unit over whole sequences.

    ::

        r, z = sigmoid(W_r x_t + U_r h_{t-1} + b_r), sigmoid(W_z x_t + U_z h_{t-1} + b_z)
        n    = tanh(W_n x_t + b_n + r (U_n h_{t-1} + b_hn))      with reset_after
        n    = tanh(W_n x_t + b_n + U_n (r h_{t-1}))             without
        h_t  = (1 - z) n + z h_{t-1}

    Parameters
    ----------
    weight_ih : array_like of shape (3 * hidden_size, input_size)
        W_r, W_z and W_n, one below the other, as in PyTorch; float32 or float64, in which the layer computes. Copied.
    weight_hh : array_like of shape (3 * hidden_size, hidden_size)
        U_r, U_z and U_n.
    bias : array_like of shape (3 * hidden_size,), optional
        b_r, b_z and b_n. For r and z it is the sum of PyTorch's two biases, for n bias_ih alone.
    bias_hn : array_like of shape (hidden_size,), optional
        b_hn, PyTorch's bias_hh for n. Only with reset_after.
    reset_after : bool
        Whether the reset gate is applied to the product with the state (PyTorch; Keras' reset_after=True; ONNX's
        linear_before_reset=1) or to the state before it (Cho et al.; Keras' reset_after=False; ONNX's default).
    activation : str or tuple
        The function in place of tanh: one of `RNN`'s nonlinearities.
    recurrent_activation : str or tuple
        The function in place of sigmoid: one of `RNN`'s nonlinearities.

    Attributes
    ----------
    weight_ih, weight_hh, bias, bias_hn : ndarray
        The weights, read only; bias and bias_hn may be None.
    reset_after : bool
    activation, recurrent_activation : str or tuple
    input_size, hidden_size, output_size : int
        output_size is hidden_size: the output is the state after each step.
    dtype : numpy.dtype

    Raises
    ------
    TypeError
        For weights that are neither float32 nor float64, or of different dtypes.
    ValueError
        For sizes that disagree or are zero, an unknown activation, and bias_hn without reset_after.

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation", EMNLP 2014.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> gru = fastrnn.GRU(np.ones((6, 3)), np.zeros((6, 2)))
    >>> output, h_n = gru(np.zeros((4, 3)), np.ones(2))
    >>> output[:, 0]
    array([0.5   , 0.25  , 0.125 , 0.0625])
    """

    bias_hn: Array | None
    reset_after: bool
    _gates = CELLS["gru"].gates
    _arguments = ("weight_ih", "weight_hh", "bias", "bias_hn")
    _options = ("reset_after", "activation", "recurrent_activation")

    def __init__(
        self,
        weight_ih: ArrayLike,
        weight_hh: ArrayLike,
        bias: ArrayLike | None = None,
        bias_hn: ArrayLike | None = None,
        *,
        reset_after: bool = True,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
    ) -> None:
        rows = f"{self._gates} * hidden_size"
        named: list[tuple[str, Any, tuple[str, ...]]] = [
            ("weight_ih", weight_ih, (rows, "input_size")),
            ("weight_hh", weight_hh, (rows, "hidden_size")),
            ("bias", bias, (rows,)),
            ("bias_hn", bias_hn, ("hidden_size",)),
        ]
        self._begin(named, activation, recurrent_activation)
        if not reset_after:
            no_bias_hn(bias_hn)
        self._set(hidden_size=self.output_size, reset_after=bool(reset_after), state_form=ArrayForm(self.output_size))

    def _parts(self) -> list[LayerSpec]:
        vector_hh = None
        if self.reset_after:
            vector_hh = np.zeros(self._gates * self.hidden_size, self.dtype)
            vector_hh[-self.hidden_size :] = 0 if self.bias_hn is None else self.bias_hn
        cell, functions = "gru" if self.reset_after else "gru_reset_before", (self.activation, self.recurrent_activation)
        return [LayerSpec(cell, self.weight_ih, self.weight_hh, self.bias, *functions, vector_hh)]


class LSTM(Gated):
    """Run a long short-term memory over whole sequences.

    ::

        i, f = sigmoid(W_i x_t + U_i h_{t-1} + b_i + p_i c_{t-1}), sigmoid(W_f x_t + U_f h_{t-1} + b_f + p_f c_{t-1})
        g    = tanh(W_g x_t + U_g h_{t-1} + b_g)
        c_t  = f c_{t-1} + i g
        o    = sigmoid(W_o x_t + U_o h_{t-1} + b_o + p_o c_t)
        h_t  = o tanh(c_t), or R (o tanh(c_t)) with a projection

    Parameters
    ----------
    weight_ih : array_like of shape (4 * hidden_size, input_size)
        W_i, W_f, W_g and W_o, one below the other, as in PyTorch; float32 or float64, in which the layer computes. Copied.
    weight_hh : array_like of shape (4 * hidden_size, output_size)
        U_i, U_f, U_g and U_o. Without a projection output_size is hidden_size.
    bias : array_like of shape (4 * hidden_size,), optional
        b_i, b_f, b_g and b_o: the sum of PyTorch's two.
    peephole : array_like of shape (3, hidden_size), optional
        p_i, p_f and p_o.
    projection : array_like of shape (output_size, hidden_size), optional
        R, PyTorch's weight_hr; output_size is at most hidden_size.
    activation : str or tuple
        The function in place of tanh, for g and for c_t: one of `RNN`'s nonlinearities.
    recurrent_activation : str or tuple
        The function in place of sigmoid, for i, f and o: one of `RNN`'s nonlinearities.

    Attributes
    ----------
    weight_ih, weight_hh, bias, peephole, projection : ndarray
        The weights, read only; the last three may be None.
    activation, recurrent_activation : str or tuple
    input_size, hidden_size, output_size : int
    dtype : numpy.dtype

    Raises
    ------
    TypeError
        For weights that are neither float32 nor float64, or of different dtypes.
    ValueError
        For sizes that disagree or are zero, a projection to more outputs than units, or an unknown activation.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), 1735-1780;
    F. A. Gers and J. Schmidhuber, "Recurrent nets that time and count", IJCNN 2000 (peepholes);
    H. Sak, A. Senior and F. Beaufays, "Long short-term memory based recurrent neural network architectures for large
    vocabulary speech recognition", arXiv:1402.1128 (projection).

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> lstm = fastrnn.LSTM(np.ones((8, 3)), np.zeros((8, 2)))
    >>> output, (h_n, c_n) = lstm(np.zeros((4, 3)), (np.zeros(2), np.ones(2)))
    >>> c_n
    array([0.0625, 0.0625])
    """

    peephole: Array | None
    projection: Array | None
    _gates = CELLS["lstm"].gates
    _arguments = ("weight_ih", "weight_hh", "bias")
    _options = ("peephole", "projection", "activation", "recurrent_activation")

    def __init__(
        self,
        weight_ih: ArrayLike,
        weight_hh: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        peephole: ArrayLike | None = None,
        projection: ArrayLike | None = None,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
    ) -> None:
        rows, outputs = f"{self._gates} * hidden_size", "hidden_size" if projection is None else "output_size"
        named: list[tuple[str, Any, tuple[str, ...]]] = [
            ("weight_ih", weight_ih, (rows, "input_size")),
            ("weight_hh", weight_hh, (rows, outputs)),
            ("bias", bias, (rows,)),
            ("peephole", peephole, ("3", "hidden_size")),
            ("projection", projection, ("output_size", "hidden_size")),
        ]
        self._begin(named, activation, recurrent_activation)
        self._set(hidden_size=len(self.weight_ih) // self._gates)
        check_projection(self.output_size, self.hidden_size)
        self._set(state_form=PairForm((ArrayForm(self.output_size), ArrayForm(self.hidden_size)), "h and c"))

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
    ) -> tuple[Array, tuple[Array, Array]]:
        """Run the layer.

        Parameters
        ----------
        x : array_like of shape (..., T, input_size)
            Converted to the layer's dtype.
        state : pair of array_like of shapes (..., output_size) and (..., hidden_size), optional
            h and c before the first step; zeros where not given. Not broadcast.
        lengths : array_like of int of shape (...), optional
            Steps of each sequence, in any order; T where not given. Steps beyond are not read.
        reset : array_like of bool of shape (...), optional
            True for each sequence that starts from zeros, whatever its state and its length.
        return_sequences : bool
            Whether to return every step's output, or only the last step's. Then a long call needs no memory for the others.
        out : ndarray of the output's shape, optional
            Receives the output: C-contiguous, of the layer's dtype, sharing no memory with x or the state.
        progress : bool
            Whether to show a bar of the steps done, by tqdm (extra `progress`). A call below 50 ms ends before it moves.

        Returns
        -------
        output : ndarray of shape (..., T, output_size)
            h after each step, zero past a sequence's end. Without return_sequences (..., output_size): h after a sequence's last
            step, zero where it has none.
        state : pair of ndarray of shapes (..., output_size) and (..., hidden_size)
            h and c after the last step; as given where there is none.

        Raises
        ------
        TypeError, ValueError
            For arguments of another dtype or shape, and lengths beyond T.
        """
        network = self._network or self.packed()
        plain = lengths is None and reset is None and not progress
        direct_call = checked_call if return_sequences else checked_call_for_last
        if plain and (done := direct_call(network, x, state, out)) is not None:
            return done
        options: dict[str, Any] = {"lengths": lengths, "reset": reset, "return_sequences": return_sequences, "progress": progress}
        return self._run(x, "state", state, out, **options)

    def _parts(self) -> list[LayerSpec]:
        hidden, vector_hh = self.hidden_size, None
        if self.peephole is not None or self.projection is not None:
            vector_hh = np.zeros((self._gates, hidden), self.dtype)
            vector_hh[[0, 1, 3]] = 0 if self.peephole is None else self.peephole
        return [
            LayerSpec(
                "lstm" if self.projection is None else "lstm_projected",
                self.weight_ih,
                self.weight_hh,
                self.bias,
                self.activation,
                self.recurrent_activation,
                None if vector_hh is None else vector_hh.reshape(-1),
                self.projection,
                self.peephole is not None,
            )
        ]


def check_projection(outputs: int, units: int) -> None:
    if outputs > units:
        raise ValueError(f"projection must have at most as many rows as units, hidden_size={units}, got {outputs}")


def no_bias_hn(value: object) -> None:
    if value is not None:
        raise ValueError("bias_hn must be None for reset_after=False, which adds it to bias, got an array")
