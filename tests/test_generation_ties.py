"""What is generated where outputs tie: exact ties have a rule, and nothing but ties within rounding parts fastrnn from the reference."""

import numpy as np
import pytest

import fastrnn
from fastrnn import generate, reference

from .cases import DTYPES, TOLERANCES, assert_same_bits, uniform
from .exhaustive import few
from .situations import HEADS

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
SEQUENCES, STEPS = 48, 16
PLAIN = [case for case in HEADS if all(form in ("tanh", "relu", "sigmoid", "softmax", "log_softmax") for _, form in case.layers)]


def weights(rng, case, dtype, change):
    """A model's layers as (kind, function, weights), of random sizes; `change` makes of the last one's what it likes."""
    sizes = rng.integers(2, 60, len(case.sizes))
    sizes[-1] = sizes[0]
    layers = []
    for (kind, function), inputs, outputs in zip(case.layers, sizes[:-1], sizes[1:], strict=True):
        shapes = [(outputs, inputs), (outputs, outputs), (outputs,)] if kind == "RNN" else [(outputs, inputs), (outputs,)]
        bound = (outputs if kind == "RNN" else inputs) ** -0.5
        layers.append((kind, function, [uniform(rng, shape, dtype, bound) for shape in shapes]))
    kind, function, last = layers.pop()
    return [*layers, (kind, function, change(rng, last))], int(sizes[0])


def build(library, layers, dtype, *, head=None):
    """The model; `head` is the last layer's activation, the layer's own where not given."""
    functions = [*(function for _, function, _ in layers[:-1]), layers[-1][1] if head is None else head]
    built = []
    for (kind, _, arrays), function in zip(layers, functions, strict=True):
        name = "nonlinearity" if kind == "RNN" else "activation"
        built.append(getattr(library, kind)(*(array.astype(dtype) for array in arrays), **{name: function}))
    return library.Sequential(library.Embedding.one_hot(layers[0][2][0].shape[1]), *built)


def repeated(rng, arrays):
    """Rows that come again."""
    which = rng.integers(0, len(arrays[0]), len(arrays[0]))
    return [array[which] for array in arrays]


def close(rng, arrays):
    """Outputs about 1 that differ by some rounding errors."""
    dtype = arrays[0].dtype.type
    weight, bias = (array * dtype(10 * np.finfo(dtype).eps) for array in arrays)
    return [weight, bias + dtype(1)]


def as_they_are(rng, arrays):
    return arrays


def options_of(rng, size):
    feedback = ["argmax", "sample", "sample"][rng.integers(3)]
    top_k = None if rng.random() < 0.3 else int(rng.integers(1, size + 1))
    return {"feedback": feedback, "temperature": float(rng.choice([0.05, 0.3, 1, 2.5])), "top_k": top_k, "rng": int(rng.integers(1000))}


def both(rng, case, dtype, change):
    """Layers, options, start, and what fastrnn and the float64 reference generate."""
    layers, size = weights(rng, case, dtype, change)
    options, start = options_of(rng, size), rng.integers(0, size, SEQUENCES)
    ours, _ = generate(build(fastrnn, layers, dtype), start, STEPS, **options)
    theirs, _ = reference.generate(build(reference, layers, np.float64), start, STEPS, **options)
    return layers, options, start, ours, theirs


def ties(z, u, dtype, feedback, temperature, top_k):
    """Whether a choice from logits z of more than double precision hangs on less than the dtype's tolerance."""
    error = 2 * TOLERANCES[np.dtype(dtype)] * max(1, abs(z).max())
    ordered = np.sort(z)[::-1]
    if feedback == "argmax":
        return len(z) > 1 and ordered[0] - ordered[1] <= error
    if top_k is not None and top_k < len(z) and ordered[top_k - 1] - ordered[top_k] <= error:
        return True
    powers = np.where(z >= ordered[(top_k or len(z)) - 1], np.exp((z - ordered[0]) / temperature), 0)
    return bool(abs(powers.cumsum() / powers.sum() - u).min() <= error / temperature)


@every_dtype
@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_equal_rows_tie_exactly(case, dtype):
    """Tokens whose weights are equal have equal logits: the lowest is likeliest, and first into top_k, in the reference too."""
    rng = np.random.default_rng(3)
    for _ in range(8):
        *_, ours, theirs = both(rng, case, dtype, repeated)
        assert_same_bits(ours, theirs)


@every_dtype
@pytest.mark.parametrize("change", [as_they_are, repeated, close], ids=lambda change: change.__name__)
@pytest.mark.parametrize("models", few([20, 60], 20))
def test_only_ties_part_from_the_reference(change, dtype, models):
    """A sequence is the reference's, or leaves it where the logits of its choice, of more than double precision, tie within rounding."""
    rng, parted = np.random.default_rng(5), 0
    for _ in range(models):
        layers, options, start, ours, theirs = both(rng, PLAIN[rng.integers(len(PLAIN))], dtype, change)
        streams = np.random.default_rng(options["rng"]).spawn(SEQUENCES)
        logits = build(reference, layers, np.longdouble, head="identity")
        for i in np.flatnonzero((ours != theirs).any(axis=1)):
            t = int((ours[i] != theirs[i]).argmax())
            z = logits(np.concatenate([start[i : i + 1], ours[i, :t]]))[0][-1]
            assert ties(z, streams[i].random(STEPS)[t], dtype, options["feedback"], options["temperature"], options["top_k"]), (i, t)
            parted += 1
    assert parted > 0 if change is close else parted < 0.001 * models * SEQUENCES
