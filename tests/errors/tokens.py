"""Errors of generate and log_likelihood."""

import sys

import numpy as np
import pytest

from fastrnn import Dense, Embedding, Sequential, generate, log_likelihood

from .given import MODEL, READER, RNN_2_3, SECOND, TABLE, TELLER, VECTORS, ones


def without_generators():
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(np, "random", raising=False)
        patch.setitem(sys.modules, "numpy.random", None)
        generate(TELLER, 0, 5, rng=0)


LEGACY = np.random.Generator(np.random.RandomState(0)._bit_generator)  # seeded in the old way, which can't spawn
RNG = "rng must be None, a seed of integers from 0 up, or a numpy.random.Generator that can spawn others"

ERRORS = {
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
    "masked lengths beside a wrong token": (
        lambda: log_likelihood(TELLER, [[0, 4]], lengths=np.ma.masked_less([1], 0)),
        TypeError,
        "lengths must not be a masked array; pass lengths.filled(value)",
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
    "no model": (lambda: log_likelihood([1], [0, 1]), TypeError, "model must be a layer or a Sequential, got list"),
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
}
