"""What happens to processes: they are interrupted, they fork, they end, they find damaged files. What they compute stays right."""

import atexit
import contextlib
import faulthandler
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from ..process import copy_package, own_cache, start
from .work import Work, pick, some_situations, truth_of

WATCHDOG = 150  # seconds that a process may take: several may compile side by side


def second():
    """A second, or longer where others use the processors."""
    return max(1.0, 2 * os.getloadavg()[0] / len(os.sched_getaffinity(0)))


class Child:
    """A process that runs a function of this package with a seed and integers, and is killed where it takes too long."""

    def __init__(self, function, rng, *arguments, **environment):
        # in a session of its own, so that what it forks is killed with it
        script = f"import os, sys; os.setsid(); from {function.__module__} import {function.__name__} as run; run(*map(int, sys.argv[1:]))"
        # the reference's products go through OpenBLAS, whose own threads hang in a process forked meanwhile
        environment = {"OPENBLAS_NUM_THREADS": 1, "PYTHONFAULTHANDLER": 1, **environment}
        self.process = start(script, rng.integers(1 << 30), *arguments, **environment)
        self.timer = threading.Timer(WATCHDOG, self.give_up)
        self.timer.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.communicate()
        self.timer.cancel()

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()  # it may not have its session yet

    def give_up(self):
        self.process.send_signal(signal.SIGABRT)  # it says where each of its threads is, and dies
        time.sleep(1)
        self.kill()

    def expect(self, line):
        said = self.process.stdout.readline()
        assert said == f"{line}\n", f"{said!r} is not {line!r}: {self.end()}"

    def end(self):
        """Wait for the end, and give the exit code and the errors."""
        errors = self.process.communicate()[1]
        hung = " (it hung)" if self.process.returncode == -signal.SIGABRT else ""
        return f"exit code {self.process.returncode}{hung}, errors {errors!r}"

    def expect_end(self):
        said = self.end()
        assert self.process.returncode == 0, said


def say(line):
    print(line, flush=True)


def survives(function, rng, *arguments, **environment):
    """Run a function that may end its process in a process of its own, to its end; an error names the last thing that it said."""
    with Child(function, rng, *arguments, **environment) as child:
        printed, errors = child.process.communicate()
        code = child.process.returncode
        assert code == 0, f"exit code {code} after {printed.splitlines()[-1:]}, errors {errors!r}"
        return printed.splitlines()


# ---- interrupts -----------------------------------------------------------------------------------------------------------------------


def interrupts(rng, counts):
    """SIGINT at random moments: while machine code is loaded or compiled, while workers are started, while threads share work."""
    compiles = rng.random() < 0.3
    with tempfile.TemporaryDirectory() as directory:
        environment = own_cache(pathlib.Path(directory), warm_cache()[0]) if compiles else {}
        with Child(be_interrupted, rng, **environment) as child:
            for _ in range(5):
                child.expect("ready")
                time.sleep(rng.exponential(0.3 if compiles else 0.05))
                sent = time.perf_counter()
                child.process.send_signal(signal.SIGINT)
                child.expect("interrupted")
                taken = time.perf_counter() - sent
                assert taken < second(), f"answered after {taken} s"
                counts["interrupts"] += 1
            child.expect_end()


def be_interrupted(seed):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng, work = np.random.default_rng(seed), None
    for _ in range(5):
        try:
            say("ready")
            while True:
                work = work or Work(rng)
                work.check_all()
        except KeyboardInterrupt:
            say("interrupted")
    (work or Work(rng)).check_all()


# ---- forks ----------------------------------------------------------------------------------------------------------------------------


def forks(rng, counts):
    """Processes forked in any thread, at random moments, while others call, load machine code, or have it compiled."""
    number = 12
    with tempfile.TemporaryDirectory() as directory:
        environment = own_cache(pathlib.Path(directory), warm_cache()[0]) if rng.random() < 0.3 else {}
        with Child(fork, rng, number, **environment) as child:
            child.expect("right")
            child.expect_end()
    counts["forks"] += number


def fork(seed, number):
    rng, children, over = np.random.default_rng(seed), [], threading.Event()
    pauses, seeds = rng.exponential(0.02, size=number), rng.integers(1 << 30, size=number)
    # before any thread: NumPy's matrix product may wait for ever in a process forked while another thread was in one
    truths = {seed: [truth_of(s) for s in some_situations(np.random.default_rng(seed), 2)] for seed in seeds}

    def call(seed):
        work = Work(np.random.default_rng(seed))
        while not over.is_set():
            work.check_all()

    def fork_some(share):
        for pause, seed in zip(pauses[share], seeds[share], strict=True):
            time.sleep(pause)
            pid = os.fork()
            if not pid:
                forked(seed, truths[seed])
            children.append(pid)

    callers = [threading.Thread(target=call, args=(seed,)) for seed in seeds[:2]]
    forkers = [threading.Thread(target=fork_some, args=(slice(i, None, 2),)) for i in range(2)]
    for thread in callers + forkers:
        thread.start()
    for thread in forkers:
        thread.join()
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    over.set()
    for thread in callers:
        thread.join()
    say("right" if codes == [0] * number else f"exit codes {codes}")


def forked(seed, truths):
    """Be a forked process: compute, compare, and end."""
    faulthandler.dump_traceback_later(WATCHDOG - 20, exit=True)
    try:
        Work(np.random.default_rng(seed), 2, truths).check_all()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


# ---- exits ----------------------------------------------------------------------------------------------------------------------------


def exits(rng, counts):
    """Processes end soon, without an error, whoever calls meanwhile."""
    for kind in range(len(ENDS)):
        with Child(end, rng, kind) as child:
            child.expect("over")
            over = time.perf_counter()
            child.expect_end()
            taken = time.perf_counter() - over
            assert taken < second() + 0.5, f"{list(ENDS)[kind]}: ended after {taken} s"
            counts["exits"] += 1


def forever(work):
    while True:
        work.check_all()


class Kept:
    """Calls when it is deleted; in a cycle, or global, that may be at the very end."""

    def __init__(self, work):
        self.me, self.work = self, work

    def __del__(self):
        self.work.check(1)


def daemons(work):
    for _ in range(5):
        threading.Thread(target=forever, args=(work,), daemon=True).start()


def outlived(work):
    threading.Thread(target=lambda: (threading.main_thread().join(), work.check_all())).start()


ENDS = {
    "daemon callers": daemons,
    "an exit handler": lambda work: atexit.register(work.check_all),
    "a deleted object": lambda work: globals().update(kept=Kept(work)),
    "a thread that outlives the main one": outlived,
    "daemon callers and an exit handler": lambda work: (daemons(work), atexit.register(work.check, 1)),
}


def end(seed, kind):
    work = Work(np.random.default_rng(seed), 2)
    list(ENDS.values())[kind](work)
    time.sleep(0.05)
    say("over")


# ---- damaged files --------------------------------------------------------------------------------------------------------------------


@functools.cache
def warm_cache():
    """A copy of the package, beside which nothing is cached, and a directory with all machine code."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="torture"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    package = copy_package(directory / "package")
    subprocess.run(
        [sys.executable, "-m", "fastrnn", "compile"],
        env={**os.environ, **{name: str(value) for name, value in own_cache(directory / "cache", package).items() if name != "path"}},
        cwd=package,
        check=True,
        capture_output=True,
    )
    return package, directory / "cache"


def flipped(rng, path, content):
    bit = int(rng.integers(8 * len(content)))
    path.write_bytes(content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :])


def zeroed(rng, path, content):
    line = int(rng.integers(len(content))) // 64 * 64
    path.write_bytes(content[:line] + bytes(64) + content[line + 64 :])


def replaced(rng, path, content):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "flipped": flipped,
    "zeroed": zeroed,
    "cut": lambda rng, path, content: path.write_bytes(content[: rng.integers(len(content))]),
    "garbage": lambda rng, path, content: path.write_bytes(rng.bytes(len(content))),
    "another's": lambda rng, path, content: path.write_bytes(pick(rng, sorted(path.parent.glob("*.bin"))).read_bytes()),
    "missing": lambda rng, path, content: path.unlink(),
}


def damage(rng, counts):
    """Files that are damaged in any way, or that others could write to: several processes at once find them, and are right."""
    package, cache = warm_cache()
    with tempfile.TemporaryDirectory() as directory:
        own = pathlib.Path(directory) / "cache"
        shutil.copytree(cache, own)
        files = [path for path in sorted(own.glob("*.bin")) if path.is_file()]
        for i in rng.choice(len(files), size=pick(rng, [1, 3, len(files)]), replace=False):
            pick(rng, list(DAMAGES.values()))(rng, files[i], files[i].read_bytes())
            counts["damaged files"] += 1
        own.chmod(pick(rng, [0o700, 0o700, 0o777]))
        for number in (3, 1):
            finders = [
                Child(find, rng, **{**own_cache(own, package), "HOME": directory, "XDG_CACHE_HOME": directory}) for _ in range(number)
            ]
            for finder in finders:
                with finder as child:
                    child.expect("right")
                    child.expect_end()


def find(seed):
    Work(np.random.default_rng(seed), 2).check_all()
    say("right")
