"""The processor's floating-point mode: how results are rounded, and whether subnormal numbers are flushed to zero.

Each thread has its own. Libraries built with -ffast-math switch flushing on in the thread that loads them, and a thread has from its
beginning the mode of the one that started it. The promised bits are those of the mode in which programs start, so every operation that
control enters by from outside switches to that one, and back in the end. The arithmetic is in other operations, called by address: the
compiler can't move it out from between.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .options import PLATFORM, function
from .records import WORD

X86, ARM = PLATFORM.machine == "x86_64", PLATFORM.is_arm
INT32, NOTHING = ir.IntType(32), ir.VoidType()
USUAL, FLAGS = (0x1F80, 0x3F) if X86 else (0, 0)  # MXCSR's bits 0 to 5 record what has happened; FPCR records nothing


def _call(builder, name, result, *arguments):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def read_mode(typing):
    """Return this thread's mode."""

    def emit(context, builder, signature, args):
        if X86:
            place = cgutils.alloca_once(builder, INT32)
            _call(builder, "llvm.x86.sse.stmxcsr", NOTHING, builder.bitcast(place, ir.IntType(8).as_pointer()))
            return builder.zext(builder.load(place), WORD)
        return _call(builder, "llvm.aarch64.get.fpcr", WORD) if ARM else WORD(USUAL)

    return types.int64(), emit


@intrinsic
def write_mode(typing, mode):
    """Set this thread's mode."""

    def emit(context, builder, signature, args):
        if X86:
            place = cgutils.alloca_once(builder, INT32)
            builder.store(builder.trunc(args[0], INT32), place)
            _call(builder, "llvm.x86.sse.ldmxcsr", NOTHING, builder.bitcast(place, ir.IntType(8).as_pointer()))
        elif ARM:
            _call(builder, "llvm.aarch64.set.fpcr", NOTHING, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), emit


@function
def is_usual(mode):
    return mode & ~FLAGS == USUAL


@function
def enter_usual_mode():
    """Switch to the mode in which programs start. Return the mode before, for `restore_mode`."""
    before = read_mode()
    if not is_usual(before):  # to set a mode takes longer than to read it
        write_mode(USUAL)
    return before


@function
def restore_mode(before):
    if not is_usual(before):
        write_mode(before)
