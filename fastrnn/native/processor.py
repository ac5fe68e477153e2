"""Identify the processor and its features.

On x86-64 under Linux the instruction CPUID tells both. On other platforms LLVM is asked, which takes long to import. The system's own list
is not used: it changes with the system's version, and under valgrind or an emulator it describes another processor.
"""

import ctypes
import functools
import os
import pathlib
from typing import NamedTuple

from ..kernels.layout import HERE, Platform, Shape, shape_of
from . import linking

SAYS_ITSELF = not linking.needs_llvm(HERE)  # whether linking.py can place code that executes CPUID
# Environment variables that Numba reads
CPU_NAME, CPU_FEATURES = "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"
QUOTA = pathlib.Path("/sys/fs/cgroup/cpu.max")  # of processor time, in Linux containers


class Target(NamedTuple):
    """A processor and its features, such as "+avx2,-avx512f", on a platform.

    A level is a target that wheels bring machine code for, such as x86-64-v3. `level` is its name, "" for other targets.
    """

    cpu: str
    features: str
    level: str = ""
    is_llvms: bool = True  # whether `cpu` and `features` are LLVM's names
    platform: Platform = HERE

    @property
    def shape(self) -> Shape:
        return shape_of(self.features, self.platform)

    def suits(self, other: "Target") -> bool:
        """Return whether another processor has the same platform and every feature of this one."""
        has = {*other.features.split(","), *([NEON] if other.platform.is_arm else [])}
        return self.platform == other.platform and {*self.features.split(",")} <= has


V3 = "+64bit,+cmov,+cx8,+fxsr,+mmx,+sse,+sse2,+cx16,+sahf,+popcnt,+sse3,+sse4.1,+sse4.2,+ssse3"
V3 += ",+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
V4 = V3 + ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
NEON = "+neon"  # every aarch64 processor has it, but LLVM lists it only if the system does


def levels(where: Platform) -> list[Target]:
    """Return a platform's levels, the best first. The psABI defines those of x86-64."""
    names = {"generic": NEON} if where.is_arm else {"x86-64-v4": V4, "x86-64-v3": V3}
    return [Target(name, features, name, platform=where) for name, features in names.items()]


LEVELS = levels(HERE)

# The instruction CPUID (Intel's manual, volume 2A) takes a leaf and a part (subleaf), and writes four registers. A word is one register's
# 32 bits, named by leaf, part and register.
A, B, C, D = range(4)
EXTENDED = 0x80000000
Word = tuple[int, int, int]
XCR0: Word = (-1, 0, A)  # not from CPUID: a register whose bits say which registers the system saves
BITS: dict[Word, dict[str, int]] = {  # for each word, the features of the levels and their bits
    (1, 0, C): {"sse3": 0, "ssse3": 9, "fma": 12, "cx16": 13, "sse4.1": 19, "sse4.2": 20}
    | {"movbe": 22, "popcnt": 23, "xsave": 26, "avx": 28, "f16c": 29},
    (1, 0, D): {"cx8": 8, "cmov": 15, "mmx": 23, "fxsr": 24, "sse": 25, "sse2": 26},
    (7, 0, B): {"bmi": 3, "avx2": 5, "bmi2": 8, "avx512f": 16, "avx512dq": 17, "avx512cd": 28, "avx512bw": 30, "avx512vl": 31},
    (EXTENDED + 1, 0, C): {"sahf": 0, "lzcnt": 5},
    (EXTENDED + 1, 0, D): {"64bit": 29},
}
MAKER = (0, 0, B), (0, 0, D), (0, 0, C)  # the manufacturer's name in ASCII
# For each word, the bits that also distinguish processors for a compiler: family and model, and instructions. The other bits of these
# words describe how a machine, or a virtual machine, is set up.
DISTINCT: dict[Word, int] = {
    (1, 0, A): 0xFFFFFFF0,
    (1, 0, C): 0x7ED83203,
    (1, 0, D): 0x07808100,
    (7, 0, B): 0xFDAF0D29,
    (7, 0, C): 0x3A405FE2,
    (7, 0, D): 0x03C54120,
    (7, 1, A): 0xFFFFFFFF,
    (7, 1, D): 0xFFFFFFFF,
    (13, 1, A): 0x0000000F,
    (EXTENDED + 1, 0, C): 0x00218961,
    XCR0: 0x000E00E6,  # the registers of AVX, AVX-512, AMX and APX
}
# Features that are usable only if the system saves their registers, by these registers' bits in XCR0
SAVED = {0x06: ("avx", "avx2", "f16c", "fma", "xsave"), 0xE6: ("avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl")}

# void ask(uint32_t leaf, uint32_t part, uint32_t *registers): pushes rbx, executes CPUID and stores eax, ebx, ecx, edx
ASK = bytes.fromhex("53 89f8 89f1 4989d0 0fa2 418900 41895804 41894808 4189500c 5b c3")
# uint64_t saved(void): returns XCR0
GIVE_SAVED = bytes.fromhex("31c9 0f01d0 48c1e220 4809d0 c3")


def host() -> Target:
    """Return this machine's target. NUMBA_CPU_NAME and NUMBA_CPU_FEATURES change it, as they do for Numba."""
    name, features = os.environ.get(CPU_NAME) or None, os.environ.get(CPU_FEATURES)
    if name or features is not None or not SAYS_ITSELF:
        return by_llvm(name, features)
    return by_itself(words())


def words() -> dict[Word, int]:
    """Return the words of this x86-64 processor; a word that it doesn't have is 0."""
    ask = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(linking.place_code(ASK))

    @functools.cache  # in a virtual machine CPUID takes microseconds
    def registers(leaf: int, part: int) -> list[int]:
        answer = (ctypes.c_uint32 * 4)()
        ask(leaf, part, ctypes.addressof(answer))
        return list(answer)

    last = {first: registers(first, 0)[A] for first in (0, EXTENDED)}
    known = {}
    for leaf, part, register in {*MAKER, *BITS, *DISTINCT} - {XCR0}:
        known[leaf, part, register] = registers(leaf, part)[register] if leaf <= last[leaf & EXTENDED] else 0
    is_on = known[1, 0, C] >> 27 & 1  # whether the system uses XCR0 (OSXSAVE); else it can't be read
    known[XCR0] = ctypes.CFUNCTYPE(ctypes.c_uint64)(linking.place_code(GIVE_SAVED))() if is_on else 0
    return known


def by_itself(known: dict[Word, int]) -> Target:
    """Return the target of the processor that has these words."""
    features = {name for word, bits in BITS.items() for name, bit in bits.items() if known[word] >> bit & 1}
    for mask, names in SAVED.items():
        if known[XCR0] & mask != mask:
            features -= {*names}
    maker = b"".join(known[word].to_bytes(4, "little") for word in MAKER).decode(errors="replace")
    distinct = [f"{known[word] & mask:x}" for word, mask in DISTINCT.items()]
    return Target("-".join([maker, *distinct]), ",".join(f"+{name}" for name in sorted(features)), is_llvms=False)


def by_llvm(name: str | None = None, features: str | None = None) -> Target:
    """Return a target by LLVM's names. LLVM is asked for a name, or for features, that aren't given."""
    import llvmlite.binding as llvm

    if features is None:
        features = "" if (name or "").lower() == "generic" else llvm.get_host_cpu_features().flatten()
    return Target(name or llvm.get_host_cpu_name(), features)


def processors() -> int:
    """Return the number of processors that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, quota())


@functools.cache
def quota() -> int:
    """Return how many processors' time this container may use, rounded up; a large number if there is no limit."""
    try:
        time, period = QUOTA.read_text(encoding="ascii").split()
        return -(-int(time) // int(period))
    except (OSError, ValueError):  # no container, or "max"
        return 1 << 16
