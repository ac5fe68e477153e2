"""Models that hold a `Bidirectional`: run stage by stage, with whole rows between stages, for some sequences at a time."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arguments import Array, check_lengths, check_out
from .calls import run_last, start_states
from .forward import Task, run_network
from .packing import Network
from .threads import get_num_threads

BETWEEN = 1 << 24  # bytes of rows between stages
FEWEST = 8  # sequences for each thread: a tile and more


class Stage(NamedTuple):
    """Layers that are run in one pass; or the two of a Bidirectional, and how their outputs are merged."""

    networks: tuple[Network, ...]
    merge: str = ""

    @property
    def states(self) -> tuple[int, ...]:
        """Give the size of each array of the layers' states."""
        return tuple([size for network in self.networks for size in network.states])

    @property
    def output_size(self) -> int:
        return sum([network.output_size for network in self.networks]) if self.merge == "concat" else self.networks[0].output_size


class Stages:
    """Stages one after the other."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self.all = tuple(stages)
        first = self.all[0].networks[0]
        self.dtype, self.tokens, self.output_size = first.dtype, first.tokens, self.all[-1].output_size
        self.states = tuple([size for stage in self.all for size in stage.states])
        self.recurrent = max([i for i, stage in enumerate(self.all) if stage.states])  # the last of those that are

    def between(self, return_sequences: bool) -> list[int]:
        """Give the elements of a step in each of two buffers, which receive the stages' rows in turn."""
        sizes = [stage.output_size for stage in self.all[: -1 if return_sequences else self.recurrent]]
        return [max(sizes[i::2], default=0) for i in range(2)]


def call_stages(
    stages: Stages, x: Array, states: list[tuple[str, Any]], out: Array | None, *, lengths: ArrayLike | None, return_sequences: bool
) -> tuple[Array, tuple[Array, ...]]:
    """Check what is left to check, and run."""
    leading, steps, sequences = x.shape[:-2], x.shape[-2], math.prod(x.shape[:-2])
    _, final, inputs = start_states(stages, states, leading, given="x", shape=x.shape[:-1] if stages.tokens else x.shape)
    valid = None if lengths is None else check_lengths(lengths, leading, steps)
    shape = (*leading, steps, stages.output_size) if return_sequences else (*leading, stages.output_size)
    if lengths is not None:
        inputs.append(("lengths", np.asarray(lengths)))
    output = np.empty(shape, stages.dtype) if out is None else check_out(out, shape, stages.dtype, [("x", x), *inputs])
    if valid is not None or not steps:
        output[...] = 0
    if not steps or not sequences:
        return output, final
    rows = output.reshape(sequences, *shape[len(leading) :])
    arrays = [view.reshape(sequences, view.shape[-1]) for view in final]
    widths = stages.between(return_sequences)
    at_once = sequences
    if any(widths):
        at_once = min(sequences, max(BETWEEN // (steps * sum(widths) * stages.dtype.itemsize), FEWEST * get_num_threads()))
    buffers = [np.empty(at_once * steps * width, stages.dtype) for width in widths]
    for first in range(0, sequences, at_once):
        group = slice(first, min(first + at_once, sequences))
        of_group = [array[group].copy() for array in arrays]
        ends = None if valid is None else valid[group]
        if return_sequences:
            run_whole(stages.all, sequences_of(x, group), of_group, rows[group], ends, buffers)
        else:
            run_to_last(stages, sequences_of(x, group), of_group, rows[group], ends, buffers)
        for array, states_of_group in zip(arrays, of_group, strict=True):
            array[group] = states_of_group
    return output, final


def sequences_of(x: Array, group: slice) -> Array:
    """Give some sequences of x, counted in C order."""
    leading, own = x.shape[:-2], x.shape[-2:]
    if group.stop - group.start == math.prod(leading):
        return x
    if len(leading) == 1 or x.flags.c_contiguous:
        return x.reshape(math.prod(leading), *own)[group]
    chosen: Array = x[np.unravel_index(np.arange(group.start, group.stop), leading)]
    return chosen


def run_whole(all_stages: tuple[Stage, ...], x: Array, arrays: list[Array], out: Array, lengths: Array | None, buffers: list[Array]) -> None:
    """Run stages one after the other over all steps, and advance the arrays of their states, which are (n, H)."""
    count, steps = len(out), x.shape[-2]
    for i, stage in enumerate(all_stages):
        last = i == len(all_stages) - 1
        size = count * steps * stage.output_size
        target = out if last else buffers[i % 2][:size].reshape(count, steps, stage.output_size)
        own, arrays = arrays[: len(stage.states)], arrays[len(stage.states) :]
        run_stage(stage, x, own, target, lengths)
        x = target


def run_to_last(stages: Stages, x: Array, arrays: list[Array], out: Array, lengths: Array | None, buffers: list[Array]) -> None:
    """Run to the last recurrent stage without keeping its output, and what follows it on what this stage ends with alone."""
    stage, after, kept = stages.all[stages.recurrent], stages.all[stages.recurrent + 1 :], len(stages.all[stages.recurrent].states)
    count, steps, before = len(out), x.shape[-2], stages.all[: stages.recurrent]
    if before:
        width = before[-1].output_size
        rows = buffers[(len(before) - 1) % 2][: count * steps * width].reshape(count, steps, width)
        run_whole(before, x, arrays[: len(arrays) - kept], rows, lengths, buffers)
        x = rows
    own = arrays[len(arrays) - kept :]
    if not stage.merge:
        (network,) = stage.networks
        flat = flattened(own)
        views = unflattened(flat, own)
        run_last(network, x, flat, out, tuple(views), lengths=lengths)
        for array, view in zip(own, views, strict=True):
            array[...] = view
        return
    run_stage(stage, x, own, None, lengths)
    ends = merged(stage.merge, own[0], own[len(stage.networks[0].states)])
    if after:
        ((network,), _), = after
        run_network(network, Task(ends[:, np.newaxis, :], ends[:0], out[:, np.newaxis, :]))
    else:
        out[...] = ends
    if lengths is not None:
        out[lengths == 0] = 0


def flattened(arrays: list[Array]) -> Array:
    """Put the arrays of states one after the other, as a task takes them."""
    return np.concatenate([array.reshape(-1) for array in arrays])


def unflattened(flat: Array, like: list[Array]) -> list[Array]:
    """Give views of the arrays that were put one after the other."""
    ends = np.cumsum([array.size for array in like]).tolist()
    return [flat[end - array.size : end].reshape(array.shape) for array, end in zip(like, ends, strict=True)]


def run_stage(stage: Stage, x: Array, arrays: list[Array], out: Array | None, lengths: Array | None) -> None:
    """Run a stage, and advance its states; with no out only these."""
    concat, end, tasks = stage.merge == "concat", 0, []
    flats: list[Array] = []
    for network in stage.networks:
        start, end = end, end + len(network.states)
        flats.append(flattened(arrays[start:end]) if start < end else np.empty(0, network.dtype))
    for i, flat in enumerate(flats):
        sink = f"merge_{stage.merge}" if i and out is not None and not concat else ""
        column = stage.networks[0].output_size if i and concat else 0
        tasks.append(Task(x, flat, out, lengths=lengths, sink=sink, backwards=i == 1, column=column))
    for network, task in zip(stage.networks, tasks, strict=True):
        run_network(network, task)
    if arrays:
        for array, view in zip(arrays, unflattened(np.concatenate(flats), arrays), strict=True):
            array[...] = view


def merged(merge: str, one: Array, other: Array) -> Array:
    """Merge two outputs as the engine does."""
    if merge == "concat":
        return np.concatenate([one, other], axis=-1)
    with np.errstate(all="ignore"):
        result: Array = one * other if merge == "product" else one + other if merge == "sum" else (one + other) / 2
    return result
