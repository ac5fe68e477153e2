"""Plan a call: cut it into pieces of work, each one kernel call of bounded length, and choose the number of threads."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..arguments import Array
from ..kernels.layout import MOST_WORKERS, TOGETHER
from ..native import machine_code
from .packing import Network, rows_that_fit
from .threads import get_num_threads

CONVERTED = 1 << 20  # bytes of x that are converted together
# Multiplications of a kernel call, for each thread and in all: 50 ms, and less than a second if no worker comes
WORK, MOST_WORK = 200_000_000, 800_000_000
SLOWER = 4  # times, on processors without fma: there a kernel call has WORK // SLOWER multiplications, on any number of threads
OUTPUT = 32  # multiplications that an output counts as: it may cost an exponential, and a new page that the system clears

MOST_BY_STEPS = 7  # workers that share steps: they all wait at every step's barrier
WORTH_HELP = 1 << 26  # bytes of weights to multiply by, 0.3 ms: with less, only a worker that is spinning comes in time
WORTH_PROMPT_HELP = 1 << 21  # the same for each spinning worker: 7 to 15 us
# The same for work that is shared step by step. A recurrent layer needs fewer bytes for the same time, for its weights come from L2 or
# beyond at every step. If only products without a state are shared, twice as many bytes are needed.
WORTH_PROMPT_STEPS, WORTH_PROMPT_PRODUCTS = 3 << 18, 1 << 22
# Threads share one sequence only if a quarter of its work can be shared. With less, two threads save less than an eighth of the call,
# and its rows move from cache to cache: an LSTM of 40 units with I 1 took 1.09 to 1.16 times as long on two threads.
LEAST_SHARED = 4
WARM_UP = 8_000_000  # multiplications of the first piece if steps are shared: workers that wake too late for it join the second
FEW_SEQUENCES, LARGE = 16, 1 << 23  # bytes of weight_hh: above, half the weights for all sequences beats all weights for half of them
FEW_SIDE_BY_SIDE = 16  # sequences: more than these fill tiles on both threads
SHARED = 1 << 18  # bytes of weight_hh: with fewer, a barrier at every step costs more than sharing saves


class Piece(NamedTuple):
    """A piece of work: some steps of some sequences, done in one kernel call."""

    first: int
    sequences: int
    start: int
    span: int
    block: int  # sequences that are stepped side by side, at most
    indices: Array | None  # the sequences' numbers; None if no lengths are given
    remaining: Array | None  # steps of each sequence from `start` on; None if no lengths are given


class Plan(NamedTuple):
    """A call cut into pieces."""

    sequences: int
    steps: int
    workers: int
    by_steps: bool
    width: int  # elements of a row in the workspace
    rows: int  # rows of a layer in the workspace
    together: int  # sequences: at least one step of so many is converted together
    sequences_per_piece: int  # sequences in a piece
    length: int  # steps in a piece
    warm_up: int  # steps in the first piece
    order: Array | None  # the sequences' numbers, longest first; None if no lengths are given
    lengths: Array | None  # in that order

    @property
    def threads(self) -> int:
        """Return the number of threads that claim sequences: one if threads share steps, for then all work on the same sequences."""
        return 1 if self.by_steps else self.workers + 1

    def pieces(self) -> Iterator[Piece]:
        """Yield all pieces: for each group of sequences, its steps in order."""
        for first in range(0, self.sequences, self.sequences_per_piece):
            count, start, span = min(self.sequences_per_piece, self.sequences - first), 0, 0
            while (start := start + span) < self.steps:
                span = min(self.length if first or start else self.warm_up, self.steps - start)
                piece = self.piece(first, count, start, span)
                if piece.sequences:
                    yield piece

    def piece(self, first: int, count: int, start: int, span: int) -> Piece:
        if self.order is None or self.lengths is None:
            return Piece(first, count, start, span, side_by_side(count, self.rows, self.threads), None, None)
        left = self.lengths[first : first + count] - start
        count = int(np.count_nonzero(left > 0))
        if not count:
            return Piece(first, 0, start, span, 1, None, None)
        block = side_by_side(count, self.rows, self.threads)
        dealt = deal(count, block) if self.threads > 1 else np.arange(count)
        return Piece(first, count, start, span, block, self.order[first + dealt], left[dealt])


class Conversion(NamedTuple):
    """Sizes for an x that kernels can't read in place: it is converted piece by piece."""

    step: int  # bytes of a sequence in a piece of one step, when converted
    whole: int  # bytes of all of x, when converted

    def buffer(self, together: int) -> int:
        """Return the conversion buffer's bytes: at least one step of `together` sequences, at most all of x."""
        return min(self.whole, max(self.step * together, CONVERTED))


class Demand(NamedTuple):
    """What the plan of a call depends on, besides the network."""

    sequences: int
    steps: int
    fed_back: bool  # whether each output is the next input
    lengths: Array | None
    gathered: bool  # whether rows of x are gathered in the workspace
    conversion: Conversion | None
    alone: bool = False  # whether one thread does all


def plan_call(network: Network, demand: Demand) -> Plan:
    """Return the plan of a call."""
    workers, by_steps = 0, False
    if not demand.alone:
        workers, by_steps = division(network, demand.sequences, demand.steps, fed_back=demand.fed_back)
    width, rows, itemsize = network.widest, network.rows, network.dtype.itemsize
    if demand.gathered and network.input_size > width:
        width, rows = network.input_size, rows_that_fit(network.input_size, itemsize)
    threads = 1 if by_steps else workers + 1
    together, most = min(rows // 2, TOGETHER) * threads, WORK if by_steps else min(WORK * threads, MOST_WORK)
    if not machine_code.shape().has_fma:
        most = WORK // SLOWER
    work = network.work + OUTPUT * network.output_size
    if demand.conversion:
        together = max(1, min(together, CONVERTED // demand.conversion.step))
        buffer = demand.conversion.buffer(together)
        if buffer < demand.conversion.whole:
            work = max(work, -(-most * demand.conversion.step // buffer))
    steps, order, lengths = demand.steps, None, None
    if demand.lengths is not None:
        order, lengths = longest_first(demand.lengths)
        steps = int(lengths[0])
    per_piece, length = cut(demand.sequences, steps, work, most, together)
    warm_up = min(length, max(1, WARM_UP // work)) if workers and by_steps else length
    return Plan(demand.sequences, steps, workers, by_steps, width, rows, together, per_piece, length, warm_up, order, lengths)


class Help(NamedTuple):
    """How workers help with a call that is one kernel call."""

    workers: int
    by_steps: bool
    prompt: bool  # whether only workers that are spinning help
    ever: bool  # whether some number of threads would bring help


def is_short(network: Network, sequences: int, steps: int) -> bool:
    """Return whether a call has work, but so little that it is one kernel call and only workers that are spinning can help."""
    return 0 < sequences * steps * network.work * network.dtype.itemsize < WORTH_HELP


def help_for(network: Network, sequences: int, steps: int, threads: int) -> Help | None:
    """Return how workers help if one kernel call does all steps, on `threads` threads at most. None if one kernel call is not enough."""
    if is_short(network, sequences, steps):
        counts = threads, 2, MOST_WORKERS
        divided = [division(network, sequences, steps, fed_back=False, prompt=True, threads=count) for count in counts]
        return Help(*divided[0], True, any(workers for workers, _ in divided))
    workers, by_steps = division(network, sequences, steps, fed_back=False, threads=threads)
    work = sequences * steps * (network.work + OUTPUT * network.output_size)
    if not workers or by_steps or not machine_code.shape().has_fma or work > min(WORK * (workers + 1), MOST_WORK):
        return None
    return Help(workers, False, False, True)


def division(
    network: Network, sequences: int, steps: int, *, fed_back: bool, prompt: bool = False, threads: int | None = None
) -> tuple[int, bool]:
    """Return the number of workers that help, and whether threads share every step; otherwise each claims blocks of sequences."""
    itemsize = network.dtype.itemsize
    worth = worth_steps = WORTH_HELP
    if prompt:
        worth, worth_steps = WORTH_PROMPT_HELP, WORTH_PROMPT_STEPS if network.shares else WORTH_PROMPT_PRODUCTS
    workers = sequences * steps * network.work * itemsize // min(worth, worth_steps)
    if not workers:
        return 0, False
    workers = min((threads or get_num_threads()) - 1, workers, MOST_WORKERS)
    largest = network.largest * itemsize
    few = sequences <= FEW_SEQUENCES and largest > LARGE
    fewer = workers + 1 < sequences < (workers + 1) * machine_code.shape().rows and largest >= SHARED
    if fed_back or not (sequences == 1 or few or fewer):
        return min(workers, sequences * steps * network.work * itemsize // worth, sequences - 1), False
    if network.shared_work * LEAST_SHARED < network.work:
        return 0, True
    return min(workers, sequences * steps * network.shared_work * itemsize // worth_steps, MOST_BY_STEPS), True


def worth_two_threads(networks: tuple[Network, Network], sequences: int, steps: int) -> bool:
    """Return whether two networks over the same sequences are fastest side by side, each on one thread."""
    work = sum([network.work * network.dtype.itemsize for network in networks])
    if get_num_threads() == 1 or sequences * steps * work < WORTH_HELP or sequences > FEW_SIDE_BY_SIDE:
        return False
    return all(division(network, sequences, steps, fed_back=False)[0] < 2 for network in networks)


def longest_first(lengths: Array) -> tuple[Array, Array]:
    """Return the sequences' numbers, longest first, and their lengths in that order."""
    order = (-lengths).argsort(kind="stable")
    return order, lengths[order]


def cut(sequences: int, steps: int, work: int, most: int, together: int) -> tuple[int, int]:
    """Return the sequences and the steps in a piece: at most `most` multiplications, but at least one step of `together` sequences."""
    if sequences * steps * work <= most:
        return sequences, steps
    per_piece = min(max(together, most // max(1, steps * work) // together * together), sequences)
    return per_piece, max(1, most // (per_piece * work))


def side_by_side(count: int, rows: int, threads: int) -> int:
    """Return the largest number of sequences in a block: every thread gets the same number of blocks, and tiles are as full as possible."""
    most, tile = min(rows // 2, TOGETHER), machine_code.shape().rows
    size = -(-count // (-(-count // (most * threads)) * threads))
    return min(most, size if size < tile else -(-size // tile) * tile)


def deal(count: int, block: int) -> Array:
    """Return a new order of sequences that are sorted longest first: each block gets long and short ones, longest first."""
    blocks = -(-count // block)
    last = count - (blocks - 1) * block
    place = np.arange(count)
    level, after, others = place < last * blocks, place - last * blocks, max(blocks - 1, 1)
    taker = np.where(level, place % blocks, after % others)
    slot = np.where(level, place // blocks, last + after // others)
    return np.argsort(taker * block + slot)
