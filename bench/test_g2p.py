"""A trained network of others: g2p_en's encoder and decoder, GRUs that make phonemes of letters, written with fastrnn.

g2p_en is installed alone, `pip install --no-deps g2p_en`: what it requires is for whole English texts, not for its network.
"""

import collections
import importlib.resources
import re
import sys
import warnings
from unittest import mock

import numpy as np
import pytest

import fastrnn

START, STOP, MOST = 2, 3, 20  # phonemes' tokens, and how many phonemes a word has at most
WORDS = 1000


@pytest.fixture(scope="module")
def package():
    """The package's own object, without its dictionary, which its network doesn't need."""
    stubs = {name: mock.MagicMock() for name in ("nltk", "nltk.corpus", "nltk.tokenize", "inflect")}
    with mock.patch.dict(sys.modules, stubs), warnings.catch_warnings(action="ignore"):
        g2p = pytest.importorskip("g2p_en.g2p", reason="g2p_en is not installed: pip install --no-deps g2p_en")
        with mock.patch.object(g2p, "construct_homograph_dictionary"):
            package = g2p.G2p()
    yield package
    package.variables.close()


@pytest.fixture(scope="module")
def words():
    """The commonest words of the last chapter of Moby-Dick."""
    text = (importlib.resources.files("fastrnn") / "data" / "moby_dick_chapter_135.txt").read_text(encoding="ascii")
    counted = collections.Counter(re.findall("[a-z']*[a-z]", text.lower()))
    return [word for word, _ in counted.most_common(WORDS)]


class Phonemes:
    """The same network in fastrnn. The package's arrays are PyTorch's, under shorter names."""

    def __init__(self, package):
        self.package = package
        self.encoder = fastrnn.Sequential(fastrnn.Embedding(package.enc_emb), gru(package, "enc"))
        head = fastrnn.Dense(package.fc_w, package.fc_b)
        self.decoder = fastrnn.Sequential(fastrnn.Embedding(package.dec_emb), gru(package, "dec"), head)

    def tokens(self, word):
        letters = self.package.g2idx
        return np.array([letters.get(letter, letters["<unk>"]) for letter in [*word, "</s>"]])

    def read(self, tokens):
        """Make names of the tokens up to the one that ends the word."""
        ended = np.append(tokens, STOP).tolist().index(STOP)
        return [self.package.idx2p[token] for token in tokens[:ended].tolist()]

    def predict(self, word):
        _, state = self.encoder(self.tokens(word), return_sequences=False)
        tokens, _ = fastrnn.generate(self.decoder, START, MOST, state, feedback="argmax", stop=STOP)
        return self.read(tokens)

    def predict_all(self, words):
        x, lengths = fastrnn.pad([self.tokens(word) for word in words])
        _, state = self.encoder(x, lengths=lengths, return_sequences=False)
        tokens, _ = fastrnn.generate(self.decoder, np.full(len(words), START), MOST, state, feedback="argmax", stop=STOP)
        return [self.read(row) for row in tokens]


def gru(package, part):
    return fastrnn.from_state_dict(
        {f"{kind}_{of}": getattr(package, f"{part}_{kind[0]}_{of}") for kind in ("weight", "bias") for of in ("ih", "hh")}
    ).layers[0]


WAYS = {
    "g2p_en": lambda package, words: [package.predict(word) for word in words],
    "fastrnn, word by word": lambda package, words: [package.predict(word) for word in words],
    "fastrnn, all words": lambda package, words: package.predict_all(words),
}


@pytest.mark.parametrize("way", WAYS)
def test_phonemes(benchmark, package, words, way):
    """A thousand words have the package's own phonemes, one by one and as one batch."""
    assert len(words) == WORDS
    network = package if way == "g2p_en" else Phonemes(package)
    assert WAYS[way](network, words) == [package.predict(word) for word in words]
    benchmark.group, benchmark.name = f"phonemes of {WORDS:,} words", way
    benchmark(WAYS[way], network, words)
