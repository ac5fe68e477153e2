"""What a worker thread does. It runs no Python: it neither needs Python's lock nor keeps a process from ending.

looks at all gates --- one is open ---> inside: works on the piece ---> leaves ---> looks
looks at all gates --- all shut for about 1 ms ---> sleeps ---> a leader has opened a gate and wakes all ---> looks
"""

from ..float_mode import enter_usual_mode
from ..layout import BARRIERS, JOB_BYTES, PATIENT_SPINS, POOL, TEAM_BYTES, TEAM_JOB, TEAMS
from ..network import JOB_SIZE
from ..options import function, operation
from ..records import WORKER, chunk_at, copy_bytes, invoke_one, job_at, pool_at, put_word, team_at, word
from .atomic import add, exchange, look, peek
from .system import allocate, lock, release, unlock, wait
from .team import GATE, MEMBERS, NUMBER, OPEN
from .team import WORKER as ONE

OPENED, LOOKERS, SLEEPERS = (POOL.offsets[name] for name in ("opened", "lookers", "sleepers"))
SPINNING = 1000  # looks, 10 to 40 us, before a worker that has nothing to do sleeps for moments between looks
# Looks before it sleeps until it is woken: 20 moments, about 1 ms. A spinning worker costs the program's next threads a tick of 4 ms,
# where the system puts one on its processor: NumPy's product after a call took 1.33 times as long, now 1.10.
LINGERING = SPINNING + 20


@function
def come_in(team, done):
    """Enter through an open gate. Return how many workers were inside before, or -1 where it is shut or enough are inside.

    A worker enters each piece only once: when it leaves, nothing is left to do.
    """
    gate = peek(team, GATE)
    while gate % 2 == OPEN and gate // NUMBER != done and gate % NUMBER // ONE < team.workers:
        if exchange(team, GATE, gate, gate + ONE):
            return gate % NUMBER // ONE
        gate = peek(team, GATE)
    return -1


@function
def has_room(worker, size):
    """Allocate memory for rows of `size` bytes, if this worker has less. Return whether it has enough."""
    if worker.size < size:
        release(worker.memory)
        worker.memory, worker.size = allocate(size + 64), size
    if worker.memory == 0:
        worker.size = 0
    return worker.memory != 0


@function
def take_part(team, worker, before):
    """Work on a piece, inside the gate. The leader doesn't change the job until this worker has left."""
    looks = 0
    copy_bytes(team.address + 8 * TEAM_JOB, worker.head, JOB_SIZE)
    job, chunk = job_at(worker.head), chunk_at(worker.head + JOB_BYTES)
    chunk.member, chunk.members, chunk.generation = 0, 1, job.number * BARRIERS + 1
    if job.share:  # in the leader's rows
        while peek(team, MEMBERS) < job.number * NUMBER:
            looks = look(looks)
        chunk.member, chunk.members = before + 1, peek(team, MEMBERS) % NUMBER
        invoke_one(job.run, job)
    elif has_room(worker, team.space):
        job.rows = (worker.memory + 63) // 64 * 64
        invoke_one(job.run, job)


@function
def look_around(pool, worker):
    """Work on every piece whose gate is open. Return whether there was one."""
    found = False
    for i in range(TEAMS):
        team = team_at(pool.teams + i * TEAM_BYTES)
        before = come_in(team, word(worker.done, i))
        if before >= 0:
            take_part(team, worker, before)
            put_word(worker.done, i, job_at(worker.head).number)
            add(team, GATE, -ONE)
            found = True
    return found


@function
def sleep(pool, worker):
    """Sleep until a leader wakes all workers.

    A leader wakes only workers that it sees asleep. So this worker counts itself as a sleeper first, and then looks at all gates once more:
    a gate that was opened in between is not missed.
    """
    lock(pool)
    wakes = pool.wakes
    add(pool, SLEEPERS, 1)
    unlock(pool)
    if not look_around(pool, worker):
        lock(pool)
        while pool.wakes == wakes:
            wait(pool)
        unlock(pool)
    add(pool, SLEEPERS, -1)


@operation(WORKER)
def work(worker):
    enter_usual_mode()  # a thread has the mode of the one that started it
    pool, looks, seen = pool_at(worker.pool), 0, 0
    add(pool, LOOKERS, 1)
    while True:
        opened = peek(pool, OPENED)
        if opened != seen:
            if looks >= SPINNING:
                add(pool, LOOKERS, 1)
            while look_around(pool, worker):
                pass
            seen, looks = opened, 0
        if looks > LINGERING:
            sleep(pool, worker)
            add(pool, LOOKERS, 1)
            looks = 0
        looks += 1
        if looks == SPINNING:
            add(pool, LOOKERS, -1)
        look(PATIENT_SPINS if looks < SPINNING else PATIENT_SPINS + 1)
