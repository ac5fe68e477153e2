"""An installed wheel that brings its machine code needs no compiler; a checkout has nothing to show here."""

import numpy as np
import pytest

import fastrnn
from fastrnn.native import machine_code, processor

from .cases import DTYPES, MODEL, assert_same_bits, run
from .golden import BATCHES, FILE, compute
from .process import python

pytestmark = pytest.mark.skipif(not machine_code.WHEEL.is_dir(), reason="this is no wheel with machine code")


def test_everything_comes_with_the_wheel():
    """All operations are found in the wheel, in both dtypes."""
    fastrnn.compile()
    assert set(machine_code.loaded.origins) == set(machine_code.everything())
    assert set(machine_code.loaded.origins.values()) == {"wheel"}


@pytest.mark.parametrize("batch", BATCHES)
def test_golden_results(batch):
    """It computes the committed bits."""
    golden, results = np.load(FILE), compute(batch)
    for name in golden:
        unsigned = f"u{golden[name].itemsize}"
        np.testing.assert_array_equal(results[name].view(unsigned), golden[name][:batch].view(unsigned), err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("leading", [(), (70,)])
def test_threads(dtype, leading, monkeypatch):
    """Threads give the bits of one."""
    model, (x, states) = MODEL.layer(dtype), MODEL.data(dtype, leading, 3000)
    monkeypatch.setattr(fastrnn.engine.threads, "chosen", 1)
    alone = run(model, x, states)[0]
    monkeypatch.setattr(fastrnn.engine.threads, "chosen", 2)
    for _ in range(3):
        assert_same_bits(run(model, x, states)[0], alone)


@pytest.mark.parametrize("level", processor.LEVELS, ids=lambda level: level.level)
def test_every_level(level):
    """Where the host has a level, a process that is told to use it computes the committed bits."""
    if not level.suits(machine_code.host()):
        pytest.skip("this machine does not have the level")
    script = """
import numpy as np
from fastrnn.native import machine_code
from tests.golden import FILE, compute
golden, results = np.load(FILE), compute(9)
print(machine_code.target().level, sum(results[name].tobytes() != golden[name].tobytes() for name in golden.files))
"""
    environment = {"NUMBA_CPU_NAME": level.cpu, "NUMBA_CPU_FEATURES": level.features}
    assert python(script, **environment).split() == [level.level, "0"]
