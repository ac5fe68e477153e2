"""Object code is put into memory without LLVM where it is simple, by LLVM where it isn't; the processor is known without LLVM, too."""

import ctypes
import pathlib
import threading

import llvmlite.binding as llvm
import pytest

from fastrnn.kernels.layout import HERE
from fastrnn.native import compiling, linking, machine_code, processor

from .process import python

linux = pytest.mark.skipif(not processor.SAYS_ITSELF, reason="elsewhere LLVM does it")

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


def object_code(text=TEXT, **options):
    linking.initialize()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(**options)
    return machine.emit_object(llvm.parse_assembly(text))


@linux
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
    """Code that needs what the process lacks is not placed; where LLVM places it, it must be told of it."""
    code = object_code(TEXT.replace("@abs", "@no_such_function_anywhere"), **HOW[how])
    assert linking.place(code, ["no_such_function_anywhere"]) is None


@linux
def test_nothing_but_an_operation_is_seen_from_elsewhere():
    """Of all that its code defines, other code sees an operation alone: a weak symbol would silently replace another's."""
    wanted = [one for one in machine_code.everything() if one[0] in ("pack", "tanh", "gru", "run", "call", "run_shared")]
    for one in wanted:
        machine_code.address(*one)
        found = [place / machine_code.file_name(one, machine_code.target()) for place, _ in machine_code.places(machine_code.target())]
        content = next(path for path in found if path.exists()).read_bytes()
        file = linking.ObjectFile.read(machine_code.checked(content).partition(b"\n")[2])
        kinds = file.code[file.sections["offset"][file.sections["type"] == linking.SYMBOLS][0] + 4 :: linking.SYMBOL.itemsize]
        defined = [file.name(symbol) for symbol, kind in zip(file.symbols, kinds, strict=False) if kind >> 4 and symbol["section"]]
        assert defined == [machine_code.symbol(one, machine_code.target())]


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
    with pytest.raises(MemoryError, match=rf"^no memory for {1 << 60} bytes of machine code: Cannot allocate memory$"):
        linking.new_memory(1 << 60)
    monkeypatch.setattr(linking, "new_memory", lambda size, new=linking.new_memory: new(size) + 8)
    with pytest.raises(OSError, match=r"this system lets no machine code be made executable that a process has written$"):
        linking.place(code, ["abs"])


BY_LLVM = """
import sys
import numpy as np
from fastrnn.native import linking
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
def test_the_processor_and_llvm_say_the_same():
    """By what it says itself, this processor has the levels and the tiles' shape that it has by what LLVM says."""
    asked, by_llvm = processor.by_itself(processor.words()), processor.by_llvm()
    features = {name for bits in processor.BITS.values() for name in bits}
    assert {f"+{name}" for name in features} & {*by_llvm.features.split(",")} == {*asked.features.split(",")}
    assert [level.suits(asked) for level in processor.LEVELS] == [level.suits(by_llvm) for level in processor.LEVELS]
    assert asked.shape == by_llvm.shape


@linux
def test_what_the_system_adds_is_no_other_processor():
    """The number of threads, a hypervisor and other settings don't make another processor; family, model and instructions do."""
    known = dict(processor.words())
    name = processor.by_itself(known).cpu
    for word, bit in (((1, 0, processor.C), 31), ((1, 0, processor.D), 28), ((1, 0, processor.A), 0), (processor.XCR0, 9)):
        assert processor.by_itself(known | {word: known[word] ^ 1 << bit}).cpu == name
    for word, bit in (((1, 0, processor.A), 4), ((1, 0, processor.C), 28), ((7, 0, processor.B), 16), (processor.XCR0, 17)):
        assert processor.by_itself(known | {word: known[word] ^ 1 << bit}).cpu != name
    assert processor.by_itself(known | {(0, 0, processor.D): 0}).cpu != name


@linux
def test_registers_that_the_system_does_not_save():
    """Where the system doesn't save wide registers, their instructions are not there."""
    every = dict.fromkeys(processor.words(), 0xFFFFFFFF)
    levels = {}
    for saved in (0xFFFFFFFF, 0x07, 0x03, 0):
        found = processor.by_itself(every | {processor.XCR0: saved})
        levels[saved] = [level.level for level in processor.LEVELS if level.suits(found)]
    assert levels == {0xFFFFFFFF: ["x86-64-v4", "x86-64-v3"], 0x07: ["x86-64-v3"], 0x03: [], 0: []}


def test_what_numba_is_told(monkeypatch):
    """What Numba is told of the processor holds here, too, whatever the processor says."""
    monkeypatch.setenv("NUMBA_CPU_NAME", "nehalem")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+sse2")
    assert processor.host() == ("nehalem", "+sse2", "", True, HERE)
    monkeypatch.delenv("NUMBA_CPU_NAME")
    assert processor.host() == (llvm.get_host_cpu_name(), "+sse2", "", True, HERE)
    monkeypatch.delenv("NUMBA_CPU_FEATURES")
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert processor.host() == ("generic", "", "", True, HERE)


def test_llvm_must_agree(monkeypatch):
    """Where LLVM takes the processor for one with other tiles, nothing is compiled: weights would be packed for these."""
    asked, by_llvm = processor.Target("Maker-1", "+avx,+avx512f,+fma", is_llvms=False), processor.Target("nehalem", "+sse2")
    monkeypatch.setattr(machine_code, "target", lambda: asked)
    monkeypatch.setattr(processor, "by_llvm", lambda: by_llvm)
    said = "LLVM and the processor say differently what it has; set NUMBA_CPU_NAME to nehalem, as LLVM names it"
    with pytest.raises(RuntimeError, match=f"^{said}$"):
        machine_code.compilers_target.__wrapped__()
    by_llvm = processor.Target("znver5", "+avx,+avx512f,+fma")
    assert machine_code.compilers_target.__wrapped__() == by_llvm
    monkeypatch.setattr(machine_code, "target", lambda: processor.LEVELS[0])
    assert machine_code.compilers_target.__wrapped__() == processor.LEVELS[0]


@linux
def test_llvm_is_asked_where_no_interrupt_comes(monkeypatch):
    """LLVM is asked in a thread of its own, for Ctrl-C would harm it, and while no fork can happen."""
    asked, known = [], processor.by_llvm()
    monkeypatch.setattr(
        processor, "by_llvm", lambda: asked.append((threading.get_ident(), machine_code.loaded.loading._is_owned())) or known
    )
    monkeypatch.setattr(compiling, "by_children", lambda *_: [])
    monkeypatch.setattr(machine_code, "target", lambda: processor.by_itself(processor.words()))
    machine_code.compilers_target.cache_clear()
    compiling.compiled(machine_code.target(), [], None)
    ((thread, is_locked),) = asked
    assert thread != threading.get_ident()
    assert is_locked


CHANGED = """
import os, fastrnn
from fastrnn.native import machine_code
first = machine_code.target()
os.environ["NUMBA_CPU_NAME"] = "nehalem"
print(machine_code.target() == first, machine_code.compilers_target().cpu)
"""


@linux
def test_the_environment_is_read_once():
    """Code is compiled for the target that its file's name says, also where the environment changes between."""
    printed = python(CHANGED, NUMBA_CPU_NAME=None, NUMBA_CPU_FEATURES=None)
    assert printed.split() == ["True", llvm.get_host_cpu_name()]
