"""The Embedding layer: each token stands for a vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Array, check_not_alone, check_weights
from ..engine.packing import LayerSpec, read_only
from .base import Stateless


class Embedding(Stateless):
    """Turn tokens into vectors: each integer selects a row of a table. A `Sequential` with an Embedding as its first layer reads tokens.

    Parameters
    ----------
    weight : array_like of shape (input_size, output_size)
        The table, a row for each token of the vocabulary; float32 or float64. Copied.

    Attributes
    ----------
    weight : ndarray or None
        The table, read only; None for one-hot vectors.
    input_size, output_size : int
        The number of tokens, and the length of their vectors.
    dtype : numpy.dtype or None
        The table's; None for one-hot vectors, which take the next layer's.

    Raises
    ------
    TypeError
        For a table that is neither float32 nor float64.
    ValueError
        For a table that is empty, or doesn't have two axes.

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
        """Return an Embedding with one-hot vectors. No table is stored: a token selects a column of the next layer's weights.

        Parameters
        ----------
        V : int
            The number of tokens.

        Returns
        -------
        Embedding
            It must be the first layer of a Sequential, before another layer.

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
            For arguments of another dtype or shape, tokens beyond the vocabulary, and a one-hot Embedding, which can't be called.
        """
        return self._run(x, out, tokens=True, progress=progress)

    def _parts(self) -> list[LayerSpec]:
        check_not_alone(self, self.input_size, alone=self.weight is None)
        assert self.weight is not None
        return [LayerSpec("dense", self.weight.T, None, None, "identity", feed="look_up")]

    def _described(self) -> dict[str, Any]:
        return {"one_hot": self.input_size} if self.weight is None else {"weight": self.weight}

    @classmethod
    def _from_described(cls, *, one_hot: int | None = None, **weight: Any) -> Embedding:
        return cls(**weight) if one_hot is None else cls.one_hot(one_hot)

    def __repr__(self) -> str:
        if self.weight is None:
            return f"Embedding.one_hot({self.input_size})"
        return f"Embedding(input_size={self.input_size}, output_size={self.output_size}, dtype={self.dtype})"


def check_vocabulary_size(value: object) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"V must be an integer from 1 up, got {value!r}")
    return int(value)
