"""Machine code is made once, found again, and never wrong, whatever happens to its files or to those who make them."""

import re
import shutil
import sys

import numpy as np
import pytest

from fastrnn.kernels.layout import ARGUMENTS
from fastrnn.native import machine_code, processor

from .process import copy_package, finish, finish_with_errors, own_cache, python, start

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")

WEIGHT = np.arange(-7.0, 8.0, dtype=np.float32).reshape(5, 3)
X = np.arange(6.0, dtype=np.float32).reshape(2, 3) - 2
EXPECTED = np.maximum(X @ WEIGHT.T, 0)  # of small integers, so exact

# A layer, and its operations: the expression `result()` is True if the call is right.
SETUP = """
import logging, os, pathlib, signal, subprocess, sys, threading, time
import numpy as np
import fastrnn
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

def result():
    weight = np.arange(-7.0, 8.0, dtype=np.float32).reshape(5, 3)
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3) - 2
    output = fastrnn.Dense(weight, activation="relu")(x)
    return output.dtype == x.dtype and np.array_equal(output, np.maximum(x @ weight.T, 0))
children = []

class Recorded(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        children.append(self)

subprocess.Popen = Recorded

def later(seconds, function):
    thread = threading.Timer(seconds, function)
    thread.daemon = True
    thread.start()
    return thread
"""
CALL = "print(result())"
NAMES = ["begin", "call", "pack-float32", "product-float32", "project-float32", "relu-float32", "run"]
SAYS = re.compile(r"^INFO fastrnn: compiling (\d+) operations for this machine: some seconds, once$", re.MULTILINE)
NOT_KEPT = """\
INFO fastrnn: compiling 7 operations for this process: some seconds
WARNING fastrnn: every process compiles its machine code anew, for none of these directories keeps it: /dev/null/code: Not a directory; \
{}: it is not a directory; /dev/null/cache/fastrnn/machine_code: Not a directory. Set FASTRNN_CACHE_DIR to a directory that this process \
can write to and other users can't, or install a wheel that brings its machine code: see "In a container" in the README
"""
NO_JIT = "RuntimeError: fastrnn has no machine code for this machine, and NUMBA_DISABLE_JIT is set; "
NO_JIT += "unset it once for: python -m fastrnn compile"
CHANGED = "fastrnn's files have changed since this process imported them: start it anew"


def names(directory):
    """The operations that a cache has files for, and whatever else lies there but the lock."""
    return sorted(re.sub(r"-[0-9a-f]{20}\.bin$", "", path.name) for path in directory.iterdir() if path.name != "lock")


def compiled(process):
    """Wait for a process that runs CALL, check its result, and tell how many operations it says it compiles."""
    printed, errors = finish_with_errors(process)
    assert printed == "True\n"
    return [int(count) for count in SAYS.findall(errors)]


def begin(directory, path, script=CALL, *arguments, first="", **environment):
    """Start a process that finds no machine code but in a directory, or beside the copy of the package in `path`."""
    return start(first + SETUP + script, *arguments, **{**own_cache(directory, path), **environment})


def run(*arguments, **options):
    return finish(begin(*arguments, **options))


def call(*arguments, **options):
    return compiled(begin(*arguments, **options))


def refused(*arguments, **options):
    """The last line of the traceback of a process that may not compile."""
    process = begin(*arguments, **options, NUMBA_DISABLE_JIT=1)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    return errors.splitlines()[-1]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A directory for the module path with a copy of the package, beside which nothing is cached."""
    return copy_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def warm(tmp_path_factory, package):
    """A cache with the machine code that CALL needs."""
    directory = tmp_path_factory.mktemp("warm") / "cache"
    assert call(directory, package) == [len(NAMES)]
    assert names(directory) == NAMES
    return directory


@pytest.fixture
def cache(warm, tmp_path):
    """The same, to damage."""
    return shutil.copytree(warm, tmp_path / "cache")


@pytest.fixture
def almost(cache):
    """The same without one file, so that compiling is quick."""
    remove(cache, "relu")
    return cache


def file(directory, name):
    (found,) = directory.glob(f"{name}-*.bin")
    return found


def remove(directory, *names):
    for name in names:
        file(directory, name).unlink()


# ---- what a process does that finds its machine code ----------------------------------------------------------------------------------

HOOK = """
import sys
seen = []

def watch(event, given):
    if event == "subprocess.Popen" or (event == "open" and str(given[0]).endswith(".bin")):
        seen.append(event)

sys.addaudithook(watch)
"""
WATCHED = """
layers = fastrnn.Sequential(fastrnn.RNN([[1.0]], [[1.0]]), fastrnn.Dense([[1.0]]))
print(len(seen))
print(result())
print(len(seen))
"""


def test_nothing_is_loaded_at_import(warm, package):
    """Importing fastrnn and making layers neither opens a file of machine code nor starts a compiler; the first call does."""
    printed = run(warm, package, WATCHED, first=HOOK).split()
    assert printed == ["0", "True", str(len(NAMES))]


MODULES = """
import sys
import numpy as np
np.random, np.typing
before = set(sys.modules)
import fastrnn
layer = fastrnn.Dense(np.ones((5, 3), np.float32), activation="relu")
layer(np.ones((2, 3), np.float32))
print(*sorted(set(sys.modules) - before))
"""
SLOW = {"asyncio", "email", "http", "multiprocessing", "numba", "scipy", "socket", "ssl", "subprocess", "unittest", "urllib"}


def test_no_slow_module_is_imported(warm, package):
    """A process that finds its machine code imports neither Numba nor what only compiling needs, nor much else."""
    loaded = python(MODULES, **own_cache(warm, package)).split()
    assert "fastrnn.native.machine_code" in loaded
    assert not {name.partition(".")[0] for name in loaded} & SLOW
    assert "fastrnn.native.compiling" not in loaded
    if processor.SAYS_ITSELF:
        assert "llvmlite.binding" not in loaded
        assert len(loaded) <= 70


def test_found_and_not_compiled(warm, package):
    """A second process compiles nothing, says nothing, and writes nothing, even where Numba may not compile."""
    before = {path: path.stat().st_mtime_ns for path in warm.iterdir()}
    printed, errors = finish_with_errors(begin(warm, package, NUMBA_DISABLE_JIT=1))
    assert (printed, errors) == ("True\n", "")
    assert {path: path.stat().st_mtime_ns for path in warm.iterdir()} == before


TWICE = CALL + "; one = np.ones((1, 1), np.float32); fastrnn.Dense(one, activation='sigmoid')(one)"


def test_compiling_is_said_once(almost, package):
    """A process that compiles twice says so once; see `SAYS` for the level, the logger and the words."""
    assert call(almost, package, TWICE) == [1]
    assert names(almost) == sorted([*NAMES, "sigmoid-float32"])


# ---- what is found wrong --------------------------------------------------------------------------------------------------------------

DAMAGES = {"halved": lambda data: data[: len(data) // 2], "garbage": lambda data: bytes(byte * 7 + 13 & 255 for byte in range(256)) * 9}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(cache, package, damage):
    """A damaged file is compiled anew and replaced."""
    relu = file(cache, "relu")
    relu.write_bytes(DAMAGES[damage](relu.read_bytes()))
    assert call(cache, package) == [1]
    assert call(cache, package) == []


DAMAGED = """
from fastrnn.native import machine_code
from fastrnn.kernels.layout import OPERATIONS

tried, rng, target = 0, np.random.default_rng(5), machine_code.target()
for operation in ("begin", "call", "pack", "product", "project", "relu", "run"):
    wanted = operation, "float32" if OPERATIONS[operation][1] else ""
    content = pathlib.Path(os.environ["FASTRNN_CACHE_DIR"], machine_code.file_name(wanted, target)).read_bytes()
    wrong = [content[:size] for size in range(0, len(content), 61)]
    for line in range(0, len(content), 64):
        wrong.append(content[:line] + bytes(64) + content[line + 64:])
    for bit in [*range(8 * 40), *rng.integers(8 * len(content), size=300)]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        wrong.append(bytes(flipped))
    for data in wrong:
        tried += data[:len(content)] != content
        assert data[:len(content)] == content or not machine_code.load_content(wanted, data, "test")
print(tried)
print(result())
"""


def test_every_damage_is_refused(warm, package):
    """No truncation, no line of zeros and no flipped bit anywhere in a file is loaded, or does harm."""
    tried, right = run(warm, package, DAMAGED).split()
    assert int(tried) > 4000
    assert right == "True"


def test_swapped_files_are_refused(cache, package):
    """Another operation's code under an operation's name is not run; nor is the built-in's."""
    paths = [file(cache, name) for name in ("relu", "begin", "call")]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    assert call(cache, package) == [3]
    assert call(cache, package) == []


@pytest.mark.parametrize(
    ("first", "environment"),
    [
        ("import llvmlite; llvmlite.__version__ = '0.1.2'", {}),
        ("", {"NUMBA_CPU_NAME": "generic"}),
        ("", {"NUMBA_CPU_FEATURES": ""}),
        ("import platform; platform.machine = lambda: 'other'", {}),
    ],
    ids=["llvmlite", "processor", "features", "machine"],
)
def test_foreign_files_are_not_read(warm, package, first, environment):
    """What another compiler made, or what was made for another target, is not looked at."""
    assert refused(warm, package, first=first, **environment) == NO_JIT


FEW = "from fastrnn.native import machine_code; machine_code.addresses(['begin', 'call'], 'float32'); print(True)"


def test_another_target_has_its_own_files(almost, package):
    """Code for another target is stored beside this one's, neither read in its place nor overwriting it."""
    remove(almost, *(name for name in NAMES if name not in ("relu-float32", "call")))
    assert refused(almost, package) == NO_JIT
    before = {path: path.read_bytes() for path in almost.glob("*.bin")}
    assert call(almost, package, FEW, NUMBA_CPU_FEATURES="") == [2]
    assert names(almost) == ["begin", "call", "call"]
    assert {path: path.read_bytes() for path in before} == before


LACKING = """
from fastrnn.native import linking, machine_code
linking.process_address = lambda name: 0
try:
    machine_code.addresses(["call"], "float32")
except RuntimeError as error:
    print(error)
"""


@pytest.mark.skipif(not processor.SAYS_ITSELF, reason="elsewhere LLVM finds functions")
def test_a_process_that_lacks_a_function(cache, package):
    """Code that needs what the process doesn't have is neither loaded nor run, and the error says which operation it is."""
    said = "fastrnn's operation 'call' needs a function of the C library or of Python that this process does not have\n"
    assert run(cache, package, LACKING) == said
    assert call(cache, package) == []


@pytest.fixture
def edited(package, tmp_path):
    """A copy of the package of its own, to edit."""
    return copy_package(tmp_path / "edited")


EDITED = """
path = pathlib.Path(fastrnn.__file__).with_name("kernels") / "simd" / "elementary.py"
path.write_text(path.read_text().replace('choose(x, "<", 0.0, 0.0, x)', 'choose(x, "<", 0.0, 1.0, x)'))
{}
try:
    result()
except RuntimeError as error:
    print(str(error).splitlines()[-1])
"""


@pytest.mark.parametrize("how", ["", "sys.executable = ''"], ids=["in children", "in this process"])
def test_an_edit_between_import_and_call_is_noticed(edited, almost, how):
    """What was imported before an edit isn't compiled after it: neither run, nor stored as what it isn't."""
    assert run(almost, edited, EDITED.format(how)) == f"{CHANGED}\n"
    assert "relu-float32" not in names(almost)


def test_an_edit_after_import_does_not_matter_where_code_is_found(edited, cache):
    """What was imported before an edit goes with what was compiled before it."""
    assert run(cache, edited, EDITED.format("print(result())")) == "True\n"
    assert refused(cache, edited) == NO_JIT


# ---- where nothing can be stored ------------------------------------------------------------------------------------------------------


@posix
def test_no_writable_place(package, tmp_path):
    """Where no directory can be written, machine code is made for the process alone, and one warning says why and what to do."""
    path = shutil.copytree(package, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__", "compiled_code"))
    beside = path / "fastrnn" / "compiled_code"
    beside.touch()
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache", "PYTHONDONTWRITEBYTECODE": 1}
    before = sorted(path.rglob("*"))
    assert finish_with_errors(begin("/dev/null/code", path, TWICE, **nowhere)) == ("True\n", NOT_KEPT.format(beside))
    assert sorted(path.rglob("*")) == before


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
"""


@posix
@pytest.mark.parametrize("full", [{"relu-float32", "pack-float32"}, {"pack-float32"}], ids=["no room", "room for the smaller"])
def test_full_disk(cache, package, full):
    """Where files can't be written, or some not whole, results are right and nothing broken is left; so also once there is room."""
    limit = 0 if len(full) == 2 else file(cache, "pack").stat().st_size - 1
    remove(cache, "relu", "pack")
    process = begin(cache, package, CALL, limit, first=LIMITED, PYTHONDONTWRITEBYTECODE=1)
    _, errors = finish_with_errors(process)
    assert SAYS.findall(errors) == ["2"]
    assert f"WARNING fastrnn: every process compiles its machine code anew, for none of these directories keeps it: {cache}: " in errors
    assert names(cache) == sorted({*NAMES} - full)
    assert call(cache, package) == [len(full)]
    assert names(cache) == NAMES


@posix
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_directory_of_others_is_not_read(cache, package, mode):
    """A directory that others can write to is not read: what they put there would be run."""
    cache.chmod(mode)
    assert refused(cache, package) == NO_JIT


@posix
def test_a_directory_of_others_is_not_written(almost, package, warm, tmp_path):
    """A directory that others can write to receives nothing, and a warning says so; what is missing goes to the next one."""
    path = shutil.copytree(package, tmp_path / "copy")
    beside = shutil.copytree(warm, path / "fastrnn" / "compiled_code")
    remove(beside, "begin")
    before = names(almost)
    almost.chmod(0o777)
    printed, errors = finish_with_errors(begin(almost, path))
    assert printed == "True\n"
    assert f"WARNING fastrnn: {almost} is not used for machine code: others can write to it\n" in errors
    assert (names(almost), names(beside)) == (before, NAMES)


# ---- who compiles ---------------------------------------------------------------------------------------------------------------------

KILLED = """
def kill():
    while not children:
        time.sleep(0.001)
    time.sleep(float(sys.argv[1]))
    children[0].kill()

later(0, kill)
try:
    result()
except RuntimeError as error:
    print(str(error) == "fastrnn can't compile its machine code; the compiler said:\\n", result())
"""


@posix
def test_a_killed_compiler(almost, package):
    """Where a compiler is killed the call says so, the next one is right, and nothing broken is left."""
    printed = run(almost, package, KILLED, 0.2).split()
    assert printed == ["True", "True"]
    assert names(almost) == NAMES
    assert call(almost, package) == []


def test_eight_processes_at_once(almost, package):
    """Of eight processes that start at once one compiles, and the others wait for what it makes."""
    remove(almost, "call", "begin", "project")
    processes = [begin(almost, package) for _ in range(8)]
    said = [compiled(process) for process in processes]
    assert sorted(said) == [[]] * 7 + [[4]]
    assert names(almost) == NAMES


HOLDING = """
import fcntl
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@posix
def test_who_waits_compiles_when_the_other_dies(almost, package):
    """A process that waits for one that compiles goes on as soon as that is gone."""
    holder = begin(almost, package, HOLDING, almost / "lock")
    assert holder.stdout.readline() == "held\n"
    waiting = begin(almost, package)
    with pytest.raises(Exception, match="timed out"):
        waiting.wait(1.5)
    holder.kill()
    holder.communicate()
    assert compiled(waiting) == [1]


FORKED = """
import warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of every fork beside a thread

answers, pids = [], []
thread = threading.Thread(target=lambda: answers.append(result()))
thread.start()
pause, count = float(sys.argv[1]), int(sys.argv[2])
while len(pids) < count:
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        os._exit(0 if result() else 1)
    pids.append(pid)
    time.sleep(pause)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * count)
thread.join()
print(answers)
"""


@posix
@pytest.mark.parametrize("removed", [(), ("relu",)], ids=["loads", "compiles"])
@pytest.mark.parametrize("how", ["", "sys.executable = ''"], ids=["in children", "in this process"])
def test_fork_at_any_moment(cache, package, removed, how):
    """A process forked while another thread loads or compiles answers its first call, and so does its parent."""
    if how and not removed:
        pytest.skip("nothing is compiled")
    remove(cache, *removed)
    pause, count = (0.15, 4) if removed else (0.001, 40)
    printed = run(cache, package, how + FORKED, pause, count)
    assert printed == "True\n[True]\n"
    assert names(cache) == NAMES


INTERRUPTED = """
signal.signal(signal.SIGINT, signal.default_int_handler)
cache = pathlib.Path(os.environ["FASTRNN_CACHE_DIR"])
for moment in map(float, sys.argv[1:]):
    sent = []
    try:  # on a busy machine the signal comes while the timer starts
        timer = later(moment, lambda: (sent.append(time.perf_counter()), os.kill(os.getpid(), signal.SIGINT)))
        result()
    except KeyboardInterrupt:
        if sys.executable:
            assert time.perf_counter() - sent[0] < 1, moment
        else:  # how long the import of Numba holds Python's lock depends on the machine
            assert not list(cache.glob("relu-*")), f"{moment}: answered when all was compiled"
        assert all(child.poll() is not None for child in children), moment
    else:
        timer.cancel()
        print("over", moment)
        break
print(result())
"""


@posix
def test_interrupts_where_no_child_can_be_had(almost, package):
    """Ctrl-C is answered before a compiler in this process is done, and does it no harm: Numba can't be imported twice."""
    printed = run(almost, package, "sys.executable = ''\n" + INTERRUPTED, 0.01, 0.1, 0.3)
    assert printed.splitlines()[-1] == "True"
    assert names(almost) == NAMES


@posix
def test_interrupts(package, tmp_path):
    """Ctrl-C at any moment of compiling is answered within a second, leaves no compiler at work, and the next call is right."""
    moments = [0.001, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert run(tmp_path / "cache", package, INTERRUPTED, *moments).splitlines()[-1] == "True"
    assert call(tmp_path / "cache", package) == []
    assert names(tmp_path / "cache") == NAMES


ALONE = """
before = dict(os.environ)
sys.executable = {}
print(result())
assert os.environ == before
assert "numba" in sys.modules
"""


@pytest.mark.parametrize("executable", ["''", "'/bin/true'", "'/nowhere/python3'"])
def test_no_interpreter(almost, package, executable):
    """Where sys.executable is no Python the process compiles on its own, and leaves the environment as it was."""
    assert call(almost, package, ALONE.format(executable)) == [1]
    assert call(almost, package) == []


def test_the_working_directory_on_the_module_path(edited, tmp_path):
    """The compiler is the importing process's own package, also where that is found in the working directory."""
    elementary = edited / "fastrnn" / "kernels" / "simd" / "elementary.py"
    elementary.write_text(elementary.read_text() + "# edited\n")
    first = "import sys; sys.path = ['', *sys.path[3:]]"  # in place of the working directory's name and PYTHONPATH
    assert call(tmp_path / "own", edited, FEW, first=first) == [2]


def test_jit_disabled(almost, package):
    """With NUMBA_DISABLE_JIT, what must be compiled is an error that says what to do; see above where it needn't be. "0" says no."""
    assert refused(almost, package) == NO_JIT
    assert names(almost) == sorted({*NAMES} - {"relu-float32"})
    assert call(almost, package, NUMBA_DISABLE_JIT=0) == [1]


HANDLER = """
answers = []
signal.signal(signal.SIGUSR1, lambda *_: answers.append(result()))
timers = [later(moment, lambda: os.kill(os.getpid(), signal.SIGUSR1)) for moment in map(float, sys.argv[1:])]
print(result())
for timer in timers:
    timer.join()
time.sleep(0.1)
print(all(answers), len(answers) > 0)  # signals that come before the handler is called are one
"""


@posix
def test_a_signals_handler_calls(almost, package):
    """A signal's handler that calls fastrnn while the main thread compiles ends, and both are right."""
    printed = run(almost, package, HANDLER, 0.005, 0.01, 0.02, 0.3)
    assert printed.split() == ["True"] * 3


THREADS = """
answers = []
threads = [threading.Thread(target=lambda: answers.append(result())) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(answers == [True] * 6)
"""


def test_threads_at_once(almost, package):
    """Threads that call at once share what one of them has compiled."""
    assert call(almost, package, THREADS) == [1]


# ---- the built-in ---------------------------------------------------------------------------------------------------------------------


MOST = ARGUMENTS.words


@pytest.mark.parametrize(
    ("name", "right", "count"),
    [
        *[("call", f"from 1 to {MOST} arrays", count) for count in (0, MOST + 1, 50)],
        *[("at_once", "6 arguments", count) for count in (0, 1, 5, 7)],
        *[("advance", "8 arguments", count) for count in (0, 7, 9)],
        *[("advance_rows", "10 arguments", count) for count in (0, 9, 11)],
        *[("hold", "2 arguments or more", count) for count in (0, 1)],
    ],
)
def test_how_many_arguments_the_built_ins_take(name, right, count):
    """A wrong number of arguments is a TypeError, not a crash: the operation's address would be read from nowhere."""
    machine_code.addresses([*machine_code.BUILTINS], "float32")
    with pytest.raises(TypeError, match=rf"^{name} takes {right}, got {count}$"):
        getattr(machine_code.kept, name)(*[np.zeros(4)] * count)


def test_a_call_takes_a_plan():
    """The function around the built-in needs a plan, and passes the number of arrays on."""
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'plan'"):
        machine_code.call()
    with pytest.raises(TypeError, match=rf"^call takes from 1 to {MOST} arrays, got {MOST + 1}$"):
        machine_code.call(*[np.zeros(4)] * (MOST + 1))


# ---- what is compiled -----------------------------------------------------------------------------------------------------------------

VARIED = """
from tests.cases import CASES, run
from tests.test_bits import LAYOUTS

for case in CASES[:2] + CASES[-2:]:
    model, (x, states) = case.layer(np.float32), case.data(np.float32, (2, 3), 4)
    run(model, x, states)
    before = len(seen), len(children)
    for change in LAYOUTS.values():
        output, _ = run(model, change(x), tuple(change(state) for state in states))
        run(model, change(x[0]), tuple(change(state[0]) for state in states), out=output[0])
    run(model, x.astype(float))
    run(model, x[0, 0].tolist())
    run(case.layer(np.float32, seed=1), x)
    print((len(seen), len(children)) == before)

weights = [np.full(shape, 0.1, np.float32) for shape in ((5, 3), (5, 5), (4, 5), (5,))]
fastrnn.rnn_forward(np.ones((4, 3)), *weights)
before = len(seen), len(children)
for change in (np.asfortranarray, lambda w: w.astype(w.dtype.newbyteorder("S")), lambda w: w[::-1]):
    changed = [change(weight) for weight in weights]
    for weight in changed:
        weight.flags.writeable = False
    fastrnn.rnn_forward(np.ones((4, 3), int), *changed, c=np.ones(4, np.float32), h0=np.ones(5))
print((len(seen), len(children)) == before)
"""


def test_nothing_is_compiled_twice():
    """Whatever a caller passes, each operation is found or compiled once in a process for each dtype."""
    assert python(HOOK + SETUP + VARIED).split() == ["True"] * 5
