"""The same bits on every vector unit: golden results, computed anew for narrower ones and for every level that wheels bring code for."""

import json
from typing import NamedTuple

import numpy as np
import pytest

from fastrnn.kernels.layout import HERE
from fastrnn.native import machine_code, processor

from .exhaustive import exhaustive
from .golden import BATCHES, FILE, compute
from .process import copy_package, finish, own_cache, start

# Compiles as a compiler's process does, but in this one, so that the assembly of each operation can be looked at: prints the registers
# that are named there.
COMPUTE = """
import gc, json, re, sys
import llvmlite.binding as llvm
import numpy as np
from fastrnn.native import codegen, compiling, machine_code
from tests.golden import BATCHES, compute

registers = {}

def emit_object(machine, module, emit=llvm.TargetMachine.emit_object):
    code = emit(machine, module)
    (name,) = [function.name for function in module.functions if function.linkage is llvm.Linkage.external and not function.is_declaration]
    registers[name] = sorted(set(re.findall("%([xyz]mm)", machine.emit_assembly(module))))
    return code

llvm.TargetMachine.emit_object = emit_object
def compile_task(*given, compile_task=compiling.compile_task):
    sys.modules["scipy"] = None
    llvm.set_option("fastrnn", "-disable-lsr")
    gc.disable()
    codegen.leave_out_passes()  # now: it imports Numba, which reads the target from the environment
    return compile_task(*given)

compiling.compile_task = compile_task
sys.executable = ""
results = {f"{name} batch {batch}": array for batch in BATCHES for name, array in compute(batch).items()}
np.savez(sys.argv[1], **results)
print(json.dumps([machine_code.shape(), machine_code.target().level, sorted(set(machine_code.loaded.origins.values())), registers]))
"""


class Target(NamedTuple):
    """What machine code is made for, and what it may look like."""

    bits: int  # of the tile's registers
    has_fma: bool
    registers: set  # that some instruction names
    environment: dict | None = None


NARROWEST = {"nehalem": Target(128, False, {"xmm"}, {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": ""})}
LEVELS = {
    "x86-64-v3": Target(256, True, {"xmm", "ymm"}),
    "x86-64-v4": Target(512, True, {"xmm", "ymm", "zmm"}),
    "generic": Target(128, True, set()),
}
WIDEST = {128: "xmm", 256: "ymm", 512: "zmm"}
KNOWN = {level.level for level in processor.LEVELS if level.suits(machine_code.host())}
if HERE.machine == "x86_64":
    TARGETS = {**NARROWEST, **{level: target for level, target in LEVELS.items() if level in KNOWN}}
else:
    TARGETS = {level: target for level, target in LEVELS.items() if level in KNOWN}


def begin(name, path, **environment):
    """Start what computes the golden results for a target."""
    return start(COMPUTE, path / "results.npz", **own_cache(path / "cache", path), **(TARGETS[name].environment or {}), **environment)


def answers(path, process):
    printed = json.loads(finish(process))
    return np.load(path / "results.npz"), *printed


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """For each target: where its package is, and what was printed by a process that compiled everything for it."""
    paths = {name: copy_package(tmp_path_factory.mktemp("widths") / name) for name in TARGETS}
    for name in LEVELS.keys() & paths.keys():
        (paths[name] / "fastrnn" / "machine_code" / name).mkdir(parents=True)  # as in a wheel for this level, but empty
    processes = {name: begin(name, path) for name, path in paths.items()}
    return {name: (paths[name], answers(paths[name], process)) for name, process in processes.items()}


def assert_golden(results):
    """The committed bits, in any batch."""
    golden = np.load(FILE)
    for name in golden:
        for batch in BATCHES:
            unsigned = f"u{golden[name].itemsize}"
            actual, expected = results[f"{name} batch {batch}"], golden[name][:batch]
            np.testing.assert_array_equal(actual.view(unsigned), expected.view(unsigned), err_msg=f"{name} batch {batch}")


def test_golden_results():
    """This machine's own code computes the committed bits, in any batch."""
    assert_golden({f"{name} batch {batch}": array for batch in BATCHES for name, array in compute(batch).items()})


@exhaustive
@pytest.mark.parametrize("name", TARGETS)
def test_golden_results_elsewhere(computed, name):
    """So does code for narrower registers, for a processor without fma, and for every level that this machine has."""
    _, (results, _, _, origins, _) = computed[name]
    assert origins == ["compiled now"]
    assert_golden(results)


@exhaustive
@pytest.mark.parametrize("name", TARGETS)
def test_registers(computed, name):
    """A target's code uses its registers and no wider ones, whatever this machine has; products use the widest."""
    _, (_, (bits, _, _, has_fma), level, _, registers) = computed[name]
    target = TARGETS[name]
    assert (bits, has_fma, level) == (target.bits, target.has_fma, name if name in LEVELS else "")
    assert len(registers) > 15
    for symbol, used in registers.items():
        assert set(used) <= target.registers, symbol
        if HERE.machine == "x86_64" and symbol.startswith(("fastrnn_product_", "fastrnn_tanh_")):
            assert WIDEST[bits] in used, symbol


@exhaustive
@pytest.mark.parametrize("name", [name for name in TARGETS if name in LEVELS])
def test_golden_results_from_a_wheel(computed, name):
    """A level's files are found in the package, where a wheel puts them: nothing is compiled, and the bits are the same."""
    path, _ = computed[name]
    for file in (path / "cache").glob("*.bin"):
        file.rename(path / "fastrnn" / "machine_code" / name / file.name)
    results, _, level, origins, registers = answers(path, begin(name, path, NUMBA_DISABLE_JIT=1))
    assert (level, origins, registers) == (name, ["wheel"], {})
    assert_golden(results)
