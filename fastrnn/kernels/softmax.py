"""Softmax and its logarithm over rows: stable for any finite logits, with the same bits on every CPU."""

import numpy as np

from .elementary import exp, log
from .jit import function
from .tile import largest, load, load_elements, lanes_of, maximum, splat_like, store, total, zeros_like

BLOCK = 32  # a row is summed in 32 interleaved partial sums, whatever the registers' width


@function
def softmax(rows, at, stride, count, size, logarithm):
    # rows (count, size)   from `at`, a row every `stride` elements, a multiple of BLOCK; logits, replaced
    lanes = lanes_of(rows)
    for row in range(at, at + count * stride, stride):
        end = row + (size + BLOCK - 1) // BLOCK * BLOCK
        for i in range(row + size, end):
            rows[i] = -np.inf
        highest = load_elements(rows, row, 0, 1, BLOCK)
        for i in range(row + BLOCK, end, BLOCK):
            highest = maximum(load_elements(rows, i, 0, 1, BLOCK), highest)
        shift = largest(highest)
        if logarithm and not -np.inf < shift < np.inf:
            shift = np.float32(0)
        sums = zeros_like(highest)
        for i in range(row, end, BLOCK):
            block = load_elements(rows, i, 0, 1, BLOCK) - shift
            powers = exp(block)
            sums = sums + powers
            store(rows, i, 0, block if logarithm else powers)
        if logarithm:
            subtrahend = log(splat_like(load(rows, row, 0, 1, 1), total(sums)))
            for i in range(row, end, lanes):
                store(rows, i, 0, load(rows, i, 0, 1, 1) - subtrahend)
        else:
            inverse = 1.0 / total(sums)
            for i in range(row, end, lanes):
                store(rows, i, 0, load(rows, i, 0, 1, 1) * inverse)
