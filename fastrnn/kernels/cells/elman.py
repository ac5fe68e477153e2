"""The steps of an Elman layer: s_t = f(W s_{t-1} + p_t), p_t being U x_t + b."""

from ..options import ROWS, inline
from ..records import invoke_activation, invoke_one
from ..simd.tile import ahead, at
from .recurrent import activate_here, cell, factors_of, gate_at, part_at, row_product


@inline
def step_together(layer, job, chunk, count):
    """Step the first `count` sequences side by side, whole tiles of them."""
    factors, left = factors_of(layer, chunk, count), job.itemsize * chunk.left
    factors.weights = gate_at(layer, job, chunk, 0)
    for t in range(chunk.at, chunk.at + chunk.steps):
        current = part_at(layer, job, chunk, t, 0)
        # 1. W s_{t-1} + p_t
        factors.x, factors.start, factors.out = part_at(layer, job, chunk, t - 1, 0), current + left, current + left
        invoke_one(layer.product, factors)
        # 2. f
        activate_here(layer, job, chunk, count, current, layer.activation, layer.parameters)


@cell(gates=1, row_slots=1, state_arrays=1, phases=1)
def elman(layer, job, chunk, like):
    # there (1 + span, together, stride)   the state before the first step, then for each step its projected input, replaced by the
    #                                      state after it: steps `at` to at + steps, columns left to right
    stride, together, left, right = layer.stride, chunk.together, chunk.left, chunk.right
    size, half, weights, item = layer.output_size, layer.half, at(layer.weight_hh, like), job.itemsize
    full, step = together - together % ROWS, together * stride
    if full:
        step_together(layer, job, chunk, full)
    for n in range(full, together):
        rows = ahead(at(chunk.output_rows, like), n * stride)
        for t in range(chunk.at, chunk.at + chunk.steps):
            previous = ahead(rows, t * step)
            current = ahead(previous, step)
            # 1. W s_{t-1} + p_t; every other step backwards: the panels read last are still in L1
            row_product(previous, current, current, size, half, weights, (left, right, t % 2 == 1))
            # 2. f
            if layer.activation:
                values = chunk.output_rows + item * (n * stride + (t + 1) * step + left)
                invoke_activation(layer.activation, values, right - left, layer.parameters)
