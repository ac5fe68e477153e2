"""Transformers for scikit-learn: they turn each sequence into features. The module is imported when used, and needs the extra `sklearn`.

A reservoir's weights are random and are not fitted, only the estimator after it is. Here are sines of two frequencies:

>>> import numpy as np
>>> from sklearn.linear_model import RidgeClassifier
>>> from sklearn.pipeline import make_pipeline
>>> import fastrnn.sklearn
>>> rng = np.random.default_rng(0)
>>> y = np.arange(60) % 2                                           # which frequency
>>> X = np.sin(np.arange(50) * (0.5 + 0.1 * y[:, None]) + rng.uniform(0, 6, (60, 1)))  # (60, 50): one feature, 50 steps
>>> pipeline = make_pipeline(fastrnn.sklearn.Reservoir(50, output="mean", bias_scaling=1.0, random_state=0), RidgeClassifier(1e-3))
>>> pipeline.fit(X[:40], y[:40]).score(X[40:], y[40:])
1.0

Sequences of several lengths are a list of arrays (T_i, n_features).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from .arguments import (
    Array,
    as_array,
    as_integer,
    as_number,
    check_choice,
    check_tokens,
    library_of,
    refuse_masked,
    refuse_others,
)
from .layers import RNN, Embedding, Recurrent, Sequential
from .sequences import pad

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("fastrnn.sklearn needs scikit-learn; pip install 'fastrnn[sklearn]'") from error

Output = Literal["last", "mean", "all"]

# Bytes of states in memory at a time when their means are computed. The means' bits don't depend on it.
KEPT = 1 << 24


def check_integer(name: str, value: object, lowest: int) -> int:
    integer = as_integer(value)
    if integer is None or integer < lowest:
        raise ValueError(f"{name} must be an integer from {lowest} up, got {value!r}")
    return integer


def check_scale(name: str, value: object) -> float:
    number = as_number(value)
    if number is None or not 0 <= number < math.inf:
        raise ValueError(f"{name} must be a finite number from 0 up, got {value!r}")
    return number


def check_share(name: str, value: object) -> float:
    number = as_number(value)
    if number is None or not 0 < number <= 1:
        raise ValueError(f"{name} must be a number above 0 and at most 1, got {value!r}")
    return number


def wrong_random_state(value: object) -> ValueError:
    known = "None, an integer from 0 to 2**32 - 1, or a numpy.random.RandomState"
    remedy = "; pass an integer drawn from it: rng.integers(2**32)" if isinstance(value, np.random.Generator) else ""
    return ValueError(f"random_state must be {known}, got {value!r}{remedy}")


def check_extracts(model: object, kinds: tuple[type, ...]) -> None:
    if not isinstance(model, kinds):
        raise TypeError(f"model must be a recurrent layer or a Sequential, got {type(model).__name__}")


def check_list(arrays: list[Array], axes: int) -> list[Array]:
    """Check a list of sequences, and return it: each is vectors (T, n_features) or, with axes=1, tokens (T,)."""
    for i, array in enumerate(arrays):
        if array.ndim != axes:
            form = "(T, n_features)" if axes == 2 else "(T,), tokens of an Embedding"
            raise ValueError(f"X[{i}] must have shape {form}, got {array.shape}")
        if axes == 1 and array.dtype.kind not in "iu" and array.size:
            raise TypeError(f"X[{i}] must be integers, the tokens of an Embedding, got dtype {array.dtype}")
        if array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(f"X[{i}] must have as many features as X[0], {arrays[0].shape[1]}, got shape {array.shape}")
    return arrays


def check_sequences(shape: tuple[int, ...], *, tokens: bool) -> None:
    """Check the shape of an array of sequences."""
    if tokens and len(shape) != 2:
        raise ValueError(f"X must have shape (n_samples, T) where it holds tokens, got {shape}")
    if len(shape) not in (2, 3):
        remedy = "; Reshape your data: X[numpy.newaxis] is one sequence of one feature" if len(shape) == 1 else ""
        raise ValueError(f"X must have shape (n_samples, T, n_features), or (n_samples, T) for one feature, got {shape}{remedy}")
    if len(shape) == 3 and not shape[2]:
        raise ValueError(f"X must have 1 feature at least, got shape {shape}")


def check_washed_out(lengths: Sequence[int] | Array, washout: int, *, listed: bool) -> None:
    """Check that each sequence has more than `washout` steps. Errors about a list name the sequence."""
    for i, length in enumerate(lengths):
        if length <= washout:
            name, remedy = (f"X[{i}]", "make washout smaller, or leave the sequence out") if listed else ("X", "make washout smaller")
            raise ValueError(f"{name} must have more steps than washout={washout}, got {length}{f'; {remedy}' if washout else ''}")


def check_features(shape: tuple[int, ...], input_size: int) -> None:
    if (shape[2] if len(shape) == 3 else 1) != input_size:
        alternative = ", or (n_samples, T)" if input_size == 1 else ""
        raise ValueError(f"X must have shape (n_samples, T, {input_size}){alternative} for input_size={input_size}, got {shape}")


def read(transformer: Any, X: Any, washout: int, *, reset: bool, tokens: bool = False) -> tuple[Array, Array | None]:
    """Check sequences, and return them as one array, with the lengths of a list of sequences, else None."""
    refuse_masked("X", X)
    if library_of(X) != "scipy":  # scikit-learn refuses sparse arrays itself, with the error that its own tests expect
        refuse_others("X", X)
    lengths, axes = None, 1 if tokens else 2
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        X = list(X)  # an object array is NumPy's form of arrays of several lengths
    if isinstance(X, (list, tuple)):
        arrays = [as_array(f"X[{i}]", sequence) for i, sequence in enumerate(X)]
        if len({array.shape for array in arrays}) > 1 or (arrays and arrays[0].ndim == axes):  # otherwise they are the rows of a table
            X, lengths = pad(check_list(arrays, axes))
    dtype = None if tokens else [np.float64, np.float32]
    x = check_array(X, dtype=dtype, ensure_2d=False, allow_nd=True, estimator=transformer, input_name="X")
    check_sequences(x.shape, tokens=tokens)
    check_washed_out(x.shape[1:2] if lengths is None else lengths, washout, listed=lengths is not None)
    if not tokens:
        validate_data(transformer, X if x.ndim == 2 else x[:, 0], reset=reset, skip_check_array=True)
    return x, lengths


def run(model: Recurrent | Sequential, x: Array, lengths: Array | None, output: str, washout: int) -> Any:
    """Run a model over checked sequences, and return the last outputs, all outputs or their means, as `output` says."""
    if output == "last":
        return model.predict(x, lengths=lengths, return_sequences=False)
    ends = [x.shape[1]] * len(x) if lengths is None else lengths
    if output == "all":
        outputs = model.predict(x, lengths=lengths, return_sequences=True)
        return outputs[:, washout:] if lengths is None else [row[washout:end].copy() for row, end in zip(outputs, ends, strict=True)]
    together = max(1, KEPT // (x.shape[1] * model.output_size * model.dtype.itemsize))
    means = np.empty((len(x), model.output_size), model.dtype)
    for first in range(0, len(x), together):
        some = slice(first, first + together)
        outputs = model.predict(x[some], lengths=None if lengths is None else lengths[some], return_sequences=True)
        for i, (row, end) in enumerate(zip(outputs, ends[some], strict=True), first):
            means[i] = row[washout:end].mean(axis=0, dtype=np.float64)  # a mean for each sequence by itself has the same bits in any batch
    return means


class Reservoir(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turn each sequence into the states of a layer whose random weights are never fitted: the reservoir of an echo state network.

    With u_t the input, h_t = (1 - leak) h_{t-1} + leak tanh(weight_ih u_t + weight_hh h_{t-1} + bias), from h_0 = 0.

    Parameters
    ----------
    n_units : int
        The number of units in the reservoir.
    spectral_radius : float
        The largest magnitude of an eigenvalue of weight_hh. The larger it is, the longer an input affects the states; far above 1 the
        initial state may affect them forever.
    input_scaling : float
        weight_ih is uniform between -input_scaling and input_scaling.
    connectivity : float
        The share of units that each unit reads, above 0 and at most 1. The number is rounded, and at least one. Other weights are zero.
    leak : float, or array_like of shape (n_units,)
        The share of its new value that a unit takes at a step, above 0 and at most 1.
    bias_scaling : float
        The bias is uniform between -bias_scaling and bias_scaling. Without a bias, negated input gives negated states.
    washout : int
        So many first steps are left out of "mean" and "all". Every sequence must be longer.
    output : {"last", "mean", "all"}
        What `transform` returns: the last state, the mean of the states, or every state.
    random_state : int, numpy.random.RandomState or None
        An integer gives the same weights in every fit, up to the rounding of LAPACK's eigenvalues.

    Attributes
    ----------
    layer_ : fastrnn.RNN
        The reservoir, float32 where X is float32 at `fit`, or else float64.
    n_features_in_ : int
        The size of the last axis of X at `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        The names of a data frame's columns at `fit`.

    Notes
    -----
    X is one of these:

    - an array of shape (n_samples, T, n_features); T may differ from call to call;
    - a list of arrays of shape (T_i, n_features), sequences of several lengths;
    - an array or a data frame of shape (n_samples, T): sequences of one feature, a column for each step. As with any table,
      `transform` takes as many columns as `fit`; for other lengths pass X[..., numpy.newaxis] to both.

    `fit` computes the eigenvalues of weight_hh, in about n_units ** 3 operations. `set_output` works for "last" and "mean"; "all" has
    three axes.

    References
    ----------
    H. Jaeger et al., "Optimization and applications of echo state networks with leaky-integrator neurons", Neural Networks 20
    (2007), 335-352.

    Examples
    --------
    >>> import numpy as np, fastrnn.sklearn
    >>> X = np.random.default_rng(0).random((20, 30, 3))
    >>> reservoir = fastrnn.sklearn.Reservoir(50, leak=0.5, output="all", washout=10, random_state=0)
    >>> reservoir.fit_transform(X).shape
    (20, 20, 50)
    >>> reservoir.set_params(output="mean").transform([X[0], X[1, :15]]).shape
    (2, 50)
    """

    layer_: RNN

    def __init__(
        self,
        n_units: int = 100,
        *,
        spectral_radius: float = 0.9,
        input_scaling: float = 1.0,
        connectivity: float = 0.1,
        leak: float | ArrayLike = 1.0,
        bias_scaling: float = 0.0,
        washout: int = 0,
        output: Output = "last",
        random_state: Any = None,
    ) -> None:
        self.n_units = n_units
        self.spectral_radius = spectral_radius
        self.input_scaling = input_scaling
        self.connectivity = connectivity
        self.leak = leak
        self.bias_scaling = bias_scaling
        self.washout = washout
        self.output = output
        self.random_state = random_state

    def fit(self, X: ArrayLike | Sequence[ArrayLike], y: object = None) -> Reservoir:
        """Check the parameters and X, and draw the weights.

        Parameters
        ----------
        X : array_like of shape (n_samples, T, n_features) or (n_samples, T), or list of array_like of shape (T_i, n_features)
            Only its shape and dtype matter.
        y : object
            Ignored.

        Returns
        -------
        Reservoir
            Itself.

        Raises
        ------
        TypeError, ValueError
            For parameters out of range, X of another shape or dtype, NaN or infinity in X, and sequences not longer than washout.
        """
        units = check_integer("n_units", self.n_units, 1)
        radius = check_scale("spectral_radius", self.spectral_radius)
        read_by_each = max(1, round(check_share("connectivity", self.connectivity) * units))
        input_scaling = check_scale("input_scaling", self.input_scaling)
        bias_scaling = check_scale("bias_scaling", self.bias_scaling)
        rng = self._generator()
        x, _ = read(self, X, self._washout(), reset=True)

        # Every unit reads at least one unit. So there is a cycle, and an eigenvalue that isn't zero.
        read_units = rng.random_sample((units, units)).argsort(axis=1)[:, :read_by_each]
        weight_hh = np.zeros((units, units))
        np.put_along_axis(weight_hh, read_units, rng.uniform(-1, 1, read_units.shape), axis=1)
        weight_hh *= radius / np.abs(np.linalg.eigvals(weight_hh)).max()
        bias = rng.uniform(-bias_scaling, bias_scaling, units).astype(x.dtype) if bias_scaling else None
        weight_ih = rng.uniform(-input_scaling, input_scaling, (units, x.shape[2] if x.ndim == 3 else 1))
        self.layer_ = RNN(weight_ih.astype(x.dtype), weight_hh.astype(x.dtype), bias, leak=self.leak)
        return self

    def transform(self, X: ArrayLike | Sequence[ArrayLike]) -> Any:
        """Run the reservoir.

        Parameters
        ----------
        X : array_like of shape (n_samples, T, n_features) or (n_samples, T), or list of array_like of shape (T_i, n_features)
            Converted to the dtype of the weights.

        Returns
        -------
        ndarray of shape (n_samples, n_units), with output="all" (n_samples, T - washout, n_units)
            For a list output="all" gives a list of ndarray of shape (T_i - washout, n_units).

        Raises
        ------
        TypeError, ValueError
            For X of another shape or dtype than at `fit`, NaN or infinity in X, and sequences not longer than washout.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        washout = self._washout()
        x, lengths = read(self, X, washout, reset=False)
        check_features(x.shape, self.layer_.input_size)
        return run(self.layer_, x if x.ndim == 3 else x[..., np.newaxis], lengths, self.output, washout)

    def _washout(self) -> int:
        check_choice("output", self.output, get_args(Output))
        return check_integer("washout", self.washout, 0)

    def _generator(self) -> np.random.RandomState:
        try:
            return check_random_state(self.random_state)
        except ValueError as error:
            raise wrong_random_state(self.random_state) from error

    @property
    def _n_features_out(self) -> int:
        return self.layer_.hidden_size

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class Features(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turn each sequence into the output of a given network, whose weights are not fitted.

    Parameters
    ----------
    model : recurrent layer, Bidirectional or Sequential
        A trained model. `sklearn.base.clone` copies it, as do processes.
    output : {"last", "mean", "all"}
        What `transform` returns: the output of a sequence's last step, the mean of all outputs, or every output. If the last
        recurrent layer is a Bidirectional, "last" takes the merged last outputs of its two directions.
    washout : int
        So many first steps are left out of "mean" and "all". Every sequence must be longer.

    Attributes
    ----------
    n_features_in_ : int
        The size of the last axis of X at `fit`; not set if X holds tokens.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        The names of a data frame's columns at `fit`.

    Notes
    -----
    `transform` needs no `fit`. X is what a `Reservoir` takes: an array of shape (n_samples, T, n_features), a list of arrays of shape
    (T_i, n_features), or for a model of input_size=1 a table (n_samples, T). For a model that begins with an Embedding X holds tokens:
    an array of integers of shape (n_samples, T), or a list of arrays of shape (T_i,).

    Examples
    --------
    >>> import numpy as np, fastrnn.sklearn
    >>> rnn = fastrnn.RNN(np.eye(3, 2), 0.5 * np.eye(3), nonlinearity="identity")
    >>> fastrnn.sklearn.Features(rnn).transform(np.ones((1, 4, 2)))
    array([[1.875, 1.875, 0.   ]])
    >>> fastrnn.sklearn.Features(rnn, output="mean", washout=2).transform([np.ones((4, 2)), np.ones((3, 2))])
    array([[1.8125, 1.8125, 0.    ],
           [1.75  , 1.75  , 0.    ]])
    """

    def __init__(self, model: Recurrent | Sequential, *, output: Output = "last", washout: int = 0) -> None:
        self.model = model
        self.output = output
        self.washout = washout

    def fit(self, X: ArrayLike | Sequence[ArrayLike], y: object = None) -> Features:
        """Check the parameters and X; nothing is fitted.

        Parameters
        ----------
        X : as `transform` takes it
        y : object
            Ignored.

        Returns
        -------
        Features
            Itself.

        Raises
        ------
        TypeError, ValueError
            As of `transform`.
        """
        self._read(X, reset=True)
        return self

    def transform(self, X: ArrayLike | Sequence[ArrayLike]) -> Any:
        """Run the model.

        Parameters
        ----------
        X : array_like of shape (n_samples, T, n_features) or (n_samples, T), or list of array_like of shape (T_i, n_features) or (T_i,)
            Numbers are converted to the model's dtype.

        Returns
        -------
        ndarray of shape (n_samples, output_size), with output="all" (n_samples, T - washout, output_size)
            For a list output="all" gives a list of ndarray of shape (T_i - washout, output_size).

        Raises
        ------
        TypeError, ValueError
            For parameters out of range, X of another shape or dtype than the model takes, NaN or infinity in X, and sequences not
            longer than washout.
        """
        x, lengths, washout = self._read(X, reset=False)
        return run(self.model, x, lengths, self.output, washout)

    def _read(self, X: Any, *, reset: bool) -> tuple[Array, Array | None, int]:
        check_extracts(self.model, (Recurrent, Sequential))
        check_choice("output", self.output, get_args(Output))
        washout = check_integer("washout", self.washout, 0)
        tokens = isinstance(self.model, Sequential) and isinstance(self.model.layers[0], Embedding)
        x, lengths = read(self, X, washout, reset=reset, tokens=tokens)
        if tokens:
            check_tokens("X", x, self.model.input_size)
            return x, lengths, washout
        check_features(x.shape, self.model.input_size)
        return x if x.ndim == 3 else x[..., np.newaxis], lengths, washout

    @property
    def _n_features_out(self) -> int:
        return self.model.output_size

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = [
            getattr(self.model, "dtype", np.dtype(np.float64)).name
        ]  # a missing model is refused by fit, not here
        tags.requires_fit = False
        return tags
