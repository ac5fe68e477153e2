"""Calls while Python shuts down: from an exit handler, and from `__del__` when modules are gone."""

import pytest

from .exhaustive import exhaustive
from .process import copy_package, finish_with_errors, own_cache, start

# Output goes through os.write: sys.stdout may be gone. A sum goes through a ufunc: array.sum() imports a module at its first use.
SCRIPT = """
import atexit, importlib, os, sys
import numpy as np
import fastrnn

total, keep, loaded, *names = np.add.reduce, *sys.argv[1:]
x, token = np.ones((256, 100, 32)), np.array([1, 2, 3])
rnn = fastrnn.RNN(np.ones((64, 32)) / 99, np.ones((64, 64)) / 99)
layers = fastrnn.RNN(np.ones((3, 4)), np.ones((3, 3))), fastrnn.Dense(np.eye(4, 3), activation="softmax")
model, teller = fastrnn.Sequential(*layers), fastrnn.Sequential(fastrnn.Embedding.one_hot(4), *layers)
weights = [np.full(shape, 0.01) for shape in ((64, 32), (64, 64), (5, 64), (64,))]
streams = [teller.stream()] if loaded != "nothing" else []

CALLS = {
    "large": lambda: rnn(x)[0],
    "small": lambda: rnn(x[0, :3])[0],
    "lengths": lambda: rnn(x, lengths=np.arange(256) % 100)[0],
    "last": lambda: rnn(x, return_sequences=False)[0],
    "list": lambda: rnn([[1.0] * 32])[0],
    "new": lambda: fastrnn.Dense(np.eye(4, 3))(np.ones((5, 3))),
    "once": lambda: fastrnn.rnn_forward(x[0], *weights),
    "once large": lambda: fastrnn.rnn_forward(x, *weights),
    "token step": lambda: (streams[0] if streams else teller.stream()).step(1),
    "vector step": lambda: model.stream().step(np.ones(4)),
    "chunk": lambda: (streams[0] if streams else teller.stream())(token),
    "argmax": lambda: fastrnn.generate(teller, 0, 5, feedback="argmax")[0],
    "sample": lambda: fastrnn.generate(teller, 0, 5, rng=1)[0],
    "score": lambda: np.atleast_1d(fastrnn.log_likelihood(teller, token)),
    "pad": lambda: fastrnn.pad([[1, 2], [3]])[0],
}
CALLS = {name: CALLS[name] for name in names or CALLS}
expected = {}
if loaded == "all":
    for name, call in CALLS.items():
        streams[:] = [teller.stream()]
        expected[name] = call().copy()
    streams[:] = [teller.stream()]

class Keeper:
    def __del__(self, write=os.write, calls=CALLS, streams=streams, stream=teller.stream, expected=expected, BaseException=BaseException):
        for name, call in calls.items():
            try:
                result = call()
                if streams:
                    streams[:] = [stream()]
                right = name not in expected or (result == expected[name]).tolist() == (expected[name] == expected[name]).tolist()
                said = "right" if right else "wrong"
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            write(1, f"{name}: {said}\\n".encode())

if keep == "atexit":
    atexit.register(Keeper().__del__)
elif keep == "global":
    keeper = Keeper()
else:
    importlib.import_module(keep).keeper = Keeper()
"""
NAMES = ("large", "small", "lengths", "last", "list", "new", "once", "once large", "token step", "vector step", "chunk", "argmax")
NAMES += ("sample", "score", "pad")
LATE = "fastrnn can't make machine code while Python shuts down; make it before: python -m fastrnn compile"
UNDRAWN = "rng needs numpy.random, which can't be imported while Python shuts down; use it once before"


def said(keep, loaded, *names, **options):
    """What each call gave, by its name; nothing is left to the standard error."""
    printed, errors = finish_with_errors(start(SCRIPT, keep, loaded, *names, **options))
    assert errors.replace("\n", "") in ("", "Exception ignored in sys.unraisablehook")
    return dict(line.split(": ", 1) for line in dict.fromkeys(printed.splitlines()))


@pytest.mark.parametrize("keep", ["atexit", "global"])
def test_calls_after_the_first(keep):
    """Every kind of call that has been made before gives the same result in an exit handler, and in __del__ when modules are gone."""
    assert said(keep, "all") == dict.fromkeys(NAMES, "right")


def test_first_calls():
    """A first call in __del__ loads its machine code from the cache; only what NumPy itself imports late can't be had."""
    said("atexit", "some")  # makes machine code
    assert said("global", "nothing") == dict.fromkeys(NAMES, "right") | {"sample": f"RuntimeError: {UNDRAWN}"}


@pytest.mark.parametrize(
    "keep",
    ["os", "threading", "ctypes", "numpy", "fastrnn.native.linking", "fastrnn.native.machine_code", "fastrnn.engine.threads"],
)
def test_modules_that_are_torn_down(keep):
    """Where a module's names have become None, a call gives the right result or an exception, and ends neither the process nor hangs."""
    for name, result in said(keep, "all").items():
        assert name in NAMES
        assert result == "right" or result.startswith(("AttributeError: ", "TypeError: ")), (name, result)


def test_nothing_to_load(tmp_path):
    """Machine code that would have to be compiled is a clear error in __del__."""
    options = own_cache(tmp_path / "cache", copy_package(tmp_path / "copy"))
    assert said("global", "nothing", "small", **options) == {"small": f"RuntimeError: {LATE}"}


@exhaustive
def test_an_exit_handler_may_compile(tmp_path):
    """An exit handler may still compile, and what it has made is loaded in __del__."""
    options = own_cache(tmp_path / "cache", copy_package(tmp_path / "copy"))
    assert said("atexit", "nothing", "small", **options) == {"small": "right"}
    assert said("global", "nothing", "small", **options) == {"small": "right"}


GONE = """
import os, sys
import fastrnn
from fastrnn.native import machine_code
fastrnn.Dense([[1.0]])([[1.0]])

class Last:
    def __init__(self):
        self.call, self.write = machine_code.loaded.call, os.write

    def __del__(self, TypeError=TypeError):
        try:
            self.call()
        except TypeError as error:
            self.write(1, str(error).encode())

sys.last = Last()  # sys goes after all other modules
"""


def test_when_all_modules_are_gone():
    """What runs machine code outlives every module: memory given back is filled with other bytes here."""
    printed, errors = finish_with_errors(start(GONE, PYTHONMALLOC="debug"))
    assert (printed, errors) == ("call takes from 1 to 12 arrays, got 0", "")
