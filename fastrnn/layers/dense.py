"""The Dense layer: a matrix and an activation, applied at every step."""

from __future__ import annotations

from numpy.typing import ArrayLike

from ..arguments import DENSE_ACTIVATIONS, Array, DenseActivation, check_activation
from ..engine.packing import LayerSpec
from .base import Stateless, Weighted


class Dense(Stateless, Weighted):
    """Apply y = f(weight x + bias) at every step: the head after a recurrent layer.

    Parameters
    ----------
    weight : array_like of shape (output_size, input_size)
        float32 or float64; the layer computes in the weights' dtype. Copied.
    bias : array_like of shape (output_size,), optional
    activation : str or tuple
        The function f: a nonlinearity of an `RNN`, or "softmax" or "log_softmax". These two are over the last axis, and stable for
        any finite logits.

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

    def _parts(self) -> list[LayerSpec]:
        return [LayerSpec("dense", self.weight, None, self.bias, self.activation)]
