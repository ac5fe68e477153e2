"""The timestep loop of an Elman layer: s_t = f(W s_{t-1} + p_t), p_t being U x_t + b."""

from .elementary import activate, activated
from .jit import function, inline
from .product import FULL, HALF, ONE, product
from .tile import ROWS, add_products, lanes_of, load, store, zeros_like


@inline
def step_panel(rows, previous, current, size, half, weights, at, width, activation, vectors):
    tile = load(rows, current, 0, 1, vectors)
    if half < size:
        # both halves at once: one chain of sums would wait for itself (H 64: 79 ns a step against 97)
        second = zeros_like(tile)
        for k in range(size - half):
            tile = add_products(tile, weights, at + k * width, width, rows, previous + k, 0, 1)
            second = add_products(second, weights, at + (half + k) * width, width, rows, previous + half + k, 0, 1)
        tile = add_products(tile, weights, at + (size - half) * width, width, rows, previous + size - half, 0, 2 * half - size)
        tile = tile + second
    else:
        tile = add_products(tile, weights, at, width, rows, previous, 0, size)
    store(rows, current, 0, activated(tile, activation))


@function
def recur_one(rows, at, stride, steps, size, half, weights, weights_at, columns, activation):
    lanes = lanes_of(weights)
    panel = FULL * lanes
    full = columns // panel
    for t in range(steps):
        previous = at + t * stride
        current = previous + stride
        for i in range(full):
            # every other step backwards: the panels read last are still in L1
            column = (i if t % 2 == 0 else full - 1 - i) * panel
            step_panel(rows, previous, current + column, size, half, weights, weights_at + column * size, panel, activation, FULL)
        column = full * panel
        if columns - column >= HALF * lanes:
            step_panel(
                rows, previous, current + column, size, half, weights, weights_at + column * size, HALF * lanes, activation, HALF
            )
            column += HALF * lanes
        if columns - column >= lanes:
            step_panel(rows, previous, current + column, size, half, weights, weights_at + column * size, lanes, activation, ONE)


@function
def recur(rows, at, stride, count, steps, size, half, weights, weights_at, columns, activation):
    # rows (1 + steps, count, columns)   from `at`, a row every `stride` elements: the state before the first step,
    #                                    then for each step its projected input, replaced by the state after it
    # weights                            weight_hh packed, from weights_at; read only
    together = count - count % ROWS
    step = count * stride
    if together:
        for current in range(at + step, at + (steps + 1) * step, step):
            product(
                rows, current - step, stride, together, size, half, weights, weights_at, columns,
                rows, current, stride, rows, current, stride,
            )  # fmt: skip
            activate(rows, current, together * stride, activation)
    for n in range(together, count):
        recur_one(rows, at + n * stride, step, steps, size, half, weights, weights_at, columns, activation)
