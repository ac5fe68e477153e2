"""Runs packed layers over arrays, in kernel calls of bounded work, alone or with the help of other threads."""

import functools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .arguments import Array
from .kernels import network as kernels
from .kernels.jit import machine_code
from .kernels.network import IN_OUT, IN_X, LENGTH
from .kernels.team import ARRAYS, BELL, CLOSED, GATE, LINE, MET, PIECE
from .kernels.tile import HAS_FMA, ROWS
from .packing import WORKSPACE, Network, empty_aligned, rows_that_fit
from .threads import get_num_threads, pool

INT64 = np.dtype(np.int64)
NO_TOKENS = np.empty(0, np.int64)
NOTHING_SHARED = np.empty(0, np.int64)

CONVERTED = 1 << 20  # bytes of x converted at a time
# Multiplications a kernel call, of each thread and of all: 50 ms, and below a second where nobody comes to help
WORK, MOST_WORK = (200_000_000, 800_000_000) if HAS_FMA else (50_000_000, 50_000_000)
OUTPUT = 32  # multiplications that an output may take as long as: an exponential, and a page that the system gives and clears

MOST_HELPERS, MOST_BY_STEPS = 255, 7  # who share every step all meet at every step
WORTH_HELP = 1 << 26  # bytes of weights to multiply by, 0.3 ms: with less, help comes too late
WARM_UP = 8_000_000  # multiplications before those who are to share steps must be there
FEW_SEQUENCES, LARGE = 16, 1 << 20  # bytes of weight_hh: with more, half of them for all sequences is faster than all for half of those
SHARED = 1 << 18  # bytes of weight_hh: with fewer, meeting at every step takes longer than it saves


@functools.cache
def compiled_run(dtype: str) -> Callable[..., None]:
    """The kernel for layers of a dtype, given by its character, without feedback."""
    numbers = np.empty(0, dtype)
    arrays = numbers, NO_TOKENS, numbers, np.empty((0, len(kernels.FIELDS)), np.int64), numbers, None, NOTHING_SHARED
    return machine_code(kernels.run, *arrays, 0, 0, 0, False, *[0] * 11, False)


class Scratch(threading.local):
    """Each thread's workspace, kept from call to call: nothing in it outlives a kernel call."""

    def __init__(self) -> None:
        self.kept = empty_aligned(2 * WORKSPACE, np.uint8)
        self.address = self.kept.ctypes.data


scratch = Scratch()


def workspace_of(size: int) -> tuple[int, Array]:
    """Give the address of so many bytes, and the array that they are in."""
    if size <= 2 * WORKSPACE:
        return scratch.address, scratch.kept
    own = empty_aligned(size, np.uint8)
    return own.ctypes.data, own


def run_at_once(network: Network, x: Array, final: Array) -> Array | None:
    """Run sequences of one recurrent layer in one kernel call, where that will do, and give the output; `final` is left holding h_n.

    x is C-contiguous, of the layers' dtype, and of the right shape.
    """
    *leading, steps, inputs = x.shape
    sequences, weights = math.prod(leading), network.weights
    if not 0 < sequences * steps * network.work * weights.itemsize < WORTH_HELP:
        return None
    output = np.empty((*leading, steps, network.output_size), weights.dtype)
    workspace, _owner = workspace_of(network.workspace)
    compiled_run(weights.dtype.char)(
        x.ravel(), NO_TOKENS, output.ravel(), network.layers, final.ravel(), None, NOTHING_SHARED, network.buffer,
        steps * network.output_size, 0, False, workspace, 1 if sequences == 1 else side_by_side(sequences, network.rows, 1),
        0, steps * inputs, 0, 0, sequences, 0, sequences, steps, 0, False,
    )  # fmt: skip
    return output


def run_network(
    network: Network,
    x: Array,
    states: Array | None,
    out: Array,
    *,
    h0: Array | None = None,
    tokens: bool = False,
    lengths: Array | None = None,
    further: int = 0,
    feedback: Array | None = None,
) -> None:
    """Fill out from x, and advance the recurrent layers' states, (N, H) each, one after the other in `states`.

    x is (..., T + further, I), tokens (..., T + further, 1): `further` steps are no input, but read as targets or written by feedback.
    out is (..., T, O), for scores (..., T), empty where no output is wanted; past a sequence's end it is left as it is.
    Where states are None, those of a single recurrent layer start from h0 (..., H), or zeros, and are not kept.
    """
    *leading, given, inputs = x.shape
    sequences, steps = math.prod(leading), given - further
    if not sequences or steps <= 0:
        return
    helpers, by_steps = division(network, sequences, steps, fed_back=feedback is not None)
    weights, work, out_sequence = network.weights, network.work + OUTPUT * network.output_size, steps * network.output_size
    width, rows = network.widest, network.rows
    if lengths is not None and not tokens and inputs > width:  # the rows of x are brought together there too
        width, rows = inputs, rows_that_fit(inputs, weights.itemsize)
    takers = 1 if by_steps else helpers + 1
    together, most = min(rows // 2, kernels.TOGETHER) * takers, WORK if by_steps else min(WORK * (helpers + 1), MOST_WORK)
    kind = INT64 if tokens else weights.dtype
    direct = x.dtype == kind and x.flags.carray
    if direct:
        data = x.ravel()
    else:
        step = (1 + further) * inputs
        together = max(1, min(together, CONVERTED // (step * kind.itemsize)))
        data = np.empty(min(sequences * given * inputs, max(step * together, CONVERTED // kind.itemsize)), kind)
        work = max(work, -(-most * step // data.size))
    order = None
    if lengths is not None:
        order = np.argsort(-lengths, kind="stable")
        lengths = lengths[order]
        steps = int(lengths[0])
    at_once, length = cut(sequences, steps, work, most, together)
    kept = states is not None
    if states is None:
        states = np.empty(at_once * network.hidden_sizes[0], weights.dtype)
    shared, table, ragged = NOTHING_SHARED, MET + (helpers + 1) * LINE, 0
    if helpers or order is not None:
        shared = empty_aligned(table + 3 * at_once, INT64)
        shared[:table] = 0
    size = 2 * rows * width * weights.itemsize
    workspace, _owner = workspace_of(size)
    numbers, integers = (network.nothing, data) if tokens else (data, NO_TOKENS)
    arrays = numbers, integers, np.asarray(out).ravel()
    common = network.layers, states, feedback, shared, rows * width, out_sequence, helpers, by_steps
    asked = None
    try:
        warm_up = min(length, max(1, WARM_UP // work)) if helpers and by_steps else length
        for number, (first, count, start, span) in enumerate(pieces(sequences, steps, at_once, length, warm_up), 1):
            which, x_at, x_sequence = None, (first * given + start) * inputs, given * inputs
            if order is not None and lengths is not None:
                left = lengths[first : first + count] - start
                count = int(np.count_nonzero(left > 0))
                if not count:
                    continue
                dealt = deal(count, side_by_side(count, rows, takers)) if takers > 1 else np.arange(count)
                which, x_at, ragged = order[first + dealt], start * inputs, table
                places = shared[table : table + 3 * count].reshape(3, count)
                places[IN_X], places[IN_OUT], places[LENGTH] = which if direct else np.arange(count), which, np.minimum(left[dealt], span)
            if not direct:
                x_at, x_sequence = 0, (span + further) * inputs
                convert(x, first, count, (slice(start, start + span + further), slice(None)), data, which)
            out_at, total, place = start * network.output_size, sequences, first
            if not kept:
                out_at, total, place = out_at + first * out_sequence, count, 0
                if start == 0:
                    states[: count * network.hidden_sizes[0]] = 0
                    if h0 is not None:
                        convert(h0, first, count, (slice(None),), states)
            block = side_by_side(count, rows, takers)
            piece = workspace, block, x_at, x_sequence, ragged, out_at, total, place, count, span
            if helpers:
                shared[PIECE : PIECE + len(piece)] = piece
                if number == 1:
                    shared[ARRAYS : ARRAYS + 3] = [array.ctypes.data if array.size else 0 for array in arrays]
                    shared[BELL] = pool.bell.ctypes.data
                    asked = pool.ask(helpers, help_team, (network.nothing, NO_TOKENS, network.nothing, *common), size)
            kernels.run(*arrays, *common, *piece, number, False)
    finally:
        if helpers:
            shared[GATE] = CLOSED
        if asked is not None:
            pool.withdraw(asked)


def division(network: Network, sequences: int, steps: int, *, fed_back: bool) -> tuple[int, bool]:
    """How many threads are to help, and whether they share in every step or take sequences in turn."""
    itemsize = network.weights.itemsize
    worth = sequences * steps * network.work * itemsize // WORTH_HELP
    if not worth:
        return 0, False
    helpers = min(get_num_threads() - 1, worth, MOST_HELPERS)
    largest = max(network.hidden_sizes, default=0) ** 2 * itemsize
    few = sequences <= FEW_SEQUENCES and largest > LARGE
    fewer = helpers + 1 < sequences < (helpers + 1) * ROWS and largest >= SHARED
    if fed_back or not (sequences == 1 or few or fewer):
        return min(helpers, sequences - 1), False
    return min(helpers, sequences * steps * network.shared_work * itemsize // WORTH_HELP, MOST_BY_STEPS), True


def help_team(common: tuple[Any, ...], size: int, rung: int) -> None:
    """Work on every piece of a call that another thread leads."""
    workspace, _owner = workspace_of(size)
    kernels.run(*common, workspace, *[0] * 9, rung, True)


def cut(sequences: int, steps: int, work: int, most: int, together: int) -> tuple[int, int]:
    """How many sequences, and how many of their steps, make a piece of work of at most `most`, or a single step of `together`."""
    if sequences * steps * work <= most:
        return sequences, steps
    at_once = min(max(together, most // max(1, steps * work) // together * together), sequences)
    return at_once, max(1, most // (at_once * work))


def pieces(sequences: int, steps: int, at_once: int, length: int, first_length: int) -> Iterator[tuple[int, int, int, int]]:
    """Go over sequences and their steps: first and count, start and span; the first piece has a length of its own."""
    for first in range(0, sequences, at_once):
        start, span = 0, 0
        while (start := start + span) < steps:
            span = min(length if first or start else first_length, steps - start)
            yield first, min(at_once, sequences - first), start, span


def side_by_side(count: int, rows: int, takers: int) -> int:
    """Cut sequences into blocks of so many at most: as many blocks for each taker, and tiles as full as can be."""
    most = min(rows // 2, kernels.TOGETHER)
    size = -(-count // (-(-count // (most * takers)) * takers))
    return min(most, size if size < ROWS else -(-size // ROWS) * ROWS)


def deal(count: int, block: int) -> Array:
    """Order sequences, the longest first, anew: every block gets long and short ones, the longest first."""
    blocks = -(-count // block)
    last = count - (blocks - 1) * block
    place = np.arange(count)
    level, after, others = place < last * blocks, place - last * blocks, max(blocks - 1, 1)
    taker = np.where(level, place % blocks, after % others)
    slot = np.where(level, place // blocks, last + after // others)
    return np.argsort(taker * block + slot)


def convert(array: Array, first: int, count: int, own: tuple[slice, ...], buffer: Array, which: Array | None = None) -> None:
    """Copy the given sequences, counted in C order, of an array of any layout and dtype into the buffer; `own` cuts its last axes."""
    leading = array.shape[: array.ndim - len(own)]
    index: tuple[Any, ...] = (None,)
    if len(leading) == 1 and which is None:
        index = (slice(first, first + count),)
    elif leading:
        index = np.unravel_index(np.arange(first, first + count) if which is None else which, leading)
    piece = array[(*index, *own)]
    assign(buffer[: piece.size].reshape(piece.shape), piece)


def assign(target: Array, value: Array) -> None:
    """Copy with conversion; what is out of the target's range becomes infinite or zero."""
    if value.dtype == target.dtype:
        target[...] = value
        return
    with np.errstate(all="ignore"):
        target[...] = value
