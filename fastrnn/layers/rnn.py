"""The Elman layer, plain and with a leak."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Activation, Array, as_array, check_activation, check_choice, convert, detached, place
from ..engine.packing import LayerSpec
from ..engine.states import ArrayForm, SecondOfTwoForm
from ..kernels.layout import CELLS
from .base import Hidden, Weighted


class RNN(Hidden, Weighted):
    """Run an Elman layer over whole sequences: s_t = f(weight_ih x_t + weight_hh s_{t-1} + bias).

    Parameters
    ----------
    weight_ih : array_like of shape (hidden_size, input_size)
        Weights of the input, float32 or float64; the layer computes in the weights' dtype. Copied.
    weight_hh : array_like of shape (hidden_size, hidden_size)
        Weights of the previous state.
    bias : array_like of shape (hidden_size,), optional
        Added at every step.
    nonlinearity : {"tanh", "relu", "sigmoid", "identity", "hard_sigmoid", "softplus", "softsign"} or tuple
        The function f. One with parameters is a tuple: ("leaky_relu", alpha) is alpha x below zero, ("elu", alpha) is
        alpha (e^x - 1) below zero, ("hard_sigmoid", alpha, beta) is max(0, min(1, alpha x + beta)). Without parameters
        hard_sigmoid is relu6(x + 3) / 6. softplus is log(1 + e^x), softsign x / (1 + abs(x)).
    leak : float, or array_like of shape (hidden_size,)
        The share of its new value that a unit takes at a step, above 0 and at most 1. With 1 it is a plain unit.
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
    _gates = CELLS["elman"].gates
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
        form = ArrayForm(hidden) if leak_at == "output" else SecondOfTwoForm(hidden)
        self._set(input_size=inputs, hidden_size=hidden, output_size=hidden, state_form=form)

    def _parts(self) -> list[LayerSpec]:
        if self._plain:
            return [LayerSpec("elman", self.weight_ih, self.weight_hh, self.bias, self.nonlinearity)]
        leaks = np.full(self.hidden_size, self.leak, self.dtype)
        return [LayerSpec(f"leaky_{self.leak_at}", self.weight_ih, self.weight_hh, self.bias, self.nonlinearity, vector_hh=leaks)]

    @property
    def _plain(self) -> bool:
        return isinstance(self.leak, float) and self.leak == 1 and self.leak_at == "output"

    def _shown(self) -> dict[str, Any]:
        return {"nonlinearity": self.nonlinearity} if self._plain else super()._shown()


def check_leak(value: ArrayLike, units: int, dtype: np.dtype[Any]) -> float | Array:
    """Check a leak. Return it as a Python float, or as a read-only array with one leak for each unit."""
    leak = as_array("leak", detached(value))
    if leak.dtype.kind == "b" or leak.shape not in ((), (units,)):
        raise ValueError(f"leak must be a number or have shape ({units},), got {leak.dtype} of shape {leak.shape}")
    leak = convert(leak, dtype)
    if not (leak > 0).all() or not (leak <= 1).all():
        position, at = place(~((leak > 0) & (leak <= 1)))
        raise ValueError(f"leak must be above 0 and at most 1, got {leak[position]}{at}")
    if not leak.ndim:
        return float(leak)
    leak.flags.writeable = False
    return leak.view()
