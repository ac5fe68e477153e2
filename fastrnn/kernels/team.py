"""Threads that share one kernel's work: they meet at words in memory, so that nobody waits for the operating system to wake them.

The leader opens a gate for each piece of work, helpers come in, and the leader goes on alone where none does. Only who is inside the
gate touches the work; who waits outside gives up after a while, so a leader that never comes back leaves no thread behind.
"""

import os

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from .jit import function
from .tile import at, element

LINE = 8  # integers of a cache line: threads that write to one line wait for each other

# What a team shares: where its leader says what to do, the addresses of the caller's arrays, and of the bell that calls helpers to the
# next call, and words to meet at; of MET there is a line for each member.
PIECE, ARRAYS, BELL, GATE, NEXT, MEMBERS, APART, MET = 0, 10, 13, 2 * LINE, 3 * LINE, 4 * LINE, 5 * LINE, 6 * LINE
CLOSED = -1
# A gate is OPEN or not, counts the helpers inside, and has the number of its piece.
OPEN, HELPER, NUMBER = 1, 2, 1 << 16
MEETINGS = 1 << 32  # in a piece, at most

BRIEFLY = 100  # looks at a word before pauses between them
PATIENTLY = 4000  # looks before other threads are let run: 40 to 160 us of x86 pauses
LINGERING = 200_000  # looks, 2 to 8 ms, before a helper that has nothing to do goes to sleep
RELEASE = 800  # pauses, 8 to 30 us, until who rang the bell has given up Python's lock: a thread that must wait for it falls asleep
LONG = 1_000_000  # looks, a quarter of a second or more, before a helper outside the gate gives up

_YIELD = "SwitchToThread" if os.name == "nt" else "sched_yield"
_TRIPLE = cpu_target.target_context.codegen().magic_tuple()[0]


def _word(builder, team, index):
    return builder.gep(team, [index])


@intrinsic
def peek(typing, team, word):
    """Read a word, and so that all is seen which its writer wrote before."""
    return types.int64(team, types.intp), lambda context, builder, signature, args: builder.load_atomic(_word(builder, *args), "acquire", 8)


@intrinsic
def post(typing, team, word, value):
    """Write a word, and so that who reads it sees all that was written before."""

    def emit(context, builder, signature, args):
        builder.store_atomic(args[2], _word(builder, *args[:2]), "release", 8)
        return context.get_dummy_value()

    return types.void(team, types.intp, types.int64), emit


@intrinsic
def fetch_add(typing, team, word, value):
    """Add to a word, and give what it was."""

    def emit(context, builder, signature, args):
        return builder.atomic_rmw("add", _word(builder, *args[:2]), args[2], "acq_rel")

    return types.int64(team, types.intp, types.int64), emit


@intrinsic
def exchange(typing, team, word, expected, value):
    """Write a word where it is as expected, and tell whether it was."""

    def emit(context, builder, signature, args):
        return builder.extract_value(builder.cmpxchg(_word(builder, *args[:2]), args[2], args[3], "acq_rel", "monotonic"), 1)

    return types.boolean(team, types.intp, types.int64, types.int64), emit


def _emit_pause(builder):
    nothing = ir.FunctionType(ir.VoidType(), [])
    if _TRIPLE.startswith(("x86_64", "i686")):
        builder.call(cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])
    elif _TRIPLE.startswith(("aarch64", "arm64")):
        builder.asm(nothing, "isb", "", [], True)


@intrinsic
def pause(typing):
    """Wait a moment, and leave the processor to others that share it."""

    def emit(context, builder, signature, args):
        _emit_pause(builder)
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def look(typing, looks):
    """Before the next look at a word: at first nothing, then a pause, then let another thread run; and count."""

    def emit(context, builder, signature, args):
        def more_than(number):
            return builder.icmp_signed(">", args[0], context.get_constant(types.int64, number))

        with builder.if_else(more_than(PATIENTLY)) as (late, early):
            with late:
                builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), _YIELD), [])
            with early, builder.if_then(more_than(BRIEFLY)):
                _emit_pause(builder)
        return builder.add(args[0], context.get_constant(types.int64, 1))

    return types.int64(types.int64), emit


@function
def await_piece(team, last):
    """As a helper, wait for a piece after the last one, and give its number, or CLOSED."""
    looks = 0
    while looks < LONG:
        gate = peek(team, GATE)
        if gate == CLOSED:
            break
        if gate // NUMBER > last and gate % 2 == OPEN:
            return gate // NUMBER
        looks = look(looks)
    return CLOSED


@function
def linger(team, rung):
    """After a call, wait a little for the bell to be rung once more: a sleeping thread comes 0.1 to 1 ms later."""
    bell, looks = at(element(team, BELL), team), 0
    while peek(bell, 0) == rung:
        if looks > LINGERING:
            return
        looks += 1
        look(looks % PATIENTLY + 2)  # few of them let another thread run: each may take that thread's whole slice of 4 ms
    for _ in range(RELEASE):
        pause()


@function
def enter(team, number, helpers, by_steps, helping):
    """Begin a piece: give how many share out its steps, and which of them one is; CLOSED for a helper that came late."""
    looks, members, member = 0, 1, 0
    if helping:
        gate = peek(team, GATE)
        while not (gate // NUMBER == number and gate % 2 == OPEN and exchange(team, GATE, gate, gate + HELPER)):
            if gate // NUMBER != number or gate % 2 != OPEN:
                return 0, CLOSED
            gate = peek(team, GATE)
        if by_steps:
            while peek(team, MEMBERS) < number * NUMBER:
                looks = look(looks)
            members, member = peek(team, MEMBERS) % NUMBER, gate % NUMBER // HELPER + 1
    else:
        post(team, NEXT, 0)
        post(team, APART, (number + 1) * MEETINGS)
        post(team, GATE, number * NUMBER + OPEN)
        if by_steps:
            while looks < PATIENTLY and peek(team, GATE) % NUMBER // HELPER < helpers:
                looks = look(looks)
            members = fetch_add(team, GATE, -OPEN) % NUMBER // HELPER + 1
            post(team, MEMBERS, number * NUMBER + members)
    return members, member


@function
def meet(team, member, members, time):
    """Wait for all members, and give the time of the next meeting and how many members there will be, 0 to a helper that must leave.

    Where the leader had to wait for long, another process has a helper's processor: after the next meeting it works alone, or every
    step would take as long as the system lets that process run, 4 ms.
    """
    if members > 1:
        post(team, MET + member * LINE, time)
        looks = 0
        for other in range(members):
            while peek(team, MET + other * LINE) < time:
                looks = look(looks)
        if peek(team, APART) <= time:
            members = 0 if member else 1
        elif member == 0 and looks > PATIENTLY:
            post(team, APART, time + 1)
    return time + 1, members


@function
def leave(team, by_steps, helping):
    """End a piece; as the leader, wait until all helpers have."""
    if helping:
        fetch_add(team, GATE, -HELPER)
    else:
        if not by_steps:
            fetch_add(team, GATE, -OPEN)
        looks = 0
        while peek(team, GATE) % NUMBER:
            looks = look(looks)
