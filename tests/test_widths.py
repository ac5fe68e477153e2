"""The same bits on every vector unit: golden results, computed anew for narrower ones, in code that uses no wider registers."""

import json
import os
import platform

import llvmlite.binding
import numpy as np
import pytest

from .golden import BATCHES, FILE
from .process import finish, start

COMPUTE = """
import json, sys
import numpy as np
from tests.golden import BATCHES, compute
from fastrnn.kernels import network, tile

results = {f"{name} batch {batch}": array for batch in BATCHES for name, array in compute(batch).items()}
np.savez(sys.argv[1], **results)
assembly = network.run.inspect_asm()
assert len(assembly) == 2
registers = {str(key): [name for name in ("%xmm", "%ymm", "%zmm") if name in text] for key, text in assembly.items()}
print(json.dumps([tile.REGISTER_BITS, registers]))
"""

TARGETS = {
    "host": (None, None),
    "haswell": ("haswell", ""),
    "haswell with its features": ("haswell", "+avx,+avx2,+fma"),
    "nehalem": ("nehalem", ""),
}
if platform.machine().lower() not in ("x86_64", "amd64"):
    TARGETS = {"host": (None, None)}
USED = {"haswell": ["%xmm"], "haswell with its features": ["%xmm", "%ymm"], "nehalem": ["%xmm"]}
BITS = {"haswell": 128, "haswell with its features": 256, "nehalem": 128}


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """For each target its results, and which registers the assembly of each signature of the kernel names."""
    directory, answers = tmp_path_factory.mktemp("widths"), {}
    waiting = list(TARGETS)
    while waiting:
        running = {}
        for target in waiting[: os.cpu_count() or 1]:
            name, features = TARGETS[target]
            environment = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": directory / target.replace(" ", "-")}
            running[target] = start(COMPUTE, directory / f"{target}.npz", **environment)
        for target, process in running.items():
            bits, registers = json.loads(finish(process))
            answers[target] = np.load(directory / f"{target}.npz"), bits, registers
            waiting.remove(target)
    return answers


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("target", TARGETS)
def test_golden_results(computed, target, batch):
    """Every target computes the committed bits, in any batch."""
    golden, (results, *_) = np.load(FILE), computed[target]
    for name in golden:
        unsigned = f"u{golden[name].itemsize}"
        np.testing.assert_array_equal(results[f"{name} batch {batch}"].view(unsigned), golden[name][:batch].view(unsigned), err_msg=name)


@pytest.mark.parametrize("target", list(USED) if len(TARGETS) > 1 else [])
def test_registers_of_narrower_targets(computed, target):
    """The assembly for a narrower target uses its registers and no wider ones."""
    _, bits, registers = computed[target]
    assert bits == BITS[target]
    for signature, names in registers.items():
        assert names == USED[target] or (target == "haswell" and names == ["%xmm", "%ymm"]), signature


def test_registers_of_the_host(computed):
    """The assembly for this machine uses its widest registers."""
    features = llvmlite.binding.get_host_cpu_features()
    _, bits, registers = computed["host"]
    if platform.machine().lower() in ("x86_64", "amd64"):
        widest, expected = ("%zmm", 512) if features.get("avx512f") else ("%ymm", 256) if features.get("avx") else ("%xmm", 128)
        assert bits == expected
        assert all(widest in names for names in registers.values())
