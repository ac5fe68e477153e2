"""Transformers for scikit-learn: what they give, and that scikit-learn's own tools take them."""

import importlib.util
import pathlib
import pickle
import sys
from unittest import mock

import numpy as np
import pandas
import pytest
import xarray
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastrnn
from fastrnn.sklearn import Features, Reservoir

from .cases import DTYPES, assert_close, assert_same_bits

N, T, I, H = 6, 9, 3, 11  # noqa: E741
LENGTHS = [4, 9, 3, 7]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def numbers(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(dtype)


X = numbers(0, N, T, I)
RAGGED = [numbers(seed, length, I) for seed, length in enumerate(LENGTHS)]
RNN = fastrnn.RNN(numbers(1, H, I), numbers(2, H, H), numbers(3, H), leak=0.7)
NARROW = fastrnn.RNN(numbers(1, H, 1), numbers(2, H, H))
GRU = fastrnn.GRU(numbers(4, 3 * H, I), numbers(5, 3 * H, H), numbers(8, 3 * H))  # of zeros it makes other states than zeros
READER = fastrnn.Sequential(fastrnn.Embedding(numbers(6, 5, I)), RNN)
MODELS = {
    "RNN": RNN,
    "Bidirectional": fastrnn.Bidirectional(RNN, GRU),
    "Sequential": fastrnn.Sequential(GRU, fastrnn.Dense(numbers(7, 2, H))),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
every_output = pytest.mark.parametrize("output", ["last", "mean", "all"])


def reservoir(n_units=H, **parameters):
    return Reservoir(n_units, **{"leak": 0.6, "bias_scaling": 0.3, "random_state": 0, **parameters})


@parametrize_with_checks([Reservoir(20), Features(NARROW)])
def test_estimator_checks(estimator, check):
    """All of scikit-learn's own checks hold, for tables: sequences of one feature."""
    check(estimator)


# The digits' images, 8 x 8, are read as 8 steps of 8 pixels. Measured shares of right answers, five folds, seeds 0 to 5: 0.930 to 0.943;
# without recurrent weights 0.521 to 0.528; the same classifier on the last row of pixels 0.429.
DIGITS, LABELS = load_digits().images / 16, load_digits().target


def digits(**parameters):
    settings = {"input_scaling": 0.5, "bias_scaling": 0.5, "random_state": 0, **parameters}
    return make_pipeline(Reservoir(200, **settings), StandardScaler(), RidgeClassifier())


def test_digits():
    """A reservoir remembers the rows of an image: folds run by two processes are right far oftener than the last row alone."""
    last_row = cross_val_score(make_pipeline(StandardScaler(), RidgeClassifier()), DIGITS[:, -1], LABELS, cv=5)
    forgetful = cross_val_score(digits(spectral_radius=0.0), DIGITS, LABELS, cv=5)
    scores = cross_val_score(digits(), DIGITS, LABELS, cv=5, n_jobs=2)
    assert last_row.mean() < 0.5
    assert forgetful.mean() < 0.6
    assert scores.mean() > 0.91


def test_grid_search():
    """A search over the spectral radius prefers memory to none, and what it gives classifies images that it hasn't seen."""
    fitted, unseen, labels, answers = train_test_split(DIGITS, LABELS, random_state=0)
    search = GridSearchCV(digits(), {"reservoir__spectral_radius": [0.0, 0.9]}, cv=3).fit(fitted, labels)
    assert search.best_params_ == {"reservoir__spectral_radius": 0.9}
    assert search.score(unseen, answers) > 0.9


def test_folds_of_a_list():
    """A list of sequences of several lengths can be cut into folds: here the sign of a sequence's mean is learned."""
    sequences, signs = [], np.arange(60) % 2 * 2 - 1
    for seed, sign in enumerate(signs):
        sequences.append(numbers(seed, 5 + seed % 7, I) + 0.3 * sign)
    pipeline = make_pipeline(reservoir(20, output="mean", washout=2), RidgeClassifier())
    assert cross_val_score(pipeline, sequences, signs, cv=3).mean() > 0.9


@every_dtype
def test_states_are_the_reference_s(dtype):
    """The states are those of plain NumPy loops with the same weights, in the dtype of X."""
    fitted, x = reservoir(output="all").fit(X.astype(dtype)), X.astype(dtype)
    layer = fitted.layer_
    wide = [weight.astype(np.float64) for weight in (layer.weight_ih, layer.weight_hh, layer.bias)]
    expected, _ = fastrnn.reference.RNN(*wide, leak=0.6)(x.astype(np.float64))
    assert layer.dtype == dtype
    assert_close(fitted.transform(x), expected, dtype)


@every_output
def test_washout(output):
    """The first steps are left out of all states and of their mean, and the last state is what it is."""
    states, _ = reservoir().fit(X).layer_(X)
    expected = {"last": states[:, -1], "mean": np.stack([row[4:].mean(axis=0) for row in states]), "all": states[:, 4:]}[output]
    assert_same_bits(reservoir(output=output, washout=4).fit_transform(X), expected)


def test_mean_by_hand():
    """A running sum of ones, 1 2 3 4, has the mean 3 from the second step on."""
    count = fastrnn.RNN(np.eye(1), np.eye(1), nonlinearity="identity")
    assert Features(count, output="mean", washout=1).transform(np.ones((1, 4))).tolist() == [[3.0]]


@every_output
@every_model
def test_a_list_is_its_sequences(model, output):
    """Sequences of several lengths give the bits that each gives alone, as a list or an array of objects."""
    features = Features(model, output=output, washout=2)
    together = features.fit_transform(RAGGED)
    objects = np.empty(len(RAGGED), object)
    objects[:] = RAGGED
    for one, result, other in zip(RAGGED, together, features.transform(objects), strict=True):
        assert_same_bits(result, features.transform(one[np.newaxis])[0])
        assert_same_bits(result, other)


@every_model
def test_features_are_the_model_s(model):
    """A model's outputs, last or all, are those of its call; their names count its outputs."""
    assert_same_bits(Features(model, output="all").transform(X), model.predict(X))
    assert_same_bits(Features(model).transform(X), model.predict(X, return_sequences=False))
    assert list(Features(model).get_feature_names_out()) == [f"features{i}" for i in range(model.output_size)]


@every_output
def test_tokens(output):
    """A model that begins with an Embedding reads tokens, as an array or a list; any length will do after a fit."""
    features, tokens = Features(READER, output=output).fit([[1, 4, 0], [2, 2, 3]]), [[1, 0, 4, 4, 2], [3, 1]]
    arrays = [np.array(one) for one in tokens]
    for one, result in zip(arrays, features.transform(arrays), strict=True):
        assert_same_bits(result, features.transform(one[np.newaxis])[0])
    vectors = [READER.layers[0](one) for one in arrays]
    for result, expected in zip(features.transform(arrays), Features(RNN, output=output).transform(vectors), strict=True):
        assert_same_bits(result, expected)


def test_a_model_that_gives_one_output():
    """A model whose calls give the last output alone gives all of them where they are asked for."""
    model = fastrnn.Sequential(RNN, return_sequences=False)
    assert_same_bits(Features(model, output="all").transform(X), RNN.predict(X))


@pytest.mark.parametrize("made", [reservoir(), Features(RNN), Features(READER)], ids=["Reservoir", "Features", "of tokens"])
def test_tags_name_the_dtypes_that_stay(made):
    """`preserves_dtype` names float32 and float64 where the result has the dtype of X, and else the network's, which it then has."""
    own = isinstance(made, Reservoir)
    kept = made.__sklearn_tags__().transformer_tags.preserves_dtype
    assert sorted(kept) == (["float32", "float64"] if own else [RNN.dtype.name])
    for dtype in kept:
        x = X.astype(dtype) if getattr(made, "model", RNN) is RNN else np.zeros((2, 4), int)
        assert clone(made).fit(x).transform(x).dtype == dtype


def test_tags_and_fit_where_there_is_no_model():
    """Features of something that is no model has tags and says what is wrong in fit, as scikit-learn wants of wrong parameters."""
    made = Features("a model")
    assert made.__sklearn_tags__().transformer_tags.preserves_dtype == ["float64"]
    with pytest.raises(TypeError, match=r"^model must be "):
        made.fit(X)


@every_dtype
def test_a_table_is_sequences_of_one_feature(dtype):
    """A table's columns are steps."""
    table = X[:, :, 0].astype(dtype)
    assert_same_bits(reservoir().fit_transform(table), reservoir().fit_transform(table[..., np.newaxis]))


@pytest.mark.parametrize("kept", [2 * T * H * 8, 1])
def test_means_in_pieces(kept, monkeypatch):
    """Means have the same bits however many sequences are run at a time, one where more are too many."""
    features = Features(RNN, output="mean", washout=1)
    array, ragged = features.transform(X), features.transform(RAGGED)
    monkeypatch.setattr(fastrnn.sklearn, "KEPT", kept)
    assert_same_bits(features.transform(X), array)
    assert_same_bits(features.transform(RAGGED), ragged)


def test_means_of_many_steps_are_exact():
    """A mean of float32 outputs is rounded once: a sum of a million tenths in float32 is off by 1%."""
    copy = fastrnn.RNN(np.eye(1, dtype="f"), np.zeros((1, 1), "f"), nonlinearity="identity")
    assert Features(copy, output="mean").transform(np.full((1, 10**6, 1), 0.1, "f")) == np.float32(0.1)


@pytest.mark.parametrize("connectivity", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("units", [1, 2, 5, 60])
def test_spectral_radius(units, connectivity):
    """The spectral radius is what was asked for, however few weights there are, and each unit reads the same share of units."""
    for seed in range(5):
        weights = reservoir(units, spectral_radius=1.3, connectivity=connectivity, random_state=seed).fit(X).layer_.weight_hh
        assert np.abs(np.linalg.eigvals(weights)).max() == pytest.approx(1.3, rel=1e-9)
        assert (np.count_nonzero(weights, axis=1) == max(1, round(connectivity * units))).all()


def test_scales():
    """Input weights and biases are uniform in their ranges; without a range there is no bias."""
    layer = reservoir(400, input_scaling=0.2, bias_scaling=3.0).fit(X).layer_
    for weights, scale in ((layer.weight_ih, 0.2), (layer.bias, 3.0)):
        assert np.abs(weights).max() < scale
        assert np.percentile(weights, [25, 75]) == pytest.approx([-scale / 2, scale / 2], abs=0.2 * scale)
    assert reservoir(bias_scaling=0.0).fit(X).layer_.bias is None


def test_random_state():
    """An integer gives the same bits in every fit, another integer others; a RandomState goes on."""
    first = reservoir(random_state=1).fit_transform(X)
    assert_same_bits(reservoir(random_state=1).fit_transform(X), first)
    assert not np.allclose(reservoir(random_state=2).fit_transform(X), first)
    going_on = reservoir(random_state=np.random.RandomState(1))
    assert_same_bits(going_on.fit_transform(X), first)
    assert not np.allclose(going_on.fit_transform(X), first)


@pytest.mark.parametrize("transformer", [reservoir(leak=np.linspace(0.1, 1, H)), *map(Features, MODELS.values())], ids=repr)
def test_copies(transformer):
    """A clone, fitted anew, and a fitted transformer's pickle give the same bits."""
    expected = transformer.fit(X).transform(X)
    assert_same_bits(clone(transformer).fit(X).transform(X), expected)
    assert_same_bits(pickle.loads(pickle.dumps(transformer)).transform(X), expected)


def test_lengths_may_change():
    """Sequences of another length than those of the fit are run too; their count of features is kept."""
    fitted = reservoir().fit(X)
    assert fitted.n_features_in_ == I
    assert_same_bits(fitted.transform(X[:, :5]), reservoir().fit_transform(X[:, :5]))
    assert fitted.fit(X[:, :, 0]).n_features_in_ == T


def test_pandas():
    """A data frame's columns are steps, whose names are kept; a data frame comes out where it is asked for."""
    table = pandas.DataFrame(X[:, :, 0], columns=[f"t{i}" for i in range(T)])
    fitted = reservoir().set_output(transform="pandas").fit(table)
    frame = fitted.transform(table)
    assert list(fitted.feature_names_in_) == list(table)
    assert list(frame) == [f"reservoir{i}" for i in range(H)]
    assert_same_bits(frame.to_numpy(), reservoir().fit_transform(X[:, :, 0]))


def with_nan(x):
    x = x.copy()
    x[(1,) * x.ndim] = np.nan
    return x


FORMS = "X must have shape (n_samples, T, n_features), or (n_samples, T) for one feature"
STATES = "None, an integer from 0 to 2**32 - 1, or a numpy.random.RandomState"
GENERATOR = np.random.default_rng(0)


def import_without_sklearn():
    """Run the module's file anew where scikit-learn isn't there."""
    spec = importlib.util.spec_from_file_location("fastrnn.another", fastrnn.sklearn.__file__)
    with mock.patch.dict(sys.modules, {"sklearn.base": None}):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


ERRORS = [
    (lambda: reservoir(0).fit(X), ValueError, "n_units must be an integer from 1 up, got 0"),
    (lambda: reservoir(2.0).fit(X), ValueError, "n_units must be an integer from 1 up, got 2.0"),
    (lambda: reservoir(spectral_radius=-1).fit(X), ValueError, "spectral_radius must be a finite number from 0 up, got -1"),
    (lambda: reservoir(input_scaling=np.inf).fit(X), ValueError, "input_scaling must be a finite number from 0 up, got inf"),
    (lambda: reservoir(bias_scaling="1").fit(X), ValueError, "bias_scaling must be a finite number from 0 up, got '1'"),
    (lambda: reservoir(connectivity=0.0).fit(X), ValueError, "connectivity must be a number above 0 and at most 1, got 0.0"),
    (lambda: reservoir(connectivity=10).fit(X), ValueError, "connectivity must be a number above 0 and at most 1, got 10"),
    (lambda: reservoir(leak=1.5).fit(X), ValueError, "leak must be above 0 and at most 1, got 1.5"),
    (lambda: reservoir(leak=[1, 1]).fit(X), ValueError, "leak must be a number or have shape (11,), got int64 of shape (2,)"),
    (lambda: reservoir(washout=-1).fit(X), ValueError, "washout must be an integer from 0 up, got -1"),
    (lambda: reservoir(output="first").fit(X), ValueError, "output must be one of 'last', 'mean', 'all', got 'first'"),
    (lambda: reservoir(random_state=-1).fit(X), ValueError, f"random_state must be {STATES}, got -1"),
    (lambda: reservoir(random_state="0").fit(X), ValueError, f"random_state must be {STATES}, got '0'"),
    (
        lambda: reservoir(random_state=GENERATOR).fit(X),
        ValueError,
        f"random_state must be {STATES}, got {GENERATOR!r}; pass an integer drawn from it: rng.integers(2**32)",
    ),
    (
        lambda: reservoir().fit(xarray.DataArray(X)),
        TypeError,
        "X must not be an xarray DataArray, whose dimensions may be in any order; call xarray.apply_ufunc(model.predict, ...), "
        "or pass X.transpose(..., time, feature).values",
    ),
    (lambda: reservoir().fit(np.ma.masked_array(X)), TypeError, "X must not be a masked array; pass X.filled(value)"),
    (lambda: reservoir(washout=9).fit(X), ValueError, "X must have more steps than washout=9, got 9; make washout smaller"),
    (lambda: reservoir().fit(X[:, :0]), ValueError, "X must have more steps than washout=0, got 0"),
    (
        lambda: Features(RNN, washout=3).transform(RAGGED),
        ValueError,
        "X[2] must have more steps than washout=3, got 3; make washout smaller, or leave the sequence out",
    ),
    (
        lambda: reservoir().fit(X[0, 0]),
        ValueError,
        f"{FORMS}, got (3,); Reshape your data: X[numpy.newaxis] is one sequence of one feature",
    ),
    (lambda: reservoir().fit(X[np.newaxis]), ValueError, f"{FORMS}, got (1, 6, 9, 3)"),
    (lambda: reservoir().fit(X[:, :, :0]), ValueError, "X must have 1 feature at least, got shape (6, 9, 0)"),
    (
        lambda: reservoir().fit([X[0], X[1, :, :2]]),
        ValueError,
        "X[1] must have as many features as X[0], 3, got shape (9, 2)",
    ),
    (lambda: reservoir().fit([[1.0, 2.0], [3.0]]), ValueError, "X[0] must have shape (T, n_features), got (2,)"),
    (lambda: reservoir().fit([X[0], X[1, 0]]), ValueError, "X[1] must have shape (T, n_features), got (3,)"),
    (
        lambda: reservoir().fit([X[0], [[1.0], [1.0, 2.0]]]),
        ValueError,
        "X[1] must be an array or a rectangular nested list, got rows of different lengths",
    ),
    (lambda: reservoir().fit(["a", "b"]), TypeError, "X[0] must hold real numbers, got dtype <U1"),
    (
        lambda: reservoir().fit(X).transform(X[:, :, :2]),
        ValueError,
        "X has 2 features, but Reservoir is expecting 3 features as input.",
    ),
    (lambda: reservoir().fit(X).transform(X[:, :3, 0]), ValueError, "X must have shape (n_samples, T, 3) for input_size=3, got (6, 3)"),
    (
        lambda: Features(NARROW).transform(X),
        ValueError,
        "X must have shape (n_samples, T, 1), or (n_samples, T) for input_size=1, got (6, 9, 3)",
    ),
    (lambda: Features(READER).transform(X), ValueError, "X must have shape (n_samples, T) where it holds tokens, got (6, 9, 3)"),
    (lambda: Features(READER).transform(X[0]), TypeError, "X must be integers, the tokens of an Embedding, got dtype float64"),
    (
        lambda: Features(READER).transform([[1, 2], [5, 0]]),
        ValueError,
        "X must hold integers from 0 to 4 for a vocabulary of 5, got 5 at position (1, 0)",
    ),
    (lambda: Features(READER).transform([X[0, 0]]), TypeError, "X[0] must be integers, the tokens of an Embedding, got dtype float64"),
    (
        lambda: Features(READER).transform([np.array([1]), np.array([[1]])]),
        ValueError,
        "X[1] must have shape (T,), tokens of an Embedding, got (1, 1)",
    ),
    (lambda: Features(fastrnn.Dense(numbers(0, 2, I))).fit(X), TypeError, "model must be a recurrent layer or a Sequential, got Dense"),
    (lambda: Features(None).fit(X), TypeError, "model must be a recurrent layer or a Sequential, got NoneType"),
    (lambda: Features(RNN, output="first").fit(X), ValueError, "output must be one of 'last', 'mean', 'all', got 'first'"),
    (lambda: Features(RNN, washout=1.0).fit(X), ValueError, "washout must be an integer from 0 up, got 1.0"),
    (import_without_sklearn, ImportError, "fastrnn.sklearn needs scikit-learn; pip install 'fastrnn[sklearn]'"),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=[text.replace(repr(GENERATOR), "a Generator") for _, _, text in ERRORS])
def test_errors(call, kind, text):
    """A bad argument gets an error that names it, what it must be, and what came."""
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text


def test_every_text_is_in_the_table():
    """No line that raises in fastrnn/sklearn.py is left out of the table."""
    raising = set()
    for call, kind, _ in ERRORS:
        with pytest.raises(kind) as raised:
            call()
        raising |= {entry.lineno for entry in raised.traceback if pathlib.Path(entry.path).name == "sklearn.py"}
    lines = pathlib.Path(fastrnn.sklearn.__file__).read_text().splitlines()
    assert {number for number, line in enumerate(lines) if line.split()[:1] == ["raise"]} <= raising


@pytest.mark.parametrize("x", [with_nan(X), with_nan(X[:, :, 0]), [with_nan(one) for one in RAGGED]], ids=["array", "table", "list"])
def test_nan(x):
    """NaN is refused in the words of scikit-learn."""
    with pytest.raises(ValueError, match=r"^Input X contains NaN\.\nReservoir does not accept missing values"):
        reservoir().fit(x)


def test_before_fit():
    """A reservoir has no weights before it is fitted."""
    with pytest.raises(NotFittedError, match=r"^This Reservoir instance is not fitted yet\."):
        reservoir().transform(X)
