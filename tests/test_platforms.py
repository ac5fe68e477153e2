"""Machine code for other systems and processors: it is compiled here, needs only what those have, and LLVM puts it into memory there."""

import ctypes

import llvmlite.binding as llvm
import numpy as np
import pytest

from fastrnn.kernels.layout import HERE, Platform, Shape, platform_of
from fastrnn.native import codegen, compiling, linking, machine_code, processor
from fastrnn.native.processor import Target

from . import emulated
from .exhaustive import exhaustive

LINUX, ARM, MACOS, WINDOWS = (
    Platform(*names) for names in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "aarch64"), ("win32", "x86_64"))
)
M1 = Target("apple-m1", "+crc,+fp-armv8,+lse,+rcpc,+rdm", platform=MACOS)  # as LLVM may say it
TARGETS = {"Linux, aarch64": processor.levels(ARM)[0], "macOS, aarch64": M1, "Windows, x86-64": processor.levels(WINDOWS)[-1]}

C = {"free", "malloc", "memcpy", "memset"}
POSIX = C | {"pthread_cond_broadcast", "pthread_cond_wait", "pthread_mutex_lock", "pthread_mutex_unlock", "usleep"}
SYSTEMS = {
    "linux": POSIX,
    "darwin": POSIX | {"bzero"},
    "win32": C | {"AcquireSRWLockExclusive", "ReleaseSRWLockExclusive", "Sleep", "SleepConditionVariableSRW", "WakeAllConditionVariable"},
}
MACHINES = {  # the first bytes of object code: ELF, of which byte 18 says the processor, and macOS' Mach-O
    ARM: (b"\x7fELF", b"\xb7"),
    MACOS: (b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01", b"\x00"),
    WINDOWS: (b"\x7fELF", b"\x3e"),
}
MACHO_SYMBOL = linking.record(16, name=("<u4", 0), type=("u1", 4))
EXTERNAL, DEFINED = 0x01, 0x0E  # bits of a Mach-O symbol's type


def undefined(code):
    """Return the symbols that object code needs from elsewhere."""
    if code.startswith(b"\x7fELF"):
        (header,) = np.frombuffer(code, linking.HEADER, 1)
        file = linking.ObjectFile(code, np.frombuffer(code, linking.SECTION, header["count"], header["sections"]))
        return {file.name(symbol) for symbol in file.symbols[1:] if symbol["section"] == linking.ELSEWHERE}
    command = 32  # the first one of Mach-O's; the one of kind 2 tells where symbols and their names are
    while int.from_bytes(code[command : command + 4], "little") != 2:
        command += int.from_bytes(code[command + 4 : command + 8], "little")
    start, count, names, _ = np.frombuffer(code, "<u4", 4, command + 8).tolist()
    found = np.frombuffer(code, MACHO_SYMBOL, count, start)
    starts = [names + int(name) for name, kind in found.tolist() if kind & EXTERNAL and not kind & DEFINED]
    return {code[at : code.index(b"\0", at)].decode().removeprefix("_") for at in starts}


@pytest.fixture(scope="module", params=TARGETS)
def compiled(request):
    """A target, and for each operation the functions that its file names, and its object code."""
    goal, wanted = TARGETS[request.param], machine_code.everything()
    contents = [machine_code.checked(made.content).partition(b"\n") for made in compiling.compiled(goal, wanted, None)]
    return goal, {one: (set(needs.decode().split()), code) for one, (needs, _, code) in zip(wanted, contents, strict=True)}


@exhaustive
@pytest.mark.timeout(1200)  # it takes 40 s of processor time for each target
def test_every_operation_is_compiled(compiled):
    """Every operation becomes object code of the target's form and processor; none holds inline assembly, which would be refused."""
    goal, operations = compiled
    start, kind = MACHINES[goal.platform]
    assert len(operations) > 70
    assert all(code.startswith(start) and code[18:19] == kind for _, code in operations.values())


@exhaustive
@pytest.mark.timeout(1200)
def test_functions_that_the_system_has(compiled):
    """What an operation calls, the target's system or Python has. Its file names all of it: LLVM ends the process where one is lacking."""
    goal, operations = compiled
    called = set()
    for one, (named, code) in operations.items():
        assert undefined(code) <= named, one
        called |= named
    of_python = {name for name in called if name.startswith("Py") and hasattr(ctypes.pythonapi, name)}
    assert "PyTuple_New" in of_python
    assert called - of_python == SYSTEMS[goal.platform.system]


def test_inline_assembly_is_refused():
    """Inline assembly is an error before LLVM sees it: LLVM would end the process where it has no parser for it."""
    machine = codegen.target_machine(TARGETS["Linux, aarch64"])
    text = 'define void @f() {\n  call void asm sideeffect "isb", ""()\n  ret void\n}\n'
    said = "fastrnn compiles no inline assembly: LLVM ends the process where it has no parser for it"
    with pytest.raises(RuntimeError, match=f"^{said}$"):
        codegen.text_for(machine, text)
    harmless = '@text = constant [4 x i8] c" asm"\ndeclare void @asm()\ndefine void @f() {\n  call void @asm()\n  ret void\n}\n'
    assert codegen.text_for(machine, harmless).endswith(harmless)


@pytest.mark.parametrize(
    ("target", "triple"),
    list(zip(TARGETS.values(), ("aarch64-unknown-linux-gnu", "arm64-apple-macosx11.0", "x86_64-pc-windows-msvc-elf"), strict=True)),
    ids=TARGETS,
)
def test_text_is_for_the_target(target, triple):
    """Numba's text names this process's platform and layout of data; what LLVM compiles names the target's."""
    machine = codegen.target_machine(target)
    text = f'; ModuleID = ""\ntarget datalayout = "e-m:e"\ntarget triple = "{llvm.get_process_triple()}"\n@x = global i64 1\n'
    module = llvm.parse_assembly(codegen.text_for(machine, text))
    assert (module.triple, module.data_layout) == (triple, str(machine.target_data))


# ---- what is decided by the platform ----------------------------------------------------------------------------------------------------


def test_names_of_processors():
    """A processor has one name, whatever its systems call it."""
    assert platform_of("linux", "x86_64") == LINUX
    assert platform_of("win32", "AMD64") == WINDOWS
    assert platform_of("darwin", "arm64") == MACOS
    assert platform_of("linux", "aarch64") == ARM
    assert platform_of("linux", "riscv64") == ("linux", "riscv64")


def test_who_places_code():
    """Code is put into memory without LLVM on Linux for x86-64, and nowhere else."""
    others = [ARM, MACOS, WINDOWS, Platform("darwin", "x86_64"), Platform("freebsd14", "x86_64"), Platform("linux", "riscv64")]
    assert not linking.needs_llvm(LINUX)
    assert all(map(linking.needs_llvm, others))


@pytest.mark.skipif(HERE != LINUX, reason="needs the form that Linux' code has")
def test_windows_code_is_placed_by_llvm(monkeypatch):
    """On Windows LLVM places the code, though it is ELF there, too: Windows has no mmap and no mprotect."""
    machine, asked = codegen.target_machine(processor.by_llvm()), []
    code = machine.emit_object(llvm.parse_assembly("define i64 @f() {\n  ret i64 3\n}"))
    monkeypatch.setattr(linking, "place_by_llvm", lambda *given: asked.append(given))
    assert linking.place(code, []) is not None
    monkeypatch.setattr(linking, "HERE", WINDOWS)
    monkeypatch.setattr(linking, "new_memory", None)
    assert linking.place(code, ["abs"]) is None
    assert asked == [(code, ["abs"])]


@pytest.mark.parametrize("features", ["", "-aes,-rand,-sha2,-sve", M1.features, "+fp-armv8,+neon,+lse"])
def test_neon_is_a_part_of_aarch64(features):
    """The level of aarch64 suits each of its processors, whether LLVM names NEON or not."""
    for platform in (ARM, MACOS):
        (level,) = processor.levels(platform)
        assert level.suits(Target("generic", features, platform=platform))
        assert not level.suits(Target("generic", features, platform=LINUX))


def test_levels_of_x86_need_their_features():
    """A level of x86-64 suits processors that have all of its features."""
    v4, v3 = processor.levels(LINUX)
    assert v3.suits(Target("one", f"{processor.V3},+sha", platform=LINUX))
    assert not v3.suits(Target("one", processor.V3.replace(",+fma", ""), platform=LINUX))
    assert not v4.suits(Target("one", processor.V3, platform=LINUX))


def test_tiles_follow_from_the_target():
    """The shape of tiles is the target's, whatever the machine that compiles."""
    shapes = [target.shape for target in (*TARGETS.values(), *processor.levels(WINDOWS), Target("nehalem", "+sse2", platform=WINDOWS))]
    arm, wide, middle = Shape(128, 4, 4, True), Shape(512, 4, 4, True), Shape(256, 6, 2, True)
    assert shapes == [arm, arm, middle, wide, middle, Shape(128, 6, 2, False)]


def test_platforms_have_their_own_files():
    """A file's name and its symbol tell platforms apart, of one level, too."""
    goals = [Target("generic", "", level, platform=platform) for level in ("", "generic") for platform in (ARM, MACOS, WINDOWS, LINUX)]
    assert len({machine_code.file_name(("relu", "float32"), goal) for goal in goals}) == len(goals)
    assert len({machine_code.symbol(("relu", "float32"), goal) for goal in goals}) == len(goals)


def test_the_triple_makes_another_file(monkeypatch):
    """So does LLVM's name of the platform."""
    before = machine_code.file_name(("relu", "float32"), M1)
    monkeypatch.setitem(codegen.layout.TRIPLES, MACOS, "arm64-apple-macosx12.0")
    assert machine_code.file_name(("relu", "float32"), M1) != before


def test_emulation_says_what_is_missing(tmp_path, monkeypatch, capsys):
    """Without QEMU, and for aarch64 without its Python, no processor is run, which is said and is no failure."""
    monkeypatch.setenv("FASTRNN_QEMU", str(tmp_path))
    assert emulated.main() == 0
    first, said, *_ = capsys.readouterr().out.splitlines()
    assert (first, said) == ("aarch64:", "    not run: qemu-aarch64 is missing")
    (tmp_path / "qemu-aarch64").touch(mode=0o755)
    monkeypatch.setattr(emulated, "ROOT_OF_ARM", tmp_path / "root")
    with pytest.raises(emulated.Missing, match=rf"^{tmp_path}/root holds no Python for aarch64 with packages$"):
        emulated.check_arm(tmp_path)
