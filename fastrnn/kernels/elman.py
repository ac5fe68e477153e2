"""The timestep loop of an Elman layer: s_t = f(W s_{t-1} + p_t), p_t being U x_t + b."""

from .elementary import activate
from .jit import inline
from .product import FULL, HALF, ONE, product
from .tile import ROWS, add_products, ahead, lanes_of, load, store, zeros_like


@inline
def step_panel(previous, current, size, half, weights, width, vectors):
    tile = load(current, 0, 1, vectors)
    if half < size:
        # both halves at once: one chain of sums would wait for itself
        second, far, rest = zeros_like(tile), ahead(weights, half * width), size - half
        for k in range(rest):
            tile = add_products(tile, ahead(weights, k * width), width, ahead(previous, k), 0, 1)
            second = add_products(second, ahead(far, k * width), width, ahead(previous, half + k), 0, 1)
        tile = add_products(tile, ahead(weights, rest * width), width, ahead(previous, rest), 0, half - rest)
        tile = tile + second
    else:
        tile = add_products(tile, weights, width, previous, 0, size)
    store(current, 0, tile)


@inline
def recur_one(rows, stride, steps, size, half, weights, columns, activation):
    lanes = lanes_of(rows)
    panel = FULL * lanes
    full = columns // panel
    for t in range(steps):
        previous = ahead(rows, t * stride)
        current = ahead(previous, stride)
        for i in range(full):
            # every other step backwards: the panels read last are still in L1
            column = (i if t % 2 == 0 else full - 1 - i) * panel
            step_panel(previous, ahead(current, column), size, half, ahead(weights, column * size), panel, FULL)
        column = full * panel
        if columns - column >= HALF * lanes:
            step_panel(previous, ahead(current, column), size, half, ahead(weights, column * size), HALF * lanes, HALF)
            column += HALF * lanes
        if columns - column >= lanes:
            step_panel(previous, ahead(current, column), size, half, ahead(weights, column * size), lanes, ONE)
        activate(current, columns, activation)


@inline
def recur(rows, stride, count, steps, size, half, weights, columns, activation):
    # rows (1 + steps, count, columns)   a row every `stride` elements: the state before the first step,
    #                                    then for each step its projected input, replaced by the state after it
    # weights                            weight_hh packed; read only
    together = count - count % ROWS
    step = count * stride
    if together:
        for t in range(steps):
            previous = ahead(rows, t * step)
            current = ahead(previous, step)
            product(previous, stride, together, size, half, weights, columns, current, stride, current, stride)
            activate(current, together * stride, activation)
    for n in range(together, count):
        recur_one(ahead(rows, n * stride), step, steps, size, half, weights, columns, activation)
