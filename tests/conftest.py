"""Hypothesis draws the same examples in every run, and is not timed. Bars can be kept."""

import gc

import hypothesis
import pytest
import tqdm.auto

from fastrnn.engine import execute, threads

from .bars import Recorded

hypothesis.settings.register_profile("fastrnn", deadline=None, derandomize=True, max_examples=40, database=None)
hypothesis.settings.load_profile("fastrnn")


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what isn't marked
def pytest_collection_modifyitems(config, items):
    """Take tests that draw often into the exhaustive run, too, with 100 examples in place of 40."""
    often = [item for item in items if hasattr(getattr(item, "obj", None), "draws_often")]
    if config.option.markexpr == "exhaustive":
        for function in {item.obj for item in often}:
            hypothesis.settings(max_examples=100)(function)
        for item in often:
            item.add_marker("exhaustive")


@pytest.fixture(scope="module")
def no_collector():
    """No garbage is collected: Numba makes so many objects, and keeps most, that it takes a tenth of the time of tests that compile."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def piece_by_piece():
    """No array is so small that it is converted whole."""
    few, execute.FEW = execute.FEW, 0
    yield
    execute.FEW = few


@pytest.fixture
def recorded(monkeypatch):
    """The bars that are made meanwhile."""
    monkeypatch.setattr(Recorded, "made", [], raising=False)
    monkeypatch.setattr(tqdm.auto, "tqdm", Recorded)
    return Recorded.made


@pytest.fixture
def unset(monkeypatch):
    """Nothing says how many threads there are but the processors."""
    monkeypatch.setattr(threads, "chosen", None)
    monkeypatch.setattr(threads, "found", None)
    for variable in (threads.VARIABLE, *threads.OTHER_VARIABLES):
        monkeypatch.delenv(variable, raising=False)
