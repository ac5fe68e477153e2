"""Threads that share a piece of work. They wait by spinning on words in memory, because the system takes too long to wake a thread.

The calling thread is the leader of a team. It opens a gate for each piece of work, and workers enter while the gate is open. The leader
never waits for a worker that has not entered, and a worker outside the gate touches no memory of the caller's.

    a gate:    shut -> open, for piece n -> shut -> all have left -> open, for piece n + 1 -> ...
    a worker:  see workers.py

There are two ways to share. In turn: every thread claims blocks of sequences, and works on a block alone. By steps: all threads share the
columns of each step, and wait for one another at a barrier after it.

The barrier has no word of its own. Each member has a line with a generation counter: the number of the barrier that it has reached, which
only grows, from piece to piece, too. A member writes its own counter, and then spins until no member's counter is lower. So nobody resets
anything, and a thread that is late by one barrier can't take it for the next. All members reach the same barriers in the same order.

A leader that waits long at a barrier takes it that a worker is preempted by another program. It writes into `split_at` the number of the
next barrier. After that barrier every worker leaves, and the leader finishes the piece alone.
"""

from ..float_mode import enter_usual_mode, restore_mode
from ..layout import BACKOFF_CALLS, BARRIERS, LATE_SPINS, LINE, PATIENT_SPINS, POOL, PROMPT_SPINS, TEAM, TEAM_JOB, TEAM_MEMBERS
from ..network import JOB_SIZE, take_job
from ..options import FULL, ROWS, SHAPE, function, operation
from ..records import CHUNK, JOB, LAYER, RUN_SHARED, address_of, copy_bytes, invoke, invoke_one, pool_at, team_at
from .atomic import add, look, peek, post
from .system import wake_all

GATE, NEXT, MEMBERS, SPLIT_AT = (TEAM.offsets[name] for name in ("gate", "next", "members", "split_at"))
OPENED, LOOKERS, BUSY, SLEEPERS = (POOL.offsets[name] for name in ("opened", "lookers", "busy", "sleepers"))
# A gate is OPEN or not, counts the workers inside, and has the number of its piece.
OPEN, WORKER, NUMBER = 1, 2, 1 << 16


@function
def open_gate(team, job, chunk):
    """Open the gate for a piece. By steps, wait a little for workers, then shut it: the workers inside are the members."""
    number, looks, pool = job.number, 0, pool_at(team.pool)
    if team.workers != job.helpers or team.space != job.room:  # what isn't written stays in the workers' caches
        team.workers, team.space = job.helpers, job.room
    post(team, NEXT, 0)
    post(team, SPLIT_AT, (number + 1) * BARRIERS)
    add(team, GATE, number * NUMBER + OPEN - peek(team, GATE))
    add(pool, OPENED, 1)
    if add(pool, SLEEPERS, 0):
        wake_all(pool)
    if job.share:
        while looks < job.patience and peek(team, GATE) % NUMBER // WORKER < team.workers:
            looks = look(looks)
        chunk.members = add(team, GATE, -OPEN) % NUMBER // WORKER + 1
        post(team, MEMBERS, number * NUMBER + chunk.members)
        if chunk.members == 1 and peek(pool, LOOKERS):  # a worker spins, but is preempted, or works for another leader
            post(pool, BUSY, BACKOFF_CALLS)


@function
def wait_until_left(team, job):
    """End a piece: shut the gate, and wait until all workers have left."""
    looks = 0
    if not job.share:
        add(team, GATE, -OPEN)
    while peek(team, GATE) % NUMBER:
        looks = look(looks)
    if looks > LATE_SPINS and job.patience == PROMPT_SPINS:
        post(pool_at(team.pool), BUSY, BACKOFF_CALLS)


@function
def wait_at_barrier(job, chunk):
    """Wait at the barrier. Afterwards `members` is the number of threads that go on to the next one; a worker that reads 0 leaves."""
    members, time = chunk.members, chunk.generation
    if members > 1:
        team, looks = team_at(job.team), 0
        post(team, TEAM_MEMBERS + chunk.member * LINE, time)
        for other in range(members):
            while peek(team, TEAM_MEMBERS + other * LINE) < time:
                looks = look(looks)
        if peek(team, SPLIT_AT) <= time:
            chunk.members = 0 if chunk.member else 1
        elif chunk.member == 0 and looks > PATIENT_SPINS:
            post(team, SPLIT_AT, time + 1)
            post(pool_at(team.pool), BUSY, BACKOFF_CALLS)
    chunk.generation = time + 1


@operation(LAYER, JOB, CHUNK)
def barrier(layer, job, chunk):
    wait_at_barrier(job, chunk)


@operation(LAYER, JOB, CHUNK)
def claim(layer, job, chunk):
    chunk.n = add(team_at(job.team), NEXT, job.block)


@function
def is_shared(layer, chunk):
    """Return whether all members share each step's columns. The leader runs a layer alone that is too small for that."""
    return chunk.members > 1 and chunk.together >= layer.shared_from


@function
def share_columns(layer, job, chunk):
    """Choose this member's columns: whole panels of them."""
    panel = FULL * (SHAPE.bits // 8 // job.itemsize)
    panels = (layer.columns + panel - 1) // panel
    chunk.left = panels * chunk.member // chunk.members * panel
    chunk.right = min(panels * (chunk.member + 1) // chunk.members * panel, layer.columns)


@operation(LAYER, JOB, CHUNK)
def divide(layer, job, chunk):
    # steps that are too few for more than one thread are projected by all, each its columns
    if chunk.span <= max(1, ROWS // chunk.together) and is_shared(layer, chunk):
        chunk.first_step, chunk.own_steps = 0, chunk.span
        share_columns(layer, job, chunk)


@operation(LAYER, JOB, CHUNK)
def share(layer, job, chunk):
    wait_at_barrier(job, chunk)  # the input is projected, and the state is there
    if not is_shared(layer, chunk):
        if chunk.member == 0:
            chunk.at, chunk.steps, chunk.left, chunk.right = 0, chunk.span, 0, layer.columns
            chunk.phase, chunk.phases = 0, layer.phases
            invoke(layer.recur, layer, job, chunk)
        wait_at_barrier(job, chunk)
        return
    chunk.steps = 1
    members = 0
    for t in range(chunk.span):
        for phase in range(layer.phases):
            if chunk.members != members:
                share_columns(layer, job, chunk)
                members = chunk.members
            chunk.at, chunk.phase, chunk.phases = t, phase, phase + 1
            if chunk.left < chunk.right:
                invoke(layer.recur, layer, job, chunk)
            wait_at_barrier(job, chunk)
            if chunk.members == 0:
                return


@function
def run_with_help(job, chunk, address):
    """Run a piece of work with the team at an address."""
    team = team_at(address)
    team.number += 1  # of pieces since this team was made: a worker that comes late never takes a piece for another
    job.team, job.number = address, team.number
    chunk.generation = job.number * BARRIERS + 1
    copy_bytes(address_of(job), address + 8 * TEAM_JOB, JOB_SIZE)
    open_gate(team, job, chunk)
    invoke_one(job.run, job)
    wait_until_left(team, job)


@operation(RUN_SHARED)
def run_shared(call):
    mode = enter_usual_mode()
    job, chunk = take_job(call.job, call.space, call.x, call.out, call.states)
    run_with_help(job, chunk, call.team)
    restore_mode(mode)
