"""Errors of layers that don't go together in a Sequential."""

import numpy as np

from fastrnn import Dense, Embedding, Sequential, generate

from .given import RNN_2_3, SINGLE, TABLE, ones

ERRORS = {
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
}
