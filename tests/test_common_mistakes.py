"""What newcomers pass on their first day is taken, or refused with what to do instead."""

import numpy as np
import pytest

import fastrnn

from .cases import assert_same_bits

RNG = np.random.default_rng(0)
X, U, W, V, B = (RNG.uniform(-0.5, 0.5, shape).astype(np.float32) for shape in ((7, 2), (5, 2), (5, 5), (3, 5), (5,)))
RNN = fastrnn.RNN(U, W, B)
READER = fastrnn.Sequential(fastrnn.Embedding.one_hot(3), fastrnn.RNN(V.T, W), fastrnn.Dense(V, activation="softmax"))
SEVERAL = "must be an array or a rectangular nested list, got rows of different lengths"
OBJECTS = np.array([X, X[:3]], dtype=object)
REFUSED = {
    "sequences for a layer": (lambda: RNN([X, X[:3]]), f"x {SEVERAL}; pad them: x, lengths = fastrnn.pad(x)"),
    "sequences of tokens": (lambda: READER([[1, 2], [0]]), f"x {SEVERAL}; pad them: x, lengths = fastrnn.pad(x)"),
    "sequences to score": (
        lambda: fastrnn.log_likelihood(READER, [[1, 2], [0]]),
        f"tokens {SEVERAL}; pad them: tokens, lengths = fastrnn.pad(tokens)",
    ),
    "an array of sequences": (lambda: RNN(OBJECTS), "x must hold real numbers, got dtype object; pad them: x, lengths = fastrnn.pad(x)"),
    "sequences for a stream": (lambda: RNN.stream()([X, X[:3]]), f"x {SEVERAL}"),
    "no x": (lambda: RNN(None), "x must hold real numbers, got None"),
    "a column as bias": (
        lambda: fastrnn.rnn_forward(X, U, W, V, B[:, np.newaxis]),
        "b must have shape (H,) for H=5, got (5, 1); pass numpy.ravel(b)",
    ),
    "a scalar as bias": (lambda: fastrnn.rnn_forward(X, U, W, V, 0.0), "b must have shape (H,) for H=5, got ()"),
    "a scalar as a layer's bias": (lambda: fastrnn.RNN(U, W, 0.5), "bias must have shape (hidden_size,) for hidden_size=5, got ()"),
    "a row as gates' bias": (
        lambda: fastrnn.LSTM(np.ones((8, 3)), np.ones((8, 2)), np.ones((1, 8))),
        "bias must have shape (4 * hidden_size,) for hidden_size=2, got (1, 8); pass numpy.ravel(bias)",
    ),
    "a bias of another size and rank": (
        lambda: fastrnn.Dense(V, np.ones((5, 1), np.float32)),
        "bias must have shape (output_size,) for output_size=3, got (5, 1)",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    """The error names the argument, what it must be, and the remedy."""
    call, text = REFUSED[kind]
    with pytest.raises((TypeError, ValueError)) as raised:
        call()
    assert str(raised.value) == text


def test_remedies():
    """What the errors advise works."""
    zeros = fastrnn.rnn_forward(X, U, W, V, np.zeros_like(U[:, 0]))
    assert_same_bits(zeros, fastrnn.Sequential(fastrnn.RNN(U, W, np.zeros(5, np.float32)), READER.layers[-1]).predict(X))
    assert_same_bits(fastrnn.RNN(U, W, np.ravel(B[:, np.newaxis])).predict(X), RNN.predict(X))
    x, lengths = fastrnn.pad([X, X[:3]])
    assert_same_bits(RNN(x, lengths=lengths)[1][1], RNN(X[:3])[1])


def test_no_sequence_at_all():
    """`pad` makes an empty batch of tokens of no sequence, which models of tokens take, and `unpad` takes apart."""
    x, lengths = fastrnn.pad([])
    assert (x.shape, x.dtype, lengths.shape, lengths.dtype) == ((0, 0), np.int64, (0,), np.int64)
    output, (h_n,) = READER(x, lengths=lengths)
    assert (output.shape, h_n.shape) == ((0, 0, 3), (0, 5))
    assert fastrnn.log_likelihood(READER, x, lengths=lengths).shape == (0,)
    assert fastrnn.unpad(output, lengths) == []


class Parameter:
    """A weight of PyTorch's, as NumPy sees it: it can't be read before it is detached, and lies on a graphics card before `cpu`."""

    __module__ = "torch.nn.parameter"

    def __init__(self, array, steps=("detach", "cpu")):
        self.array, self.steps, self.dtype = array, steps, f"torch.{array.dtype}"

    def __array__(self, dtype=None, copy=None):
        if self.steps:
            raise RuntimeError(f"call {self.steps[0]} first")
        return self.array

    def detach(self):
        return Parameter(self.array, ("cpu",))

    def cpu(self):
        return Parameter(self.array, self.steps[1:])


def test_parameters_are_weights():
    """Layers, `rnn_forward` and `from_state_dict` take PyTorch's parameters, and copy them: training goes on without the model."""
    own = [array.copy() for array in (U, W, B)]
    parameters = [Parameter(array) for array in own]
    leaky = fastrnn.RNN(*parameters, leak=Parameter(np.full(5, 0.5, np.float32)))
    loaded = fastrnn.from_state_dict(
        dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), [*parameters, Parameter(0 * B)], strict=True))
    )
    layer, probabilities = fastrnn.RNN(*parameters), fastrnn.rnn_forward(X, *parameters[:2], Parameter(V), parameters[2])
    for array in own:
        array[...] = 9
    assert_same_bits(layer.predict(X), RNN.predict(X))
    assert_same_bits(loaded.predict(X), RNN.predict(X))
    assert_same_bits(leaky.predict(X), fastrnn.RNN(U, W, B, leak=np.full(5, 0.5, np.float32)).predict(X))
    assert_same_bits(probabilities, fastrnn.rnn_forward(X, U, W, V, B))
