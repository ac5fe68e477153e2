"""Words in memory that threads share, and how a thread waits for one to change."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..layout import PATIENT_SPINS
from ..options import PLATFORM

BRIEFLY = 100  # reads of a word before a waiting thread pauses between reads
INT32 = ir.IntType(32)


def _word(builder, team, index):
    return builder.gep(team, [index])


@intrinsic
def peek(typing, team, word):
    """Read a word. Whatever its writer wrote before it is visible afterwards (acquire)."""
    return types.int64(team, types.intp), lambda context, builder, signature, args: builder.load_atomic(_word(builder, *args), "seq_cst", 8)


@intrinsic
def post(typing, team, word, value):
    """Write a word. A thread that reads it then sees whatever was written before it (release)."""

    def emit(context, builder, signature, args):
        builder.store_atomic(args[2], _word(builder, *args[:2]), "release", 8)
        return context.get_dummy_value()

    return types.void(team, types.intp, types.int64), emit


@intrinsic
def add(typing, team, word, value):
    """Add to a word. Return its value before."""

    def emit(context, builder, signature, args):
        return builder.atomic_rmw("add", _word(builder, *args[:2]), args[2], "seq_cst")

    return types.int64(team, types.intp, types.int64), emit


@intrinsic
def exchange(typing, team, word, expected, value):
    """Write a word if it has the expected value. Return whether it had."""

    def emit(context, builder, signature, args):
        return builder.extract_value(builder.cmpxchg(_word(builder, *args[:2]), args[2], args[3], "seq_cst", "monotonic"), 1)

    return types.boolean(team, types.intp, types.int64, types.int64), emit


def _emit_call(builder, name, result, *arguments):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _emit_pause(builder):
    if PLATFORM.machine == "x86_64":
        _emit_call(builder, "llvm.x86.sse2.pause", ir.VoidType())
    elif PLATFORM.is_arm:  # no inline assembly: LLVM ends the process where it has no parser for it
        _emit_call(builder, "llvm.aarch64.isb", ir.VoidType(), INT32(15))  # 15: the whole system, the only kind there is


@intrinsic
def look(typing, looks):
    """Before the next look at a word: at first nothing, then a pause, then a short sleep; and count.

    A thread waits so long only where the other one has lost its processor, perhaps to this one, and a yield may not give it back.
    """

    def emit(context, builder, signature, args):
        def more_than(number):
            return builder.icmp_signed(">", args[0], context.get_constant(types.int64, number))

        with builder.if_else(more_than(PATIENT_SPINS)) as (late, early):
            with late:
                if PLATFORM.is_windows:
                    _emit_call(builder, "Sleep", ir.VoidType(), INT32(1))  # milliseconds
                else:
                    _emit_call(builder, "usleep", INT32, INT32(1))  # microseconds, and the 50 that Linux adds
            with early, builder.if_then(more_than(BRIEFLY)):
                _emit_pause(builder)
        return builder.add(args[0], context.get_constant(types.int64, 1))

    return types.int64(types.int64), emit
