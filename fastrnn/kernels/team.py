"""Threads that share a piece of work. They wait for one another by spinning on words in memory: the system wakes a thread too late.

The thread that was called is the leader. It opens a gate for each piece of work; helpers come in while it is open. The leader never
waits for a helper that is not inside, and a helper outside touches nothing of the caller's.

    gate, as the leader moves it:  closed -> open for piece 1 -> shut -> all have left -> open for piece 2 -> ... -> closed for good
    a helper:                      waits for an open gate -> inside: works -> leaves -> waits ... -> lingers -> returns

In turn, every thread claims blocks of sequences and works on them alone. By steps, all threads share each step's columns and wait for
one another at a barrier. Where the leader waits long at a barrier, another program has a helper's processor: they part, and after the next
barrier the leader goes on alone.
"""

import os

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import FULL, SHAPE, TRIPLE, function, operation
from .layout import HEAD_BYTES, JOB_BYTES, LINE, MEETINGS, TEAM_JOB, TEAM_MEMBERS, WORTH_SHARING
from .network import JOB_SIZE, take_plan
from .records import ASSIST, CHUNK, JOB, LAYER, LEAD, TEAM, address_of, chunk_at, copy_bytes, invoke, invoke_one, job_at, team_at, word

WORDS = TEAM.fields.offsets
GATE, NEXT, MEMBERS, APART = (WORDS[name] for name in ("gate", "next", "members", "apart"))
CLOSED = -1
# A gate is OPEN or not, counts the helpers inside, and has the number of its piece.
OPEN, HELPER, NUMBER = 1, 2, 1 << 16

BRIEFLY = 100  # looks at a word before pauses between them
PATIENTLY = 4000  # looks before other threads are let run: 40 to 160 us of x86 pauses
LINGERING = 20_000  # looks, 0.2 to 0.8 ms, before a helper that has nothing to do goes to sleep
RELEASE = 800  # pauses, 8 to 30 us, until the thread that asks for help has given up Python's lock: who waits for that lock falls asleep
LONG = 1_000_000  # looks, a quarter of a second or more, before a helper outside the gate gives up

_YIELD = "SwitchToThread" if os.name == "nt" else "sched_yield"


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
    if TRIPLE.startswith(("x86_64", "i686")):
        builder.call(cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])
    elif TRIPLE.startswith(("aarch64", "arm64")):
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
    """As a helper, wait for an open gate of a piece after the last one, and give its number, or CLOSED."""
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
def come_in(team, number):
    """As a helper, go through the gate of a piece: give how many were inside, or CLOSED where the gate is open no more."""
    gate = peek(team, GATE)
    while gate // NUMBER == number and gate % 2 == OPEN:
        if exchange(team, GATE, gate, gate + HELPER):
            return gate % NUMBER // HELPER
        gate = peek(team, GATE)
    return CLOSED


@function
def linger(team, rung):
    """After a call, wait a little for the bell to ring again: a sleeping thread comes 0.1 to 1 ms later."""
    bell, looks = team_at(team.bell), 0
    while peek(bell, 0) == rung:
        if looks > LINGERING:
            return
        looks += 1
        look(looks % PATIENTLY + 2)  # few of them let another thread run: each may take that thread's whole slice of 4 ms
    for _ in range(RELEASE):
        pause()


@function
def open_gate(team, job, chunk):
    """As the leader, begin a piece. By steps, wait a little for helpers, then shut the gate: who is inside is a member."""
    number, looks = job.number, 0
    post(team, NEXT, 0)
    post(team, APART, (number + 1) * MEETINGS)
    post(team, GATE, number * NUMBER + OPEN)
    if job.share:
        while looks < PATIENTLY and peek(team, GATE) % NUMBER // HELPER < team.helpers:
            looks = look(looks)
        chunk.members = fetch_add(team, GATE, -OPEN) % NUMBER // HELPER + 1
        post(team, MEMBERS, number * NUMBER + chunk.members)


@function
def wait_until_left(team, job):
    """As the leader, end a piece: shut the gate, and wait until all helpers are outside."""
    looks = 0
    if not job.share:
        fetch_add(team, GATE, -OPEN)
    while peek(team, GATE) % NUMBER:
        looks = look(looks)


@function
def wait_for_all(job, chunk):
    """The barrier. Afterwards members is how many there are for the next one, 0 for a helper that must leave."""
    members, time = chunk.members, chunk.time
    if members > 1:
        team, looks = team_at(job.team), 0
        post(team, TEAM_MEMBERS + chunk.member * LINE, time)
        for other in range(members):
            while peek(team, TEAM_MEMBERS + other * LINE) < time:
                looks = look(looks)
        if peek(team, APART) <= time:
            chunk.members = 0 if chunk.member else 1
        elif chunk.member == 0 and looks > PATIENTLY:
            post(team, APART, time + 1)
    chunk.time = time + 1


@operation(LAYER, JOB, CHUNK)
def meet(layer, job, chunk):
    wait_for_all(job, chunk)


@operation(LAYER, JOB, CHUNK)
def claim(layer, job, chunk):
    chunk.n = fetch_add(team_at(job.team), NEXT, job.block)


@function
def own_columns(layer, job, chunk):
    """Choose this member's columns: whole panels of them."""
    panel = FULL * (SHAPE.bits // 8 // job.itemsize)
    panels = (layer.columns + panel - 1) // panel
    chunk.left = panels * chunk.member // chunk.members * panel
    chunk.right = min(panels * (chunk.member + 1) // chunk.members * panel, layer.columns)


@operation(LAYER, JOB, CHUNK)
def share(layer, job, chunk):
    # all members share each step's columns; a layer that is too small is the leader's alone
    wait_for_all(job, chunk)  # every member has projected its steps
    if chunk.members < 2 or chunk.together * layer.gates * layer.columns * layer.output_size < WORTH_SHARING:
        if chunk.member == 0:
            chunk.at, chunk.steps, chunk.left, chunk.right = 0, chunk.span, 0, layer.columns
            chunk.phase, chunk.phases = 0, layer.phases
            invoke(layer.recur, layer, job, chunk)
        wait_for_all(job, chunk)
        return
    chunk.steps = 1
    for t in range(chunk.span):
        for phase in range(layer.phases):
            own_columns(layer, job, chunk)
            chunk.at, chunk.phase, chunk.phases = t, phase, phase + 1
            if chunk.left < chunk.right:
                invoke(layer.recur, layer, job, chunk)
            wait_for_all(job, chunk)
            if chunk.members == 0:
                return


@operation(LEAD)
def lead(call):
    job, chunk = take_plan(call.plan, call.space, call.x, call.out, call.states)
    team = team_at(call.team)
    job.team, chunk.time = call.team, job.number * MEETINGS + 1
    copy_bytes(call.space, call.team + 8 * TEAM_JOB, JOB_SIZE)
    open_gate(team, job, chunk)
    invoke_one(job.run, job)
    wait_until_left(team, job)


@function
def work_inside(team, job, chunk, before):
    """As a helper inside the gate, take part in a piece."""
    looks, rows = 0, address_of(job) + HEAD_BYTES
    copy_bytes(address_of(team) + 8 * TEAM_JOB, address_of(job), JOB_SIZE)
    chunk.member, chunk.members, chunk.time = 0, 1, job.number * MEETINGS + 1
    if job.share:
        while peek(team, MEMBERS) < job.number * NUMBER:
            looks = look(looks)
        chunk.member, chunk.members = before + 1, peek(team, MEMBERS) % NUMBER
    else:
        job.rows = rows
    invoke_one(job.run, job)


@operation(ASSIST)
def assist(call):
    # works on every piece of a call that another thread leads
    team, job, chunk, number = team_at(call.team), job_at(call.space), chunk_at(call.space + JOB_BYTES), 0
    while True:
        number = await_piece(team, number)
        if number == CLOSED:
            break
        before = come_in(team, number)
        if before != CLOSED:
            work_inside(team, job, chunk, before)
            fetch_add(team, GATE, -HELPER)
    linger(team, word(call.rung, 0))
