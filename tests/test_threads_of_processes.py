"""Threads in processes that fork, are spawned, or end."""

import multiprocessing
import os

import numpy as np
import pytest

from fastrnn.engine import threads

from .process import start
from .sharing import PLAIN, alone, assert_same


def ended(script, **environment):
    """What a script prints; it must end by itself within a minute, without an error."""
    process = start(SETUP + script, **{**dict.fromkeys(threads.OTHER_VARIABLES), "FASTRNN_NUM_THREADS": 2, **environment})
    try:
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (errors, process.returncode) == ("", 0)
    return printed.split()


SETUP = """
import atexit, multiprocessing, os, threading, time, warnings
import numpy as np
import fastrnn
from tests.cases import Case

model = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (5, 300, 4)).layer(np.float32)
batch, long = np.ones((64, 5, 5), np.float32), np.ones((400, 5), np.float32)

def call():
    return [output.tobytes() for output in (model(batch)[0], model(long)[0])]

def check():
    print(call() == alone, flush=True)
"""
ALONE = """
fastrnn.set_num_threads(1)
alone = call()
fastrnn.set_num_threads(2)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process can't be kept to a processor there")
def test_affinity():
    """The processors that a process is kept to count, not the machine's."""
    script = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(fastrnn.get_num_threads())"
    assert ended(script, FASTRNN_NUM_THREADS=None) == ["1"]


FORK = """
check()
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # by Python 3.12 and later: so it is
def child():
    assert fastrnn.engine.threads.pool.started == 0
    check()
    assert fastrnn.engine.threads.pool.started == 1
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
print(process.exitcode)
if os.fork() == 0:
    child()
    os._exit(0)
print(os.wait()[1])
check()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork there")
def test_fork():
    """A forked process starts threads of its own."""
    assert ended(ALONE + FORK) == ["True", "True", "0", "True", "0", "True"]


def workers_started():
    return threads.pool.started


def test_spawn(unset, monkeypatch):
    """A spawned process has threads as any other, and the same bits."""
    model, (x, _) = PLAIN.layer(np.float32), PLAIN.data(np.float32, (64,), 100)
    monkeypatch.setenv("FASTRNN_NUM_THREADS", "3")
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        assert_same(workers.apply(model, (x,)), alone(model, x))
        assert workers.apply(workers_started) == 2
        workers.close()
        workers.join()


LATE_SPINS = "threading.Thread(target=lambda: (threading.main_thread().join(), time.sleep(0.1), check())).start()"
ENDS = {"in an exit handler": "atexit.register(check)", "in a thread that outlives the main one": LATE_SPINS}


@pytest.mark.parametrize("first", ["", "check()\n"], ids=["the first call", "a later call"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_interpreter_shutdown(end, first):
    """A call while the interpreter shuts down, when no thread can be started, is right; the process ends."""
    assert ended(ALONE + first + end) == ["True"] * (2 if first else 1)


DAEMON = """
def forever():
    while True:
        call()

for _ in range(2):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.2)
check()
"""


def test_daemon_threads():
    """Threads that go on calling while the process ends hold nothing up."""
    assert ended(ALONE + DAEMON) == ["True"]
