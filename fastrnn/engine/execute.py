"""Carries a plan out: kernel calls of bounded work, alone or with the help of other threads."""

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arguments import MOST_AXES, Array, convert
from ..kernels.layout import HEAD_BYTES, IN_OUT, IN_STATES, IN_X, JOB, KNOWN, LENGTH, MATRIX, PATIENTLY, PROMPTLY, TABLE_ROWS, TOGETHER
from ..native import machine_code
from . import threads
from .packing import ALIGNMENT, WORKSPACE, Network, empty_aligned
from .plan import Conversion, Demand, Help, Piece, Plan, fits_at_once, help_at_once, longest_first, plan_call, side_by_side
from .progress import BAR

NOTHING = np.empty(0)
FEEDBACKS = ("argmax", "sample", "repeat")  # sinks that make an output the next input
SPACE = HEAD_BYTES + 2 * WORKSPACE  # bytes
MOST_IDLE = 16  # workspaces
MOST_KINDS = 8  # of calls that a network keeps ready
FEW = 1 << 14  # elements: an array with no more may be converted whole
# Multiplications of a call, some 2 us, that keep Python's lock: to give it back and take it again takes 0.06 us, and others get no more of
# it, for Python shares it out every 5 ms.
BRIEF = 1 << 15
LATEST = "latest"  # among a network's plans: the record of the last call that was made alone

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
        return self.steps - 1 - piece.start if piece.left is None else piece.left - 1

    @property
    def sequences(self) -> int:
        return math.prod(self.x.shape[:-2])

    @property
    def steps(self) -> int:
        return self.x.shape[-2] - self.further


class Prepared(NamedTuple):
    """A kernel call for data of a known shape, alone and with help."""

    alone: Array
    helped: Array | None  # None where help is not worth it
    help: Help
    threads: int  # that calls could use when it was prepared; 0 where help is never worth it

    @property
    def plan(self) -> Array | None:
        """Give the plan where help is never worth it."""
        return None if self.threads else self.alone

    @property
    def is_stale(self) -> bool:
        return self.threads not in (0, threads.get_num_threads())


class AtOnce(NamedTuple):
    """A prepared kernel call as the built-in `at_once` takes it: a record for each of its plans."""

    alone: Array
    helped: Array | None
    prepared: Prepared | None  # None where help is never worth it


def plan_at_once(network: Network, shape: tuple[int, ...]) -> AtOnce | None:
    """Prepare the kernel call for x of a shape, and keep it for the next such call; None where one call won't do."""
    small = HEAD_BYTES + 2 * network.buffer * network.dtype.itemsize <= SPACE
    rows = (*shape, 1) if network.tokens else shape
    right = network.states and not network.enters and 2 <= len(rows) <= MOST_AXES and rows[-1] == network.inputs
    if not right or not small or (prepared := prepare(network, rows, network.rows)) is None:
        return None
    helped = None if prepared.helped is None else known_for(network, shape, prepared.helped)
    known = AtOnce(known_for(network, shape, prepared.alone), helped, prepared if prepared.threads else None)
    remember(network.plans, shape, known)
    return known


def known_for(network: Network, shape: tuple[int, ...], plan: Array) -> Array:
    """Make the record of a call of `at_once` for x of a shape."""
    steps = network.steps_of(shape)
    return record_of(network, plan, shape, (*steps, network.output_size), [(*steps[:-1], units) for units in network.states])


def step_record(network: Network, leading: tuple[int, ...], plan: Array) -> Array:
    """Make the record of a single step of sequences on leading axes."""
    shape = leading if network.tokens else (*leading, network.input_size)
    return record_of(network, plan, shape, (*leading, network.output_size), [(*leading, units) for units in network.states])


def record_of(network: Network, plan: Array, shape: tuple[int, ...], output: tuple[int, ...], states: Sequence[tuple[int, ...]]) -> Array:
    """Make the record of a prepared call, with the shapes of x, of the output and of each array of the state."""
    sequences, itemsize = math.prod(states[0][:-1]) if states else math.prod(output[:-1]), network.dtype.itemsize
    sizes = [*shape, *output, *[size for one in states for size in one]]
    words = np.concatenate([np.zeros(KNOWN.words, np.int64), np.array(sizes, np.int64), plan])
    KNOWN.fill(
        words,
        plan=machine_code.address_of(words[-len(plan) :]),
        dtype=id(network.dtype),  # of all arrays that weren't unpickled; see `readable`
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


def prepare(network: Network, shape: tuple[int, ...], rows: int, step_rows: str = "") -> Prepared | None:
    """Make all work on data of a shape one kernel call, of an operation for rows of a bank where it is named; None where one won't do."""
    count = threads.get_num_threads()
    helping = help_at_once(network, shape, count)
    if helping is None:
        return None
    alone, helped = job_at_once(network, shape, rows, 1, function=machine_code.address(step_rows or "begin")), None
    if helping.workers:
        operations = {"function": step_rows or "lead", **sharing(helping.by_steps)}
        addresses = machine_code.all_addresses(tuple(operations.values()), network.dtype.char)
        fields = {field: addresses[name] for field, name in operations.items()}
        fields |= wanted(helping.workers, rows * network.widest * network.dtype.itemsize, PROMPTLY if helping.prompt else PATIENTLY)
        helped = job_at_once(network, shape, rows, 1 if helping.by_steps else helping.workers + 1, **fields)
    return Prepared(alone, helped, helping, count if helping.ever else 0)


def wanted(workers: int, size: int, patience: int = PATIENTLY) -> dict[str, int]:
    """Say how many workers may help, what bytes a layer's rows take for each, and how often to look for those that share steps."""
    return {"helpers": workers, "room": 2 * size, "patience": patience}


def sharing(by_steps: bool) -> dict[str, str]:
    """Name the operations by which threads share work."""
    return {"meet": "meet", "divide": "divide", "share": "share"} if by_steps else {"claim": "claim"}


def take_team(prepared: Prepared) -> threads.Team | None:
    """Take a team for a prepared kernel call, where help is worth it and can be had."""
    if prepared.helped is None or (prepared.help.prompt and not threads.pool.is_at_hand()):
        return None
    return threads.pool.take(prepared.help.workers)


def run_prepared(prepared: Prepared, space: Array, *arrays: Array) -> None:
    """Make a prepared kernel call, with help where it is worth it and can be had."""
    team = take_team(prepared)
    if team is None or prepared.helped is None:
        machine_code.kept.call(prepared.alone, space, *arrays, NOTHING)
    else:
        try:
            machine_code.kept.call(prepared.helped, space, *arrays, team.words)
        finally:
            team.give_back()


def run_with_help(known: AtOnce, prepared: Prepared, *arguments: object) -> Any:
    """Call `at_once` with x, a state and out, and with a team if there is one."""
    team, space = take_team(prepared), take_space(SPACE)
    try:
        if team is None:
            return machine_code.kept.at_once(known.alone, space, *arguments, NOTHING)
        return machine_code.kept.at_once(known.helped, space, *arguments, team.words)
    finally:
        if team is not None:
            team.give_back()
        give_back(space)


def remember(calls: dict[Any, Any], kind: Hashable, call: Any) -> None:
    """Keep what a call of a kind is made with, of some kinds only."""
    if len(calls) >= MOST_KINDS:
        calls.clear()
    calls[kind] = call


def job_at_once(network: Network, shape: tuple[int, ...], rows: int, takers: int, **values: int) -> Array:
    """Make all work on data of a shape one piece, for so many threads that take sequences in turn."""
    *leading, steps, inputs = shape
    sequences = math.prod(leading)
    block = side_by_side(sequences, rows, takers)
    return network.job(
        steps=steps,
        count=sequences,
        block=block,
        chunk=min(steps, rows // block - 1),
        total=sequences,
        x_sequence=steps * inputs,
        x_step=inputs,
        out_sequence=steps * network.output_size,
        out_step=network.output_size,
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
    job = job_at_once(network, shape, rows, 1, function=machine_code.address("once"), matrices=len(matrices), packed=packed)
    return np.concatenate([job, network.layers.ravel(), matrices.ravel()])


def run_once(plan: Array, x: Array, output: Array, states: Array, weights: Sequence[Array]) -> None:
    """Make a prepared kernel call: pack the weights, and run over x into the output, advancing the states."""
    space = take_space(SPACE)
    machine_code.kept.call(plan, space, x, output, states, *weights)
    give_back(space)


def run_network(network: Network, task: Task) -> None:
    """Fill the task's out from its x, and advance its states."""
    if not task.sequences or task.steps <= 0:
        return
    source = Source(task, network.x_dtype)
    simple = source.direct and task.generation is None and task.states is not None
    ready = network.jobs.get(task.kind) if simple else None
    if ready is not None:
        run_ready(ready, task, source)
        return
    gathered = task.lengths is not None and not network.tokens
    plan = plan_call(network, Demand(task.sequences, task.steps, task.sink in FEEDBACKS, task.lengths, gathered, source.conversion))
    source.allocate(plan.together)
    states = task.states
    if states is None:
        states = np.empty(plan.at_once * network.states[0], network.dtype)
    space = take_space(HEAD_BYTES + 2 * plan.rows * plan.width * network.dtype.itemsize)
    team = threads.pool.take(plan.workers) if plan.workers else None
    arrays = (space, source.data, NOTHING if task.out is None else task.out, states, *([] if team is None else [team.words]))
    common, bar = common_to_pieces(network, task, plan, shared=team is not None), BAR.get()
    try:
        for piece, job in jobs_of(network, task, plan, source, common):
            if task.states is None and piece.start == 0:
                begin_states(states[: piece.sequences * network.states[0]], task, piece)
            machine_code.kept.call(job, *arrays)
            if bar is not None:
                bar.advance(piece)
    finally:
        if team is not None:
            team.give_back()
    give_back(space)
    whole = (plan.at_once, plan.length) == (task.sequences, task.steps) and (plan.lengths is None or plan.lengths[-1] > 0)
    if simple and whole and len(space) == SPACE and fits_at_once(network, task.x.shape):
        remember(network.jobs, task.kind, job)


def run_ready(job: Array, task: Task, source: "Source") -> None:
    """Run a job that was kept on this call's data and lengths."""
    if task.lengths is not None:
        table = np.empty(TABLE_ROWS * task.sequences, np.int64)
        piece = Piece(0, task.sequences, 0, task.steps, 0, *longest_first(task.lengths))
        fill_table(table, task, piece, source.take(piece)[1])
        job = job.copy()
        JOB.fill(job, table=machine_code.address_of(table))
    space = take_space(SPACE)
    machine_code.kept.call(job, space, source.data, NOTHING if task.out is None else task.out, task.states)
    give_back(space)


def jobs_of(network: Network, task: Task, plan: Plan, source: "Source", common: dict[str, int]) -> Iterator[tuple[Piece, Array]]:
    """Give each piece of a plan and its job, which is to be done before the next is asked for: they share memory."""
    table = np.empty(TABLE_ROWS * plan.at_once if plan.order is not None else 0, np.int64)
    for piece in plan.pieces():
        of_x, x_places = source.take(piece)
        fill_table(table, task, piece, x_places)
        at_table = machine_code.address_of(table) if len(table) else 0
        yield piece, network.job(table=at_table, **of_x, **common, **place(network, task, plan, piece))


def fill_table(table: Array, task: Task, piece: Piece, x_places: Array) -> None:
    """Say where the sequences of a piece that differ in length are, and how many of its steps each has."""
    which, left = piece.which, piece.left
    if which is None or left is None:
        return
    rows = table[: TABLE_ROWS * piece.sequences].reshape(TABLE_ROWS, piece.sequences)
    rows[IN_X], rows[IN_STATES], rows[LENGTH] = x_places, which, np.minimum(left, piece.span)
    rows[IN_OUT] = (which * task.steps + task.first_step(piece)) * task.width


def common_to_pieces(network: Network, task: Task, plan: Plan, *, shared: bool) -> dict[str, int]:
    """Give what all pieces of a call have in common: the operations that not every call needs, and sizes."""
    operations = {"function": "lead", **sharing(plan.by_steps)} if shared else {"function": "begin"}
    if task.lengths is not None:
        operations |= {"trim": "trim"} if network.tokens else {"trim": "trim", "feed": "gather"}
    if task.sink:
        operations["sink"] = task.sink
    if task.generation is not None:
        operations["leave"] = "leave"
    addresses = machine_code.all_addresses(tuple(operations.values()), network.dtype.char)
    size = 1 if task.sink == "score" else network.output_size
    return {
        **{field: addresses[name] for field, name in operations.items()},
        **wanted(plan.workers if shared else 0, plan.rows * plan.width * network.dtype.itemsize),
        "generation": 0 if task.generation is None else machine_code.address_of(task.generation),
        "out_size": 0 if task.out is None else size,
        "out_sequence": task.steps * task.width,
        "out_step": -task.width if task.backwards else task.width,
        "buffer": plan.rows * plan.width,
    }


def place(network: Network, task: Task, plan: Plan, piece: Piece) -> dict[str, int]:
    """Tell what a piece works on, and where its output and states are."""
    kept = task.states is not None
    out = task.column
    if piece.which is None:
        out += task.width * (task.first_step(piece) + (0 if kept else piece.first * task.steps))
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
        convert_piece(task.h0, range(piece.first, piece.first + piece.sequences), (slice(None),), states)


class Source:
    """x as the engine reads it: in place, or converted, piece by piece where it is not small."""

    def __init__(self, task: Task, kind: np.dtype[Any]) -> None:
        x = readable(task.x, kind)
        self.task, self.x, self.kind, self.further, self.size = task, x, kind, task.further, x.shape[-1] * kind.itemsize
        self.direct = is_native(x, kind)
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
            if piece.which is not None:
                return {"x": 0, **fields}, (piece.which * given + first) * inputs
            return {"x": (piece.first * given + first) * self.size, **fields}, None
        which = range(piece.first, piece.first + piece.sequences) if piece.which is None else piece.which
        convert_piece(self.x, which, (self.steps(piece, first), slice(None)), self.data)
        length = (piece.span + self.further) * inputs
        return {"x": 0, "x_sequence": length, "x_step": inputs}, np.arange(piece.sequences) * length

    def steps(self, piece: Piece, first: Any) -> slice | Array:
        """Give the steps of x that a piece is to read, in the order in which it reads them: of each sequence none past its end."""
        if not self.task.backwards:
            span = piece.span + self.further
            if piece.left is None or np.minimum.reduce(piece.left) >= piece.span:
                return slice(first, first + span)
            return first + np.minimum(np.arange(span), piece.left[:, np.newaxis] + (self.further - 1))
        if piece.left is None:
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


def is_native(array: Array, dtype: np.dtype[Any]) -> bool:
    """Tell whether kernels can read an array as it is."""
    flags = array.flags
    return array.dtype == dtype and flags.c_contiguous and flags.aligned


def readable(array: Array, dtype: np.dtype[Any]) -> Array:
    """Give an array that kernels can read as it is, a copy where the given one is small; a large one as it is.

    An array that was unpickled, or whose dtype has metadata, has another object as its dtype: a view has the usual one.
    """
    if is_native(array, dtype):
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
