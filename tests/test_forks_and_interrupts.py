"""Nothing hangs, nothing leaks, nothing crashes: whoever calls, whenever a process is interrupted, forked or ended.

Every script uses what users call, so that it can be run on any version; each found a fault in one that shared work by Python's threads.
"""

import subprocess
import sys
import time

import pytest

from .exhaustive import exhaustive, few
from .process import copy_package, finish, own_cache, start

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")

# `check()` makes calls that are shared between threads, and compares their bits with those of one thread.
SETUP = """
import concurrent.futures, gc, itertools, os, signal, sys, threading, time, warnings
import numpy as np
import fastrnn
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # by Python 3.12 and later: so it is

rng = np.random.default_rng(0)
weights = [rng.uniform(-0.05, 0.05, shape).astype(np.float32) for shape in ((300, 5), (300, 300), (4, 300))]
model = fastrnn.Sequential(fastrnn.RNN(*weights[:2]), fastrnn.Dense(weights[2], activation="softmax"))
batch, long = rng.random((64, 5, 5), np.float32), rng.random((400, 5), np.float32)
shared = fastrnn.Sequential(fastrnn.RNN(weights[0][:100], weights[1][:100, :100]))
few = rng.random((64, 60, 5), np.float32)

def call():
    return [output.tobytes() for output in (model(batch)[0], model(long)[0], shared(few)[0])]

def check():
    assert call() == alone

fastrnn.set_num_threads(1)
alone = call()
fastrnn.set_num_threads(2)
"""
LIMIT = 120  # seconds, after which a process hangs


def ended(script, *arguments, **environment):
    """What a script prints. It must end by itself, without an error."""
    process = start(SETUP + script, *arguments, NUMBA_NUM_THREADS=None, OMP_NUM_THREADS=None, **environment)
    watched(process)
    return finish(process).split()


def watched(process):
    """Wait for a process, and kill it where it hangs; what it has forked may hold its pipes."""
    try:
        process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail("the process hangs")


# ---- many callers ---------------------------------------------------------------------------------------------------------------------

CALLERS = """
count, calls = map(int, sys.argv[1:])
blocks, there, wrong = [], threading.Barrier(count), []

def caller():
    for _ in range(2):
        for _ in range(calls):
            if shared(few)[0].tobytes() != alone[2]:
                wrong.append(None)
        if there.wait() == 0:
            blocks.append(sys.getallocatedblocks())
        there.wait()

callers = [threading.Thread(target=caller) for _ in range(count)]
for thread in callers:
    thread.start()
for thread in callers:
    thread.join()
print(len(wrong), blocks[1] - blocks[0])
"""


@pytest.mark.parametrize(("count", "calls"), [(2, 100), *(pytest.param(*one, marks=exhaustive) for one in [(2, 500), (100, 20)])])
def test_calls_pile_nothing_up(count, calls):
    """Calls from many threads at once leave no Python object behind: as many are there after the second half as after the first."""
    wrong, more = map(int, ended(CALLERS, count, calls))
    assert wrong == 0
    assert more < 30 * count  # a thread's own frames; work items took ten blocks for each call


DAEMONS = """
def forever():
    while True:
        check()

for _ in range(int(sys.argv[1])):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.5)
print("over", flush=True)
"""


@pytest.mark.parametrize("count", few([3, 30], 3))
def test_the_end_with_daemon_callers(count):
    """A process whose daemon threads go on calling ends within a second of its last other thread, at best of three."""
    taken = []
    for _ in range(3):
        process = start(SETUP + DAEMONS, count)
        assert process.stdout.readline() == "over\n"
        over = time.perf_counter()
        watched(process)
        taken.append(time.perf_counter() - over)
        assert finish(process) == ""
    assert min(taken) < 1


SWITCHES = """
sys.setswitchinterval(1e-6)
calls_of_each = int(sys.argv[1])
small = [*(np.ascontiguousarray(weight[:8, :8]) for weight in weights), np.ones(8, np.float32)]
layer = fastrnn.RNN(*small[:2])
rows = [rng.random((steps, 5), np.float32) for steps in range(1, 25)]
calls = [lambda x: layer(x)[0], lambda x: layer(x, return_sequences=False)[0], lambda x: fastrnn.rnn_forward(x, *small)]
expected, wrong = [[call(x).tobytes() for x in rows] for call in calls], []

def caller(seed):
    order = np.random.default_rng(seed)
    try:
        for which in range(len(calls)):
            for kind in order.integers(9 if which == 1 else len(rows), size=5 * calls_of_each if which == 1 else calls_of_each):
                assert calls[which](rows[kind]).tobytes() == expected[which][kind]
    except BaseException as error:
        wrong.append(repr(error))

callers = [threading.Thread(target=caller, args=(seed,)) for seed in range(6)]
for thread in callers:
    thread.start()
for thread in callers:
    thread.join()
print(len(wrong), *wrong)
"""


@pytest.mark.parametrize("calls", few([400, 4000], 400))
def test_threads_that_change_at_any_moment(calls):
    """Threads that share a model, and change after every few instructions, give right results for more shapes than it keeps calls for."""
    assert ended(SWITCHES, calls) == ["0"]


# ---- a call inside another one's work -------------------------------------------------------------------------------------------------

OWN_WORK = """
answers = []

def handle(*_):
    check()
    answers.append(None)

class Cycle:
    def __init__(self):
        self.me = self

    def __del__(self):
        handle()

if sys.argv[1] == "signal":
    signal.signal(signal.SIGALRM, lambda *_: (handle(), signal.setitimer(signal.ITIMER_REAL, 0.001)))
    signal.setitimer(signal.ITIMER_REAL, 0.001)
else:
    gc.set_threshold(50, 1, 1)
with concurrent.futures.ThreadPoolExecutor(1) as executor:
    while len(answers) < 200:
        executor.submit(int)
        if sys.argv[1] != "signal":
            Cycle()
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.set_threshold(0)
print(len(answers) >= 200)
"""


@posix
@pytest.mark.parametrize("how", few(["signal", "__del__"], "signal"))
def test_a_call_inside_the_programs_own_submit(how):
    """A signal's handler, or a __del__, that calls while the main thread gives work to an executor of the program's own, ends."""
    assert ended(OWN_WORK, how) == ["True"]


# ---- interrupts and forks -------------------------------------------------------------------------------------------------------------

INTERRUPTED = """
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt(frame, event, _):  # where Python itself would answer a signal: as a function begins, and after one of C
    if event in ("call", "c_return") and next(events) == moment:
        sys.setprofile(None)
        raise KeyboardInterrupt

def exit_code(pid):
    for _ in range(2000):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    return "hung", os.waitpid(pid, 0)

wrong = []
for moment in itertools.count(0, int(sys.argv[1])):
    events, (reads, writes) = itertools.count(), os.pipe()
    pid = os.fork()
    if not pid:
        break
    os.close(writes)
    if (code := exit_code(pid)) != 0:
        wrong.append((moment, code))
    if os.read(reads, 9) == b"over" or len(wrong) == 3:
        print(moment, *wrong)
        sys.exit()
    os.close(reads)

# the child: it is interrupted in its first call that is shared, and ends as any process
sys.setprofile(interrupt)
try:
    output = shared(few)[0]
    sys.setprofile(None)
except KeyboardInterrupt:
    pass
else:
    assert output.tobytes() == alone[2]
    if next(events) <= moment:
        os.write(writes, b"over")
assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []), "no signal comes any more"
check()
os.close(writes)
"""


@posix
@pytest.mark.parametrize("apart", few([2, 17], 17))
def test_an_interrupt_anywhere_in_the_first_call(apart):
    """Ctrl-C at any moment while machine code is loaded and the first worker started keeps no process from its end."""
    moments, *wrong = ended(INTERRUPTED, apart)
    assert wrong == []
    assert int(moments) > 100


FORKS = """
over, wrong, children, pids = threading.Event(), [], [], itertools.count()

def caller():
    while not over.is_set():
        check()

def forker():
    for _ in range(15):
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            check()
            os._exit(0)
        children.append(pid)
        time.sleep(0.003)

callers, forkers = [[threading.Thread(target=target) for _ in range(2)] for target in (caller, forker)]
for thread in callers + forkers:
    thread.start()
for thread in forkers:
    thread.join()
over.set()
for thread in callers:
    thread.join()
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 30)
"""


@posix
def test_forks_in_any_thread():
    """Processes that two threads fork while two others call, and the main one waits, answer their calls, and so does their parent."""
    assert ended(FORKS) == ["True"]


COMPILES = """
answers, pids = [], []
thread = threading.Thread(target=lambda: answers.append(result()))
thread.start()
while len(pids) < 40:
    pid = os.fork()
    if not pid:
        signal.alarm(100)
        os._exit(0 if result() else 1)
    pids.append(pid)
    time.sleep(0.01)
print(*[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
thread.join()
print(answers)
"""
RESULT = """
import os, signal, sys, threading, time, warnings
import numpy as np
import fastrnn
warnings.simplefilter("ignore")  # Python 3.12 warns of every fork beside a thread

def result():
    weight, x = np.arange(-7.0, 8.0).reshape(5, 3), np.arange(6.0).reshape(2, 3)
    return np.array_equal(fastrnn.Dense(weight)(x), x @ weight.T)
"""


@posix
def test_forks_while_another_thread_compiles(tmp_path):
    """Processes forked while another thread looks for machine code, imports the compiler, or has it compiled, answer their first call."""
    package = copy_package(tmp_path / "package")
    process = start(RESULT + COMPILES, **own_cache(tmp_path / "cache", package))
    watched(process)
    codes, answers = finish(process).splitlines()
    assert codes.split() == ["0"] * 40
    assert answers == "[True]"


IMPORTS = """
class Forking:
    "At every import a process is forked in another thread; it may have to wait until all are done."

    def find_spec(self, name, path=None, target=None):
        global count
        count += 1
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join(0.03)
        threads.append(thread)

def fork():
    pid = os.fork()
    if not pid:
        sys.meta_path.pop(0)  # else its own imports fork, and theirs: hundreds of processes
        signal.alarm(100)
        os._exit(0 if result() else 1)
    pids.append(pid)

pids, threads, count = [], [], 0
sys.meta_path.insert(0, Forking())
print(result())
sys.meta_path.pop(0)
for thread in threads:
    thread.join()
print({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids}, count > 3, len(pids) == count)
"""


@posix
@exhaustive
def test_forks_at_every_import(tmp_path):
    """Processes forked whenever the first call of a process that must compile imports a module answer their first call."""
    package = copy_package(tmp_path / "package")
    process = start(RESULT + IMPORTS, **own_cache(tmp_path / "cache", package))
    watched(process)
    assert finish(process).splitlines() == ["True", "{0} True True"]
