"""What only cells of several gates, or of several phases a step, can get wrong."""

import numpy as np
import pytest

import fastrnn
from fastrnn import plan

from .cases import CELLS, DTYPES, Case, assert_same_results, run

GATED = [Case(f"{kind}, {form}", ((kind, form),), (8, 290)) for kind, (_, _, forms) in CELLS.items() for form in forms]
every_cell = pytest.mark.parametrize("case", GATED, ids=lambda case: case.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@every_cell
@every_dtype
@pytest.mark.parametrize("leading", [(), (3,), (9,)])
def test_threads_share_columns(case, dtype, leading, monkeypatch):
    """Threads that share every step, and wait for one another between its phases, give the bits of one."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 150)
    monkeypatch.setattr(fastrnn.threads, "chosen", 1)
    alone = run(model, x, states)
    for name, value in {"WORTH_HELP": 1, "WARM_UP": 1_000_000, "FEW_SEQUENCES": 1 << 60, "LARGE": -1}.items():
        monkeypatch.setattr(plan, name, value)
    for count in (2, 3):
        monkeypatch.setattr(fastrnn.threads, "chosen", count)
        for _ in range(5):
            assert_same_results(run(model, x, states), alone)


@every_dtype
def test_the_state_is_kept_where_the_update_gate_is_1(dtype):
    """A GRU whose update gate is 1 keeps its state for any number of steps, to the last bit."""
    hidden = 40
    bias = np.concatenate([np.zeros(hidden), np.full(hidden, 100), np.zeros(hidden)])
    rng = np.random.default_rng(0)
    weights = [rng.uniform(-0.1, 0.1, shape).astype(dtype) for shape in ((3 * hidden, 5), (3 * hidden, hidden))]
    x, h0 = rng.uniform(-1, 1, (1000, 5)).astype(dtype), rng.uniform(-1, 1, hidden).astype(dtype)
    for reset_after in (True, False):
        _, h_n = fastrnn.GRU(*weights, bias.astype(dtype), reset_after=reset_after)(x, h0)
        np.testing.assert_array_equal(h_n, h0)


@every_cell
def test_what_lies_past_the_units_slows_nothing(case):
    """What the workspace held before past the last unit, such as NaN, is in no result, nor in the next call's."""
    model, (x, states) = case.layer(np.float32, sizes=(3, 17)), case.data(np.float32, (5,), 20, sizes=(3, 17))
    expected = run(model, x, states)
    run(fastrnn.RNN(np.full((300, 3), np.nan), np.eye(300)), np.ones((64, 20, 3)))
    assert_same_results(run(model, x, states), expected)
