"""What processor this is: from the system where it says so, for LLVM takes long to import; else from LLVM."""

import itertools
import os
import pathlib
from typing import NamedTuple

from .kernels.layout import ARM, MACHINE

NAME, FEATURES = "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"  # environment variables that Numba reads


class Target(NamedTuple):
    """A processor and its features as LLVM names them: "+avx2,-avx512f". A level is a target that wheels bring machine code for."""

    cpu: str
    features: str
    level: str = ""

    def suits(self, other: "Target") -> bool:
        """Tell whether another processor has every feature of this one."""
        return set(self.features.split(",")) <= set(other.features.split(","))


V3 = "+64bit,+cmov,+cx8,+fxsr,+mmx,+sse,+sse2,+cx16,+sahf,+popcnt,+sse3,+sse4.1,+sse4.2,+ssse3"
V3 += ",+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
V4 = V3 + ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
# As in the psABI of x86-64; the best first.
LEVELS = [Target("generic", "+neon", "generic")]
if MACHINE not in ARM:
    LEVELS = [Target("x86-64-v4", V4, "x86-64-v4"), Target("x86-64-v3", V3, "x86-64-v3")]

SAID = pathlib.Path("/proc/cpuinfo")
IDENTITY = ("vendor_id", "cpu family", "model", "stepping")
# Linux' names of features, where LLVM has others
RENAMED = {"lm": "64bit", "pni": "sse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "lahf_lm": "sahf", "bmi1": "bmi", "abm": "lzcnt"}


def host() -> Target:
    """Tell what the machine is, or what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say, as Numba reads them.

    Its name and features distinguish it from others, and tell its levels and its tiles' shape. A compiler asks LLVM.
    """
    told = NAME in os.environ or FEATURES in os.environ
    return (None if told else by_linux()) or by_llvm()


def by_linux() -> Target | None:
    """Read what Linux says of an x86-64 processor."""
    try:
        with SAID.open(encoding="utf-8") as file:
            lines = itertools.takewhile(str.strip, file)  # of the first processor
            said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    except OSError:
        return None
    if "flags" not in said or not said.keys() >= {*IDENTITY}:
        return None
    features = sorted(f"+{RENAMED.get(flag, flag)}" for flag in said["flags"].split())
    return Target("-".join(said[key] for key in IDENTITY), ",".join(features))


def by_llvm() -> Target:
    import llvmlite.binding as llvm

    name, features = os.environ.get(NAME) or None, os.environ.get(FEATURES)
    if features is None:
        features = "" if (name or "").lower() == "generic" else llvm.get_host_cpu_features().flatten()
    return Target(name or llvm.get_host_cpu_name(), features)
