"""Random calls whose arrays all lie beside pages of memory that can't be read."""

import dataclasses

import numpy as np

import fastrnn

from ..cases import DTYPES
from ..guarded import check, notebook, place
from ..situations import ALL, TELLERS
from .children import say, survives
from .work import pick, situation

NUMBER = 30  # of situations a round


def pages(rng, counts):
    """Models of any layers, sizes and dtypes, on one thread or several, with arrays at the end or at the beginning of a page."""
    said = survives(beside_pages, rng, int(rng.integers(2)), int(rng.integers(1, 4)))
    counts["calls"] += len(said)


def beside_pages(seed, last, threads):
    rng, placed = np.random.default_rng(seed), place(last=bool(last))
    fastrnn.set_num_threads(threads)
    for _ in range(NUMBER):
        closed = bool(rng.integers(2))
        drawn = situation(rng, TELLERS if closed else ALL, closed=closed)
        s = dataclasses.replace(drawn, leading=(int(rng.integers(1, 12)),), steps=int(rng.integers(2, 12)))
        say(f"{s}, last={last}")
        check(s, placed)
        sizes, dtype = tuple(map(int, rng.integers(1, 150, 3))), pick(rng, DTYPES)
        say(f"rnn_forward {sizes} {dtype}, last={last}")
        notebook(sizes, dtype, placed)
