"""Carries a plan out: kernel calls of bounded work, alone or with the help of other threads."""

import math
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..arguments import Array, convert
from ..kernels.layout import HEAD_BYTES, IN_OUT, IN_STATES, IN_X, JOB, JOB_SIZES, LENGTH, TABLE_ROWS, job_sizes
from ..native import machine_code
from . import threads
from .packing import Network
from .plan import Conversion, Demand, Piece, Plan, is_short, longest_first, plan_call
from .prepared import NOTHING, SPACE, give_back, helpers, sharing, take_space
from .progress import BAR

FEEDBACKS = ("argmax", "sample", "repeat")  # sinks that make an output the next input
FEW = 1 << 14  # elements: an array with no more may be converted whole


class Task(NamedTuple):
    """What a call computes.

    x is (..., T + further, I), for a network of tokens (..., T + further, 1): `further` steps are no input, but read as targets or written
    by a sink.
    out is (..., T, O), for scores (..., T), None where no output is wanted; past a sequence's end it is left as it is. Its rows may be
    wider: the output begins at `column`. Where states are None, those of a single recurrent layer start from h0 (..., H), or zeros, and
    are not kept. Backwards, each sequence is run from its last step to its first, and every step's output is still in its own row of out.
    """

    x: Array
    states: Array | None  # each array of the layers' states (N, H), one after the other: advanced
    out: Array | None
    h0: Array | None = None
    lengths: Array | None = None
    further: int = 0
    sink: str = ""  # the operation that takes the last layer's output; "" stores it
    generation: Array | None = None  # settings of a sink that chooses tokens
    backwards: bool = False
    column: int = 0

    @property
    def kind(self) -> Hashable:
        """Give what a job depends on beside the network, where it is all of the task."""
        width = 0 if self.out is None else self.out.shape[-1]
        return self.x.shape, self.sink, self.further, self.backwards, self.column, width, self.lengths is None

    @property
    def width(self) -> int:
        """Give the elements of a row of out."""
        return 1 if self.sink == "score" or self.out is None else int(self.out.shape[-1])

    def first_step(self, piece: Piece) -> Any:
        """Tell at which step a piece begins: an array, where sequences differ in length."""
        if not self.backwards:
            return piece.start
        return self.steps - 1 - piece.start if piece.remaining is None else piece.remaining - 1

    @property
    def sequences(self) -> int:
        return math.prod(self.x.shape[:-2])

    @property
    def steps(self) -> int:
        return self.x.shape[-2] - self.further


def run_network(network: Network, task: Task) -> None:
    """Fill the task's out from its x, and advance its states."""
    if not task.sequences or task.steps <= 0:
        return
    source = Source(task, network.x_dtype)
    simple = source.direct and task.generation is None and task.states is not None
    ready = network.calls.get(task.kind) if simple else None
    if ready is not None:
        run_ready(ready, task, source)
        return
    gathered = task.lengths is not None and not network.tokens
    plan = plan_call(network, Demand(task.sequences, task.steps, task.sink in FEEDBACKS, task.lengths, gathered, source.conversion))
    source.allocate(plan.together)
    states = task.states
    if states is None:
        states = np.empty(plan.sequences_per_piece * network.states[0], network.dtype)
    space = take_space(HEAD_BYTES + 2 * plan.rows * plan.width * network.dtype.itemsize)
    team = threads.pool.take(plan.workers) if plan.workers else None
    arrays = (space, source.data, NOTHING if task.out is None else task.out, states, *([] if team is None else [team.words]))
    common, bar = common_to_pieces(network, task, plan, shared=team is not None), BAR.get()
    try:
        for piece, job in jobs_of(network, task, plan, source, common):
            if task.states is None and piece.start == 0:
                begin_states(states[: piece.sequences * network.states[0]], task, piece)
            machine_code.loaded.call(job, *arrays)
            if bar is not None:
                bar.advance(piece)
    finally:
        if team is not None:
            team.give_back()
    give_back(space)
    whole = (plan.sequences_per_piece, plan.length) == (task.sequences, task.steps) and (plan.lengths is None or plan.lengths[-1] > 0)
    if simple and whole and len(space) == SPACE and is_short(network, task.sequences, task.steps):
        network.calls.keep(task.kind, job)


def run_ready(job: Array, task: Task, source: "Source") -> None:
    """Run a job that was kept on this call's data and lengths."""
    if task.lengths is not None:
        table = np.empty(TABLE_ROWS * task.sequences, np.int64)
        piece = Piece(0, task.sequences, 0, task.steps, 0, *longest_first(task.lengths))
        fill_table(table, task, piece, source.take(piece)[1])
        job = job.copy()
        JOB.fill(job, table=machine_code.address_of(table))
    space = take_space(SPACE)
    machine_code.loaded.call(job, space, source.data, NOTHING if task.out is None else task.out, task.states)
    give_back(space)


def jobs_of(network: Network, task: Task, plan: Plan, source: "Source", common: dict[str, int]) -> Iterator[tuple[Piece, Array]]:
    """Give each piece of a plan and its job, which is to be done before the next is asked for: they share memory."""
    table = np.empty(TABLE_ROWS * plan.sequences_per_piece if plan.order is not None else 0, np.int64)
    for piece in plan.pieces():
        of_x, x_places = source.take(piece)
        fill_table(table, task, piece, x_places)
        at_table = machine_code.address_of(table) if len(table) else 0
        yield piece, network.job(table=at_table, **common, **place(network, task, plan, piece) | of_x)


def fill_table(table: Array, task: Task, piece: Piece, x_places: Array) -> None:
    """Say where the sequences of a piece that differ in length are, and how many of its steps each has."""
    which, left = piece.indices, piece.remaining
    if which is None or left is None:
        return
    rows = table[: TABLE_ROWS * piece.sequences].reshape(TABLE_ROWS, piece.sequences)
    rows[IN_X], rows[IN_STATES], rows[LENGTH] = x_places, which, np.minimum(left, piece.span)
    rows[IN_OUT] = (which * task.steps + task.first_step(piece)) * task.width


def common_to_pieces(network: Network, task: Task, plan: Plan, *, shared: bool) -> dict[str, int]:
    """Give what all pieces of a call have in common: the operations that not every call needs, and sizes."""
    operations = {"function": "run_shared", **sharing(plan.by_steps)} if shared else {"function": "run_serial"}
    if task.lengths is not None:
        operations |= {"trim": "trim"} if network.tokens else {"trim": "trim", "feed": "gather"}
    if task.sink:
        operations["sink"] = task.sink
    if task.generation is not None:
        operations["leave"] = "leave"
    addresses = machine_code.all_addresses(tuple(operations.values()), network.dtype.char)
    return {
        **{field: addresses[name] for field, name in operations.items()},
        **helpers(plan.workers if shared else 0, plan.rows * plan.width * network.dtype.itemsize),
        "generation": 0 if task.generation is None else machine_code.address_of(task.generation),
    }


def place(network: Network, task: Task, plan: Plan, piece: Piece) -> dict[str, int]:
    """Tell what a piece works on, and where its output and states are."""
    kept, width, out = task.states is not None, task.width, task.column
    if piece.indices is None:
        out += width * (task.first_step(piece) + (0 if kept else piece.first * task.steps))
    sizes = job_sizes(piece.span, piece.sequences, network.inputs, width, piece.block, plan.rows, plan.width)
    fields = dict(zip(JOB_SIZES, sizes, strict=True))
    fields |= {"out_step": -width if task.backwards else width, "out_sequence": task.steps * width}
    fields |= {"begun": piece.start, "out": out * network.dtype.itemsize}
    if task.out is None or task.sink == "score":
        fields["out_size"] = 0 if task.out is None else 1
    else:
        fields["out_size"] = network.output_size
    if kept:
        fields["first"], fields["total"] = piece.first, plan.sequences
    if task.sink in FEEDBACKS:
        fields["chunk"] = 1
    return fields


def begin_states(states: Array, task: Task, piece: Piece) -> None:
    """Start states that are not kept from h0, or from zeros."""
    states[...] = 0
    if task.h0 is not None:
        convert_piece(task.h0, range(piece.first, piece.first + piece.sequences), (slice(None),), states)


class Source:
    """x as the engine reads it: in place, or converted, piece by piece where it is not small."""

    def __init__(self, task: Task, kind: np.dtype[Any]) -> None:
        x = readable(task.x, kind)
        self.task, self.x, self.kind, self.further, self.size = task, x, kind, task.further, x.shape[-1] * kind.itemsize
        self.direct = is_readable_in_place(x, kind)
        self.conversion = None if self.direct else Conversion((1 + task.further) * self.size, math.prod(x.shape) * kind.itemsize)
        self.data = x

    def allocate(self, together: int) -> None:
        if self.conversion:
            self.data = np.empty(self.conversion.buffer(together) // self.kind.itemsize, self.kind)

    def take(self, piece: Piece) -> tuple[dict[str, int], Any]:
        """Convert what a piece needs: give its job's fields, x counted in bytes, and where each sequence of a table begins from there."""
        *_, given, inputs = self.x.shape
        first = self.task.first_step(piece)
        if self.direct:
            fields = {"x_sequence": given * inputs, "x_step": -inputs if self.task.backwards else inputs}
            if piece.indices is not None:
                return {"x": 0, **fields}, (piece.indices * given + first) * inputs
            return {"x": (piece.first * given + first) * self.size, **fields}, None
        which = range(piece.first, piece.first + piece.sequences) if piece.indices is None else piece.indices
        convert_piece(self.x, which, (self.steps(piece, first), slice(None)), self.data)
        length = (piece.span + self.further) * inputs
        return {"x": 0, "x_sequence": length, "x_step": inputs}, np.arange(piece.sequences) * length

    def steps(self, piece: Piece, first: Any) -> slice | Array:
        """Give the steps of x that a piece is to read, in the order in which it reads them: of each sequence none past its end."""
        if not self.task.backwards:
            span = piece.span + self.further
            if piece.remaining is None or np.minimum.reduce(piece.remaining) >= piece.span:
                return slice(first, first + span)
            return first + np.minimum(np.arange(span), piece.remaining[:, np.newaxis] + (self.further - 1))
        if piece.remaining is None:
            return slice(first, first - piece.span if first >= piece.span else None, -1)
        steps: Array = np.maximum(first[:, np.newaxis] - np.arange(piece.span), 0)
        return steps


def convert_piece(array: Array, which: range | Array, own: tuple[slice | Array, ...], buffer: Array) -> None:
    """Copy the given sequences, counted in C order, of an array of any layout and dtype into the buffer; `own` cuts its last axes.

    The first of `own` may be an array: for each sequence its own steps.
    """
    leading = array.shape[: array.ndim - len(own)]
    index: tuple[Any, ...] = (None,)
    if len(leading) == 1 and isinstance(which, range):
        index = (slice(which.start, which.stop),)
    elif leading:
        index = np.unravel_index(np.asarray(which), leading)
        if isinstance(own[0], np.ndarray):
            index = tuple([numbers[:, np.newaxis] for numbers in index])
    piece = array[(*index, *own)]
    assign(buffer[: piece.size].reshape(piece.shape), piece)


def is_readable_in_place(array: Array, dtype: np.dtype[Any]) -> bool:
    """Tell whether kernels can read an array as it is."""
    flags = array.flags
    return array.dtype == dtype and flags.c_contiguous and flags.aligned


def readable(array: Array, dtype: np.dtype[Any]) -> Array:
    """Give an array that kernels can read as it is, a copy where the given one is small; a large one as it is.

    An array that was unpickled, or whose dtype has metadata, has another object as its dtype: a view has the usual one.
    """
    if is_readable_in_place(array, dtype):
        return array if array.dtype is dtype else array.view(dtype)
    if array.size > FEW:
        return array
    return convert(array, dtype)


def assign(target: Array, value: Array) -> None:
    """Copy with conversion; what is out of the target's range becomes infinite or zero."""
    if value.dtype == target.dtype:
        target[...] = value
        return
    with np.errstate(all="ignore"):
        target[...] = value
