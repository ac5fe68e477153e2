"""What only cells of several gates, or of several phases a step, can get wrong; and what a wrong row of the engine's cells is told."""

import re

import numpy as np
import pytest

import fastrnn
from fastrnn.engine import plan
from fastrnn.kernels import layout

from .cases import CELLS, DTYPES, Case, assert_same_results, run
from .exhaustive import few
from .process import copy_package, own_cache, start

GATED = [Case(f"{kind}, {form}", ((kind, form),), (8, 290)) for kind, (_, forms) in CELLS.items() for form in forms]
every_cell = pytest.mark.parametrize("case", GATED, ids=lambda case: case.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@every_cell
@pytest.mark.parametrize("dtype", few(DTYPES, np.float32))
@pytest.mark.parametrize("leading", few([(), (3,), (9,)], (3,)))
def test_threads_share_columns(case, dtype, leading, monkeypatch):
    """Threads that share every step, and wait for one another between its phases, give the bits of one."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 150)
    monkeypatch.setattr(fastrnn.engine.threads, "chosen", 1)
    alone = run(model, x, states)
    for name, value in {"WORTH_HELP": 1, "WARM_UP": 1_000_000, "FEW_SEQUENCES": 1 << 60, "LARGE": -1}.items():
        monkeypatch.setattr(plan, name, value)
    for count in (2, 3):
        monkeypatch.setattr(fastrnn.engine.threads, "chosen", count)
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


@every_dtype
@pytest.mark.parametrize("leading", [(), (6,)])
def test_units_without_a_leak_are_plain(dtype, leading):
    """A unit with a leak of 1 beside leaky ones, or all with 1, has a plain layer's bits, infinities and signed zeros included."""
    rng, hidden = np.random.default_rng(0), 70
    weight_ih, weight_hh = (rng.uniform(-0.3, 0.3, shape).astype(dtype) for shape in ((hidden, 4), (hidden, hidden)))
    weight_hh[:, 10:] = 0  # no plain unit reads a leaky one
    weight_ih[3] = 0, 0, 0, 1
    x, h0 = rng.uniform(-1, 1, (*leading, 30, 4)).astype(dtype), rng.uniform(-1, 1, (*leading, hidden)).astype(dtype)
    x[..., 5, 3], x[..., 6, 3], h0[..., 2] = np.inf, -np.inf, -np.inf
    x[..., 20:, :] = -0.0
    for nonlinearity in ("relu", "identity", "tanh"):
        plain, _ = fastrnn.RNN(weight_ih, weight_hh, nonlinearity=nonlinearity)(x, h0)
        leak = np.where(np.arange(hidden) < 10, 1, 0.5)
        leaky, _ = fastrnn.RNN(weight_ih, weight_hh, nonlinearity=nonlinearity, leak=leak)(x, h0)
        all_plain, _ = fastrnn.RNN(weight_ih, weight_hh, nonlinearity=nonlinearity, leak=np.ones(hidden))(x, h0)
        np.testing.assert_array_equal(leaky[..., :10].view(f"u{x.itemsize}"), plain[..., :10].view(f"u{x.itemsize}"))
        np.testing.assert_array_equal(all_plain.view(f"u{x.itemsize}"), plain.view(f"u{x.itemsize}"))


@every_dtype
def test_units_without_a_leak_at_the_input_are_plain(dtype):
    """So at the input, where the state is what f is applied to."""
    rng = np.random.default_rng(1)
    weight_ih, weight_hh = (rng.uniform(-0.3, 0.3, shape).astype(dtype) for shape in ((70, 4), (70, 70)))
    x, v0 = rng.uniform(-1, 1, (30, 4)).astype(dtype), rng.uniform(-1, 1, 70).astype(dtype)
    plain, _ = fastrnn.RNN(weight_ih, weight_hh, nonlinearity="relu")(x, np.maximum(v0, 0))
    leaky, v_n = fastrnn.RNN(weight_ih, weight_hh, nonlinearity="relu", leak=np.ones(70), leak_at="input")(x, v0)
    np.testing.assert_array_equal(leaky, plain)
    np.testing.assert_array_equal(np.maximum(v_n, 0), plain[-1])


@every_cell
def test_what_lies_past_the_units(case):
    """What the workspace held before past the last unit, such as NaN, is in no result, nor in the next call's."""
    model, (x, states) = case.layer(np.float32, sizes=(3, 17)), case.data(np.float32, (5,), 20, sizes=(3, 17))
    expected = run(model, x, states)
    run(fastrnn.RNN(np.full((300, 3), np.nan), np.eye(300)), np.ones((64, 20, 3)))
    assert_same_results(run(model, x, states), expected)


ROW = layout.CELLS["leaky_input"]
WRONG_ROWS = {
    "no gates": ({"gates": 0}, "cell 'new' must have gates=1 at least, got 0"),
    "no output": ({"state_arrays": 0, "enter": ""}, "cell 'new' must have state_arrays=1 at least, got 0"),
    "no phases": ({"phases": 0}, "cell 'new' must have phases=1 at least, got 0"),
    "no slot for a gate": (
        {"gates": 3},
        "cell 'new' must have row_slots=3 at least, slots for its gates and for the arrays of its state, got 2",
    ),
    "no slot for a state": (
        {"state_arrays": 4},
        "cell 'new' must have row_slots=4 at least, slots for its gates and for the arrays of its state, got 2",
    ),
    "no kernel": ({"module": ""}, "cell 'new' must have module=fastrnn.kernels.cells..., got ''"),
    "nothing to enter": (
        {"state_arrays": 1},
        "cell 'new' must have no enter where state_arrays=1, for the caller gives all of its state, got 'leaky_enter'",
    ),
    "enter of another": ({"enter": "tanh"}, "cell 'new' must have enter that no other operation has, got 'tanh'"),
}


@pytest.mark.parametrize(("fields", "text"), WRONG_ROWS.values(), ids=WRONG_ROWS)
def test_a_wrong_row_is_refused(fields, text):
    """A row of cells that no kernel could work with names the cell and the field."""
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        layout.add_cells({"tanh": ("", True)}, {"new": ROW._replace(**fields)})


def test_a_name_that_is_taken_is_refused():
    """A cell that has another operation's name would replace it."""
    with pytest.raises(ValueError, match=r"^cell 'run' must have a name that no other operation has, got 'run'$"):
        layout.add_cells(dict(layout.OPERATIONS), {"run": ROW})


@pytest.mark.parametrize("field", layout.Cell._fields)
def test_a_row_that_is_not_the_kernels_is_refused(field):
    """A row that differs in any field from what its kernel declares names the cell, the field and both values."""
    needed, given = f"no {field}", getattr(ROW, field)
    text = f"cell 'leaky_input' must have {field}={needed!r} in CELLS, as its kernel declares, got {given!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        layout.check_kernel("leaky_input", ROW._replace(**{field: needed}))


def test_a_kernel_without_a_row_is_refused():
    """So does a kernel that no row names."""
    with pytest.raises(ValueError, match=r"^cell 'new' must have a row in CELLS, got a kernel alone$"):
        layout.check_kernel("new", ROW)


CALL = "import fastrnn, numpy as np; print(fastrnn.GRU(np.ones((6, 3)), np.ones((6, 2)), reset_after=False)(np.ones((4, 3))))"
MISTAKES = {
    "import": (
        "row_slots=2",
        "ValueError: cell 'gru_reset_before' must have row_slots=3 at least, slots for its gates and for the arrays of its state",
    ),
    "kernel": ("phases=1", "ValueError: cell 'gru_reset_before' must have phases=2 in CELLS, as its kernel declares, got 1"),
}


@pytest.mark.parametrize(("wrong", "text"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_row_gives_no_numbers(wrong, text, tmp_path):
    """A mistake in a row is told before there is any result: by the import, or where only the kernel shows it, by the first call."""
    path = copy_package(tmp_path) / "fastrnn" / "kernels" / "layout.py"
    source, row = path.read_text(), 'cells.gru", gates=3, row_slots=3, state_arrays=1, phases=2)'
    assert source.count(row) == 1
    path.write_text(source.replace(row, re.sub(wrong.partition("=")[0] + r"=\d", wrong, row)))
    printed, errors = start(CALL, **own_cache(tmp_path / "cache", tmp_path)).communicate(timeout=300)
    assert text in errors
    assert not printed
