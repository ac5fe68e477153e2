"""The floating-point mode of a thread, read and written by instructions of x86-64."""

import contextlib
import ctypes
import functools

from fastrnn.kernels.layout import HERE
from fastrnn.native import linking

if HERE != ("linux", "x86_64"):
    raise ImportError("the mode is read and written by instructions of x86-64, which are put into memory as on Linux")

FLUSHING = 0x9FC0  # subnormal results and operands are zeros, as libraries built with -ffast-math have it
ROUNDING_DOWN = 0x3F80
MODES = {"flushing": FLUSHING, "rounding down": ROUNDING_DOWN}
CONTROL = 0xFFC0  # the other bits record what has happened


@functools.cache
def instruction(code):
    """A function that executes an instruction on a word in memory."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(linking.place_code(bytes.fromhex(code)))


def read():
    word = ctypes.c_uint32()
    instruction("0fae1fc3")(ctypes.addressof(word))  # stmxcsr [rdi]; ret
    return word.value & CONTROL


def write(mode):
    instruction("0fae17c3")(ctypes.addressof(ctypes.c_uint32(mode)))  # ldmxcsr [rdi]; ret


@contextlib.contextmanager
def in_mode(mode):
    before = read()
    write(mode)
    try:
        yield
        after = read()
    finally:
        write(before)
    assert after == mode & CONTROL
