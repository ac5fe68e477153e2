"""The steps of an Elman layer: s_t = f(W s_{t-1} + p_t), p_t being U x_t + b."""

from .jit import FULL, HALF, ONE, ROWS, inline, operation
from .records import CHUNK, JOB, LAYER, invoke_activation, invoke_one
from .recurrent import activate, factors_of, gate_at, part_at
from .tile import add_product, add_products, ahead, at, lanes_of, load, store, zeros_like


@inline
def step_panel(previous, current, size, half, weights, vectors):
    width, rest, tile = vectors * lanes_of(previous), size - half, load(current, 0, 1, vectors)
    second, far = zeros_like(tile), ahead(weights, half * width)
    for k in range(rest):
        # both halves at once: one chain of sums would wait for itself
        tile = add_product(tile, ahead(weights, k * width), ahead(previous, k))
        second = add_product(second, ahead(far, k * width), ahead(previous, half + k))
    tile = add_products(tile, weights, previous, rest, half)
    store(current, 0, tile + second if rest else tile)


@inline
def step_one(previous, current, size, half, weights, left, right, backwards):
    lanes = lanes_of(previous)
    panel = FULL * lanes
    full = (right - left) // panel
    for i in range(full):
        column = left + (full - 1 - i if backwards else i) * panel
        step_panel(previous, ahead(current, column), size, half, ahead(weights, column * size), FULL)
    column = left + full * panel
    if right - column >= HALF * lanes:
        step_panel(previous, ahead(current, column), size, half, ahead(weights, column * size), HALF)
        column += HALF * lanes
    if right - column >= lanes:
        step_panel(previous, ahead(current, column), size, half, ahead(weights, column * size), ONE)


@inline
def step_together(layer, job, chunk, count):
    """Step the first `count` sequences side by side, whole tiles of them."""
    factors, left = factors_of(layer, chunk, count), job.itemsize * chunk.left
    factors.weights = gate_at(layer, job, chunk, 0)
    for t in range(chunk.at, chunk.at + chunk.steps):
        current = part_at(layer, job, chunk, t, 0)
        factors.x, factors.start, factors.out = part_at(layer, job, chunk, t - 1, 0), current + left, current + left
        invoke_one(layer.product, factors)
        activate(layer, job, chunk, count, current, layer.activation, layer.parameters)


@operation(LAYER, JOB, CHUNK)
def elman(layer, job, chunk, like):
    # there (1 + span, together, stride)   the state before the first step, then for each step its projected input, replaced by the
    #                                      state after it: steps `at` to at + steps, columns left to right
    stride, together, left, right = layer.stride, chunk.together, chunk.left, chunk.right
    size, half, weights, item = layer.output_size, layer.half, at(layer.weight_hh, like), job.itemsize
    full, step = together - together % ROWS, together * stride
    if full:
        step_together(layer, job, chunk, full)
    for n in range(full, together):
        rows = ahead(at(chunk.there, like), n * stride)
        for t in range(chunk.at, chunk.at + chunk.steps):
            previous = ahead(rows, t * step)
            current = ahead(previous, step)
            # every other step backwards: the panels read last are still in L1
            step_one(previous, current, size, half, weights, left, right, t % 2 == 1)
            if layer.activation:
                values = chunk.there + item * (n * stride + (t + 1) * step + left)
                invoke_activation(layer.activation, values, right - left, layer.parameters)
