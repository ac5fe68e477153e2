"""Bad arguments get an error that says what was expected and what came."""

import pathlib
import re

import numpy as np
import pytest

import fastrnn
from fastrnn import GRU, LSTM, RNN, Dense, generate, log_likelihood, rnn_forward
from fastrnn.arguments import one_of

from .cases import assert_same_bits
from .errors import ERRORS, TABLES
from .errors.given import H0, MODEL, RNN_2_3, TABLE, TELLER, X, banked, ones


@pytest.mark.parametrize(("call", "exception", "text"), ERRORS.values(), ids=ERRORS)
def test_errors(call, exception, text):
    """The exception's type and its whole text."""
    with pytest.raises(exception, match=f"^{re.escape(text)}$") as raised:
        call()
    assert raised.type is exception


def test_names_are_given_once():
    """No entry of one table hides another one's."""
    assert len(ERRORS) == sum(map(len, TABLES))


def test_classes_have_articles():
    """A text that names classes gives each its article, and "or" before the last."""
    assert one_of((RNN, GRU, LSTM)) == "an RNN, a GRU or an LSTM"


def test_every_text_is_in_the_table():
    """No line that raises where arguments are checked is left out of the tables: each has been run through by one of its calls."""
    raising = set()
    for call, exception, _ in ERRORS.values():
        with pytest.raises(exception) as raised:
            call()
        raising.add((raised.traceback[-1].path.name, raised.traceback[-1].lineno))
    package = pathlib.Path(fastrnn.__file__).parent
    own = [package / f"{name}.py" for name in ("arguments", "functional", "sequences", "streaming", "banks")]
    for path in [*own, *sorted(package.glob("layers/*.py")), package / "engine" / "threads.py"]:
        for number, line in enumerate(path.read_text().splitlines()):
            if line.lstrip().startswith("raise ") and "NotImplementedError" not in line:
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
