"""Run the two directions of a `Bidirectional`: one after the other, each with workers, or side by side on two threads.

Side by side, they never wait for each other within a kernel call. If their outputs are concatenated, they write to different columns. If
their outputs are merged, each first writes to its own half of a sequence's steps, then merges into the half that the other has written:

    steps      0 ......... T/2 ......... T
    forward    writes ---> | merges --->
    backward   <--- merges | <--- writes
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..arguments import Array
from ..kernels.layout import HEAD_BYTES, JOB
from ..native import machine_code
from . import threads
from .execute import Source, Task, common_to_pieces, jobs_of, run_network
from .packing import Network
from .plan import Demand, Piece, plan_call, worth_two_threads
from .prepared import NOTHING, give_back, helpers, sharing, take_space
from .progress import BAR

Pair = tuple[Network, Network]


def run_directions(networks: Pair, tasks: tuple[Task, Task], merge: str) -> None:
    """Run two tasks with the same x and out, forwards and backwards. `merge` names the operation that merges outputs, "" for none."""
    forward, backward = tasks
    if worth_two_threads(networks, forward.sequences, forward.steps) and (not merge or forward.sequences == 1):
        for pair in halves(forward, backward, merge) if merge else [tasks]:
            run_side_by_side(networks, pair)
    else:
        run_network(networks[0], forward)
        run_network(networks[1], backward._replace(sink=merge))


def halves(forward: Task, backward: Task, merge: str) -> Iterator[tuple[Task, Task]]:
    """Yield the tasks of two passes over one sequence: each direction writes to its own half of the steps, then merges into the other."""
    x, out, end = forward.x, forward.out, forward.steps if forward.lengths is None else int(forward.lengths[0])
    assert out is not None
    x, out = x.reshape(x.shape[-2:]), out.reshape(out.shape[-2:])
    first, second = slice(end // 2), slice(end // 2, end)
    for steps, others, sink in ((first, second, ""), (second, first, merge)):
        yield (
            forward._replace(x=x[steps], out=out[steps], lengths=None, sink=sink),
            backward._replace(x=x[others], out=out[others], lengths=None, sink=sink),
        )


def run_side_by_side(networks: Pair, tasks: tuple[Task, Task]) -> None:
    """Run two tasks piece by piece, each on its own thread. If no worker helps, the calling thread runs both."""
    given = [Alone(network, task) for network, task in zip(networks, tasks, strict=True) if task.steps > 0]
    rows = max([one.rows for one in given], default=0)
    space = take_space(2 * HEAD_BYTES + 2 * rows * networks[0].dtype.itemsize)
    team = threads.pool.take(1)
    operations = {"function": "run_serial"} if team is None else {"function": "run_shared", **sharing(by_steps=False)}
    addresses = machine_code.all_addresses((*operations.values(), "each"), networks[0].dtype.char)
    common = {field: addresses[name] for field, name in operations.items()} | {"run": addresses["each"], "block": 1}
    common |= helpers(0 if team is None else 1, len(space) // 2)
    arrays = (NOTHING, NOTHING, NOTHING, *([] if team is None else [team.words]))
    both, bar = itertools.zip_longest(*[one.jobs() for one in given]), BAR.get()
    try:
        for some in both:
            pieces, jobs = zip(*[one for one in some if one is not None], strict=True)
            records = np.concatenate(jobs)
            count = len(records) // JOB.words
            machine_code.loaded.call(JOB.filled(layers=machine_code.address_of(records), count=count, **common), space, *arrays)
            if bar is not None:
                for piece in pieces:
                    bar.advance(piece)
    finally:
        if team is not None:
            team.give_back()
    give_back(space)


class Alone:
    """A task for one thread. If it is a single piece of work, its job is stored for the next such task."""

    rows: int  # elements of a layer's rows in a workspace
    relative: Iterable[tuple[Any, Array]]  # pieces, and jobs whose addresses of data count from 0

    def __init__(self, network: Network, task: Task) -> None:
        self.task, self.source = task, Source(task, network.x_dtype)
        simple, kind = self.source.direct and task.lengths is None, ("alone", task.kind)
        ready = network.calls.get(kind) if simple else None  # one lookup: another thread may clear the stored calls
        if ready is not None:
            self.rows, self.relative = ready
            return
        gathered = task.lengths is not None and not network.tokens
        demand = Demand(task.sequences, task.steps, False, task.lengths, gathered, self.source.conversion, alone=True)
        plan = plan_call(network, demand)
        self.source.allocate(plan.together)
        self.rows = plan.rows * plan.width
        common = common_to_pieces(network, task, plan, shared=False)
        self.relative = jobs_of(network, task, plan, self.source, common)
        if simple and (plan.sequences_per_piece, plan.length) == (plan.sequences, plan.steps):
            self.relative = list(self.relative)
            network.calls.keep(kind, (self.rows, self.relative))

    def jobs(self) -> Iterator[tuple[Piece, Array]]:
        """Yield each piece, and its job with the absolute addresses of its data."""
        places = {"x": self.source.data, "states": self.task.states, "out": self.task.out}
        for piece, job in self.relative:
            absolute = job.copy()
            for field, array in places.items():
                if array is not None:
                    absolute[JOB.offsets[field]] += machine_code.address_of(array)
            yield piece, absolute
