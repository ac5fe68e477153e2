"""Bad arguments get an error that says what was expected and what came; layers are frozen, and copied without their packed form."""

import copy
import fractions
import pathlib
import pickle
import re
import sys
import types

import numpy as np
import pytest
import scipy.sparse

import fastrnn
from fastrnn import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Dense,
    Embedding,
    Sequential,
    generate,
    log_likelihood,
    pad,
    rnn_forward,
    set_num_threads,
    unpad,
)
from fastrnn.arguments import one_of
from fastrnn.layers.recurrent import RECURRENT

from .cases import CASES, DTYPES, READERS, assert_same_bits, assert_same_results, nested, run

every_case = pytest.mark.parametrize("case", [*CASES, *READERS], ids=lambda case: case.name)


def ones(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


def frozen(array):
    array.flags.writeable = False
    return array


def streamed(model, x):
    stream = model.stream()
    stream(x)
    return stream


def banked(model, *, capacity=5, rows=2):
    bank = model.streams(capacity)
    for _ in range(rows):
        bank.add()
    return bank


def changed_in_the_midst():
    """Step a bank in several pieces, and one of its rows between two of them."""
    bank, banks = banked(RNN_2_3), fastrnn.banks
    run_network = banks.run_network

    def meddle(*arguments):
        run_network(*arguments)
        patch.undo()
        bank.step(ones(1, 2), at=[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(banks, "MOST_AT_ONCE", 0)
        patch.setattr(banks, "run_network", meddle)
        bank.step(ones(2, 2))


def threads_from(value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastrnn.engine.threads, "chosen", None)
        patch.setattr(fastrnn.engine.threads, "found", None)
        patch.setenv("FASTRNN_NUM_THREADS", value)
        fastrnn.get_num_threads()


def without_generators():
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(np, "random", raising=False)
        patch.setitem(sys.modules, "numpy.random", None)
        generate(TELLER, 0, 5, rng=0)


class Unreadable:
    """An array of another library, which NumPy can't read."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it has a gradient")


class Tensor(Unreadable):
    """What PyTorch's have, as far as it is looked at."""

    __module__ = "torch"
    requires_grad, is_sparse, dtype, device = True, False, "torch.float32", types.SimpleNamespace(type="cpu")
    is_conj = bool


SINGLE = np.float32
RNN_2_3 = RNN(ones(3, 2), ones(3, 3))
GRU_2_3, LSTM_2_3, LSTM_3 = GRU(ones(9, 2), ones(9, 3)), LSTM(ones(12, 2), ones(12, 3)), LSTM(ones(12, 3), ones(12, 3))
RNN_3 = RNN(ones(3, 3), ones(3, 3))
MODEL = Sequential(RNN_2_3, Dense(ones(4, 3)))
TWO = Sequential(RNN_2_3, RNN(ones(5, 3), ones(5, 5)))
VECTORS = Sequential(RNN(ones(3, 4), ones(3, 3)), Dense(ones(4, 3), activation="softmax"))
TELLER = Sequential(Embedding.one_hot(4), *VECTORS.layers)
READER = Sequential(Embedding.one_hot(2), *MODEL.layers)
TABLE = Embedding(ones(5, 2))
BOTH = Bidirectional(RNN_2_3, LSTM_2_3)
BOTH_TELL = Sequential(Embedding.one_hot(2), BOTH, Dense(ones(2, 6), activation="softmax"))
X, H0 = ones(3, 7, 2), ones(3, 3)
SHARED, ZEROS = np.ones(100), np.zeros(8)
SECOND = np.timedelta64(1, "s")  # an integer to NumPy, not to us
MASKED = np.ma.masked_less(np.ones((3, 7, 3)), 0)
LEGACY = np.random.Generator(np.random.RandomState(0)._bit_generator)  # seeded in the old way, which can't spawn
RNG = "rng must be None, a seed of integers from 0 up, or a numpy.random.Generator that can spawn others"

KNOWN = "'tanh', 'relu', 'sigmoid', 'identity', 'hard_sigmoid', 'softplus', 'softsign', "
KNOWN += "('leaky_relu', alpha), ('elu', alpha), ('hard_sigmoid', alpha, beta)"

RECURRENT_NAMES = one_of(RECURRENT)
NEEDS_LATER = "model must hold no Bidirectional for {}: its outputs depend on later steps, too; got {!r}"

# call, exception, its whole text
ERRORS = {
    "a direction that is no layer": (
        lambda: Bidirectional(RNN_2_3, ones(3, 3)),
        TypeError,
        f"backward must be {RECURRENT_NAMES}, got ndarray",
    ),
    "a direction that is a Dense": (
        lambda: Bidirectional(Dense(ones(3, 2)), RNN_2_3),
        TypeError,
        f"forward must be {RECURRENT_NAMES}, got Dense",
    ),
    "a direction that is a Sequential": (
        lambda: Bidirectional(MODEL, RNN_2_3),
        TypeError,
        f"forward must be {RECURRENT_NAMES}, got Sequential",
    ),
    "a direction that is a Bidirectional": (
        lambda: Bidirectional(RNN_2_3, BOTH),
        TypeError,
        f"backward must be {RECURRENT_NAMES}, got Bidirectional",
    ),
    "directions of two dtypes": (
        lambda: Bidirectional(RNN_2_3, RNN(ones(3, 2, dtype=SINGLE), ones(3, 3, dtype=SINGLE))),
        TypeError,
        "forward and backward must have the same dtype, got float64 and float32",
    ),
    "directions of two input sizes": (
        lambda: Bidirectional(RNN_2_3, RNN_3),
        ValueError,
        "forward and backward must have the same input_size, got 2 and 3",
    ),
    "the sum of two output sizes": (
        lambda: Bidirectional(RNN_2_3, RNN(ones(4, 2), ones(4, 4)), merge="sum"),
        ValueError,
        "forward and backward must have the same output_size for merge='sum', got 3 and 4",
    ),
    "unknown merge": (
        lambda: Bidirectional(RNN_2_3, GRU_2_3, merge="mul"),
        ValueError,
        "merge must be one of 'concat', 'sum', 'mean', 'product', got 'mul'",
    ),
    "merge of None": (
        lambda: Bidirectional(RNN_2_3, GRU_2_3, merge=None),
        ValueError,
        "merge must be one of 'concat', 'sum', 'mean', 'product', got None",
    ),
    "a Bidirectional's state that is no pair": (
        lambda: BOTH(X, H0),
        ValueError,
        "state must be None or a tuple with 2 entries, forward's and backward's, got ndarray",
    ),
    "a Bidirectional's state of three": (
        lambda: BOTH(X, (H0, None, None)),
        ValueError,
        "state must have 2 entries, forward's and backward's, got 3",
    ),
    "a Bidirectional's state of a wrong shape": (
        lambda: BOTH(X, (ones(3, 4), None)),
        ValueError,
        "state[0] must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (3, 4)",
    ),
    "a Bidirectional's inner state of a wrong shape": (
        lambda: BOTH(X, (None, (None, ones(2, 3)))),
        ValueError,
        "state[1][1] must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (2, 3)",
    ),
    "a Bidirectional's inner state that is no pair": (
        lambda: BOTH(X, (None, H0)),
        ValueError,
        "state[1] must be None or a tuple with 2 entries, h and c, got ndarray",
    ),
    "a stack's state": (
        lambda: Sequential(BOTH, RNN(ones(3, 6), ones(3, 3)))(X, (None,)),
        ValueError,
        "state must have 2 entries, one for each recurrent layer, got 1",
    ),
    "x for a Bidirectional": (
        lambda: BOTH(ones(7, 3)),
        ValueError,
        "x must have shape (..., T, 2) for input_size=2, got (7, 3)",
    ),
    "lengths for a Bidirectional": (
        lambda: BOTH(X, lengths=[7, 8, 0]),
        ValueError,
        "lengths must be from 0 to T=7, got 8 at position (1,)",
    ),
    "tokens for a Bidirectional": (
        lambda: BOTH_TELL([[0, 2]]),
        ValueError,
        "x must hold integers from 0 to 1 for a vocabulary of 2, got 2 at position (0, 1)",
    ),
    "out of a Bidirectional": (
        lambda: BOTH(X, out=ones(3, 7, 3)),
        ValueError,
        "out must have shape (3, 7, 6), got (3, 7, 3)",
    ),
    "out of a Bidirectional that is the state": (
        lambda: BOTH(ones(1, 1, 2), (SHARED[:3].reshape(1, 3), None), out=SHARED[:6].reshape(1, 1, 6)),
        ValueError,
        "out must share no memory with state[0], got an overlapping array; pass state[0].copy()",
    ),
    "a layer after a Bidirectional": (
        lambda: Sequential(BOTH, RNN_3),
        ValueError,
        "layers[1] must have input_size=6, the output_size of layers[0], got 3",
    ),
    "a stream of a Bidirectional": (BOTH.stream, ValueError, NEEDS_LATER.format("a stream", BOTH)),
    "a stream of a stack": (lambda: fastrnn.Stream(BOTH_TELL), ValueError, NEEDS_LATER.format("a stream", BOTH_TELL)),
    "generate with a Bidirectional": (
        lambda: generate(BOTH_TELL, 0, 3),
        ValueError,
        NEEDS_LATER.format("generate", BOTH_TELL),
    ),
    "log_likelihood of a Bidirectional": (
        lambda: log_likelihood(BOTH_TELL, [0, 1]),
        ValueError,
        NEEDS_LATER.format("log_likelihood, which would score tokens that it has seen", BOTH_TELL),
    ),
    "a Bidirectional is frozen": (
        lambda: setattr(BOTH, "merge", "sum"),
        AttributeError,
        "Bidirectional is frozen: merge can't be set; make a new layer",
    ),
    "complex x": (lambda: RNN_2_3(ones(7, 2) * 1j), TypeError, "x must hold real numbers, got dtype complex128"),
    "object x": (lambda: RNN_2_3(np.full((7, 2), None)), TypeError, "x must hold real numbers, got dtype object"),
    "sparse x": (lambda: RNN_2_3(scipy.sparse.eye_array(7, 2)), TypeError, "x must be dense, got a SciPy dia_array; pass x.toarray()"),
    "a tensor that NumPy can't read": (
        lambda: RNN_2_3(Tensor()),
        TypeError,
        "x must be a tensor that NumPy can read, got one that it can't; pass x.detach(): it has a gradient",
    ),
    "what NumPy can't read": (
        lambda: RNN_2_3(Unreadable()),
        TypeError,
        "x must be something that NumPy makes an array of, got Unreadable: it has a gradient",
    ),
    "string x": (lambda: RNN_2_3(np.full((7, 2), "1")), TypeError, "x must hold real numbers, got dtype <U1"),
    "date x": (lambda: RNN_2_3(np.zeros((7, 2), "M8[s]")), TypeError, "x must hold real numbers, got dtype datetime64[s]"),
    "ragged x": (
        lambda: RNN_2_3([[1.0, 2.0], [3.0]]),
        ValueError,
        "x must be an array or a rectangular nested list, got rows of different lengths; pad them: x, lengths = fastrnn.pad(x)",
    ),
    "token beyond the vocabulary": (
        lambda: READER([[0, 1, 0], [1, 1, 2]]),
        ValueError,
        "x must hold integers from 0 to 1 for a vocabulary of 2, got 2 at position (1, 2)",
    ),
    "negative token": (
        lambda: READER(np.array([0, 1, -1, 2], np.int8)),
        ValueError,
        "x must hold integers from 0 to 1 for a vocabulary of 2, got -1 at position (2,)",
    ),
    "token beyond any int64": (
        lambda: READER(np.array([0, 2**64 - 1], np.uint64)),
        ValueError,
        "x must hold integers from 0 to 1 for a vocabulary of 2, got 18446744073709551615 at position (1,)",
    ),
    "token beyond a table": (
        lambda: TABLE(np.array([[[5]]])),
        ValueError,
        "x must hold integers from 0 to 4 for a vocabulary of 5, got 5 at position (0, 0, 0)",
    ),
    "token beyond a table before others": (
        lambda: Sequential(TABLE, RNN_2_3)([0, 5]),
        ValueError,
        "x must hold integers from 0 to 4 for a vocabulary of 5, got 5 at position (1,)",
    ),
    "scalar token": (lambda: READER(1), ValueError, "x must have shape (..., T) where it holds tokens, got ()"),
    "numbers for tokens": (
        lambda: READER(X),
        TypeError,
        "x must be integers, the tokens of an Embedding, got dtype float64",
    ),
    "booleans for tokens": (
        lambda: TABLE([True, False]),
        TypeError,
        "x must be integers, the tokens of an Embedding, got dtype bool",
    ),
    "tokens for numbers": (
        lambda: RNN_2_3([0, 1, 1]),
        ValueError,
        "x must have shape (..., T, 2), got (3,); for tokens make a Sequential(Embedding.one_hot(2), ...)",
    ),
    "a batch of tokens for numbers": (
        lambda: MODEL(np.zeros((4, 7), np.uint8)),
        ValueError,
        "x must have shape (..., T, 2) for input_size=2, got (4, 7); for tokens make a Sequential(Embedding.one_hot(2), ...)",
    ),
    "h0 of another batch of tokens": (
        lambda: READER(np.zeros((4, 7), int), H0),
        ValueError,
        "state must have shape (4, 3) for x of shape (4, 7) and hidden_size=3, got (3, 3)",
    ),
    "out of a table": (lambda: TABLE([0, 1], out=ones(2, 5)), ValueError, "out must have shape (2, 2), got (2, 5)"),
    "table of three axes": (
        lambda: Embedding([ones(2, 2), ones(2, 2)]),
        ValueError,
        "weight must have 2 axes (input_size, output_size), got shape (2, 2, 2)",
    ),
    "integer table": (
        lambda: Embedding(ones(5, 2, dtype=np.int64)),
        TypeError,
        "weight must be float32 or float64, got int64; convert it with .astype(numpy.float32)",
    ),
    "empty table": (
        lambda: Embedding(ones(0, 2)),
        ValueError,
        "weight must have no empty axis, got shape (0, 2) for (input_size, output_size)",
    ),
    "no vocabulary": (lambda: Embedding.one_hot(0), ValueError, "V must be an integer from 1 up, got 0"),
    "half a vocabulary": (lambda: Embedding.one_hot(2.5), ValueError, "V must be an integer from 1 up, got 2.5"),
    "a boolean vocabulary": (lambda: Embedding.one_hot(True), ValueError, "V must be an integer from 1 up, got True"),
    **{
        f"one-hot vectors alone, {name}": (
            call,
            ValueError,
            "Embedding.one_hot(4) must have a layer after it, of input_size=4, whose weights it selects from; "
            "make it the first of others: Sequential(Embedding.one_hot(4), ...)",
        )
        for name, call in {
            "called": lambda: Embedding.one_hot(4)([0, 1]),
            "in a Sequential": lambda: Sequential(Embedding.one_hot(4)),
            "streamed": lambda: Embedding.one_hot(4).stream(),
            "generating": lambda: generate(Embedding.one_hot(4), 0, 5, feedback="argmax"),
        }.items()
    },
    "an Embedding after another layer": (
        lambda: Sequential(RNN_2_3, Embedding.one_hot(3)),
        ValueError,
        "layers[1] must be no Embedding: it reads tokens, so it comes first and only there; got Embedding.one_hot(3)",
    ),
    "two Embeddings": (
        lambda: Sequential(Embedding.one_hot(5), TABLE, RNN_2_3),
        ValueError,
        "layers[1] must be no Embedding: it reads tokens, so it comes first and only there; "
        "got Embedding(input_size=5, output_size=2, dtype=float64)",
    ),
    "an Embedding of another size": (
        lambda: Sequential(Embedding.one_hot(3), RNN_2_3),
        ValueError,
        "layers[1] must have input_size=3, the output_size of layers[0], got 2",
    ),
    "a table of another dtype": (
        lambda: Sequential(Embedding(ones(5, 2, dtype=SINGLE)), RNN_2_3),
        TypeError,
        "layers[0] and layers[1] must have the same dtype, got float32 and float64",
    ),
    "mixed layers after one-hot vectors": (
        lambda: Sequential(Embedding.one_hot(2), RNN_2_3, Dense(ones(4, 3, dtype=SINGLE))),
        TypeError,
        "layers[1] and layers[2] must have the same dtype, got float64 and float32",
    ),
    "numbers to score": (
        lambda: log_likelihood(VECTORS, [0, 1]),
        ValueError,
        f"model must begin with an Embedding for log_likelihood, got {VECTORS!r}; make it Sequential(Embedding.one_hot(4), ...)",
    ),
    "tokens fed back to a model of numbers": (
        lambda: generate(VECTORS, 0, 5),
        ValueError,
        f"model must begin with an Embedding for generate with feedback='sample', got {VECTORS!r}; "
        "make it Sequential(Embedding.one_hot(4), ...)",
    ),
    "the likeliest token fed back to a model of numbers": (
        lambda: generate(RNN_2_3, 0, 5, feedback="argmax"),
        ValueError,
        f"model must begin with an Embedding for generate with feedback='argmax', got {RNN_2_3!r}; "
        "make it Sequential(Embedding.one_hot(2), ...)",
    ),
    "vectors fed back to a model of tokens": (
        lambda: generate(TELLER, ones(4), 5, feedback="output"),
        ValueError,
        f"model must have no Embedding for generate with feedback='output', which makes vectors the next input, got {TELLER!r}",
    ),
    "lengths without the batch": (
        lambda: MODEL(X, lengths=7),
        ValueError,
        "lengths must have shape (3,), one for each sequence, got ()",
    ),
    "lengths of another batch": (
        lambda: RNN_2_3(X, lengths=[7, 7]),
        ValueError,
        "lengths must have shape (3,), one for each sequence, got (2,)",
    ),
    "lengths of one sequence in a list": (
        lambda: RNN_2_3(X[0], lengths=[7]),
        ValueError,
        "lengths must have shape (), one for each sequence, got (1,)",
    ),
    "ragged lengths": (
        lambda: MODEL(X, lengths=[[1], [2, 3]]),
        ValueError,
        "lengths must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "floating lengths": (lambda: MODEL(X, lengths=ones(3)), TypeError, "lengths must be integers, got dtype float64"),
    "boolean lengths": (lambda: MODEL(X, lengths=[True, True, False]), TypeError, "lengths must be integers, got dtype bool"),
    "negative length": (
        lambda: MODEL(X, lengths=[7, -1, 8]),
        ValueError,
        "lengths must be from 0 to T=7, got -1 at position (1,)",
    ),
    "length beyond T": (
        lambda: MODEL(ones(1, 2, 7, 2), lengths=[[7, 8]]),
        ValueError,
        "lengths must be from 0 to T=7, got 8 at position (0, 1)",
    ),
    "length beyond T of tokens": (
        lambda: READER(np.zeros((2, 4), int), lengths=np.array([2**63, 0], np.uint64), return_sequences=False),
        ValueError,
        "lengths must be from 0 to T=4, got 9223372036854775808 at position (0,)",
    ),
    "out of the last step": (
        lambda: MODEL(X, return_sequences=False, out=ones(3, 7, 4)),
        ValueError,
        "out must have shape (3, 4), got (3, 7, 4)",
    ),
    "out overlaps tokens": (
        lambda: READER(ZEROS[:2].view(np.int64), out=ZEROS.reshape(2, 4)),
        ValueError,
        "out must share no memory with x, got an overlapping array; pass x.copy()",
    ),
    "complex x to rnn_forward": (
        lambda: rnn_forward(ones(7, 2) * 1j, ones(3, 2), ones(3, 3), ones(4, 3), ones(3)),
        TypeError,
        "x must hold real numbers, got dtype complex128",
    ),
    "scalar x": (lambda: RNN_2_3(1.0), ValueError, "x must have shape (..., T, 2), got ()"),
    "x of rank 1": (lambda: RNN_2_3(ones(2)), ValueError, "x must have shape (..., T, 2), got (2,)"),
    "x of another size": (lambda: RNN_2_3(ones(7, 4)), ValueError, "x must have shape (..., T, 2) for input_size=2, got (7, 4)"),
    "x of another size to Dense": (
        lambda: Dense(ones(4, 3))(ones(7, 4)),
        ValueError,
        "x must have shape (..., T, 3) for input_size=3, got (7, 4)",
    ),
    "x of another size to rnn_forward": (
        lambda: rnn_forward(ones(7, 4), ones(3, 2), ones(3, 3), ones(4, 3), ones(3)),
        ValueError,
        "x must have shape (..., T, 2) for input_size=2, got (7, 4)",
    ),
    "empty features": (lambda: RNN_2_3(ones(7, 0)), ValueError, "x must have shape (..., T, 2) for input_size=2, got (7, 0)"),
    "integer weight": (
        lambda: RNN(ones(3, 2, dtype=np.int64), ones(3, 3)),
        TypeError,
        "weight_ih must be float32 or float64, got int64; convert it with .astype(numpy.float32)",
    ),
    "half weight": (
        lambda: RNN(ones(3, 2), ones(3, 3, dtype=np.float16)),
        TypeError,
        "weight_hh must be float32 or float64, got float16; convert it with .astype(numpy.float32)",
    ),
    "long double weight": (
        lambda: Dense(ones(3, 2, dtype=np.longdouble)),
        TypeError,
        f"weight must be float32 or float64, got {np.dtype(np.longdouble)}; convert it with .astype(numpy.float32)",
    ),
    "boolean weight": (
        lambda: Dense(ones(3, 2), ones(3, dtype=bool)),
        TypeError,
        "bias must be float32 or float64, got bool; convert it with .astype(numpy.float32)",
    ),
    "no weight": (lambda: Dense(None), TypeError, "weight must hold real numbers, got None"),
    "no weight_ih": (lambda: RNN(None, ones(3, 3)), TypeError, "weight_ih must hold real numbers, got None"),
    "no weight_hh": (lambda: LSTM(ones(12, 2), None), TypeError, "weight_hh must hold real numbers, got None"),
    "complex weight": (lambda: Dense(ones(3, 2) * 1j), TypeError, "weight must hold real numbers, got dtype complex128"),
    "complex weights in lists": (lambda: Dense([[1j]]), TypeError, "weight must hold real numbers, got dtype complex128"),
    "ragged weight": (
        lambda: Dense([[1.0], [1.0, 2.0]]),
        ValueError,
        "weight must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "mixed weights": (
        lambda: RNN(ones(3, 2), ones(3, 3, dtype=SINGLE)),
        TypeError,
        "weight_ih and weight_hh must have the same dtype, got float64 and float32",
    ),
    "mixed bias": (
        lambda: RNN(ones(3, 2, dtype=SINGLE), ones(3, 3, dtype=SINGLE), ones(3)),
        TypeError,
        "weight_ih and bias must have the same dtype, got float32 and float64",
    ),
    "mixed Dense": (
        lambda: Dense(ones(3, 2, dtype=SINGLE), ones(3)),
        TypeError,
        "weight and bias must have the same dtype, got float32 and float64",
    ),
    "mixed letters": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3, dtype=SINGLE), ones(3)),
        TypeError,
        "U and V must have the same dtype, got float64 and float32",
    ),
    "weight_ih of rank 1": (
        lambda: RNN(ones(3), ones(3, 3)),
        ValueError,
        "weight_ih must have 2 axes (hidden_size, input_size), got shape (3,)",
    ),
    "no bias of the notebook's": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), None),
        TypeError,
        "b must hold real numbers, got None; where there is no bias pass numpy.zeros_like(U[:, 0])",
    ),
    "bias of rank 2": (
        lambda: Dense(ones(3, 2), ones(3, 1)),
        ValueError,
        "bias must have shape (output_size,) for output_size=3, got (3, 1); pass numpy.ravel(bias)",
    ),
    "weight_hh not square": (
        lambda: RNN(ones(3, 2), ones(3, 4)),
        ValueError,
        "weight_hh must be square (hidden_size, hidden_size), got shape (3, 4)",
    ),
    "weights disagree": (
        lambda: RNN(ones(3, 2), ones(4, 4)),
        ValueError,
        "weight_ih and weight_hh must agree in hidden_size, got 3 and 4",
    ),
    "bias disagrees": (
        lambda: RNN(ones(3, 2), ones(3, 3), ones(4)),
        ValueError,
        "weight_ih and bias must agree in hidden_size, got 3 and 4",
    ),
    "Dense bias disagrees": (
        lambda: Dense(ones(3, 2), ones(2)),
        ValueError,
        "weight and bias must agree in output_size, got 3 and 2",
    ),
    "U and W disagree": (
        lambda: rnn_forward(X, ones(3, 2), ones(4, 4), ones(4, 3), ones(3)),
        ValueError,
        "U and W must agree in H, got 3 and 4",
    ),
    "U and V disagree": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 5), ones(3)),
        ValueError,
        "U and V must agree in H, got 3 and 5",
    ),
    "U and b disagree": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(2)),
        ValueError,
        "U and b must agree in H, got 3 and 2",
    ),
    "V and c disagree": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), c=ones(3)),
        ValueError,
        "V and c must agree in O, got 4 and 3",
    ),
    "no hidden unit": (
        lambda: RNN(ones(0, 2), ones(0, 0)),
        ValueError,
        "weight_ih must have no empty axis, got shape (0, 2) for (hidden_size, input_size)",
    ),
    "no input": (
        lambda: RNN(ones(3, 0), ones(3, 3)),
        ValueError,
        "weight_ih must have no empty axis, got shape (3, 0) for (hidden_size, input_size)",
    ),
    "no output": (
        lambda: Dense(ones(0, 2)),
        ValueError,
        "weight must have no empty axis, got shape (0, 2) for (output_size, input_size)",
    ),
    "unknown nonlinearity": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity="Tanh"),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got 'Tanh'",
    ),
    "no nonlinearity": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), nonlinearity=None),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got None",
    ),
    "softmax nonlinearity": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity="softmax"),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got 'softmax'",
    ),
    "unknown activation": (
        lambda: Dense(ones(3, 2), activation="gelu"),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got 'gelu'",
    ),
    "no activation": (
        lambda: Dense(ones(3, 2), activation=None),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got None",
    ),
    "an array as activation": (
        lambda: Dense(ones(3, 2), activation=ones(2)),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got array([1., 1.])",
    ),
    "an activation without its parameter": (
        lambda: Dense(ones(3, 2), activation="leaky_relu"),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got 'leaky_relu'",
    ),
    "a tuple without the parameter": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("elu",)),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got ('elu',)",
    ),
    "a tuple of nothing but a name": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("tanh",)),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got ('tanh',)",
    ),
    "an empty tuple as activation": (
        lambda: Dense(ones(3, 2), activation=()),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got ()",
    ),
    "one parameter of two": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("hard_sigmoid", 0.2)),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got ('hard_sigmoid', 0.2)",
    ),
    "too many parameters": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("leaky_relu", 0.01, 0.02)),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got ('leaky_relu', 0.01, 0.02)",
    ),
    "a parameter of softmax": (
        lambda: Dense(ones(3, 2), activation=("softmax", 2.0)),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got ('softmax', 2.0)",
    ),
    "an array for an activation's name": (
        lambda: Dense(ones(3, 2), activation=(ones(2), 1.0)),
        ValueError,
        f"activation must be one of {KNOWN}, 'softmax', 'log_softmax', got (array([1., 1.]), 1.0)",
    ),
    "a list as nonlinearity": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), nonlinearity=["leaky_relu", 0.01]),
        ValueError,
        f"nonlinearity must be one of {KNOWN}, got ['leaky_relu', 0.01]; pass a tuple",
    ),
    "a parameter that is not a number": (
        lambda: Dense(ones(3, 2), activation=("elu", float("nan"))),
        ValueError,
        "activation must be ('elu', alpha) with finite real numbers, got ('elu', nan)",
    ),
    "an infinite parameter": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("hard_sigmoid", 0.2, -np.inf)),
        ValueError,
        "nonlinearity must be ('hard_sigmoid', alpha, beta) with finite real numbers, got ('hard_sigmoid', 0.2, -inf)",
    ),
    "a parameter beyond any double": (
        lambda: RNN(ones(3, 2), ones(3, 3), nonlinearity=("elu", 2 << 1023)),
        ValueError,
        f"nonlinearity must be ('elu', alpha) with finite real numbers, got ('elu', {2 << 1023})",
    ),
    "a boolean parameter": (
        lambda: Dense(ones(3, 2), activation=("leaky_relu", True)),
        TypeError,
        "activation must be ('leaky_relu', alpha) with finite real numbers, got ('leaky_relu', True)",
    ),
    "a parameter as text": (
        lambda: Dense(ones(3, 2), activation=("leaky_relu", "0.01")),
        TypeError,
        "activation must be ('leaky_relu', alpha) with finite real numbers, got ('leaky_relu', '0.01')",
    ),
    "no layers": (lambda: Sequential(), ValueError, "layers must be at least one, got none"),
    "not a layer": (lambda: Sequential(RNN_2_3, np.tanh), TypeError, "layers[1] must be a layer, got ufunc"),
    "a list of layers": (lambda: Sequential([RNN_2_3]), TypeError, "layers[0] must be a layer, got list"),
    "layers disagree": (
        lambda: Sequential(RNN_2_3, Dense(ones(4, 2))),
        ValueError,
        "layers[1] must have input_size=3, the output_size of layers[0], got 2",
    ),
    "mixed layers": (
        lambda: Sequential(RNN_2_3, Dense(ones(4, 3, dtype=SINGLE))),
        TypeError,
        "layers[0] and layers[1] must have the same dtype, got float64 and float32",
    ),
    "h0 without the batch": (
        lambda: RNN_2_3(X, ones(3)),
        ValueError,
        "h0 must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (3,)",
    ),
    "h0 to be broadcast": (
        lambda: RNN_2_3(X, ones(1, 3)),
        ValueError,
        "h0 must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (1, 3)",
    ),
    "h0 of another size": (
        lambda: RNN_2_3(ones(7, 2), ones(4)),
        ValueError,
        "h0 must have shape (3,) for x of shape (7, 2) and hidden_size=3, got (4,)",
    ),
    "masked step": (
        lambda: RNN_2_3.stream(ones(3)).step(np.ma.masked_less(X[0, 0], 0)),
        TypeError,
        "x_t must not be a masked array; pass x_t.filled(value)",
    ),
    "masked out": (
        lambda: RNN_2_3(X, out=MASKED),
        TypeError,
        "out must not be a masked array; pass out.filled(value)",
    ),
    "masked out of a later step": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), out=MASKED[0, 0]),
        TypeError,
        "out must not be a masked array; pass out.filled(value)",
    ),
    "masked out of rnn_forward": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(3, 3), ones(3), out=MASKED),
        TypeError,
        "out must not be a masked array; pass out.filled(value)",
    ),
    "unpad a masked array": (
        lambda: unpad(MASKED, [7, 7, 7]),
        TypeError,
        "output must not be a masked array; pass output.filled(value)",
    ),
    "masked lengths to unpad": (
        lambda: unpad(X, np.ma.masked_less([7, 7, 7], 0)),
        TypeError,
        "lengths must not be a masked array; pass lengths.filled(value)",
    ),
    "masked lengths beside a wrong token": (
        lambda: log_likelihood(TELLER, [[0, 4]], lengths=np.ma.masked_less([1], 0)),
        TypeError,
        "lengths must not be a masked array; pass lengths.filled(value)",
    ),
    "masked sequence": (
        lambda: pad([ones(2, 3), MASKED[0]]),
        TypeError,
        "sequences[1] must not be a masked array; pass sequences[1].filled(value)",
    ),
    "masked rows of a sequence": (
        lambda: pad([[MASKED[0, 0], MASKED[0, 1]]]),
        TypeError,
        "sequences[0][0] must not be a masked array; pass sequences[0][0].filled(value)",
    ),
    "masked element": (
        lambda: RNN_2_3([[1.0, 2.0], [3.0, np.ma.masked]]),
        TypeError,
        "x[1][1] must not be a masked array; pass x[1][1].filled(value)",
    ),
    "masked rows of a weight": (
        lambda: Dense([MASKED[0, 0], MASKED[0, 1]]),
        TypeError,
        "weight[0] must not be a masked array; pass weight[0].filled(value)",
    ),
    "ragged output to unpad": (
        lambda: unpad([[1, 2], [3]], [1, 1]),
        ValueError,
        "output must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "ragged lengths to unpad": (
        lambda: unpad(X, [[1], [2, 3]]),
        ValueError,
        "lengths must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "ragged state of a stream": (
        lambda: RNN_2_3.stream([[1.0], [2.0, 3.0]]),
        ValueError,
        "state must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "too many axes of tokens": (
        lambda: TELLER(np.zeros((1,) * 64, int)),
        ValueError,
        "x must have at most 63 axes, since NumPy allows 64 and the call adds 1, got 64",
    ),
    "too many axes of tokens to score": (
        lambda: log_likelihood(TELLER, np.zeros((1,) * 64, int)),
        ValueError,
        "tokens must have at most 63 axes, since NumPy allows 64 and the call adds 1, got 64",
    ),
    "too many axes of a start": (
        lambda: generate(TELLER, np.zeros((1,) * 63, int), 5),
        ValueError,
        "start must have at most 62 axes, since NumPy allows 64 and the call adds 2, got 63",
    ),
    "too many axes of a start of vectors": (
        lambda: generate(VECTORS, np.zeros((*(1,) * 63, 4)), 5, feedback="output"),
        ValueError,
        "start must have at most 63 axes, since NumPy allows 64 and the call adds 1, got 64",
    ),
    "too many axes of a step": (
        lambda: RNN_2_3.stream().step(np.zeros((*(1,) * 63, 2))),
        ValueError,
        "x_t must have at most 63 axes, since NumPy allows 64 and the call adds 1, got 64",
    ),
    "too many axes of tokens of a step": (
        lambda: TELLER.stream().step(np.zeros((1,) * 63, int)),
        ValueError,
        "x_t must have at most 62 axes, since NumPy allows 64 and the call adds 2, got 63",
    ),
    "too many axes of a chunk of tokens": (
        lambda: TELLER.stream()(np.zeros((1,) * 64, int)),
        ValueError,
        "x must have at most 63 axes, since NumPy allows 64 and the call adds 1, got 64",
    ),
    "masked x": (
        lambda: RNN_2_3(np.ma.masked_less(X, 0)),
        TypeError,
        "x must not be a masked array; pass x.filled(value)",
    ),
    "masked h0": (
        lambda: RNN_2_3(X, np.ma.masked_less(H0, 0)),
        TypeError,
        "h0 must not be a masked array; pass h0.filled(value)",
    ),
    "masked state": (
        lambda: MODEL(X, np.ma.masked_less(H0, 0)),
        TypeError,
        "state must not be a masked array; pass state.filled(value)",
    ),
    "out over h0 of rnn_forward": (
        lambda: rnn_forward(X[0], ones(3, 2), ones(3, 3), ones(4, 3), ones(3), h0=SHARED[27:30], out=SHARED[:28].reshape(7, 4)),
        ValueError,
        "out must share no memory with h0, got an overlapping array; pass h0.copy()",
    ),
    "out over a weight": (
        lambda: (lambda V: rnn_forward(ones(3, 2), ones(3, 2), ones(3, 3), V, ones(3), out=V))(ones(3, 3)),
        ValueError,
        "out must share no memory with V, got an overlapping array; pass V.copy()",
    ),
    "complex h0": (lambda: RNN_2_3(X, H0 * 1j), TypeError, "h0 must hold real numbers, got dtype complex128"),
    "h0 of rnn_forward": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), h0=ones(3)),
        ValueError,
        "h0 must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (3,)",
    ),
    "bare state": (
        lambda: MODEL(X, ones(2, 3)),
        ValueError,
        "state must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (2, 3)",
    ),
    "state in a tuple": (
        lambda: TWO(X, (H0, H0)),
        ValueError,
        "state[1] must have shape (3, 5) for x of shape (3, 7, 2) and hidden_size=5, got (3, 3)",
    ),
    "too few states": (lambda: TWO(X, (H0,)), ValueError, "state must have 2 entries, one for each recurrent layer, got 1"),
    "two states for one": (
        lambda: MODEL(X, [H0, H0]),
        ValueError,
        "state must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (2, 3, 3)",
    ),
    "too many states": (lambda: TWO(X, [H0] * 3), ValueError, "state must have 2 entries, one for each recurrent layer, got 3"),
    "LSTM with a bare state": (
        lambda: LSTM_2_3(X, H0),
        ValueError,
        "state must be None or a tuple with 2 entries, h and c, got ndarray",
    ),
    "LSTM with h alone": (lambda: LSTM_2_3(X, (H0,)), ValueError, "state must have 2 entries, h and c, got 1"),
    "LSTM with c of another size": (
        lambda: LSTM_2_3(X, (H0, ones(3, 4))),
        ValueError,
        "state[1] must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (3, 4)",
    ),
    "LSTM in a model with h alone": (
        lambda: Sequential(LSTM_2_3, RNN_3)(X, [[H0], None]),
        ValueError,
        "state[0] must have 2 entries, h and c, got 1",
    ),
    "LSTM in a model with c of another batch": (
        lambda: Sequential(RNN_2_3, LSTM_3)(X, [None, [H0, ones(2, 3)]]),
        ValueError,
        "state[1][1] must have shape (3, 3) for x of shape (3, 7, 2) and hidden_size=3, got (2, 3)",
    ),
    "weights of four gates for GRU": (
        lambda: GRU(ones(16, 2), ones(16, 4)),
        ValueError,
        "weight_ih must have shape (3 * hidden_size, input_size), got (16, 2)",
    ),
    "weights of three gates for LSTM": (
        lambda: LSTM(ones(12, 2), ones(12, 4)),
        ValueError,
        "weight_ih and weight_hh must agree in hidden_size, got 3 and 4",
    ),
    "transposed recurrent weights": (
        lambda: GRU(ones(12, 2), ones(4, 12)),
        ValueError,
        "weight_hh must have shape (3 * hidden_size, hidden_size), got (4, 12)",
    ),
    "both of PyTorch's biases": (
        lambda: GRU(ones(12, 2), ones(12, 4), ones(12), ones(12)),
        ValueError,
        "weight_ih and bias_hn must agree in hidden_size, got 4 and 12",
    ),
    "bias_hn with the reset before": (
        lambda: GRU(ones(12, 2), ones(12, 4), ones(12), ones(4), reset_after=False),
        ValueError,
        "bias_hn must be None for reset_after=False, which adds it to bias, got an array",
    ),
    "unknown recurrent activation": (
        lambda: GRU(ones(12, 2), ones(12, 4), recurrent_activation="swish"),
        ValueError,
        f"recurrent_activation must be one of {KNOWN}, got 'swish'",
    ),
    "peephole of four gates": (
        lambda: LSTM(ones(12, 2), ones(12, 3), peephole=ones(4, 3)),
        ValueError,
        "peephole must have shape (3, hidden_size), got (4, 3)",
    ),
    "a leak of 0": (lambda: RNN(ones(3, 2), ones(3, 3), leak=0), ValueError, "leak must be above 0 and at most 1, got 0.0"),
    "a leak above 1 of one unit": (
        lambda: RNN(ones(3, 2), ones(3, 3), leak=[1, 0.5, 1.5]),
        ValueError,
        "leak must be above 0 and at most 1, got 1.5 at position (2,)",
    ),
    "a leak that is NaN": (lambda: RNN(ones(3, 2), ones(3, 3), leak=np.nan), ValueError, "leak must be above 0 and at most 1, got nan"),
    "a leak for other units": (
        lambda: RNN(ones(3, 2), ones(3, 3), leak=[0.5, 0.5]),
        ValueError,
        "leak must be a number or have shape (3,), got float64 of shape (2,)",
    ),
    "a leak that is True": (
        lambda: RNN(ones(3, 2), ones(3, 3), leak=True),
        ValueError,
        "leak must be a number or have shape (3,), got bool of shape ()",
    ),
    "a leak elsewhere": (
        lambda: RNN(ones(3, 2), ones(3, 3), leak=0.5, leak_at="state"),
        ValueError,
        "leak_at must be one of 'output', 'input', got 'state'",
    ),
    "projection to more": (
        lambda: LSTM(ones(8, 2), ones(8, 3), projection=ones(3, 2)),
        ValueError,
        "projection must have at most as many rows as units, hidden_size=2, got 3",
    ),
    "projection of other weights": (
        lambda: LSTM(ones(12, 2), ones(12, 3), projection=ones(2, 3)),
        ValueError,
        "weight_hh and projection must agree in output_size, got 3 and 2",
    ),
    "weights of gates in lists of another dtype": (
        lambda: LSTM(ones(12, 2), ones(12, 3, dtype=SINGLE)),
        TypeError,
        "weight_ih and weight_hh must have the same dtype, got float64 and float32",
    ),
    "a gated layer's attribute": (
        lambda: setattr(GRU_2_3, "bias", None),
        AttributeError,
        "GRU is frozen: bias can't be set; make a new layer",
    ),
    "bare state for two": (
        lambda: TWO(X, H0),
        ValueError,
        "state must be None or a tuple with 2 entries, one for each recurrent layer, got ndarray",
    ),
    "state for none": (
        lambda: Sequential(Dense(ones(4, 2)))(X, H0),
        ValueError,
        "state must be None or a tuple with 0 entries, one for each recurrent layer, got ndarray",
    ),
    "out is a list": (lambda: RNN_2_3(X, out=[]), TypeError, "out must be a numpy.ndarray, got list"),
    "out of another dtype": (
        lambda: RNN_2_3(X, out=ones(3, 7, 3, dtype=SINGLE)),
        TypeError,
        f"out must have dtype float64, the weights' dtype in native byte order, got {np.dtype(SINGLE)}",
    ),
    "out byte-swapped": (
        lambda: RNN_2_3(X, out=np.ones((3, 7, 3), np.dtype(float).newbyteorder("S"))),
        TypeError,
        f"out must have dtype float64, the weights' dtype in native byte order, got {np.dtype(float).newbyteorder('S')}",
    ),
    "out of another shape": (lambda: RNN_2_3(X, out=ones(3, 7, 2)), ValueError, "out must have shape (3, 7, 3), got (3, 7, 2)"),
    "out to be broadcast": (lambda: MODEL(X, out=ones(7, 4)), ValueError, "out must have shape (3, 7, 4), got (7, 4)"),
    "out not contiguous": (
        lambda: RNN_2_3(X, out=ones(3, 7, 6)[..., ::2]),
        ValueError,
        "out must be C-contiguous, got an array that is not",
    ),
    "out in Fortran order": (
        lambda: Dense(ones(4, 2))(X, out=np.asfortranarray(ones(3, 7, 4))),
        ValueError,
        "out must be C-contiguous, got an array that is not",
    ),
    "out misaligned": (
        lambda: RNN_2_3(X, out=np.zeros(3 * 7 * 3 * 8 + 1, np.uint8)[1:].view(float).reshape(3, 7, 3)),
        ValueError,
        "out must be aligned, got an array that is not",
    ),
    "out read-only": (
        lambda: RNN_2_3(X, out=frozen(ones(3, 7, 3))),
        ValueError,
        "out must be writable, got an array that is not",
    ),
    "out is x": (
        lambda: RNN(ones(2, 2), ones(2, 2))(SHARED[:14].reshape(7, 2), out=SHARED[:14].reshape(7, 2)),
        ValueError,
        "out must share no memory with x, got an overlapping array; pass x.copy()",
    ),
    "out overlaps x": (
        lambda: Dense(ones(2, 2))(SHARED[:14].reshape(7, 2), out=SHARED[13:27].reshape(7, 2)),
        ValueError,
        "out must share no memory with x, got an overlapping array; pass x.copy()",
    ),
    "out overlaps h0": (
        lambda: RNN_2_3(ones(7, 2), SHARED[20:23], out=SHARED[:21].reshape(7, 3)),
        ValueError,
        "out must share no memory with h0, got an overlapping array; pass h0.copy()",
    ),
    "out overlaps a state": (
        lambda: TWO(ones(7, 2), (None, SHARED[30:35]), out=SHARED[:35].reshape(7, 5)),
        ValueError,
        "out must share no memory with state[1], got an overlapping array; pass state[1].copy()",
    ),
    "out of rnn_forward": (
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), out=ones(3, 7, 3)),
        ValueError,
        "out must have shape (3, 7, 4), got (3, 7, 3)",
    ),
    "nothing to pad": (lambda: pad(None), TypeError, "sequences must be a list of sequences, got NoneType"),
    "sequences of different sizes": (
        lambda: pad([ones(2, 3), ones(2, 4)]),
        ValueError,
        "sequences[1] must have steps of shape (3,) as those before it, got (4,)",
    ),
    "tokens and vectors": (
        lambda: pad([[1, 2], ones(2, 4)]),
        ValueError,
        "sequences[1] must have steps of shape () as those before it, got (4,)",
    ),
    "vectors and tokens": (
        lambda: pad([ones(2, 4), [1, 2]]),
        ValueError,
        "sequences[1] must have steps of shape (4,) as those before it, got ()",
    ),
    "ragged sequence": (
        lambda: pad([[1], [[1.0], [2.0, 3.0]]]),
        ValueError,
        "sequences[1] must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "words": (lambda: pad(["call", "me"]), TypeError, "sequences[0] must hold real numbers, got dtype <U4"),
    "unpad beyond T": (lambda: unpad(X, [7, 7, 8]), ValueError, "lengths must be from 0 to T=7, got 8 at position (2,)"),
    "unpad floating": (lambda: unpad(X, ones(3)), TypeError, "lengths must be integers, got dtype float64"),
    "unpad the last step": (
        lambda: unpad(ones(3), [7, 7, 8]),
        ValueError,
        "output must have more axes than lengths, got 1 and 1",
    ),
    "no model": (lambda: log_likelihood([1], [0, 1]), TypeError, "model must be a layer or a Sequential, got list"),
    "vectors without an axis": (
        lambda: pad([[0.5, 1.5]]),
        ValueError,
        "sequences[0] must be vectors (T, I) or integers (T,), got float64 of shape (2,)",
    ),
    "out over lengths": (
        lambda: (lambda n: RNN_2_3(X, lengths=n.view(np.int64)[:3], out=n.reshape(3, 7, 3)))(np.zeros(63)),
        ValueError,
        "out must share no memory with lengths, got an overlapping array; pass lengths.copy()",
    ),
    "floating tokens": (
        lambda: log_likelihood(TELLER, ones(4)),
        TypeError,
        "tokens must be integers, the tokens of an Embedding, got dtype float64",
    ),
    "boolean tokens": (
        lambda: log_likelihood(TELLER, [True, False]),
        TypeError,
        "tokens must be integers, the tokens of an Embedding, got dtype bool",
    ),
    "tokens of no sequence": (
        lambda: log_likelihood(TELLER, 3),
        ValueError,
        "tokens must have shape (..., T) where it holds tokens, got ()",
    ),
    "tokens beyond the vocabulary": (
        lambda: log_likelihood(TELLER, [[0, 3], [1, 4]]),
        ValueError,
        "tokens must hold integers from 0 to 3 for a vocabulary of 4, got 4 at position (1, 1)",
    ),
    "lengths beyond the tokens": (
        lambda: log_likelihood(TELLER, [[0, 3], [1, 2]], lengths=[2, 3]),
        ValueError,
        "lengths must be from 0 to T=2, got 3 at position (1,)",
    ),
    "state of other tokens": (
        lambda: log_likelihood(TELLER, [[0, 3], [1, 2]], ones(3)),
        ValueError,
        "state must have shape (2, 3) for tokens of shape (2, 2) and hidden_size=3, got (3,)",
    ),
    "no probabilities to score by": (
        lambda: log_likelihood(READER, [0, 1]),
        ValueError,
        f"model must end in a Dense layer with activation 'softmax' or 'log_softmax' for log_likelihood, got {READER!r}",
    ),
    "no probabilities to draw from": (
        lambda: generate(TABLE, 0, 5),
        ValueError,
        f"model must end in a Dense layer with activation 'softmax' or 'log_softmax' for generate with feedback='sample', got {TABLE!r}",
    ),
    "another vocabulary": (
        lambda: log_likelihood(Sequential(Embedding.one_hot(3), Dense(ones(4, 3), activation="softmax")), [0, 1]),
        ValueError,
        "model must have as many outputs as inputs for log_likelihood, got input_size=3 and output_size=4",
    ),
    "unknown feedback": (
        lambda: generate(TELLER, 0, 5, feedback="beam"),
        ValueError,
        "feedback must be one of 'argmax', 'sample', 'output', got 'beam'",
    ),
    "argmax that doesn't fit": (
        lambda: generate(Sequential(TABLE, RNN_2_3), 0, 5, feedback="argmax"),
        ValueError,
        "model must have as many outputs as inputs for generate with feedback='argmax', got input_size=5 and output_size=3",
    ),
    "output that doesn't fit": (
        lambda: generate(MODEL, ones(2), 5, feedback="output"),
        ValueError,
        "model must have as many outputs as inputs for generate with feedback='output', got input_size=2 and output_size=4",
    ),
    "start beyond the vocabulary": (
        lambda: generate(TELLER, [[0, 1], [-2, 0]], 5),
        ValueError,
        "start must hold integers from 0 to 3 for a vocabulary of 4, got -2 at position (1, 0)",
    ),
    "floating start": (
        lambda: generate(TELLER, 1.0, 5),
        TypeError,
        "start must be integers, the tokens of an Embedding, got dtype float64",
    ),
    "start of a vector for tokens": (
        lambda: generate(TELLER, ones(4), 5, feedback="argmax"),
        TypeError,
        "start must be integers, the tokens of an Embedding, got dtype float64",
    ),
    "start of another size": (
        lambda: generate(VECTORS, ones(2, 3), 5, feedback="output"),
        ValueError,
        "start must have shape (..., 4) for feedback='output', got (2, 3)",
    ),
    "start of a token for vectors": (
        lambda: generate(VECTORS, 1, 5, feedback="output"),
        ValueError,
        "start must have shape (..., 4) for feedback='output', got ()",
    ),
    "state of another start": (
        lambda: generate(TELLER, [0, 0], 5, ones(3)),
        ValueError,
        "state must have shape (2, 3) for start of shape (2,) and hidden_size=3, got (3,)",
    ),
    "negative steps": (lambda: generate(TELLER, 0, -1), ValueError, "steps must be an integer from 0 up, got -1"),
    "floating steps": (lambda: generate(TELLER, 0, 5.0), ValueError, "steps must be an integer from 0 up, got 5.0"),
    "true steps": (lambda: generate(TELLER, 0, True), ValueError, "steps must be an integer from 0 up, got True"),
    "a duration of steps": (
        lambda: generate(TELLER, 0, SECOND),
        ValueError,
        f"steps must be an integer from 0 up, got {SECOND!r}",
    ),
    "complex temperature": (
        lambda: generate(TELLER, 0, 5, temperature=np.complex128(0.8)),
        ValueError,
        f"temperature must be positive, got {np.complex128(0.8)!r}; for the likeliest token use feedback='argmax'",
    ),
    "true temperature": (
        lambda: generate(TELLER, 0, 5, temperature=True),
        ValueError,
        "temperature must be positive, got True; for the likeliest token use feedback='argmax'",
    ),
    "a temperature that is a duration": (
        lambda: generate(TELLER, 0, 5, temperature=SECOND),
        ValueError,
        f"temperature must be positive, got {SECOND!r}; for the likeliest token use feedback='argmax'",
    ),
    "a temperature below any float": (
        lambda: generate(TELLER, 0, 5, temperature=-(10**400)),
        ValueError,
        f"temperature must be positive, got -1{'0' * 400}; for the likeliest token use feedback='argmax'",
    ),
    "true top_k": (lambda: generate(TELLER, 0, 5, top_k=True), ValueError, "top_k must be an integer from 1 to 4, got True"),
    "true stop": (lambda: generate(TELLER, 0, 5, stop=True), ValueError, "stop must be a token from 0 to 3, got True"),
    "true start": (lambda: generate(TELLER, True, 5), TypeError, "start must be integers, the tokens of an Embedding, got dtype bool"),
    "true seed": (lambda: generate(TELLER, 0, 5, rng=True), TypeError, f"{RNG}, got True"),
    "floating seed": (lambda: generate(TELLER, 0, 5, rng=1.5), TypeError, f"{RNG}, got 1.5"),
    "negative seed": (lambda: generate(TELLER, 0, 5, rng=-1), ValueError, f"{RNG}, got -1"),
    "a seed of words": (lambda: generate(TELLER, 0, 5, rng="call me"), TypeError, f"{RNG}, got 'call me'"),
    "a generator without seeds": (
        lambda: generate(TELLER, 0, 5, rng=LEGACY),
        TypeError,
        f"{RNG}, got {LEGACY!r}",
    ),
    "no generators": (
        without_generators,
        RuntimeError,
        "rng needs numpy.random, which can't be imported while Python shuts down; use it once before",
    ),
    "temperature of zero": (
        lambda: generate(TELLER, 0, 5, temperature=0),
        ValueError,
        "temperature must be positive, got 0; for the likeliest token use feedback='argmax'",
    ),
    "negative temperature": (
        lambda: generate(TELLER, 0, 5, temperature=-0.5),
        ValueError,
        "temperature must be positive, got -0.5; for the likeliest token use feedback='argmax'",
    ),
    "no temperature": (
        lambda: generate(TELLER, 0, 5, temperature=float("nan")),
        ValueError,
        "temperature must be positive, got nan; for the likeliest token use feedback='argmax'",
    ),
    "top_k of zero": (lambda: generate(TELLER, 0, 5, top_k=0), ValueError, "top_k must be an integer from 1 to 4, got 0"),
    "top_k beyond the vocabulary": (
        lambda: generate(TELLER, 0, 5, top_k=5),
        ValueError,
        "top_k must be an integer from 1 to 4, got 5",
    ),
    "floating top_k": (lambda: generate(TELLER, 0, 5, top_k=2.0), ValueError, "top_k must be an integer from 1 to 4, got 2.0"),
    "stop beyond the vocabulary": (
        lambda: generate(TELLER, 0, 5, stop=4),
        ValueError,
        "stop must be a token from 0 to 3, got 4",
    ),
    "stop of vectors": (
        lambda: generate(VECTORS, ones(4), 5, feedback="output", stop=1),
        ValueError,
        "stop must be None for feedback='output', which generates no tokens, got 1",
    ),
    "nothing to choose": (
        lambda: generate(TELLER, [0, 0], 5, np.array([[0, 0, 0], [0, np.nan, 0]])),
        ValueError,
        "model must give finite outputs for a token to be chosen, got NaN or infinity at position (1, 0)",
    ),
    "integers for a reset": (
        lambda: RNN_2_3(X, H0, reset=[0, 1, 0]),
        TypeError,
        "reset must be boolean, got dtype int64",
    ),
    "a reset of another batch": (
        lambda: MODEL(X, reset=[True, False]),
        ValueError,
        "reset must have shape (3,), one for each sequence, got (2,)",
    ),
    "a reset of all": (
        lambda: LSTM_2_3(X, reset=True),
        ValueError,
        "reset must have shape (3,), one for each sequence, got ()",
    ),
    "a reset of objects": (
        lambda: GRU_2_3(X[0], reset=np.array(None)),
        TypeError,
        "reset must hold real numbers, got dtype object",
    ),
    "an integer for a stream's reset": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), reset=1),
        TypeError,
        "reset must be boolean, got dtype int64",
    ),
    "a reset of another stream": (
        lambda: READER.stream()([[0, 1]], reset=True),
        ValueError,
        "reset must have shape (1,), one for each sequence, got ()",
    ),
    "out over a reset": (
        lambda: RNN_2_3(X[0], reset=SHARED.view(bool)[8:9].reshape(()), out=SHARED[:21].reshape(7, 3)),
        ValueError,
        "out must share no memory with reset, got an overlapping array; pass reset.copy()",
    ),
    "out over a step's reset": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), reset=SHARED.view(bool)[8:9].reshape(()), out=SHARED[:3]),
        ValueError,
        "out must share no memory with reset, got an overlapping array; pass reset.copy()",
    ),
    "state0 of another batch": (
        lambda: RNN_2_3.stream(H0, state0=ones(3)),
        ValueError,
        "state0 must have shape (3, 3) for a stream of shape (3,) and hidden_size=3, got (3,)",
    ),
    "half a state0": (
        lambda: LSTM_2_3.stream(state0=(ones(3),)),
        ValueError,
        "state0 must have 2 entries, h and c, got 1",
    ),
    "states0 of a stream": (
        lambda: TWO.stream(state0=(ones(3), ones(3))),
        ValueError,
        "state0[1] must have shape (5,) for a stream of shape () and hidden_size=5, got (3,)",
    ),
    "lengths with a stream": (
        lambda: RNN_2_3.stream()(X, lengths=[7, 7, 7]),
        TypeError,
        "lengths must not be given to a stream, whose sequences advance together",
    ),
    "another batch in a stream": (
        lambda: streamed(RNN_2_3, X)(X[:2]),
        ValueError,
        "x must have the leading axes (3,) that this stream began with, got (2,); start another stream",
    ),
    "another batch than the state's": (
        lambda: RNN_2_3.stream(H0)(X[0]),
        ValueError,
        "x must have the leading axes (3,) that this stream began with, got (); start another stream",
    ),
    "step of another size": (
        lambda: RNN_2_3.stream().step(ones(3, 4)),
        ValueError,
        "x_t must have shape (..., 2) for input_size=2, got (3, 4)",
    ),
    "token of a step": (
        lambda: READER.stream().step([0, 1, 2]),
        ValueError,
        "x_t must hold integers from 0 to 1 for a vocabulary of 2, got 2 at position (2,)",
    ),
    "token of a first step": (
        lambda: READER.stream().step(2),
        ValueError,
        "x_t must hold integers from 0 to 1 for a vocabulary of 2, got 2",
    ),
    "token of a later step": (
        lambda: READER.stream(ones(3)).step(2),
        ValueError,
        "x_t must hold integers from 0 to 1 for a vocabulary of 2, got 2",
    ),
    "negative token of a later step": (
        lambda: READER.stream(ones(3)).step(-1),
        ValueError,
        "x_t must hold integers from 0 to 1 for a vocabulary of 2, got -1",
    ),
    "a vector for a step of tokens": (
        lambda: READER.stream(ones(3)).step(ones(2)),
        TypeError,
        "x_t must be integers, the tokens of an Embedding, got dtype float64",
    ),
    "a boolean for a step of tokens": (
        lambda: READER.stream(ones(3)).step(True),
        TypeError,
        "x_t must be integers, the tokens of an Embedding, got dtype bool",
    ),
    "a token for a step of numbers": (
        lambda: RNN_2_3.stream(ones(3)).step(1),
        ValueError,
        "x_t must have shape (..., 2) for input_size=2, got (); for tokens make a Sequential(Embedding.one_hot(2), ...)",
    ),
    "chunk of another size": (
        lambda: MODEL.stream()(ones(3, 5, 4)),
        ValueError,
        "x must have shape (..., T, 2) for input_size=2, got (3, 5, 4)",
    ),
    "out of a step": (
        lambda: RNN_2_3.stream().step(ones(2), out=ones(1, 3)),
        ValueError,
        "out must have shape (3,), got (1, 3)",
    ),
    "out of a later step": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), out=ones(1, 3)),
        ValueError,
        "out must have shape (3,), got (1, 3)",
    ),
    "out of another dtype in a step": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), out=ones(3, dtype=SINGLE)),
        TypeError,
        "out must have dtype float64, the weights' dtype in native byte order, got float32",
    ),
    "out not contiguous in a step": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), out=ones(6)[::2]),
        ValueError,
        "out must be C-contiguous, got an array that is not",
    ),
    "out read-only in a step": (
        lambda: RNN_2_3.stream(ones(3)).step(ones(2), out=frozen(ones(3))),
        ValueError,
        "out must be writable, got an array that is not",
    ),
    "out over the vector of a step": (
        lambda: RNN_2_3.stream(ones(3)).step(SHARED[:2], out=SHARED[1:4]),
        ValueError,
        "out must share no memory with x_t, got an overlapping array; pass x_t.copy()",
    ),
    "state of another batch in a stream": (
        lambda: setattr(streamed(RNN_2_3, X), "state", ones(2, 3)),
        ValueError,
        "state must have shape (3, 3) for a stream of shape (3,) and hidden_size=3, got (2, 3)",
    ),
    "states of two batches": (
        lambda: TWO.stream((ones(2, 3), ones(3, 5))),
        ValueError,
        "state[1] must have shape (2, 5) for a stream of shape (2,) and hidden_size=5, got (3, 5)",
    ),
    "states of a stream": (
        lambda: TWO.stream(ones(3)),
        ValueError,
        "state must be None or a tuple with 2 entries, one for each recurrent layer, got ndarray",
    ),
    "a bank of no rows": (lambda: RNN_2_3.streams(0), ValueError, "capacity must be an integer from 1 up, got 0"),
    "a bank of any size": (lambda: MODEL.streams(None), ValueError, "capacity must be an integer from 1 up, got None"),
    "a batch for a bank's state0": (
        lambda: RNN_2_3.streams(5, H0),
        ValueError,
        "state0 must have shape (3,) for a row of shape () and hidden_size=3, got (3, 3)",
    ),
    "half a state0 of a bank": (
        lambda: Sequential(LSTM_2_3).streams(5, [(ones(3), ones(2))]),
        ValueError,
        "state0[0][1] must have shape (3,) for a row of shape () and hidden_size=3, got (2,)",
    ),
    "a full bank": (
        lambda: banked(RNN_2_3, rows=6),
        IndexError,
        "a bank of capacity=5 has handed out all its rows; drop one, or make a larger bank",
    ),
    "a row dropped twice": (
        lambda: [banked(RNN_2_3).drop(i) for i in (0, 2)],
        ValueError,
        "i must be a row that the bank has handed out, got 2",
    ),
    "a row dropped that a bank can't have": (
        lambda: banked(RNN_2_3).drop(-1),
        ValueError,
        "i must be a row that the bank has handed out, got -1",
    ),
    "half a row dropped": (
        lambda: banked(RNN_2_3).drop(0.5),
        ValueError,
        "i must be a row that the bank has handed out, got 0.5",
    ),
    "a row of a bank twice": (
        lambda: banked(RNN_2_3).step(ones(3, 2), at=[0, 1, 0]),
        ValueError,
        "at must hold distinct rows, got 0 at position 2",
    ),
    "a row of a bank that was not handed out": (
        lambda: banked(RNN_2_3).step(ones(3, 2), at=[2, 1, 2]),
        ValueError,
        "at must hold rows that the bank has handed out, got 2 at position 0",
    ),
    "a row beyond a bank": (
        lambda: banked(READER).step([0, 1], at=np.array([1, 2**64 - 1], np.uint64)),
        ValueError,
        "at must hold rows that the bank has handed out, got 18446744073709551615 at position 1",
    ),
    "a row twice among many": (
        lambda: banked(RNN_2_3, capacity=2000, rows=2000).step(ones(2000, 2), at=[*range(1999), 7]),
        ValueError,
        "at must hold distinct rows, got 7 at position 1999",
    ),
    "a mask for a bank's rows": (
        lambda: banked(RNN_2_3).step(ones(1, 2), at=[True, False]),
        TypeError,
        "at must be integers, rows of the bank, got dtype bool",
    ),
    "a single row of a bank": (
        lambda: banked(RNN_2_3).step(ones(2), at=1),
        ValueError,
        "at must have one axis, a row of the bank for each of x, got shape ()",
    ),
    "too few vectors for a bank": (
        lambda: banked(RNN_2_3).step(ones(1, 2)),
        ValueError,
        "x must have the leading axes (2,), one step for each row of the bank in at, got (1,)",
    ),
    "too many tokens for a bank": (
        lambda: banked(READER).step([0, 1], at=[1]),
        ValueError,
        "x must have the leading axes (1,), one step for each row of the bank in at, got (2,)",
    ),
    "vectors of another size for a bank": (
        lambda: banked(MODEL).step(ones(2, 3)),
        ValueError,
        "x must have shape (..., 2) for input_size=2, got (2, 3)",
    ),
    "a token beyond the vocabulary in a bank": (
        lambda: banked(READER).step([0, 2]),
        ValueError,
        "x must hold integers from 0 to 1 for a vocabulary of 2, got 2 at position (1,)",
    ),
    "a reset of a whole bank": (
        lambda: banked(RNN_2_3).step(ones(2, 2), reset=[True] * 5),
        ValueError,
        "reset must have shape (2,), one for each sequence, got (5,)",
    ),
    "out of a bank": (
        lambda: banked(RNN_2_3).step(ones(2, 2), out=ones(5, 3)),
        ValueError,
        "out must have shape (2, 3), got (5, 3)",
    ),
    "out over a bank's input": (
        lambda: banked(RNN_2_3).step(SHARED[:4].reshape(2, 2), out=SHARED[3:9].reshape(2, 3)),
        ValueError,
        "out must share no memory with x, got an overlapping array; pass x.copy()",
    ),
    "out over a bank's reset": (
        lambda: banked(RNN_2_3).step(ones(2, 2), reset=SHARED.view(bool)[8:10], out=SHARED[:6].reshape(2, 3)),
        ValueError,
        "out must share no memory with reset, got an overlapping array; pass reset.copy()",
    ),
    "state of another bank": (
        lambda: setattr(banked(RNN_2_3), "state", ones(2, 3)),
        ValueError,
        "state must have shape (5, 3) for a bank of shape (5,) and hidden_size=3, got (2, 3)",
    ),
    "a bank of vectors that aren't made": (
        lambda: Embedding.one_hot(4).streams(5),
        ValueError,
        "Embedding.one_hot(4) must have a layer after it, of input_size=4, whose weights it selects from; "
        "make it the first of others: Sequential(Embedding.one_hot(4), ...)",
    ),
    "no thread": (lambda: set_num_threads(0), ValueError, "n must be an integer from 1 up, got 0"),
    "true threads": (lambda: set_num_threads(True), ValueError, "n must be an integer from 1 up, got True"),
    "threads of a duration": (
        lambda: set_num_threads(SECOND),
        ValueError,
        f"n must be an integer from 1 up, got {SECOND!r}",
    ),
    "half a thread": (lambda: set_num_threads(1.5), ValueError, "n must be an integer from 1 up, got 1.5"),
    "threads left open": (lambda: set_num_threads(None), ValueError, "n must be an integer from 1 up, got None"),
    "no thread in the environment": (
        lambda: threads_from("0"),
        ValueError,
        "FASTRNN_NUM_THREADS must be an integer from 1 up, got 0",
    ),
    "no number in the environment": (
        lambda: threads_from("4,2"),
        ValueError,
        "FASTRNN_NUM_THREADS must be an integer from 1 up, got '4,2'",
    ),
    "a row that changes in the midst": (
        changed_in_the_midst,
        RuntimeError,
        "row 1 of the bank was stepped, set, reset or dropped while this call stepped it in several pieces; no state has changed",
    ),
    "a mask before the first step": (
        lambda: RNN_2_3.stream().reset(True),
        ValueError,
        "mask must not be given before the stream's first step or state, which fixes how many sequences there are",
    ),
    "a mask of another shape": (
        lambda: RNN_2_3.stream(H0).reset([True]),
        ValueError,
        "mask must have shape (3,), one for each sequence, got (1,)",
    ),
    "a mask of integers": (lambda: RNN_2_3.stream(H0).reset([1, 0, 0]), TypeError, "mask must be boolean, got dtype int64"),
    "swap for no model": (lambda: RNN_2_3.stream().swap(H0), TypeError, "model must be a layer or a Sequential, got ndarray"),
    "swap for a Bidirectional": (
        lambda: RNN_2_3.stream().swap(BOTH),
        ValueError,
        NEEDS_LATER.format("a stream or a bank", BOTH),
    ),
    "swap for another input": (
        lambda: RNN_2_3.stream().swap(RNN(ones(3, 4), ones(3, 3))),
        ValueError,
        "model must have input_size 2, as the model before it has, got 4",
    ),
    "swap for another output": (
        lambda: banked(MODEL).swap(Sequential(RNN_2_3, Dense(ones(9, 3)))),
        ValueError,
        f"model must have output_size {MODEL.output_size}, as the model before it has, got 9",
    ),
    "swap for another dtype": (
        lambda: banked(RNN_2_3).swap(RNN(ones(3, 2, dtype=np.float32), ones(3, 3, dtype=np.float32))),
        ValueError,
        "model must have dtype float64, as the model before it has, got float32",
    ),
    "swap tokens for numbers": (
        lambda: Sequential(Embedding.one_hot(2), RNN_2_3).stream().swap(Sequential(RNN_2_3)),
        ValueError,
        "model must have input given as tokens, as the model before it has, got numbers",
    ),
    "swap for another state": (
        lambda: RNN_2_3.stream().swap(LSTM_2_3),
        ValueError,
        "model must have states of sizes 3, as the model before it has, got (3, 3)",
    ),
    "swap for another kept state": (
        lambda: banked(RNN_2_3).swap(RNN(ones(3, 2), ones(3, 3), leak=0.5, leak_at="input")),
        ValueError,
        "model must have kept states of sizes (3,), as the model before it has, got (3, 3)",
    ),
    "set a stream's model": (
        lambda: setattr(RNN_2_3.stream(), "model", RNN_2_3),
        AttributeError,
        "Stream is frozen: model can't be set; swap takes another model, state= another state",
    ),
    "set a bank's capacity": (
        lambda: setattr(banked(RNN_2_3), "capacity", 3),
        AttributeError,
        "Bank is frozen: capacity can't be set; swap takes another model, state= other states",
    ),
    "set an attribute": (
        lambda: setattr(RNN_2_3, "bias", None),
        AttributeError,
        "RNN is frozen: bias can't be set; make a new layer",
    ),
    "set a new attribute": (
        lambda: setattr(MODEL, "name", "m"),
        AttributeError,
        "Sequential is frozen: name can't be set; make a new layer",
    ),
    "delete an attribute": (
        lambda: delattr(Dense(ones(3, 2)), "weight"),
        AttributeError,
        "Dense is frozen: weight can't be deleted; make a new layer",
    ),
}


@pytest.mark.parametrize(("call", "exception", "text"), ERRORS.values(), ids=ERRORS)
def test_errors(call, exception, text):
    """The exception's type and its whole text."""
    with pytest.raises(exception, match=f"^{re.escape(text)}$") as raised:
        call()
    assert raised.type is exception


def test_every_text_is_in_the_table():
    """No line that raises in arguments.py or layers/ is left out of the table: each has been run through by one of its calls."""
    raising = set()
    for call, exception, _ in ERRORS.values():
        with pytest.raises(exception) as raised:
            call()
        raising.add((raised.traceback[-1].path.name, raised.traceback[-1].lineno))
    package = pathlib.Path(fastrnn.__file__).parent
    for path in [package / "arguments.py", *sorted(package.glob("layers/*.py"))]:
        for number, line in enumerate(path.read_text().splitlines()):
            if line.split()[:1] == ["raise"] and "NotImplementedError" not in line:
                assert raising & {(path.name, number), (path.name, number + 1)}, line


def test_an_error_leaves_out_untouched():
    """A call that is refused has written nothing."""
    out = np.full((3, 7, 3), 5.0)
    with pytest.raises(ValueError, match="h0"):
        RNN_2_3(X, ones(3), out=out)
    assert (out == 5).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: RNN_2_3(X, H0, ones(3, 7, 3)),
        lambda: Dense(ones(4, 2))(X, ones(3, 7, 4)),
        lambda: TABLE([0, 1], ones(2, 2)),
        lambda: MODEL(X, None, ones(3, 7, 4)),
        lambda: MODEL(X, None, [7, 7, 7]),
        lambda: RNN_2_3.stream().step(X[:, 0], ones(3, 3)),
        lambda: RNN_2_3.stream()(X, ones(3, 7, 3)),
        lambda: RNN_2_3.stream(None, ones(3)),
        lambda: banked(RNN_2_3).step(ones(2, 2), [0, 1]),
        lambda: log_likelihood(TELLER, [0, 1], None, 2),
        lambda: generate(TELLER, 0, 5, None, "argmax"),
        lambda: RNN(ones(3, 2), ones(3, 3), None, "relu"),
        lambda: Dense(ones(4, 2), None, "relu"),
        lambda: rnn_forward(X, ones(3, 2), ones(3, 3), ones(4, 3), ones(3), ones(4)),
    ],
)
def test_options_are_keywords(call):
    """Calls take data and state by position, and nothing else."""
    with pytest.raises(TypeError, match="positional argument"):
        call()


def test_overlap_is_exact():
    """An out that lies between the elements of x shares nothing with it, and is accepted."""
    memory = ones(7, 5)
    x, out = memory[:, ::4], memory[3, 1:4].reshape(1, 3)
    assert np.may_share_memory(x, out)
    assert_same_bits(Dense(ones(3, 2))(x[3:4], out=out), np.full((1, 3), 2.0))
    assert_same_bits(x, ones(7, 2))


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


@every_case
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


def test_classes_have_articles():
    """A text that names classes gives each its article, and "or" before the last."""
    assert one_of((RNN, GRU, LSTM)) == "an RNN, a GRU or an LSTM"
