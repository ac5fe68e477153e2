"""How compilers are told what to make, and under which names it is found."""

import json
import os
import subprocess
import sys

import pytest

from fastrnn.native import compiling, machine_code, sources
from fastrnn.native.processor import Target

from .process import copy_package, own_cache, start

WANTED = ("relu", "float32")


@pytest.fixture
def started(monkeypatch):
    """The command line and environment of a compiler that is to compile everything, but can't be started."""
    seen = []

    def refuse(command, *, env, **_):
        seen.append((command, env))
        raise OSError

    monkeypatch.setenv("NUMBA_OPT", "0")
    monkeypatch.setenv("NUMBA_CPU_NAME", "nehalem")
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(compiling, "in_this_process", lambda *_: [])
    compiling.compiled(Target("any", "+any"), machine_code.everything(), machine_code.PACKAGE / ("long" * 60))
    ((command, environment),) = seen
    return command, environment


def test_the_command_line_is_short(started):
    """Windows allows 32,767 characters: what to compile is not among them."""
    assert started[0] == [sys.executable, "-P", "-W", "ignore", "-m", "fastrnn.native.compiling"]


def test_what_numba_reads_is_not_passed_on(started):
    """No setting of the user's for Numba reaches a compiler: it could make other code, which would be kept for all."""
    assert not [name for name in started[1] if name.startswith("NUMBA_")]
    assert started[1].keys() >= {name for name in os.environ if not name.startswith("NUMBA_")}


def test_big_wishes():
    """A wish that is larger than a pipe reaches the compiler while another process, forked meanwhile, has the pipe open, too."""

    command = [sys.executable, "-c", "import json, sys; print(len(json.loads(sys.stdin.readline())['tasks']))"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    held = os.dup(child.stdin.fileno())
    try:
        compiling.ask(child, {"tasks": "x" * 10**6})
        assert child.communicate(timeout=60) == ("1000000\n", "")
    finally:
        os.close(held)


def test_a_compiler_that_is_gone():
    """A compiler that ends before it is told anything is an error that shows what it said."""
    command = [sys.executable, "-c", "import sys; sys.exit('no memory')"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child.wait(60)
    compiling.ask(child, {"tasks": "x" * 10**6})
    with pytest.raises(RuntimeError, match=r"^fastrnn can't compile its machine code; the compiler said:\nno memory$"):
        compiling.finish(child, [], None)


def test_progress_where_no_file_is_written():
    """What is compiled for one process alone isn't done before it is."""
    seen, program = [], f"import time; time.sleep(0.2); print({json.dumps('{}')!r})"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    compiling.finish(child, [{"file": ""}], lambda done, count: seen.append((done, count)))
    assert set(seen) == {(0, 1)}


HANDLED = """
import os, signal, subprocess, sys
from fastrnn.native import compiling, machine_code

right = []

def handle(*_):
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    right.append(machine_code.address("begin") > 0)

signal.signal(signal.SIGUSR1, handle)
owner, name = eval(sys.argv[1])
original = getattr(owner, name)

def signalled(*given, **options):
    os.kill(os.getpid(), signal.SIGUSR1)
    return original(*given, **options)

setattr(owner, name, signalled)
print(machine_code.address("begin") > 0, right)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
@pytest.mark.parametrize("where", ["subprocess, 'Popen'", "compiling.os, 'open'", "compiling.os, 'close'"])
def test_a_handler_that_compiles(tmp_path, where):
    """A handler that compiles while the interrupted call starts a compiler, or opens or closes the lock, ends, and so does the call."""
    path = copy_package(tmp_path / "copy")
    child = start(HANDLED, where, **own_cache(tmp_path / "code", path))
    try:
        assert child.communicate(timeout=60) == ("True [True]\n", "")
    finally:
        child.kill()
        child.communicate()


INTERRUPTED = """
import os, random, signal, threading, time
from fastrnn.native import machine_code

begun, done, too_early = [], [], 0
for moment in range(300):
    def work():
        begun.append(moment)
        time.sleep(0.001)
        done.append(moment)
    sender = threading.Timer(random.random() * 0.002, lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        sender.start()
        machine_code.apart(work, to_its_end=True)
        while True:  # the signal comes later
            time.sleep(1)
    except KeyboardInterrupt:
        too_early += begun[-1:] != done[-1:]
    sender.join()
print(moment, too_early < 30)  # between the start of the thread and the wait for it nothing helps
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
def test_an_interrupt_waits_for_what_must_end():
    """Ctrl-C at any moment, also when the function has just ended, is passed on when it has, and nothing is waited for any longer."""
    child = start(INTERRUPTED)
    try:
        assert child.communicate(timeout=60) == ("299 True\n", "")
    finally:
        child.kill()
        child.communicate()


# ---- names ----------------------------------------------------------------------------------------------------------------------------


def test_names_of_files():
    """What is made for another processor, other features or another level, or by another compiler, has another name."""
    ours = Target("Maker-1", "+avx,+fma")
    others = [ours, Target("Maker-2", "+avx,+fma"), Target("Maker-1", "+avx"), Target("Maker-1", "+avx,+fma", "v3")]
    assert len({machine_code.file_name(WANTED, target) for target in others}) == len(others)
    assert len({machine_code.symbol(WANTED, target) for target in others}) == len(others)


def test_names_follow_from_the_source(monkeypatch):
    """The source is in a file's name."""
    target = Target("Maker-1", "+avx,+fma")
    before = machine_code.file_name(WANTED, target)
    monkeypatch.setitem(sources.DIGESTS, "records", "another")
    sources.of_module.cache_clear()
    assert machine_code.file_name(WANTED, target) != before
    monkeypatch.undo()
    sources.of_module.cache_clear()
    assert machine_code.file_name(WANTED, target) == before


def test_names_of_what_wheels_bring(monkeypatch):
    """A level's files don't depend on which LLVM compiled them; what is compiled here does."""
    ours, level = Target("Maker-1", "+avx"), Target("Maker-1", "+avx", "v3")
    before = [machine_code.file_name(WANTED, target) for target in (ours, level)]
    monkeypatch.setattr(machine_code.llvmlite, "__version__", "0.1.2")
    assert [machine_code.file_name(WANTED, target) == old for target, old in zip((ours, level), before, strict=True)] == [False, True]
