"""What a plain run leaves to `pytest -m exhaustive`: all but a few of many values."""

import pytest

exhaustive = pytest.mark.exhaustive

# One case of each kind, for tests that would take long with all of them.
CHOSEN = (
    "rnn-no-bias", "dense-softmax", "leaky-input-units", "gru-before", "lstm-peephole-projected", "gru-projected-rnn",
    "bidirectional-softmax", "rnn-rnn-log-softmax", "one-hot-rnn-tanh", "table-gru", "table-bidirectional",
    "looked-up-table-lstm", "looked-up-table-dense-rnn",
)  # fmt: skip


def few(values, *default):
    """Return parameters, of a list or of a table by their names: all but the default ones are exhaustive."""
    named = values.items() if isinstance(values, dict) else [(value, value) for value in values]
    assert all(any(name == one for name, _ in named) for one in default)
    ids = iter(values) if isinstance(values, dict) else None
    return [pytest.param(value, id=ids and next(ids), marks=() if name in default else exhaustive) for name, value in named]


def few_cases(cases, *names):
    """Return cases as parameters: all but those of the names, or one of each kind, are exhaustive."""
    return [pytest.param(case, marks=() if case.name in (names or CHOSEN) else exhaustive) for case in cases]
