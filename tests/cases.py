"""The one table of models with their references and sizes, the one table of tolerances, and random weights."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

import fastrnn
from fastrnn import reference

DTYPES = (np.float32, np.float64)

# Times max(1, max |reference|), against the reference in float64, for weights uniform in +-1/sqrt(H), with which steps shrink errors.
TOLERANCES = {
    np.dtype(np.float32): 1e-5,  # 84 eps: the errors of a sum of 500 roundings and of a step's own, carried over some steps
    np.dtype(np.float64): 1e-12,  # 4500 eps: the same, and the reference rounds as much as the kernel does
}


@dataclass(frozen=True)
class Case:
    """A chain of layers: an RNN with a nonlinearity, a Dense with an activation, an Embedding of a table; sizes begins with the input's."""

    name: str
    layers: tuple
    sizes: tuple
    sequential: bool = False
    bias: bool = True
    one_hot: bool = False  # an Embedding of one-hot vectors comes first
    looked_up: bool = False  # a table's rows are looked up although it is small enough to be multiplied with the next weights

    @property
    def chained(self):
        return self.sequential or self.one_hot or len(self.layers) > 1

    @property
    def tokens(self):
        return self.one_hot or self.layers[0][0] == "Embedding"

    def layer(self, dtype, *, sizes=None, seed=0):
        """The model in fastrnn."""
        model = self._build(fastrnn, dtype, sizes or self.sizes, seed)
        if self.looked_up:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(fastrnn.layers, "FOLDED", 0)
                model._packed()
        return model

    def reference(self, dtype, *, sizes=None, seed=0):
        """The same weights, rounded to dtype, in the float64 reference."""
        return self._build(reference, dtype, sizes or self.sizes, seed)

    def _build(self, library, dtype, sizes, seed):
        rng = np.random.default_rng(seed)
        computed = np.float64 if library is reference else dtype
        layers = [library.Embedding.one_hot(sizes[0])] if self.one_hot else []
        for (kind, function), inputs, outputs in zip(self.layers, sizes[:-1], sizes[1:], strict=True):
            hidden = {"RNN": outputs, "Dense": inputs, "Embedding": 1}[kind]

            def draw(*shape, hidden=hidden):
                return uniform(rng, shape, dtype, hidden**-0.5).astype(computed)

            if kind == "Embedding":
                layers.append(library.Embedding(draw(inputs, outputs)))
                continue
            bias = draw(outputs) if self.bias else None
            if kind == "RNN":
                layers.append(library.RNN(draw(outputs, inputs), draw(outputs, outputs), bias, nonlinearity=function))
            else:
                layers.append(library.Dense(draw(outputs, inputs), bias, activation=function))
        return library.Sequential(*layers) if self.chained else layers[0]

    def data(self, dtype, leading, steps, *, sizes=None, seed=1):
        """Input (..., T, I), or tokens (..., T), and a non-zero state for each recurrent layer."""
        rng = np.random.default_rng(seed)
        sizes = sizes or self.sizes
        shape = (*leading, steps)
        x = rng.integers(0, sizes[0], shape) if self.tokens else uniform(rng, (*shape, sizes[0]), dtype, 1.0)
        hidden = [size for (kind, _), size in zip(self.layers, sizes[1:], strict=True) if kind == "RNN"]
        return x, tuple(uniform(rng, (*leading, size), dtype, 0.9) for size in hidden)


CASES = [
    Case("rnn-tanh", (("RNN", "tanh"),), (7, 45)),
    Case("rnn-relu", (("RNN", "relu"),), (3, 130)),
    Case("rnn-sigmoid", (("RNN", "sigmoid"),), (33, 5)),
    Case("rnn-identity", (("RNN", "identity"),), (1, 64)),
    Case("rnn-no-bias", (("RNN", "tanh"),), (17, 128), bias=False),
    Case("rnn-one", (("RNN", "tanh"),), (2, 1)),
    Case("dense", (("Dense", None),), (20, 31)),
    Case("dense-softmax", (("Dense", "softmax"),), (4, 77)),
    Case("dense-log-softmax", (("Dense", "log_softmax"),), (65, 33)),
    Case("dense-sigmoid", (("Dense", "sigmoid"),), (129, 18)),
    Case("dense-tanh", (("Dense", "tanh"),), (10, 3)),
    Case("dense-relu", (("Dense", "relu"),), (1, 9)),
    Case("dense-no-bias", (("Dense", "softmax"),), (6, 40), bias=False),
    Case("sequential-of-one", (("RNN", "tanh"),), (5, 36), sequential=True),
    Case("rnn-softmax", (("RNN", "tanh"), ("Dense", "softmax")), (9, 150, 23)),
    Case("rnn-rnn-log-softmax", (("RNN", "relu"), ("RNN", "tanh"), ("Dense", "log_softmax")), (11, 66, 37, 101)),
    Case("dense-rnn-dense", (("Dense", "sigmoid"), ("RNN", "sigmoid"), ("Dense", None)), (6, 14, 90, 2)),
]
TABLES = [
    Case("table-rnn", (("Embedding", None), ("RNN", "tanh")), (19, 7, 45)),
    Case("table-dense", (("Embedding", None), ("Dense", "softmax")), (5, 70, 33)),
    Case("table-of-one", (("Embedding", None), ("RNN", "sigmoid")), (1, 1, 5), bias=False),
    Case("table-rnn-rnn-softmax", (("Embedding", None), ("RNN", "tanh"), ("RNN", "relu"), ("Dense", "softmax")), (131, 130, 66, 9, 21)),
    Case("table-dense-rnn", (("Embedding", None), ("Dense", "tanh"), ("RNN", "tanh")), (50, 200, 3, 17)),
]
# Models of tokens: of one-hot vectors, before each of these layers, and of a table's rows.
READERS = [
    *(replace(case, name=f"one-hot-{case.name}", one_hot=True) for case in CASES),
    *TABLES,
    *(replace(case, name=f"looked-up-{case.name}", looked_up=True) for case in TABLES),
    Case("table-alone", (("Embedding", None),), (23, 90), sequential=True),
]
MODEL = CASES[-2]  # two states and a softmax: where one model is enough


def uniform(rng, shape, dtype, bound):
    return rng.uniform(-bound, bound, shape).astype(dtype)


def run(model, x, states=(), **options):
    """Output and a tuple of last states, of any model in either library."""
    kind = type(model).__name__
    if kind in ("Dense", "Embedding"):
        return model(x, **options), ()
    if kind == "RNN":
        output, h_n = model(x, states[0] if states else None, **options)
        return output, (h_n,)
    return model(x, states or None, **options)


def assert_close(actual, expected, dtype):
    """Agree with the reference within the dtype's tolerance; inf and NaN in the same places."""
    finite = np.abs(expected[np.isfinite(expected)])
    bound = TOLERANCES[np.dtype(dtype)] * max(1.0, finite.max(initial=0.0))
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


def assert_same_bits(actual, expected):
    """Equal element by element, NaN to NaN, in shape and dtype too."""
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected, strict=True)


def assert_same_results(actual, expected):
    """Bit for bit the same output and last states."""
    assert_same_bits(actual[0], expected[0])
    for one, other in zip(actual[1], expected[1], strict=True):
        assert_same_bits(one, other)
