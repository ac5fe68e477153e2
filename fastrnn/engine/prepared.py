"""Kernel calls that are ready: what is computed once for data of a shape, and kept for the next call of that shape."""

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
MOST_IDLE = 16  # workspaces
# Multiplications of a call, some 2 us, that keep Python's lock: to give it back and take it again takes 0.06 us, and others get no more of
# it, for Python shares it out every 5 ms.
BRIEF = 1 << 15

idle: list[Array] = []  # workspaces that no call uses; nothing in them outlives a kernel call


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

    serial: Array  # the record of the call by one thread
    shared: Array | None  # and of the call with workers; None where they are not worth it
    help: Help
    thread_count: int  # that calls could use when it was prepared; 0 where workers are never worth it

    @property
    def is_stale(self) -> bool:
        return self.thread_count not in (0, threads.get_num_threads())

    def take_team(self) -> threads.Team | None:
        """Take a team of workers, where they are worth it and can be had."""
        if self.shared is None or (self.help.prompt and not threads.pool.is_at_hand()):
            return None
        return threads.pool.take(self.help.workers)


def prepare(
    network: Network, leading: tuple[int, ...], time: tuple[int, ...], rows: int, operation: str = "", extra: Array = NO_WORDS
) -> PreparedCall | None:
    """Prepare one kernel call for sequences on leading axes. None where one call won't do.

    `time` is (T,), or () for a single step whose arrays have no axis of time. `operation` is "" for the usual one; `extra` are words for
    it, behind the job.
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
    """Return the job that does all steps of all sequences in one piece, for so many threads that take sequences in turn."""
    block = side_by_side(sequences, rows, takers)
    sizes = job_sizes(steps, sequences, network.inputs, network.output_size, block, rows, network.widest)
    return network.job(**dict(zip(JOB_SIZES, sizes, strict=True)), **values)


def record_of(network: Network, leading: tuple[int, ...], time: tuple[int, ...], job: Array, extra: Array) -> Array:
    """Return a job behind the shapes of x, of the output and of each array of the state, by which the built-ins check a call."""
    shape = (*leading, *time) if network.tokens else (*leading, *time, network.input_size)
    output, states = (*leading, *time, network.output_size), [(*leading, units) for units in network.states]
    sequences, itemsize = math.prod(leading), network.dtype.itemsize
    sizes = [*shape, *output, *[size for one in states for size in one]]
    words = np.concatenate([np.zeros(CALL_SPEC.words, np.int64), np.array(sizes, np.int64), job, extra])
    CALL_SPEC.fill(
        words,
        job=machine_code.address_of(words[CALL_SPEC.words + len(sizes) :]),
        dtype=id(network.dtype),  # NumPy's own object; an unpickled array has another, see `readable`
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
    """Return a job's fields on workers: how many, what bytes a layer's rows take for each, how often to look for those that share steps."""
    return {"helpers": workers, "room": 2 * size, "patience": patience}


def sharing(by_steps: bool) -> dict[str, str]:
    """Return the operations by which threads share work."""
    return {"barrier": "barrier", "divide": "divide", "share": "share"} if by_steps else {"claim": "claim"}


def run_job(prepared: PreparedCall, space: Array, *arrays: Array) -> None:
    """Make a prepared call whose arrays are already checked."""
    team = prepared.take_team()
    if team is None or prepared.shared is None:
        machine_code.loaded.call(prepared.serial[-JOB.words :], space, *arrays, NOTHING)
        return
    try:
        machine_code.loaded.call(prepared.shared[-JOB.words :], space, *arrays, team.words)
    finally:
        team.give_back()


def run_checked(prepared: PreparedCall, x: object, state: object, out: object) -> Any:
    """Make a prepared call by the built-in that checks its arguments: return the output and the state, None where they need all checks."""
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
    """Prepare a kernel call that packs layers, which were only described, and runs them over data of a shape."""
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
    """Make a prepared kernel call: pack the weights, and run over x into the output, advancing the states."""
    space = take_space(SPACE)
    machine_code.loaded.call(job, space, x, output, states, *weights)
    give_back(space)
