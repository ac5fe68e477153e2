"""Carries a plan out: kernel calls of bounded work, alone or with the help of other threads."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import native, threads
from .arguments import Array
from .kernels.layout import HEAD_BYTES, IN_OUT, IN_X, LENGTH, MATRIX, TOGETHER
from .packing import ALIGNMENT, WORKSPACE, Network, empty_aligned
from .plan import Conversion, Demand, Piece, Plan, fits_at_once, plan_call, side_by_side

INT64 = np.dtype(np.int64)
NOTHING = np.empty(0)
FEEDBACKS = ("argmax", "sample", "repeat")  # sinks that make an output the next input
SPACE = HEAD_BYTES + 2 * WORKSPACE  # bytes
MOST_IDLE = 16  # workspaces
MOST_KINDS = 8  # of calls that a network keeps ready

idle: list[Array] = []  # workspaces that no call uses; nothing in them outlives a kernel call


def take_space(size: int) -> Array:
    """Give a workspace of so many bytes at least."""
    if size <= SPACE:
        try:
            return idle.pop()
        except IndexError:
            size = SPACE
    return empty_aligned(size, np.uint8)


def give_back(space: Array) -> None:
    if len(space) == SPACE and len(idle) < MOST_IDLE:
        idle.append(space)


class Task(NamedTuple):
    """What a call computes.

    x is (..., T + further, I), for a network of tokens (..., T + further, 1): `further` steps are no input, but read as targets or written
    by a sink.
    out is (..., T, O), for scores (..., T), None where no output is wanted; past a sequence's end it is left as it is. Where states are
    None, those of a single recurrent layer start from h0 (..., H), or zeros, and are not kept.
    """

    x: Array
    states: Array | None  # each array of the layers' states (N, H), one after the other: advanced
    out: Array | None
    h0: Array | None = None
    lengths: Array | None = None
    further: int = 0
    sink: str = ""  # the operation that takes the last layer's output; "" stores it
    generation: Array | None = None  # settings of a sink that chooses tokens

    @property
    def sequences(self) -> int:
        return math.prod(self.x.shape[:-2])

    @property
    def steps(self) -> int:
        return self.x.shape[-2] - self.further


class AtOnce(NamedTuple):
    """A kernel call for data of a known shape."""

    plan: Array
    call: Callable[..., None]
    dtype: np.dtype[Any]
    output: tuple[int, ...]
    states: tuple[tuple[int, ...], ...]


def plan_at_once(network: Network, shape: tuple[int, ...]) -> AtOnce | None:
    """Prepare the kernel call for data of a shape, and keep it for the next such call; None where one call won't do."""
    small = HEAD_BYTES + 2 * network.buffer * network.dtype.itemsize <= SPACE
    right = not network.tokens and network.states and not network.enters and len(shape) >= 2 and shape[-1] == network.input_size
    if not right or not small or not fits_at_once(network, shape):
        return None
    plan = job_at_once(network, shape, network.rows, function=native.address("begin"))
    states = tuple([(*shape[:-2], size) for size in network.states])
    known = AtOnce(plan, native.kept.call, network.dtype, (*shape[:-1], network.output_size), states)
    remember(network.plans, shape, known)
    return known


def remember(calls: dict[Any, Any], kind: Hashable, call: Any) -> None:
    """Keep what a call of a kind is made with, of some kinds only."""
    if len(calls) >= MOST_KINDS:
        calls.clear()
    calls[kind] = call


def job_at_once(network: Network, shape: tuple[int, ...], rows: int, **values: int) -> Array:
    """Make all work on data of a shape one piece."""
    *leading, steps, inputs = shape
    sequences = math.prod(leading)
    block = side_by_side(sequences, rows, 1)
    return network.job(
        steps=steps,
        count=sequences,
        block=block,
        chunk=min(steps, rows // block - 1),
        total=sequences,
        x_sequence=steps * inputs,
        out_sequence=steps * network.output_size,
        out_size=network.output_size,
        buffer=rows * network.widest,
        **values,
    )


def plan_once(network: Network, shape: tuple[int, ...]) -> Array | None:
    """Prepare a kernel call that packs layers, which were only described, and runs them over data of a shape."""
    matrices = network.matrices[network.matrices[:, MATRIX.offsets["columns"]] > 0]
    packed = network.work * network.dtype.itemsize
    room = SPACE - HEAD_BYTES - network.layers.nbytes - packed - 2 * ALIGNMENT
    rows = min(room // (2 * network.widest * network.dtype.itemsize), network.rows)
    if not fits_at_once(network, shape) or rows < 2 * TOGETHER:
        return None
    job = job_at_once(network, shape, rows, function=native.address("once"), matrices=len(matrices), packed=packed)
    return np.concatenate([job, network.layers.ravel(), matrices.ravel()])


def run_once(plan: Array, x: Array, output: Array, states: Array, weights: Sequence[Array]) -> None:
    """Make a prepared kernel call: pack the weights, and run over x into the output, advancing the states."""
    space = take_space(SPACE)
    native.kept.call(plan, space, x, output, states, *weights)
    give_back(space)


def run_network(network: Network, task: Task) -> None:
    """Fill the task's out from its x, and advance its states."""
    if not task.sequences or task.steps <= 0:
        return
    source = Source(task, INT64 if network.tokens else network.dtype)
    kind = (task.x.shape, task.sink, task.further, task.out is None)
    simple = source.direct and task.lengths is None and task.generation is None and task.states is not None
    ready = network.jobs.get(kind) if simple else None
    if ready is not None:
        space = take_space(SPACE)
        native.kept.call(ready, space, task.x, NOTHING if task.out is None else task.out, task.states)
        give_back(space)
        return
    gathered = task.lengths is not None and not network.tokens
    plan = plan_call(network, Demand(task.sequences, task.steps, task.sink in FEEDBACKS, task.lengths, gathered, source.conversion))
    source.allocate(plan.together)
    states, table = task.states, np.empty(3 * plan.at_once if plan.order is not None else 0, np.int64)
    if states is None:
        states = np.empty(plan.at_once * network.states[0], network.dtype)
    space = take_space(HEAD_BYTES + 2 * plan.rows * plan.width * network.dtype.itemsize)
    team = threads.pool.take(plan.workers, len(space)) if plan.workers else None
    arrays = (space, source.data, NOTHING if task.out is None else task.out, states, *([] if team is None else [team.words]))
    common = common_to_pieces(network, task, plan, shared=team is not None)
    try:
        for piece in plan.pieces():
            x_at, x_sequence = source.take(piece)
            if piece.which is not None and piece.lengths is not None:
                rows = table[: 3 * piece.sequences].reshape(3, piece.sequences)
                places = piece.which if source.direct else np.arange(piece.sequences)
                rows[IN_X], rows[IN_OUT], rows[LENGTH] = places, piece.which, piece.lengths
            if task.states is None and piece.start == 0:
                begin_states(states[: piece.sequences * network.states[0]], task, piece)
            job = network.job(
                x=x_at,
                x_sequence=x_sequence,
                table=native.address_of(table) if len(table) else 0,
                **common,
                **place(network, task, plan, piece),
            )
            native.kept.call(job, *arrays)
    finally:
        if team is not None:
            team.give_back()
    give_back(space)
    whole = (plan.at_once, plan.length) == (plan.sequences, plan.steps)
    if simple and whole and len(space) == SPACE and fits_at_once(network, task.x.shape):
        remember(network.jobs, kind, job)


def common_to_pieces(network: Network, task: Task, plan: Plan, *, shared: bool) -> dict[str, int]:
    """Give what all pieces of a call have in common: the operations that not every call needs, and sizes."""
    operations = {"function": "lead" if shared else "begin"}
    if task.lengths is not None:
        operations |= {"trim": "trim"} if network.tokens else {"trim": "trim", "feed": "gather"}
    if task.sink:
        operations["sink"] = task.sink
    if task.generation is not None:
        operations["leave"] = "leave"
    if shared:
        operations |= {"meet": "meet", "share": "share"} if plan.by_steps else {"claim": "claim"}
    addresses = native.all_addresses(tuple(operations.values()), network.dtype.char)
    size = 1 if task.sink == "score" else network.output_size
    return {
        **{field: addresses[name] for field, name in operations.items()},
        "generation": 0 if task.generation is None else native.address_of(task.generation),
        "out_size": 0 if task.out is None else size,
        "out_sequence": task.steps * size,
        "buffer": plan.rows * plan.width,
    }


def place(network: Network, task: Task, plan: Plan, piece: Piece) -> dict[str, int]:
    """Tell what a piece works on, and where its output and states are."""
    size, kept = 1 if task.sink == "score" else network.output_size, task.states is not None
    out = piece.start * size + (0 if kept else piece.first * task.steps * size)
    return {
        "count": piece.sequences,
        "steps": piece.span,
        "block": piece.block,
        "chunk": 1 if task.sink in FEEDBACKS else min(piece.span, plan.rows // piece.block - 1),
        "first": piece.first if kept else 0,
        "total": plan.sequences if kept else piece.sequences,
        "begun": piece.start,
        "out": out * network.dtype.itemsize,
    }


def begin_states(states: Array, task: Task, piece: Piece) -> None:
    """Start states that are not kept from h0, or from zeros."""
    states[...] = 0
    if task.h0 is not None:
        convert(task.h0, range(piece.first, piece.first + piece.sequences), (slice(None),), states)


class Source:
    """x as the engine reads it: in place, or converted piece by piece."""

    def __init__(self, task: Task, kind: np.dtype[Any]) -> None:
        x = task.x
        self.x, self.kind, self.further, self.size = x, kind, task.further, x.shape[-1] * kind.itemsize
        self.direct = x.dtype == kind and x.flags.carray
        self.conversion = None if self.direct else Conversion((1 + task.further) * self.size, math.prod(x.shape) * kind.itemsize)
        self.data = x

    def allocate(self, together: int) -> None:
        if self.conversion:
            self.data = np.empty(self.conversion.buffer(together) // self.kind.itemsize, self.kind)

    def take(self, piece: Piece) -> tuple[int, int]:
        """Convert what a piece needs: give the byte where its input begins, and the elements from sequence to sequence."""
        *_, given, inputs = self.x.shape
        if self.direct:
            first = 0 if piece.which is not None else piece.first
            return (first * given + piece.start) * self.size, given * inputs
        steps = slice(piece.start, piece.start + piece.span + self.further)
        which = range(piece.first, piece.first + piece.sequences) if piece.which is None else piece.which
        convert(self.x, which, (steps, slice(None)), self.data)
        return 0, (piece.span + self.further) * inputs


def convert(array: Array, which: range | Array, own: tuple[slice, ...], buffer: Array) -> None:
    """Copy the given sequences, counted in C order, of an array of any layout and dtype into the buffer; `own` cuts its last axes."""
    leading = array.shape[: array.ndim - len(own)]
    index: tuple[Any, ...] = (None,)
    if len(leading) == 1 and isinstance(which, range):
        index = (slice(which.start, which.stop),)
    elif leading:
        index = np.unravel_index(np.asarray(which), leading)
    piece = array[(*index, *own)]
    assign(buffer[: piece.size].reshape(piece.shape), piece)


def assign(target: Array, value: Array) -> None:
    """Copy with conversion; what is out of the target's range becomes infinite or zero."""
    if value.dtype == target.dtype:
        target[...] = value
        return
    with np.errstate(all="ignore"):
        target[...] = value
