"""The compile options, and the target that kernels are compiled for: the one that Numba was started with, or
the one of another platform that this process was asked to compile for."""

import inspect

from numba import njit
from numba.core.registry import cpu_target

from . import layout

# All explicit: a function first compiled from a caller's @njit(fastmath=True) would inherit the caller's flags and then serve everyone.
# No wrappers: they are a third of the time, and nothing here is called through Numba's dispatch.
OPTIONS = {
    "nogil": True,
    "fastmath": False,
    "error_model": "numpy",
    "boundscheck": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

# A function is compiled on its own and once more into each that calls it, so one with a single caller is inlined.
function = njit(**OPTIONS)
inline = njit(inline="always", **OPTIONS)

_, _, NUMBAS_FEATURES = cpu_target.target_context.codegen().magic_tuple()
PLATFORM, FEATURES = layout.foreign or (layout.HERE, NUMBAS_FEATURES)
SHAPE = layout.shape_of(FEATURES, PLATFORM)
ROWS = SHAPE.rows
FULL, HALF, ONE = SHAPE.panels


def operation(*kinds):
    """Declare machine code of its own, called by address with arguments of these types.

    An operation that has one form for each dtype has one more argument, `like`: a pointer of that dtype, never read.
    """

    def declare(python_function):
        dispatcher = njit(**OPTIONS)(python_function)
        dispatcher.kinds, dispatcher.typed = kinds, "like" in inspect.signature(python_function).parameters
        return dispatcher

    return declare
