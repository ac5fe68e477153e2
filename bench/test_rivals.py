"""Tests the timed benchmark: all libraries compute the same, all take their turns, and a missing library is named."""

import json
import os
import sys

import numpy as np
import pytest

from bench import contestants, results, timing
from bench.__main__ import tell
from bench.cases import DTYPES, Shape
from bench.contestants import Contestant, Remote, enter
from bench.measurement import measure_part, measure_rows, processor, with_part
from bench.results import CONTESTANTS, LIBRARIES
from bench.rivals import Way
from bench.rows import SINGLE, Row, task
from fastrnn.native.processor import processors

KINDS = (
    ("shapes", Shape("head", 7, 3, 5, 4)),
    ("shapes", Shape("no head", 7, 3, 5)),
    ("batch", Shape("batch of one", 6, 3, 5, batch=1)),
    ("batch", Shape("batch", 6, 3, 5, batch=4)),
    ("tokens", Shape("tokens", 7, 9, 5, 4)),
    ("uniform lengths", Shape("uniform", 8, 3, 5, batch=6)),
    ("long tail", Shape("long tail", 8, 3, 5, batch=6)),
    ("single step", Shape("step", 1, 3, 5)),
    ("single call", Shape("call", 1, 3, 5)),
    *((cell, Shape(cell, 7, 3, 5)) for cell in ("GRU", "LSTM", "leaky")),
    *((cell, Shape(f"batch, {cell}", 6, 3, 5, batch=4)) for cell in ("GRU", "LSTM")),
    *((cell, Shape(f"one step, {cell}", 1, 3, 5)) for cell in ("GRU", "LSTM")),
    ("LSTM steps", Shape("LSTM steps", 1, 3, 5, batch=4)),
    ("Bidirectional LSTM", Shape("two directions", 7, 3, 5)),
    ("Bidirectional LSTM", Shape("batch, two directions", 6, 3, 5, batch=4)),
)
ROWS = tuple(Row(*kind, dtype) for kind in KINDS for dtype in DTYPES)
(ROW,) = (row for row in ROWS if (row.shape.name, row.dtype) == ("head", "float32"))


@pytest.fixture
def contestant(request):
    try:
        return Contestant(request.param, 1)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("contestant", CONTESTANTS, indirect=True)
def test_every_way_gives_the_reference(contestant, row):
    """Every library runs every kind of row, in each of its dtypes."""
    if row.dtype not in contestant.dtypes:
        pytest.skip(f"{contestant.name} has no {row.dtype}")
    arrays = task(row)
    if arrays.cell not in contestant.cells:
        pytest.skip(f"{contestant.name} has no {arrays.cell}")
    way, seconds = contestant.prepare(arrays)
    assert way
    assert seconds > 0


@pytest.mark.parametrize("row", [row for row in ROWS if row.group not in (*SINGLE, "LSTM steps")], ids=str)
def test_a_wrong_result_is_refused(row):
    """A result with a wrong value or another dtype fails the check."""
    arrays = task(row)
    right = arrays.expected.astype(row.dtype)
    contestants.check(Way("right", lambda: right, np.array), arrays)
    wrong = right.copy()
    wrong.flat[-1] += 1e-3
    with pytest.raises(ValueError, match="wrong is off by 1"):
        contestants.check(Way("wrong", lambda: wrong, np.array), arrays)
    with pytest.raises(TypeError, match="other gives float16"):
        contestants.check(Way("other", lambda: right.astype(np.float16), np.array), arrays)


def test_a_state_that_is_not_handed_on_is_refused():
    """Single steps are compared one by one, so a stuck state is seen."""
    arrays = task(Row("single call", Shape("call", 1, 3, 5)))
    with pytest.raises(ValueError, match="stuck is off by"):
        contestants.check(Way("stuck", lambda: arrays.expected[0].astype(np.float32), np.array), arrays)


@pytest.fixture
def worker():
    remote = Remote("NumPy", 1, ("FASTRNN_BENCH_WORKER", "1"))
    yield remote
    remote.close()


def test_a_process_of_its_own(worker):
    """A remote contestant is prepared and timed like a local one, and reports its errors. Its variable isn't set in this process."""
    assert "FASTRNN_BENCH_WORKER" not in os.environ
    _, seconds = worker.prepare(task(ROW))
    assert seconds > 0
    assert worker.time(3, warm_up=True) > 0
    with pytest.raises(RuntimeError, match="AttributeError"):
        worker.prepare(None)
    assert worker.time(3, warm_up=False) > 0


def test_a_run(monkeypatch):
    """Every library has ordered quartiles at every number of threads. Saving and loading changes none of them."""
    monkeypatch.setattr(timing, "settle", lambda: None)
    rows, missing = measure_rows([ROW], tell, rounds=2)
    assert json.loads(results.dump({"rows": rows})) == {"rows": rows}
    (row,) = rows
    assert row["errors"] == []
    assert {*row["times"], *missing} == set(LIBRARIES)
    for by_threads in row["times"].values():
        assert sorted(map(int, by_threads)) == sorted({1, processors()})
        for time in by_threads.values():
            assert 0 < time["low"] <= time["median"] <= time["high"]


def test_an_error_is_told(monkeypatch):
    """A library that fails a row is named with its error. The others are still timed."""
    monkeypatch.setattr(timing, "settle", lambda: None)
    entered, _ = enter(["NumPy", "fastrnn"])
    monkeypatch.setattr(entered[0], "prepare", lambda arrays: 1 / 0)
    measured = timing.measure(task(ROW), "row", entered, Silent(), 1)
    assert measured["errors"] == ["NumPy, threads 1: division by zero"]
    assert "fastrnn" in measured["times"]


class Silent:
    """A progress bar that shows nothing."""

    def update(self, count=1):
        pass

    def set_postfix_str(self, text):
        pass


def test_a_missing_library_is_named(monkeypatch):
    """A library that isn't installed is named, and the others take part."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "bench.rivals.pytorch", raising=False)
    entered, missing = enter(["PyTorch", "NumPy"])
    assert missing == ["PyTorch"]
    assert {contestant.name for contestant in entered} == {"NumPy"}


def test_a_part_replaces_its_rows():
    """Rows that were measured alone replace the stored ones, in the order of the benchmark. Another CPU is named beside the first."""
    stored = results.load()
    machine, rows = {**stored["machine"], "cpu": "Other"}, stored["rows"]
    again = {**rows[1], "times": {}}
    joined = with_part({**stored, "machine": machine, "rows": rows[2:]}, {"rows": [again, rows[0]]})
    assert joined["rows"] == [rows[0], again, *rows[2:]]
    assert joined["machine"]["cpu"] == f"Other and, for rows measured later, {processor()}"
    assert with_part({**stored, "machine": machine}, {"growth": {}})["growth"] == {}


def test_no_part():
    """A name that fits no row and no section measures nothing."""
    assert measure_part("no such row", tell) == {}
