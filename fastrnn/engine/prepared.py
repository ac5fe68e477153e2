"""Prepared kernel calls: their records are made once for data of a shape, and used again for the next data of that shape."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arguments import Array
from ..kernels.layout import CALL_SPEC, HEAD_BYTES, JOB, JOB_SIZES, MATRIX, PATIENT_SPINS, PROMPT_SPINS, TOGETHER, job_sizes
from ..native import machine_code
from . import threads
from .packing import ALIGNMENT, WORKSPACE, Network, empty_aligned
from .plan import Help, help_for, is_short, side_by_side

NOTHING = np.empty(0)
NO_WORDS = np.empty(0, np.int64)
SPACE = HEAD_BYTES + 2 * WORKSPACE  # bytes
MOST_IDLE = 16  # unused workspaces that are not freed
# Multiplications, some 2 us: a call with no more does not release Python's global lock. Releasing it and taking it again costs 0.06 us, and
# gains other threads nothing, for Python switches threads every 5 ms.
BRIEF = 1 << 15

idle: list[Array] = []  # workspaces that no call uses; a kernel call leaves nothing in them that is read later


def take_space(size: int) -> Array:
    """Return a workspace of at least `size` bytes."""
    if size <= SPACE:
        try:
            return idle.pop()
        except IndexError:
            size = SPACE
    return empty_aligned(size, np.uint8)


def give_back(space: Array) -> None:
    if len(space) == SPACE and len(idle) < MOST_IDLE:
        idle.append(space)


class PreparedCall(NamedTuple):
    """A kernel call for data of a known shape."""

    serial: Array  # the record of the call on one thread
    shared: Array | None  # the record of the call with workers; None if they are not worth it
    help: Help
    thread_count: int  # threads that calls could use when this one was prepared; 0 if workers are never worth it

    @property
    def is_stale(self) -> bool:
        return self.thread_count not in (0, threads.get_num_threads())

    def take_team(self) -> threads.Team | None:
        """Take a team if workers are worth it and at hand, else return None."""
        if self.shared is None or (self.help.prompt and not threads.pool.is_at_hand()):
            return None
        return threads.pool.take(self.help.workers)


def prepare(
    network: Network, leading: tuple[int, ...], time: tuple[int, ...], rows: int, operation: str = "", extra: Array = NO_WORDS
) -> PreparedCall | None:
    """Return one prepared kernel call for sequences on leading axes. None if one kernel call is not enough.

    `time` is (T,), or () for a single step whose arrays have no time axis. `operation` runs instead of the usual one, unless it is "".
    `extra` are words for it that follow the job.
    """
    count, sequences, steps = threads.get_num_threads(), math.prod(leading), math.prod(time)
    helping = help_for(network, sequences, steps, count)
    if helping is None:
        return None
    own = job_for(network, sequences, steps, rows, 1, function=machine_code.address(operation or "run_serial"))
    serial, shared = record_of(network, leading, time, own, extra), None
    if helping.workers:
        operations = {"function": operation or "run_shared", **sharing(helping.by_steps)}
        addresses = machine_code.all_addresses(tuple(operations.values()), network.dtype.char)
        fields = {field: addresses[name] for field, name in operations.items()}
        patience = PROMPT_SPINS if helping.prompt else PATIENT_SPINS
        fields |= helpers(helping.workers, rows * network.widest * network.dtype.itemsize, patience)
        own = job_for(network, sequences, steps, rows, 1 if helping.by_steps else helping.workers + 1, **fields)
        shared = record_of(network, leading, time, own, extra)
    return PreparedCall(serial, shared, helping, count if helping.ever else 0)


def job_for(network: Network, sequences: int, steps: int, rows: int, takers: int, **values: int) -> Array:
    """Return the job that runs all steps of all sequences in one kernel call, on `takers` threads that each claim sequences."""
    block = side_by_side(sequences, rows, takers)
    sizes = job_sizes(steps, sequences, network.inputs, network.output_size, block, rows, network.widest)
    return network.job(**dict(zip(JOB_SIZES, sizes, strict=True)), **values)


def record_of(network: Network, leading: tuple[int, ...], time: tuple[int, ...], job: Array, extra: Array) -> Array:
    """Return a record for the built-ins: the shapes of x, the output and the states, which they check, and then the job."""
    shape = (*leading, *time) if network.tokens else (*leading, *time, network.input_size)
    output, states = (*leading, *time, network.output_size), [(*leading, units) for units in network.states]
    sequences, itemsize = math.prod(leading), network.dtype.itemsize
    sizes = [*shape, *output, *[size for one in states for size in one]]
    words = np.concatenate([np.zeros(CALL_SPEC.words, np.int64), np.array(sizes, np.int64), job, extra])
    CALL_SPEC.fill(
        words,
        job=machine_code.address_of(words[CALL_SPEC.words + len(sizes) :]),
        dtype=id(network.dtype),  # NumPy's usual object; an unpickled array has another, see `readable`
        x_dtype=id(network.x_dtype),
        vocabulary=network.input_size if network.tokens else 0,
        x_dimensions=len(shape),
        dimensions=len(output),
        states=len(states),
        brief=math.prod(output[:-1]) * network.read <= BRIEF,
        sequences=sequences,
        elements=sequences * sum(network.states),
        x_bytes=math.prod(shape) * network.x_dtype.itemsize,
        out_bytes=math.prod(output) * itemsize,
        unit_bytes=sequences * itemsize,
    )
    return words


def helpers(workers: int, size: int, patience: int = PATIENT_SPINS) -> dict[str, int]:
    """Return a job's fields on workers. `size` is the bytes of a layer's rows; `patience` is how often the leader looks for workers."""
    return {"helpers": workers, "room": 2 * size, "patience": patience}


def sharing(by_steps: bool) -> dict[str, str]:
    """Return the operations by which threads share work, by field of the job."""
    return {"barrier": "barrier", "divide": "divide", "share": "share"} if by_steps else {"claim": "claim"}


def run_job(prepared: PreparedCall, space: Array, *arrays: Array) -> None:
    """Make a prepared call with arrays that are already checked."""
    team = prepared.take_team()
    if team is None or prepared.shared is None:
        machine_code.loaded.call(prepared.serial[-JOB.words :], space, *arrays, NOTHING)
        return
    try:
        machine_code.loaded.call(prepared.shared[-JOB.words :], space, *arrays, team.words)
    finally:
        team.give_back()


def run_checked(prepared: PreparedCall, x: object, state: object, out: object) -> Any:
    """Make a prepared call with the built-in `checked_call`. Return the output and the state, or None if arguments need all checks."""
    team, space = prepared.take_team(), take_space(SPACE)
    try:
        if team is None:
            return machine_code.loaded.checked_call(prepared.serial, space, x, state, out, NOTHING)
        return machine_code.loaded.checked_call(prepared.shared, space, x, state, out, team.words)
    finally:
        if team is not None:
            team.give_back()
        give_back(space)


def prepare_pack_and_run(network: Network, shape: tuple[int, ...]) -> Array | None:
    """Return the job that packs a network's weights and runs it over data of a shape. None if one kernel call is not enough."""
    matrices = network.matrices[network.matrices[:, MATRIX.offsets["columns"]] > 0]
    packed = network.work * network.dtype.itemsize
    room = SPACE - HEAD_BYTES - network.layers.nbytes - packed - 2 * ALIGNMENT
    rows = min(room // (2 * network.widest * network.dtype.itemsize), network.rows)
    sequences, steps = math.prod(shape[:-2]), shape[-2]
    if not is_short(network, sequences, steps) or rows < 2 * TOGETHER:
        return None
    job = job_for(network, sequences, steps, rows, 1, function=machine_code.address("pack_and_run"), matrices=len(matrices), packed=packed)
    return np.concatenate([job, network.layers.ravel(), matrices.ravel()])


def pack_and_run(job: Array, x: Array, output: Array, states: Array, weights: Sequence[Array]) -> None:
    """Make that kernel call: pack the weights, run over x, write the output, and advance the states in place."""
    space = take_space(SPACE)
    machine_code.loaded.call(job, space, x, output, states, *weights)
    give_back(space)
