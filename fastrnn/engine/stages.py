"""Run a model that holds a `Bidirectional`: stage by stage, for a group of sequences. Buffers hold all steps between two stages."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..arguments import Array
from .calls import check_call, run_last
from .directions import run_directions
from .execute import Task, run_network
from .packing import Network
from .states import views_of
from .threads import get_num_threads

BETWEEN = 1 << 24  # bytes of the buffers between stages
FEWEST = 8  # sequences of a group for each thread, more than a tile


class Stage(NamedTuple):
    """Layers that run in one pass, or the two directions of a Bidirectional and how their outputs are merged."""

    networks: tuple[Network, ...]
    merge: str = ""

    @property
    def states(self) -> tuple[int, ...]:
        """Return the size of each array of the layers' states."""
        return tuple([size for network in self.networks for size in network.states])

    @property
    def output_size(self) -> int:
        return sum([network.output_size for network in self.networks]) if self.merge == "concat" else self.networks[0].output_size


class Stages:
    """The stages of a model, in order."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self.all = tuple(stages)
        first = self.all[0].networks[0]
        self.dtype, self.tokens, self.output_size = first.dtype, first.tokens, self.all[-1].output_size
        self.states = tuple([size for stage in self.all for size in stage.states])
        self.passes = sum(len(stage.networks) for stage in self.all)  # passes over all steps
        self.recurrent = max([i for i, stage in enumerate(self.all) if stage.states])  # the last stage with a state

    def between(self, return_sequences: bool) -> list[int]:
        """Return the number of elements of a step in each of two buffers, which take the stages' outputs in turn."""
        sizes = [stage.output_size for stage in self.all[: -1 if return_sequences else self.recurrent]]
        return [max(sizes[i::2], default=0) for i in range(2)]


def call_stages(
    stages: Stages, x: Array, states: list[tuple[str, Any]], out: Array | None, *, return_sequences: bool, **options: Any
) -> tuple[Array, tuple[Array, ...]]:
    """Check all arguments but x, which is already checked. Run, and return the output and the last states."""
    flat, final, output, valid = check_call(stages, x, states, out, return_sequences=return_sequences, **options)
    leading, steps, sequences = x.shape[:-2], x.shape[-2], math.prod(x.shape[:-2])
    if not steps:
        output[...] = 0
    if not steps or not sequences:
        return output, final
    rows, widths = output.reshape(sequences, *output.shape[len(leading) :]), stages.between(return_sequences)
    group_size = sequences
    if any(widths):
        group_size = min(sequences, max(BETWEEN // (steps * sum(widths) * stages.dtype.itemsize), FEWEST * get_num_threads()))
    buffers = [np.empty(group_size * steps * width, stages.dtype) for width in widths]
    arrays = [view.reshape(sequences, view.shape[-1]) for view in final]
    for first in range(0, sequences, group_size):
        group = slice(first, min(first + group_size, sequences))
        own = flat if group_size == sequences else np.concatenate([array[group].reshape(-1) for array in arrays])
        run = Group(sequences_of(x, group), own, rows[group], None if valid is None else valid[group], buffers)
        if return_sequences:
            run_whole(stages.all, run)
        else:
            run_to_last(stages, run)
        if own is not flat:
            for array, view in zip(arrays, views_of(stages.states, own, run.out.shape[:1]), strict=True):
                array[group] = view
    return output, final


class Group(NamedTuple):
    """A group of sequences that run together."""

    x: Array
    states: Array  # the arrays of all layers' states (n, H), one after the other; advanced in place
    out: Any  # (n, T, O), or (n, O); None where no output is wanted
    lengths: Array | None
    buffers: list[Array]  # for the outputs between stages, used in turn


def sequences_of(x: Array, group: slice) -> Array:
    """Return some sequences of x, counted in C order."""
    leading, own = x.shape[:-2], x.shape[-2:]
    if group.stop - group.start == math.prod(leading):
        return x
    if len(leading) == 1 or x.flags.c_contiguous:
        return x.reshape(math.prod(leading), *own)[group]
    chosen: Array = x[np.unravel_index(np.arange(group.start, group.stop), leading)]
    return chosen


def run_whole(stages: tuple[Stage, ...], group: Group) -> None:
    """Run stages one after the other, each over all steps."""
    x, states, count, steps = group.x, group.states, len(group.out), group.x.shape[-2]
    for i, stage in enumerate(stages):
        shape = count, steps, stage.output_size
        target = group.out if i == len(stages) - 1 else group.buffers[i % 2][: math.prod(shape)].reshape(shape)
        end = count * sum(stage.states)
        run_stage(stage, Group(x, states[:end], target, group.lengths, []))
        x, states = target, states[end:]


def run_to_last(stages: Stages, group: Group) -> None:
    """Run up to the last recurrent stage without storing its output, and the layers after it on its last state alone."""
    before, stage, after = stages.all[: stages.recurrent], stages.all[stages.recurrent], stages.all[stages.recurrent + 1 :]
    x, states, out, lengths, buffers = group
    count = len(out)
    if before:
        shape, end = (count, x.shape[-2], before[-1].output_size), count * sum([sum(one.states) for one in before])
        rows = buffers[(len(before) - 1) % 2][: math.prod(shape)].reshape(shape)
        run_whole(before, Group(x, states[:end], rows, lengths, buffers))
        x, states = rows, states[end:]
    arrays = views_of(stage.states, states, (count,))
    if not stage.merge:
        run_last(stage.networks[0], x, states, out, arrays, lengths=lengths)
        return
    run_stage(stage, Group(x, states, None, lengths, []))
    ends = merged(stage.merge, arrays[0], arrays[len(stage.networks[0].states)])
    if after:
        run_network(after[0].networks[0], Task(ends[:, np.newaxis, :], ends[:0], out[:, np.newaxis, :]))
    else:
        out[...] = ends
    if lengths is not None:
        out[lengths == 0] = 0


def run_stage(stage: Stage, group: Group) -> None:
    """Run a stage. Without out, only advance its states."""
    x, states, out, lengths, _ = group
    task = Task(x, states, out, lengths=lengths)
    if not stage.merge:
        run_network(stage.networks[0], task)
        return
    forward, backward = stage.networks
    end, concat = task.sequences * sum(forward.states), stage.merge == "concat"
    column = forward.output_size if concat else 0
    tasks = task._replace(states=states[:end]), task._replace(states=states[end:], backwards=True, column=column)
    run_directions((forward, backward), tasks, "" if concat or out is None else f"merge_{stage.merge}")


def merged(merge: str, one: Array, other: Array) -> Array:
    """Return two outputs merged, with the arithmetic of the kernels."""
    if merge == "concat":
        return np.concatenate([one, other], axis=-1)
    with np.errstate(all="ignore"):
        result: Array = one * other if merge == "product" else one + other if merge == "sum" else (one + other) / 2
    return result
