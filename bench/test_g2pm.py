"""A trained network of others: g2pM's bidirectional LSTM, which tells how a Chinese character is read, loaded under PyTorch's names."""

import importlib.resources
import pickle
import warnings

import numpy as np
import pytest

import fastrnn

SENTENCES = 300


@pytest.fixture(scope="module")
def package():
    with warnings.catch_warnings(action="ignore"):  # it leaves its files open
        return pytest.importorskip("g2pM", reason="g2pM is not installed: pip install --no-deps g2pM").G2pM()


@pytest.fixture(scope="module")
def weights():
    return pickle.loads((importlib.resources.files("g2pM") / "np_ckpt.pkl").read_bytes())


def model_of(weights):
    hidden, head = [(weights[f"logit_layer.{i}.weight"], weights[f"logit_layer.{i}.bias"]) for i in (0, 2)]
    lstm = fastrnn.from_state_dict(weights, "lstm.").layers
    table = fastrnn.Embedding(weights["embedding.weight"])
    return fastrnn.Sequential(table, *lstm, fastrnn.Dense(*hidden, activation="relu"), fastrnn.Dense(*head))


def test_every_character_is_read_the_same(package, weights):
    """In sentences of any length, alone and in one padded batch, each character's scores and reading are the package's."""
    rng, model = np.random.default_rng(0), model_of(weights)
    sentences = [rng.integers(1, len(weights["embedding.weight"]), length) for length in rng.integers(1, 60, SENTENCES)]
    scores = []
    package.fc_layer, original = lambda hidden: scores.append(original(hidden)) or scores[-1], package.fc_layer
    readings = [package.predict(sentence[None], np.arange(len(sentence))) for sentence in sentences]
    x, lengths = fastrnn.pad(sentences)
    for sentence, batched, expected, reading in zip(sentences, model.predict(x, lengths=lengths), scores, readings, strict=True):
        alone = model.predict(sentence)
        np.testing.assert_array_equal(alone, batched[: len(sentence)])
        np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        best = np.sort(expected, axis=-1)
        sure = best[:, -1] - best[:, -2] > 1e-4
        assert sure.mean() > 0.9
        np.testing.assert_array_equal(alone.argmax(axis=-1)[sure], reading[sure])
