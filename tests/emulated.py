"""Results on other processors: `python -m tests.emulated` runs fastrnn under QEMU, which translates other processors' programs.

It fetches nothing, and says what is missing. These lines, as root on Debian, prepare what it needs, in a minute:

    apt-get install qemu-user debootstrap && root=~/.cache/fastrnn-arm64
    debootstrap --foreign --arch=arm64 --variant=minbase --include=python3 bookworm $root
    for package in $root/var/cache/apt/archives/*.deb; do dpkg-deb --fsys-tarfile $package | tar -x --keep-directory-symlink -C $root; done
    pip install --target $root/packages --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 \\
        --python-version 3.11 --only-binary=:all: numba numpy platformdirs safetensors

- QEMU's user mode: `qemu-aarch64` and `qemu-x86_64`, in the PATH or in the directory FASTRNN_QEMU;
- for aarch64 a directory with that processor's Python and packages: FASTRNN_ARM64, or .cache/fastrnn-arm64 in the home directory.

Each processor computes the golden results, calls on several threads, and steps of a bank. For aarch64 this process compiles a level's
machine code, as a wheel brings it, and one operation is compiled under QEMU, too.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

import fastrnn
from fastrnn.kernels.layout import Platform
from fastrnn.native import compiling, machine_code, processor

from . import golden
from .process import ROOT, copy_package

ARM = Platform("linux", "aarch64")
ROOT_OF_ARM = pathlib.Path(os.environ.get("FASTRNN_ARM64") or pathlib.Path.home() / ".cache" / "fastrnn-arm64")
X86 = {"Haswell": (256, True), "Nehalem": (128, False)}  # QEMU's names; bits of their registers, and whether fma is an instruction
THREADS, STEPS = 3, 6  # few: threads that wait for each other at every step take long where processors are busy
LONGEST = 1500  # seconds of a processor's check, where others keep this machine busy


# ---- what runs under QEMU -------------------------------------------------------------------------------------------------------------


def count_golden():
    """Return how many golden results were computed, and how many have other bits."""
    expected, compared, wrong = np.load(golden.FILE), 0, 0
    for batch in golden.BATCHES:
        for name, result in golden.compute(batch).items():
            compared += 1
            wrong += result.tobytes() != expected[name][:batch].tobytes()
    return compared, wrong


def layers(**sizes):
    """Make layers of these kinds and sizes, in both dtypes."""
    return [golden.build((24, size), ((kind, {}),), dtype) for kind, size in sizes.items() for dtype in (np.float32, np.float64)]


def count_threads():
    """Return how many outputs and states several threads computed, how many have other bits than one thread's, and the workers.

    Of one sequence they share the steps, which are just large enough; of a batch the sequences.
    """
    fastrnn.engine.plan.WORTH_HELP = 1 << 20  # so that little work is shared
    compared = wrong = 0
    given = [((), model) for model in layers(RNN=300, GRU=180, LSTM=160)] + [((99,), model) for model in layers(LSTM=40)]
    for leading, model in given:
        x = golden.numbers((*leading, STEPS, 24), 27644, 2.0, model.layers[0].weight_ih.dtype)
        results = []
        for threads in (1, THREADS):
            fastrnn.set_num_threads(threads)
            output, state = model(x)
            results.append([output, *(state[0] if isinstance(state[0], tuple) else state)])
        compared += len(results[0])
        wrong += sum(one.tobytes() != several.tobytes() for one, several in zip(*results, strict=True))
    return compared, wrong, fastrnn.engine.threads.pool.started


def count_bank():
    """Return how many steps a bank's rows took, in changing company, and how many of the outputs have other bits than one call's."""
    compared = wrong = 0
    for model in layers(RNN=70, GRU=40, LSTM=30):
        x = golden.numbers((5, 12, 24), 30011, 2.0, model.layers[0].weight_ih.dtype)
        bank, whole = model.streams(7), model.predict(x)
        rows = np.array([bank.add() for _ in x])
        for t in range(x.shape[1]):
            for chosen in (np.arange(0, 5, 2), np.arange(1, 5, 2)) if t % 2 else (np.arange(4, -1, -1),):
                output = bank.step(x[chosen, t], at=rows[chosen])
                compared += len(chosen)
                wrong += sum(one.tobytes() != other.tobytes() for one, other in zip(output, whole[chosen, t], strict=True))
    return compared, wrong


def inside():
    """Print what this processor computes."""
    shape = machine_code.shape()
    answer = {"golden": count_golden(), "threads": count_threads(), "bank": count_bank()}
    answer |= {"processor": machine_code.host().cpu, "level": machine_code.target().level, "shape": (shape.bits, shape.has_fma)}
    print(json.dumps(answer | {"origins": sorted(set(machine_code.loaded.origins.values()))}))


# ---- what starts it -------------------------------------------------------------------------------------------------------------------


class Missing(Exception):
    """What a processor's check needs and this machine doesn't have."""


class Wrong(Exception):
    """What a check found."""


def qemu(name):
    """Return the path of a program of QEMU's."""
    path = shutil.which(name, path=os.environ.get("FASTRNN_QEMU")) or shutil.which(f"{name}-static", path=os.environ.get("FASTRNN_QEMU"))
    if not path:
        raise Missing(f"{name} is missing")
    return path


def run(command, script, *, path, **environment):
    """Run a script under QEMU, with the directories of `path` on the module path, and return what it printed."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "FASTRNN_", "OMP_"))}
    own |= {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": str(path[0] / "home")}
    whole = [*map(str, command), "-P", "-c", script]
    try:
        done = subprocess.run(whole, env=own | environment, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        raise Wrong(f"took more than {LONGEST} s") from None
    if done.returncode:
        raise Wrong(f"ended with {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def check(answer, **expected):
    """Print what a processor computed; what is wrong in it raises."""
    (compared, wrong), (shared, unlike, workers), (steps, others) = (answer[name] for name in ("golden", "threads", "bank"))
    print(f"    {compared - wrong} of {compared} golden results, by {answer['level'] or 'its own'} code ({', '.join(answer['origins'])})")
    print(f"    {shared - unlike} of {shared} arrays by {THREADS} threads, {steps - others} of {steps} steps of a bank")
    if wrong or unlike or others or not (compared and steps) or workers != THREADS - 1:
        raise Wrong(f"has other bits, or {workers} workers")
    for name, value in expected.items():
        if answer[name] != value:
            raise Wrong(f"{name} is {answer[name]}, not {value}")


INSIDE = "from tests import emulated; emulated.inside()"
COMPILE = """
from fastrnn.native import machine_code
machine_code.addresses(["barrier"], "float32")
print(machine_code.loaded.origins["barrier", ""])
"""


def check_arm(directory):
    """Check a wheel's machine code on aarch64, and that an operation which waits is compiled there."""
    program, (python, *_) = qemu("qemu-aarch64"), [*sorted(ROOT_OF_ARM.glob("usr/bin/python3.*")), None]
    packages = ROOT_OF_ARM / "packages"
    if not (python and packages.is_dir()):
        raise Missing(f"{ROOT_OF_ARM} holds no Python for aarch64 with packages")
    wrapper = directory / "python-arm64"  # which children run, too
    wrapper.write_text(f'#!/bin/sh\nexec "{program}" -L "{ROOT_OF_ARM}" -0 "$0" "{python}" "$@"\n')
    wrapper.chmod(0o755)
    home = {"PYTHONHOME": str(ROOT_OF_ARM / "usr")}
    (level,) = processor.levels(ARM)
    wheel, pure = copy_package(directory / "wheel"), copy_package(directory / "pure")
    code = wheel / "fastrnn" / "machine_code" / level.level
    code.mkdir(parents=True)
    compiling.compiled(level, machine_code.everything(), code)
    answer = run([wrapper], INSIDE, path=(wheel, packages, ROOT), NUMBA_DISABLE_JIT="1", **home)
    check(json.loads(answer), level=level.level, shape=[128, True], origins=["wheel"])
    origin = run([wrapper], COMPILE, path=(pure, packages, ROOT), **home).strip()
    print(f"    an operation that waits: {origin}")


def check_x86(name, directory):
    """Check what is compiled for an older x86 processor: this process's Python runs on one, but its compilers don't."""
    command = [qemu("qemu-x86_64"), "-cpu", name, sys.executable]
    path = copy_package(directory / name)
    answer = run(command, INSIDE, path=(path, ROOT), FASTRNN_CACHE_DIR=str(path / "cache"))
    check(json.loads(answer), level="", shape=[*X86[name]], origins=["compiled now"])


def main():
    """Check every processor that can be had; return how many failed."""
    checks = {"aarch64": check_arm}
    if processor.SAYS_ITSELF:
        checks |= {name: lambda directory, name=name: check_x86(name, directory) for name in X86}
    failed = 0
    for name, one in checks.items():
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            try:
                print(f"{name}:", flush=True)
                one(pathlib.Path(directory))
                print(f"    {time.monotonic() - start:.0f} s", flush=True)
            except Missing as missing:
                print(f"    not run: {missing}", flush=True)
            except Wrong as wrong:
                failed += 1
                print(f"    WRONG: {wrong}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
