"""Softmax and its logarithm over rows: stable for any finite logits, with the same bits on every CPU."""

import numpy as np

from .layout import BLOCK
from .options import inline, operation
from .records import CHUNK, JOB, LAYER
from .simd.elementary import exp, log
from .simd.tile import ahead, at, cut_off, lanes_of, largest, load, load_elements, maximum, splat_like, store, total, zeros_like


@inline
def normalize(rows, stride, count, size, logarithm):
    # rows (count, size)   logits, replaced; a row every `stride` elements, a multiple of BLOCK
    lanes = lanes_of(rows)
    end = (size + BLOCK - 1) // BLOCK * BLOCK
    for n in range(count):
        row = ahead(rows, n * stride)
        highest = cut_off(load_elements(row, BLOCK), size, -np.inf)
        for i in range(BLOCK, end, BLOCK):
            highest = maximum(cut_off(load_elements(ahead(row, i), BLOCK), size - i, -np.inf), highest)
        shift = largest(highest)
        if logarithm and not -np.inf < shift < np.inf:
            shift = np.float32(0)  # of the narrower type, to which a float32 shift stays true
        sums = zeros_like(highest)
        for i in range(0, end, BLOCK):
            block = cut_off(load_elements(ahead(row, i), BLOCK), size - i, -np.inf) - shift
            powers = exp(block)
            sums = sums + powers
            store(ahead(row, i), 0, block if logarithm else powers)
        if logarithm:
            subtrahend = log(splat_like(load(row, 0, 1, 1), total(sums)))
            for i in range(0, end, lanes):
                store(ahead(row, i), 0, load(ahead(row, i), 0, 1, 1) - subtrahend)
        else:
            inverse = 1.0 / total(sums)
            for i in range(0, end, lanes):
                store(ahead(row, i), 0, load(ahead(row, i), 0, 1, 1) * inverse)


@operation(LAYER, JOB, CHUNK)
def softmax(layer, job, chunk, like):
    normalize(at(chunk.rows, like), layer.stride, chunk.own_steps * chunk.together, layer.output_size, False)


@operation(LAYER, JOB, CHUNK)
def log_softmax(layer, job, chunk, like):
    normalize(at(chunk.rows, like), layer.stride, chunk.own_steps * chunk.together, layer.output_size, True)
