"""How a call is cut into bounded pieces of work, and which threads work on what."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..arguments import Array
from ..kernels.layout import MOST_WORKERS, TOGETHER
from ..native import machine_code
from .packing import Network, rows_that_fit
from .threads import get_num_threads

CONVERTED = 1 << 20  # bytes of x converted at a time
# Multiplications a kernel call, of each thread and of all: 50 ms, and below a second where no helper comes
WORK, MOST_WORK = 200_000_000, 800_000_000
SLOWER = 4  # times, without hardware for fma; workers don't lengthen a call there
OUTPUT = 32  # multiplications that an output may take as long as: an exponential, and a page that the system gives and clears

MOST_BY_STEPS = 7  # threads that share every step all wait at every step's barrier
WORTH_HELP = 1 << 26  # bytes of weights to multiply by, 0.3 ms: with less, help comes too late, unless a worker is spinning
WORTH_PROMPT_HELP = 1 << 21  # for each spinning worker: 7 to 15 us
# The same of what is shared step by step: as long, where a recurrent layer is, for its weights come from L2 or beyond at every step;
# twice as much, where only the products without a state are.
WORTH_PROMPT_STEPS, WORTH_PROMPT_PRODUCTS = 3 << 18, 1 << 22
# Threads share one sequence only where a quarter of its work can be shared. With less, two threads save less than an eighth of the call,
# and its rows go from cache to cache: an LSTM of 40 units with I 1 took 1.09 to 1.16 times as long on two threads.
LEAST_SHARED = 4
WARM_UP = 8_000_000  # multiplications before the workers that share steps must be there
FEW_SEQUENCES, LARGE = 16, 1 << 23  # bytes of weight_hh: with more, half of them for all sequences is faster than all for half of those
FEW_SIDE_BY_SIDE = 16  # sequences: more fill tiles on both threads
SHARED = 1 << 18  # bytes of weight_hh: with fewer, a barrier at every step takes longer than sharing saves


class Piece(NamedTuple):
    """Some steps of some sequences: one kernel call."""

    first: int
    sequences: int
    start: int
    span: int
    block: int  # sequences side by side
    indices: Array | None  # the sequences' numbers, where they differ in length
    remaining: Array | None  # how many steps each has from `start` on


class Plan(NamedTuple):
    """A call cut into pieces."""

    sequences: int
    steps: int
    workers: int
    by_steps: bool
    width: int  # elements of a row in the workspace
    rows: int  # of a layer in the workspace
    together: int  # sequences whose next step is converted together at least
    sequences_per_piece: int  # sequences of a piece
    length: int  # steps of a piece
    warm_up: int  # steps of the first piece
    order: Array | None  # the sequences' numbers, the longest first
    lengths: Array | None  # in that order

    @property
    def threads(self) -> int:
        """How many threads take sequences of their own."""
        return 1 if self.by_steps else self.workers + 1

    def pieces(self) -> Iterator[Piece]:
        """Go over sequences and their steps."""
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
    """Input that has another dtype or layout than the engine reads, and is converted piece by piece."""

    step: int  # bytes of a sequence's step when converted, further steps included that a piece of one step needs
    whole: int  # bytes of all of it

    def buffer(self, together: int) -> int:
        """How many bytes are converted at a time, steps of so many sequences at least."""
        return min(self.whole, max(self.step * together, CONVERTED))


class Demand(NamedTuple):
    """What a call asks for, as far as its plan depends on it."""

    sequences: int
    steps: int
    fed_back: bool  # each output is the next input
    lengths: Array | None
    gathered: bool  # rows of x are brought together in the workspace
    conversion: Conversion | None
    alone: bool = False  # no thread helps


def plan_call(network: Network, demand: Demand) -> Plan:
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
    """Who helps with what is done in one kernel call."""

    workers: int
    by_steps: bool
    prompt: bool  # whether only those who spin
    ever: bool  # whether anyone helps, where there are threads enough


def is_short(network: Network, sequences: int, steps: int) -> bool:
    """Return whether all steps are work for one kernel call, with the help of no workers but those that spin."""
    return 0 < sequences * steps * network.work * network.dtype.itemsize < WORTH_HELP


def help_for(network: Network, sequences: int, steps: int, threads: int) -> Help | None:
    """Return which of so many threads help with all steps in one kernel call; None where one call won't do."""
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
    """Tell how many of the threads are to help, and whether they share in every step or take sequences in turn."""
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
    """Tell whether two networks over the same sequences are done soonest side by side, each by one thread."""
    work = sum([network.work * network.dtype.itemsize for network in networks])
    if get_num_threads() == 1 or sequences * steps * work < WORTH_HELP or sequences > FEW_SIDE_BY_SIDE:
        return False
    return all(division(network, sequences, steps, fed_back=False)[0] < 2 for network in networks)


def longest_first(lengths: Array) -> tuple[Array, Array]:
    """Give the sequences' numbers, the longest first, and their lengths in that order."""
    order = (-lengths).argsort(kind="stable")
    return order, lengths[order]


def cut(sequences: int, steps: int, work: int, most: int, together: int) -> tuple[int, int]:
    """Tell how many sequences, and how many of their steps, make a piece of work of at most `most`, or a single step of `together`."""
    if sequences * steps * work <= most:
        return sequences, steps
    per_piece = min(max(together, most // max(1, steps * work) // together * together), sequences)
    return per_piece, max(1, most // (per_piece * work))


def side_by_side(count: int, rows: int, threads: int) -> int:
    """Cut sequences into blocks of so many at most: as many blocks for each thread, and tiles as full as can be."""
    most, tile = min(rows // 2, TOGETHER), machine_code.shape().rows
    size = -(-count // (-(-count // (most * threads)) * threads))
    return min(most, size if size < tile else -(-size // tile) * tile)


def deal(count: int, block: int) -> Array:
    """Order sequences, the longest first, anew: every block gets long and short ones, the longest first."""
    blocks = -(-count // block)
    last = count - (blocks - 1) * block
    place = np.arange(count)
    level, after, others = place < last * blocks, place - last * blocks, max(blocks - 1, 1)
    taker = np.where(level, place % blocks, after % others)
    slot = np.where(level, place // blocks, last + after // others)
    return np.argsort(taker * block + slot)
