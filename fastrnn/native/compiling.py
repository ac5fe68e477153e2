"""Compile operations: in child processes, at most one for each processor, or in this process if no child can be started.

A child reads one line from its standard input that says what to compile: a command line would be too long for Windows. The child writes
each file to the cache as soon as it is compiled. At its end it also writes the content of all files to its standard output, so that a call
succeeds even if no file can be written.
"""

import base64
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..kernels.layout import OPERATIONS, Platform
from . import codegen, graph, machine_code, processor, sources, storage
from .codegen import Task
from .machine_code import Progress, Wanted, loaded, log
from .processor import CPU_FEATURES, CPU_NAME, Target

if sys.platform == "win32":
    import msvcrt

    def lock_now(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def lock_now(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


Answer = dict[str, tuple[str, str]]  # a child's results: for each symbol, the file's content in base 64, and why it wasn't written


class Made(NamedTuple):
    """The result of a task: a file's content, and why it could not be written ("" if it was, or if no file was asked for)."""

    content: bytes
    error: str = ""


# CPU seconds to compile an operation, 0.1 if not listed; used to divide operations among children that end at the same time
SECONDS = {
    "checked_call": 0.3,
    "product": 0.3,
    "elman": 0.4,
    "gru": 0.6,
    "gru_reset_before": 0.6,
    "leaky_input": 0.6,
    "leaky_output": 0.6,
    "lstm": 1.1,
    "lstm_projected": 1.4,
    "run": 0.6,
    "step_rows": 0.3,
    "sample": 0.2,
    "pack": 0.2,
    "work": 0.2,
    "share": 0.2,
}
POLL = 0.02  # seconds between two checks of a child or a lock
STALE = 120.0  # seconds after which a lock that another process holds is ignored
SWITCH = "NUMBA_DISABLE_JIT"
NO_JIT = f"fastrnn has no machine code for this machine, and {SWITCH} is set; unset it once for: python -m fastrnn compile"
CHANGED = "fastrnn's files have changed since this process imported them: start it anew"
LACKING = "fastrnn's operation {!r} needs a function of the C library or of Python that this process does not have"
UNREADABLE = "what was written there can't be read"
ONCE = "compiling %d operations for this machine: some seconds, once"
EVERY_TIME = "compiling %d operations for this process: some seconds"
NOT_KEPT = "every process compiles its machine code anew, for none of these directories keeps it: %s. %s"
CANT_KEEP = "machine code can't be kept for later processes in any of these directories: {}. {}"
REMEDY = f"Set {machine_code.VARIABLE} to a directory that this process can write to and other users can't, "
REMEDY += 'or install a wheel that brings its machine code: see "In a container" in the README'
NO_USERS_CACHE = {"the user's cache": "the user has no home directory"}
NOT_USED = "%s is not used for machine code: %s"


def compile_missing(missing: Sequence[Wanted], progress: Progress | None = None, *, in_files: bool = False) -> None:
    """Compile operations and load them. If another process compiles, wait for it and load what it has compiled.

    If files can't be written, log a warning that says why; with in_files=True raise RuntimeError.
    """
    if os.environ.get(SWITCH, "0") not in ("", "0"):
        raise RuntimeError(NO_JIT)
    goal, (directory, refused) = machine_code.target(), machine_code.run_in_thread(choose_directory)
    if in_files and directory is None:
        raise RuntimeError(CANT_KEEP.format(listed(refused), REMEDY))
    with only_one(directory):
        still = machine_code.run_in_thread(machine_code.without_file if in_files else machine_code.not_found, missing)
        if still:
            tell(len(still), ONCE if directory else EVERY_TIME)
            made = compiled(goal, still, directory, progress)
            for wanted, (content, _) in zip(still, made, strict=True):
                if not machine_code.run_in_thread(machine_code.load_content, wanted, content, "compiled now"):
                    raise RuntimeError(LACKING.format(wanted[0]))
            errors = errors_of(made)
            if in_files and not errors and machine_code.run_in_thread(machine_code.without_file, still):
                errors = UNREADABLE
            if errors:
                refused[str(directory)] = errors
            if errors and in_files:
                raise RuntimeError(CANT_KEEP.format(listed(refused), REMEDY))
            if errors or directory is None:
                warn_once("", NOT_KEPT, listed(refused), REMEDY)


def errors_of(made: Sequence[Made]) -> str:
    """Return the reasons why files could not be written, "" if all were."""
    return ", ".join(sorted({error for _, error in made if error}))


def listed(refused: Mapping[str, str]) -> str:
    """Return directories and the reasons why they can't be used, as one text."""
    return "; ".join(f"{directory}: {reason}" for directory, reason in refused.items())


def compile_levels(names: Sequence[str], directory: pathlib.Path) -> None:
    """Compile all operations for levels (named sets of features), for a wheel. Each level gets a directory of its own."""
    known = {level.level: level for level in processor.LEVELS}
    for name in names:
        if name not in known:
            raise ValueError(f"FASTRNN_MACHINE_CODE must name levels of {', '.join(known)}, got {name!r}")
        own = directory / name
        own.mkdir(parents=True)
        errors = errors_of(compiled(known[name], machine_code.everything(), own))
        if errors:
            raise OSError(f"machine code can't be written to {own}: {errors}")


@contextlib.contextmanager
def only_one(directory: pathlib.Path | None) -> Iterator[None]:
    """Let one process compile at a time, by a lock in a directory. A process waits for the lock at most `STALE` seconds."""
    if directory is None or loaded.lock is not None:  # a signal handler must not wait for the thread that it interrupts
        yield
        return
    try:
        # without locks in the file system, two processes may compile the same operation: they write equal files
        with contextlib.suppress(OSError):
            wait_for(machine_code.run_in_thread(open_lock, directory, to_its_end=True))
        yield
    except BaseException:  # after an interrupt, don't wait: a compiler in this process continues, and holds `loading` until it ends
        machine_code.run_in_thread(close_lock, waiting=False)
        raise
    machine_code.run_in_thread(close_lock, to_its_end=True)


def open_lock(directory: pathlib.Path) -> int:
    """Open a directory's lock file."""
    with loaded.loading:  # a child forked between the two steps would never close the file
        loaded.lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)  # for this user: whoever can open a file can lock it
        return loaded.lock


def close_lock() -> None:
    with loaded.loading:
        lock, loaded.lock = loaded.lock, None
        if lock is not None:
            os.close(lock)


def wait_for(file: int) -> None:
    """Lock an open file. Wait until no other process holds the lock, but at most `STALE` seconds, since that process may hang.

    The package filelock isn't used: in every fork of the program it waits for the threads that use it, for ever if such a thread waits for
    the fork.
    """
    end = time.monotonic() + STALE
    while time.monotonic() < end:
        try:
            lock_now(file)
            return
        except (BlockingIOError, PermissionError):  # another process holds the lock, on POSIX and on Windows
            time.sleep(POLL)


def tell(count: int, what: str) -> None:
    """Log that this process compiles `count` operations, once in a process."""
    if not loaded.told:
        loaded.told = True
        log.info(what, count)


def warn_once(what: str, text: str, *given: object) -> None:
    """Log a warning, at most once in a process for each `what`."""
    if what not in loaded.warned:
        loaded.warned.add(what)
        log.warning(text, *given)


def choose_directory() -> tuple[pathlib.Path | None, dict[str, str]]:
    """Return the first cache that this process can write to and no other user can, and why each cache before it can't be used."""
    refused: dict[str, str] = {}
    for directory in machine_code.caches():
        reason = storage.prepare(directory)
        if not reason:
            if refused and os.environ.get(machine_code.VARIABLE):
                chosen = next(iter(refused))  # the variable's directory, which comes first
                warn_once(chosen, NOT_USED, chosen, refused[chosen])
            return directory, refused
        refused[str(directory)] = reason
    return None, refused if machine_code.users_cache() else refused | NO_USERS_CACHE


def compiled(goal: Target, wanted: Sequence[Wanted], directory: pathlib.Path | None, progress: Progress | None = None) -> list[Made]:
    """Compile operations for a target, write them to the directory if there is one, and return the results."""
    tasks = [
        {
            "operation": one[0],
            "module": OPERATIONS[one[0]][0],
            "dtype": one[1],
            "symbol": machine_code.symbol(one, goal),
            "file": str(directory / machine_code.file_name(one, goal)) if directory else "",
        }
        for one in wanted
    ]
    target = goal if goal.is_llvms else machine_code.run_in_thread(machine_code.compilers_target)
    made = by_children(target, tasks, progress) if has_interpreter() else None
    return machine_code.run_in_thread(in_this_process, target, tasks) if made is None else made


def has_interpreter() -> bool:
    """Return whether sys.executable is Python. In a frozen program, or in one that embeds Python, it is that program, or empty."""
    name = pathlib.Path(sys.executable or "").name.lower()
    return name.startswith("python") and not getattr(sys, "frozen", False)


def by_children(goal: Target, tasks: Sequence[Task], progress: Progress | None) -> list[Made] | None:
    """Compile in child processes and return the results; None if children can't be started."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    environment["PYTHONPATH"] = os.pathsep.join([*(path or str(pathlib.Path.cwd()) for path in sys.path), str(machine_code.PACKAGE.parent)])
    children: list[subprocess.Popen[str]] = []
    try:
        for share in shared_out(tasks, min(processor.processors(), len(tasks))):
            wish = {"target": (goal.cpu, goal.features, goal.platform), "source": sources.of_all(), "tasks": share}
            machine_code.run_in_thread(start_child, environment, children, to_its_end=True)
            ask(children[-1], wish)
        answers = [finish(child, tasks, progress) for child in children]
        if progress:
            progress(len(tasks), len(tasks))
    except OSError:  # no memory, or too many processes
        return None
    finally:
        for child in children:
            child.kill()
            with child:  # waits, and closes the pipes
                pass
    made = {symbol: Made(base64.b64decode(content), error) for answer in answers for symbol, (content, error) in answer.items()}
    return [made[task["symbol"]] for task in tasks]


def start_child(environment: dict[str, str], children: "list[subprocess.Popen[str]]") -> None:
    """Start a child and append it to `children`."""
    command, pipe = [sys.executable, "-P", "-W", "ignore", "-m", "fastrnn.native.compiling"], subprocess.PIPE
    with loaded.loading:  # a process forked meanwhile would keep the pipes open, and `finish` waits until they are closed
        children.append(subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True))


def ask(child: "subprocess.Popen[str]", wish: dict[str, Any]) -> None:
    """Write to a child what to compile.

    The child reads one line, not up to the end of its input: a process forked meanwhile has that pipe open, too. The child reads before it
    writes, so the two never wait for each other. If the child has ended, `finish` raises the error.
    """
    pipe, child.stdin = child.stdin, None
    assert pipe is not None
    with contextlib.suppress(OSError), pipe:
        pipe.write(json.dumps(wish) + "\n")


def finish(child: "subprocess.Popen[str]", tasks: Sequence[Task], progress: Progress | None) -> Answer:
    """Wait for a child to end, and return its results."""
    while True:
        try:
            printed, errors = child.communicate(timeout=POLL)
            break
        except subprocess.TimeoutExpired:
            if progress:
                progress(sum(task["file"] != "" and pathlib.Path(task["file"]).exists() for task in tasks), len(tasks))
    if child.returncode:
        raise RuntimeError(f"fastrnn can't compile its machine code; the compiler said:\n{errors.strip()}")
    answer: Answer = json.loads(printed.splitlines()[-1])
    return answer


def shared_out(tasks: Sequence[Task], count: int) -> list[list[Task]]:
    """Divide tasks into `count` lists, one for each child, such that all children end at about the same time."""
    shares: list[list[Task]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for task in sorted(tasks, key=lambda task: -SECONDS.get(task["operation"], 0.1)):
        least = loads.index(min(loads))
        shares[least].append(task)
        loads[least] += SECONDS.get(task["operation"], 0.1)
    return shares


def in_this_process(goal: Target, tasks: Sequence[Task]) -> list[Made]:
    """Compile in this process and return the results."""
    with loaded.loading:  # a process forked meanwhile would find LLVM's and Numba's locks held
        reason = CHANGED if sources.read() != sources.DIGESTS else graph.wrong()
        if reason:
            raise RuntimeError(reason)
        before = {name: os.environ.get(name) for name in (CPU_NAME, CPU_FEATURES)}
        os.environ[CPU_NAME], os.environ[CPU_FEATURES] = goal.cpu, goal.features
        try:
            return [compile_task(task, goal) for task in tasks]
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def compile_task(task: Task, goal: Target) -> Made:
    """Compile an operation, write its file if one is asked for, and return the file's content."""
    content = machine_code.file_content(*codegen.object_code(task, goal))
    if task["file"]:
        try:
            storage.write(pathlib.Path(task["file"]), content)
        except OSError as error:  # a full disk, or one that has become read-only
            return Made(content, error.strerror or str(error))
    return Made(content)


def child(specification: str) -> None:
    """Compile the operations that a parent asks for, print the results, and end this process."""
    wish = json.loads(specification)
    reason = CHANGED if wish["source"] != sources.of_all() else graph.wrong()
    if reason:
        raise SystemExit(reason)
    cpu, features, (system, machine) = wish["target"]
    goal = Target(cpu, features, platform=Platform(system, machine))
    codegen.prepare(goal)
    made = {task["symbol"]: compile_task(task, goal) for task in wish["tasks"]}
    print(json.dumps({symbol: (base64.b64encode(content).decode(), error) for symbol, (content, error) in made.items()}), flush=True)
    os._exit(0)  # a tenth of the time would go into freeing Numba's objects


if __name__ == "__main__":
    child(sys.stdin.readline())
