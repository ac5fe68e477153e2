"""Object code is put into memory without LLVM where it is simple, by LLVM where it isn't; the processor is known without LLVM, too."""

import ctypes
import pathlib
import sys

import llvmlite.binding as llvm
import pytest

from fastrnn import compiling, linking, processor
from fastrnn.kernels.layout import MACHINE, shape_of

from .process import python

linux = pytest.mark.skipif(sys.platform != "linux" or MACHINE != "x86_64", reason="elsewhere LLVM does it")

# Adds the absolute value of x, a constant, and how often it was called, which it counts in memory of its own: `blank` is 0 at first.
TEXT = """
declare i32 @abs(i32)
@table = internal constant [3 x i32] [i32 100, i32 200, i32 300]
@count = global i32 7
@blank = internal global i64 0, align 64

define i32 @function(i32 %x, i64 %index) {
  %size = call i32 @abs(i32 %x)
  %place = getelementptr [3 x i32], ptr @table, i64 0, i64 %index
  %constant = load i32, ptr %place
  %before = load i32, ptr @count
  %after = add i32 %before, 1
  store i32 %after, ptr @count
  %zero = load i64, ptr @blank
  %more = add i64 %zero, 1
  store i64 %more, ptr @blank
  %small = trunc i64 %more to i32
  %first = add i32 %size, %constant
  %second = add i32 %first, %after
  %third = add i32 %second, %small
  ret i32 %third
}
"""
HOW = {"addresses": {"reloc": "static", "jit": True}, "distances": {"reloc": "pic", "codemodel": "small"}}


def object_code(**options):
    linking.initialize()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(**options)
    return machine.emit_object(llvm.parse_assembly(TEXT))


@pytest.mark.parametrize("how", HOW)
def test_code_runs(how):
    """Placed code finds the process's functions, its constants and its variables, and is found by its name."""
    find = linking.place(object_code(**HOW[how]), ["abs"])
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32, ctypes.c_int64)(find("function"))
    assert [function(-5, 0), function(6, 2)] == [5 + 100 + 8 + 1, 6 + 300 + 9 + 2]
    assert ctypes.c_int32.from_address(find("count")).value == 9
    assert find("another") == 0


@linux
def test_which_code_needs_llvm():
    """What fastrnn compiles wants addresses alone, and is placed without LLVM; other relocations, machines and formats aren't."""
    code = object_code(**HOW["addresses"])
    assert linking.ObjectFile.read(code) is not None
    assert linking.ObjectFile.read(object_code(**HOW["distances"])) is None
    assert linking.ObjectFile.read(code[:18] + b"\xb7" + code[19:]) is None  # says aarch64
    assert linking.ObjectFile.read(b"\xcf\xfa\xed\xfe" + code[4:]) is None  # macOS' magic


@linux
@pytest.mark.parametrize("how", HOW)
def test_a_lacking_function(how):
    """Code that needs what the process lacks is not placed."""
    assert linking.place(object_code(**HOW[how]), ["abs", "no_such_function_anywhere"]) is None


@linux
def test_memory_is_never_writable_and_executable():
    """Placed code can be run and not be written, its variables the other way round."""
    find = linking.place(object_code(**HOW["addresses"]), ["abs"])
    modes = {}
    for line in pathlib.Path("/proc/self/maps").read_text().splitlines():
        pages, mode = line.split()[:2]
        start, end = (int(address, 16) for address in pages.split("-"))
        modes |= {name: mode for name in ("function", "count") if start <= find(name) < end}
    assert modes == {"function": "r-xp", "count": "rw-p"}


@linux
def test_no_memory(monkeypatch):
    """Where the system gives no memory, or doesn't let code of a process's own run, the error says so."""
    code = object_code(**HOW["addresses"])
    monkeypatch.setattr(linking.ObjectFile, "layout", lambda _: ({}, 0, 1 << 60))
    with pytest.raises(MemoryError, match=rf"^no memory for {1 << 60} bytes of machine code: Cannot allocate memory$"):
        linking.place(code, [])
    monkeypatch.undo()
    monkeypatch.setattr(linking, "new_memory", lambda size, new=linking.new_memory: new(size) + 8)
    with pytest.raises(OSError, match=r"this system lets no machine code be made executable that a process has written$"):
        linking.place(code, ["abs"])


BY_LLVM = """
import sys
import numpy as np
from fastrnn import linking
linking.ObjectFile.read = lambda code: None
from tests.golden import BATCHES, FILE, compute
golden = np.load(FILE)
for batch in BATCHES:
    for name, result in compute(batch).items():
        assert result.tobytes() == golden[name][:batch].tobytes(), name
print("llvmlite.binding" in sys.modules)
"""


def test_the_same_bits_by_llvm():
    """The committed bits are computed also where LLVM places the code."""
    assert python(BY_LLVM) == "True\n"


# ---- the processor --------------------------------------------------------------------------------------------------------------------


@linux
def test_linux_and_llvm_say_the_same():
    """By what Linux says, this processor has the levels and the tiles' shape that it has by what LLVM says."""
    linux, by_llvm = processor.by_linux(), processor.by_llvm()
    assert [level.suits(linux) for level in processor.LEVELS] == [level.suits(by_llvm) for level in processor.LEVELS]
    assert shape_of(linux.features) == shape_of(by_llvm.features)


SAID = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Some name: of a processor
stepping\t: 8
power management:
flags\t\t: fpu pni avx2 sse4_1 bmi1 abm

processor\t: 1
vendor_id\t: Another
flags\t\t: avx512f
"""


def test_what_linux_says(tmp_path, monkeypatch):
    """The first processor's name and features are read, in LLVM's words; where they aren't told, LLVM is asked."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "SAID", file)
    monkeypatch.delenv(processor.NAME, raising=False)
    monkeypatch.delenv(processor.FEATURES, raising=False)
    assert processor.host() == processor.by_llvm()
    file.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert processor.host() == processor.by_llvm()
    file.write_text(SAID)
    assert processor.host() == ("GenuineIntel-6-143-8", "+avx2,+bmi,+fpu,+lzcnt,+sse3,+sse4.1", "")


def test_llvm_must_agree(monkeypatch):
    """Where LLVM takes the processor for one with other tiles, nothing is compiled: weights would be packed for these."""
    monkeypatch.setattr(processor, "by_llvm", lambda: processor.Target("nehalem", "+sse2"))
    said = "LLVM and the system say differently what this processor has: set NUMBA_CPU_NAME and NUMBA_CPU_FEATURES to what is right"
    with pytest.raises(RuntimeError, match=f"^{said}$"):
        compiling.in_llvms_words(processor.Target("Vendor-1-2-3", "+avx,+avx512f,+fma"))
    assert compiling.in_llvms_words(processor.LEVELS[0]) == processor.LEVELS[0]
