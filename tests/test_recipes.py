"""The recipes in docstrings and in README do what they say, not only run."""

import doctest
import importlib

import numpy as np
import pytest

import fastrnn
from fastrnn import reference

from .cases import assert_close, assert_same_bits
from .process import ROOT


def recipe(text):
    """The variables that a text's examples leave behind."""
    names = {}
    for example in doctest.DocTestParser().get_examples(text):
        exec(compile(example.source, "recipe", "exec"), names)
    return names


def recipe_of(module):
    return recipe(importlib.import_module(f"fastrnn.{module}").__doc__)


def exact(model):
    """The reference of a chain of one-hot tokens or vectors, an RNN and a Dense."""
    *first, rnn, head = model.layers
    layers = [reference.Embedding.one_hot(one.input_size) for one in first]
    layers += [reference.RNN(rnn.weight_ih, rnn.weight_hh, rnn.bias), reference.Dense(head.weight, head.bias, activation=head.activation)]
    return reference.Sequential(*layers)


def next_logits(model, tokens, count):
    """Of each of the last `count` tokens, the logarithms of the next one's probabilities, with all before it read once."""
    return np.log(exact(model)(tokens)[0][:, -1 - count : -1])


def drawn(seed, sequences, count):
    """The numbers that `generate` draws."""
    return np.array([child.random(count) for child in np.random.default_rng(seed).spawn(sequences)])


@pytest.fixture(scope="module")
def names():
    """The variables of the recipes for sequences, with weights so large that what comes next depends on what was read."""
    return recipe(importlib.import_module("fastrnn.sequences").__doc__.replace("uniform(-0.1, 0.1", "uniform(-0.2, 0.2"))


def test_a_prompt_is_read_once(names):
    """What is written after a prompt is what the reference draws where it reads the prompt and what was written, each token once."""
    text = np.concatenate([names["tokens"], names["written"]], axis=-1)
    logits = next_logits(names["language"], text, 20)
    assert_same_bits(names["written"], reference.choose(logits, drawn(0, 8, 20), 1.0, None))


def test_writing_is_continued(names):
    """A second call continues where the first one ended, with a temperature and the likeliest tokens alone."""
    text = np.concatenate([names["tokens"], names["written"], names["more"]], axis=-1)
    assert_same_bits(names["more"], reference.choose(next_logits(names["language"], text, 20), drawn(1, 8, 20), 0.7, 5))


def test_the_state_after_writing(names):
    """The state that comes out has read all but the last token."""
    text = np.concatenate([names["tokens"], names["written"], names["more"]], axis=-1)
    assert_close(names["state"][0], exact(names["language"])(text[:, :-1])[1][0], np.float64)


def test_the_likeliest_tokens(names):
    """They follow token 0, each the likeliest after those before; the token that ends them is repeated."""
    text = [0]
    for token in names["likeliest"]:
        likeliest = exact(names["language"])(np.array([text]))[0][0, -1].argmax()
        assert token == (3 if 3 in text[1:] else likeliest)
        text.append(token)


def test_likelihoods_of_the_recipe(names):
    """log_p is the sum of the logarithms of the reference's probabilities of the tokens that came."""
    tokens, probabilities = names["tokens"], exact(names["language"])(names["tokens"])[0]
    taken = np.take_along_axis(probabilities[:, :-1], tokens[:, 1:, np.newaxis], axis=-1)
    assert_close(names["log_p"], np.log(taken).sum(axis=(1, 2)), np.float64)


def test_episodes(monkeypatch):
    """After the streams' recipe sequence 3 is a step past its state0, the others are two."""
    read = []
    step = fastrnn.Stream.step
    monkeypatch.setattr(fastrnn.Stream, "step", lambda self, x, **options: (read.append(np.array(x)), step(self, x, **options))[1])
    names = recipe_of("streaming")
    first, second = [x for x in read if x.shape == (8, 32)][-2:]
    model, start = exact(names["model"]), np.full((8, 64), 0.5)
    _, (went_on,) = model(np.stack([first, second], axis=1), start)
    _, (anew,) = model(second[:, np.newaxis], start)
    assert_close(names["stream"].state[0], np.where(names["over"][:, np.newaxis], anew, went_on), np.float64)


def test_a_compiled_loop():
    """The recipe's compiled controller computes what a loop in Python does, step by step."""
    names = recipe_of("jit")
    model, position, observed, state = names["model"], 0.0, np.zeros(2), None
    for _ in range(100):
        action, state = model(observed[np.newaxis], state)
        position += 0.1 * (action[0, 0] - position)
        observed = np.array([position, 1.0])
    assert_close(np.array(names["controlled"](model.jit(), 100)), np.array(position), np.float64)


def test_the_readme_continues():
    """README's second call continues the first: its output is that of the second half of both in one."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = recipe(text[: text.index("batch, (h_n,)")].rpartition(">>>")[0])
    whole, _ = exact(names["model"])(np.concatenate([names["x"], names["x"]]))
    assert_close(names["more"], whole[100:], np.float64)
