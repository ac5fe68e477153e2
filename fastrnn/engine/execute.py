"""Run a network over data: one kernel call for each piece of a plan, serial or shared with worker threads."""

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

FEEDBACKS = ("argmax", "sample", "repeat")  # sinks that feed an output back as the next input
FEW = 1 << 14  # elements: an array with more is converted piece by piece, others as a whole


class Task(NamedTuple):
    """What a call computes.

    x has shape (..., T + further, I), or (..., T + further, 1) for tokens. The last `further` steps are no input: a sink reads them as
    targets, or writes them.
    out has shape (..., T, O), or (..., T) for scores; it is None if no output is wanted. Steps past a sequence's end are not written. Its
    rows may be wider than the output, which begins at `column`.
    If states is None, the network has a single recurrent layer. Its states start from h0 (..., H) or from zeros, and are discarded.
    If backwards, each sequence runs from its last step to its first. The output of each step is still stored in that step's row of out.
    """

    x: Array
    states: Array | None  # the arrays of the layers' states (N, H), one after the other; advanced in place
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
        """Return the key of the task's job among the network's calls: what the job depends on, if one job does the whole task."""
        width = 0 if self.out is None else self.out.shape[-1]
        return self.x.shape, self.sink, self.further, self.backwards, self.column, width, self.lengths is None

    @property
    def width(self) -> int:
        """Return the number of elements in a row of out."""
        return 1 if self.sink == "score" or self.out is None else int(self.out.shape[-1])

    def first_step(self, piece: Piece) -> Any:
        """Return the step at which a piece begins; an array, one for each sequence, if a task with lengths runs backwards."""
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
    """Run a task: write the output to its out, and advance its states in place."""
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
    """Run a job that an earlier call stored, with the data and lengths of this call."""
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
    """Yield each piece of a plan and its job. Run a job before taking the next one: all use the same table and buffer."""
    table = np.empty(TABLE_ROWS * plan.sequences_per_piece if plan.order is not None else 0, np.int64)
    for piece in plan.pieces():
        of_x, x_places = source.take(piece)
        fill_table(table, task, piece, x_places)
        at_table = machine_code.address_of(table) if len(table) else 0
        yield piece, network.job(table=at_table, **common, **place(network, task, plan, piece) | of_x)


def fill_table(table: Array, task: Task, piece: Piece, x_places: Array) -> None:
    """If lengths are given, write where each sequence of a piece is in x, out and the states, and how many of the piece's steps it has."""
    which, left = piece.indices, piece.remaining
    if which is None or left is None:
        return
    rows = table[: TABLE_ROWS * piece.sequences].reshape(TABLE_ROWS, piece.sequences)
    rows[IN_X], rows[IN_STATES], rows[LENGTH] = x_places, which, np.minimum(left, piece.span)
    rows[IN_OUT] = (which * task.steps + task.first_step(piece)) * task.width


def common_to_pieces(network: Network, task: Task, plan: Plan, *, shared: bool) -> dict[str, int]:
    """Return the fields that the jobs of all pieces have in common: operations, workers, and the settings of generation."""
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
    """Return the other fields of a piece's job: its sizes, and where its output and states are."""
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
    """Set states that will be discarded to h0, or to zeros."""
    states[...] = 0
    if task.h0 is not None:
        convert_piece(task.h0, range(piece.first, piece.first + piece.sequences), (slice(None),), states)


class Source:
    """x as kernels read it: in place or converted. A large x is converted piece by piece."""

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
        """Convert what a piece reads. Return its job's fields on x, and each sequence's place: elements from where the field `x` points."""
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
        """Return the steps of x that a piece reads, in reading order. No sequence is read past its end."""
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
    """Copy the sequences `which`, counted in C order, from an array of any layout and dtype into the buffer.

    `own` indexes the last axes. Its first entry may be an array with the steps of each sequence.
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
    """Return whether kernels can read an array in place."""
    flags = array.flags
    return array.dtype == dtype and flags.c_contiguous and flags.aligned


def readable(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array that kernels can read in place: the given one, or a converted copy if it is small. Return a large one as it is.

    If an array was unpickled, or its dtype has metadata, its dtype is not NumPy's usual object. A view with the usual one is returned.
    """
    if is_readable_in_place(array, dtype):
        return array if array.dtype is dtype else array.view(dtype)
    if array.size > FEW:
        return array
    return convert(array, dtype)


def assign(target: Array, value: Array) -> None:
    """Copy with conversion. Numbers out of the target's range become infinite or zero."""
    if value.dtype == target.dtype:
        target[...] = value
        return
    with np.errstate(all="ignore"):
        target[...] = value
