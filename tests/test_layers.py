"""A layer's text, attributes, weights and copies: it is frozen, and copied without its packed form."""

import copy
import fractions
import pickle

import numpy as np
import pytest

from fastrnn import LSTM, RNN, Dense, Embedding, Sequential

from .cases import CASES, DTYPES, READERS, assert_same_bits, assert_same_results, nested, run
from .errors.given import GRU_2_3, MODEL, READER, RNN_2_3, SINGLE, TABLE, X, ones
from .exhaustive import few_cases

every_case = pytest.mark.parametrize("case", [*CASES, *READERS], ids=lambda case: case.name)

REPRS = {
    "RNN(input_size=2, hidden_size=3, nonlinearity='relu', dtype=float64)": lambda: RNN(
        ones(3, 2), ones(3, 3), ones(3), nonlinearity="relu"
    ),
    "RNN(input_size=2, hidden_size=3, bias=None, nonlinearity='tanh', dtype=float64)": lambda: RNN_2_3,
    "GRU(input_size=2, hidden_size=3, bias=None, reset_after=True, activation='tanh', recurrent_activation='sigmoid', dtype=float64)": (
        lambda: GRU_2_3
    ),
    "LSTM(input_size=2, hidden_size=3, output_size=2, peephole=array of shape (3, 3), projection=array of shape (2, 3), "
    "activation='tanh', recurrent_activation='relu', dtype=float64)": lambda: LSTM(
        ones(12, 2), ones(12, 2), ones(12), peephole=ones(3, 3), projection=ones(2, 3), recurrent_activation="relu"
    ),
    "RNN(input_size=2, hidden_size=3, bias=None, nonlinearity=('elu', 2.0), dtype=float64)": lambda: RNN(
        ones(3, 2), ones(3, 3), nonlinearity=("elu", 2)
    ),
    "RNN(input_size=2, hidden_size=3, bias=None, nonlinearity='tanh', leak=0.5, leak_at='output', dtype=float64)": (
        lambda: RNN(ones(3, 2), ones(3, 3), leak=0.5)
    ),
    "RNN(input_size=2, hidden_size=3, bias=None, nonlinearity='tanh', leak=array of shape (3,), leak_at='input', dtype=float64)": (
        lambda: RNN(ones(3, 2), ones(3, 3), leak=[1, 1, 0.5], leak_at="input")
    ),
    "Dense(input_size=3, output_size=4, activation='softmax', dtype=float32)": lambda: Dense(
        ones(4, 3, dtype=SINGLE), ones(4, dtype=SINGLE), activation="softmax"
    ),
    "Dense(input_size=3, output_size=4, bias=None, activation='identity', dtype=float64)": lambda: MODEL.layers[1],
    "Embedding(input_size=5, output_size=2, dtype=float64)": lambda: TABLE,
    "Embedding.one_hot(80)": lambda: Embedding.one_hot(np.int64(80)),
    "Sequential(RNN(input_size=2, hidden_size=3, bias=None, nonlinearity='tanh', dtype=float64), "
    "Dense(input_size=3, output_size=4, bias=None, activation='identity', dtype=float64))": lambda: MODEL,
}


@pytest.mark.parametrize(("text", "make"), REPRS.items())
def test_repr(text, make):
    """A repr shows the sizes, the options and the dtype."""
    assert repr(make()) == text


DUPLICATES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda layer: pickle.loads(pickle.dumps(layer))}


@pytest.mark.parametrize("case", few_cases([*CASES, *READERS]), ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("duplicate", DUPLICATES.values(), ids=DUPLICATES)
def test_copies(case, dtype, duplicate):
    """Copies and pickles give the same bits, and leave the packed form behind: it would double them."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (3,), 5)
    unused = pickle.dumps(model)
    expected = run(model, x, states)
    assert (model._network if case.causal else model._stages) is not None
    assert pickle.dumps(model) == unused
    other = duplicate(model)
    assert (other._network if case.causal else other._stages) is None
    assert repr(other) == repr(model)
    assert_same_results(run(other, x, states), expected)


def test_weights_are_copied():
    """A change of the arrays a layer was made from changes nothing, before the first call or after it."""
    arrays = [ones(3, 2), ones(3, 3), ones(3)]
    rnn, dense, embedding = RNN(*arrays), Dense(arrays[0], arrays[2]), Embedding(arrays[0])
    expected = RNN(ones(3, 2), ones(3, 3), ones(3))(X)[0], Dense(ones(3, 2), ones(3))(X)
    for _ in range(2):
        for array in arrays:
            array += 1
        assert_same_bits(rnn(X)[0], expected[0])
        assert_same_bits(dense(X), expected[1])
        assert_same_bits(embedding([2, 0]), ones(2, 2))


def test_weights_are_read_only():
    """A layer's weights, those of its copies too, can be read and not written, nor made writable."""
    layers = RNN(ones(3, 2), ones(3, 3), ones(3)), Dense(ones(3, 2), ones(3)), Embedding(ones(3, 2))
    for layer in (*layers, *(duplicate(layer) for duplicate in DUPLICATES.values() for layer in layers)):
        for weight in (value for value in vars(layer).values() if isinstance(value, np.ndarray)):
            with pytest.raises(ValueError, match="read-only"):
                weight[...] = 0
            with pytest.raises(ValueError, match="cannot set WRITEABLE flag to True"):
                weight.flags.writeable = True


@pytest.mark.parametrize("dtype", DTYPES)
def test_attributes(dtype):
    """Layers tell their weights, options, sizes and dtype."""
    weight_ih, weight_hh, bias = (np.arange(np.prod(shape), dtype=dtype).reshape(shape) for shape in ((3, 2), (3, 3), (3,)))
    rnn = RNN(weight_ih, weight_hh, bias, nonlinearity="sigmoid")
    for actual, expected in ((rnn.weight_ih, weight_ih), (rnn.weight_hh, weight_hh), (rnn.bias, bias)):
        assert_same_bits(actual, expected)
    assert (rnn.input_size, rnn.hidden_size, rnn.output_size, rnn.nonlinearity, rnn.dtype) == (2, 3, 3, "sigmoid", dtype)
    dense = Dense(weight_ih, activation="tanh")
    assert_same_bits(dense.weight, weight_ih)
    assert (dense.bias, dense.input_size, dense.output_size, dense.activation, dense.dtype) == (None, 2, 3, "tanh", dtype)
    embedding = Embedding(weight_ih)
    assert_same_bits(embedding.weight, weight_ih)
    assert (embedding.input_size, embedding.output_size, embedding.dtype) == (3, 2, dtype)
    one_hot = Embedding.one_hot(2)
    assert (one_hot.weight, one_hot.input_size, one_hot.output_size, one_hot.dtype) == (None, 2, 2, None)
    reader = Sequential(one_hot, rnn)
    assert (reader.layers[0], reader.input_size, reader.output_size, reader.dtype) == (one_hot, 2, 3, dtype)
    model = Sequential(dense, rnn.__class__(weight_hh, weight_hh))
    assert (model.layers[0], model.input_size, model.output_size, model.dtype) == (dense, 2, 3, dtype)


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.int8(2), np.longdouble(2), fractions.Fraction(2)])
def test_parameters_of_an_activation(number):
    """A layer keeps an activation's name as a str and its parameters as Python floats, whatever real numbers they came as."""
    layer = Dense(ones(3, 2), activation=(np.str_("leaky_relu"), number))
    assert layer.activation == ("leaky_relu", 2.0)
    assert [type(entry) for entry in layer.activation] == [str, float]
    assert type(RNN(ones(3, 2), ones(3, 3), nonlinearity=np.str_("relu")).nonlinearity) is str


def test_state_without_a_recurrent_layer():
    """A Sequential of Dense layers has () as its state, and takes None or an empty tuple."""
    model = Sequential(Dense(ones(4, 2)), Dense(ones(1, 4)))
    for state in (None, (), []):
        output, last = model(X, state)
        assert last == ()
        assert_same_bits(output, np.full((3, 7, 1), 8.0))


@pytest.mark.parametrize("duplicate", DUPLICATES.values(), ids=DUPLICATES)
def test_copies_of_an_embedding(duplicate):
    """An Embedding alone is copied with its table; one of one-hot vectors stays one."""
    table = np.arange(10.0).reshape(5, 2)
    embedding = Embedding(table)
    assert_same_bits(embedding([3, 0]), table[[3, 0]])
    assert_same_bits(duplicate(embedding)([3, 0]), table[[3, 0]])
    one_hot = duplicate(Embedding.one_hot(5))
    assert (one_hot.weight, one_hot.input_size, one_hot.dtype) == (None, 5, None)


def test_no_tokens_in_a_list():
    """An empty list holds no tokens, whatever dtype NumPy gives it."""
    output, (h_n,) = READER([])
    assert (output.shape, h_n.tolist()) == ((0, 4), [0, 0, 0])
    assert TABLE([]).shape == (0, 2)


@every_case
def test_predict(case):
    """predict takes what the call takes and gives its first result alone."""
    model, (x, states) = case.layer(np.float32), case.data(np.float32, (3,), 5)
    given = (x, nested(model, states)) if states else (x,)
    output = run(model, x, states)[0]
    assert_same_bits(model.predict(*given), output)
    out = np.empty_like(output)
    assert model.predict(*given, out=out) is out
    assert_same_bits(out, output)
    if case.chained or states:
        options = {"lengths": [2, 0, 5], "return_sequences": False}
        assert_same_bits(model.predict(*given, **options), run(model, x, states, **options)[0])
    with pytest.raises(TypeError, match="positional argument"):
        model.predict(x, None, None)
