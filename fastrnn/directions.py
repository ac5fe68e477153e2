"""The two directions of a `Bidirectional`: one after the other, each with help, or side by side on two threads.

Side by side they never wait for each other within a piece of work. They write to different columns of the output. Where their outputs are
merged, they write to different halves of a sequence's steps, and then merge into the half that the other one has written:

    steps      0 ......... T/2 ......... T
    forward    writes ---> | merges --->
    backward   <--- merges | <--- writes
"""

import itertools
from collections.abc import Iterator

import numpy as np

from . import native, threads
from .arguments import Array
from .forward import INT64, NOTHING, Source, Task, common_to_pieces, give_back, jobs_of, run_network, take_space
from .kernels.layout import HEAD_BYTES, JOB
from .packing import Network
from .plan import Demand, Plan, plan_call, worth_two_threads

Pair = tuple[Network, Network]


def run_directions(networks: Pair, tasks: tuple[Task, Task], merge: str) -> None:
    """Carry out a task forwards and one backwards, of the same x and out; `merge` names the operation that merges, "" for none."""
    forward, backward = tasks
    if worth_two_threads(networks, forward.sequences, forward.steps) and (not merge or forward.sequences == 1):
        for pair in halves(forward, backward, merge) if merge else [tasks]:
            run_side_by_side(networks, pair)
    else:
        run_network(networks[0], forward)
        run_network(networks[1], backward._replace(sink=merge))


def halves(forward: Task, backward: Task, merge: str) -> Iterator[tuple[Task, Task]]:
    """Cut the steps of a single sequence into two halves: both directions write to one, and then merge into the other."""
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
    """Give each of two threads a task, piece by piece; where no thread helps, the calling one does both."""
    given = [(network, task, alone(network, task)) for network, task in zip(networks, tasks, strict=True) if task.steps > 0]
    rows = max([plan.rows * plan.width for _, _, plan in given], default=0)
    space = take_space(2 * HEAD_BYTES + 2 * rows * networks[0].dtype.itemsize)
    team = threads.pool.take(1, len(space))
    sharing = {"function": "begin"} if team is None else {"function": "lead", "claim": "claim"}
    addresses = native.all_addresses((*sharing.values(), "each"), networks[0].dtype.char)
    common = {field: addresses[name] for field, name in sharing.items()} | {"run": addresses["each"], "block": 1}
    arrays = (NOTHING, NOTHING, NOTHING, *([] if team is None else [team.words]))
    pieces = itertools.zip_longest(*[absolute_jobs(*one) for one in given])
    try:
        for jobs in pieces:
            records = np.concatenate([job for job in jobs if job is not None])
            count = len(records) // JOB.words
            native.kept.call(JOB.filled(layers=native.address_of(records), count=count, **common), space, *arrays)
    finally:
        if team is not None:
            team.give_back()
    give_back(space)


def alone(network: Network, task: Task) -> Plan:
    """Plan a task for one thread."""
    source = Source(task, INT64 if network.tokens else network.dtype)
    gathered = task.lengths is not None and not network.tokens
    return plan_call(network, Demand(task.sequences, task.steps, False, task.lengths, gathered, source.conversion, alone=True))


def absolute_jobs(network: Network, task: Task, plan: Plan) -> Iterator[Array]:
    """Give a plan's jobs, which say by themselves where their data is."""
    source = Source(task, INT64 if network.tokens else network.dtype)
    source.allocate(plan.together)
    assert task.states is not None
    places = {"x": source.data, "states": task.states} | ({} if task.out is None else {"out": task.out})
    for _, job in jobs_of(network, task, plan, source, common_to_pieces(network, task, plan, shared=False)):
        for field, array in places.items():
            job[JOB.offsets[field]] += native.address_of(array)
        yield job
