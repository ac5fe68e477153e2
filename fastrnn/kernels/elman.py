"""The timestep loop of an Elman layer: s_t = f(W s_{t-1} + p_t), p_t being U x_t + b."""

from .elementary import activate
from .jit import function, inline
from .product import FULL, HALF, ONE, product
from .team import meet
from .tile import ROWS, add_products, ahead, lanes_of, load, store, zeros_like

WORTH_SHARING = 1 << 16  # multiplications a step: with fewer, two threads take longer to meet at each step than one does to work alone


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
def step_one(previous, current, size, half, weights, first, last, backwards):
    lanes = lanes_of(previous)
    panel = FULL * lanes
    full = (last - first) // panel
    for i in range(full):
        column = first + (full - 1 - i if backwards else i) * panel
        step_panel(previous, ahead(current, column), size, half, ahead(weights, column * size), panel, FULL)
    column = first + full * panel
    if last - column >= HALF * lanes:
        step_panel(previous, ahead(current, column), size, half, ahead(weights, column * size), HALF * lanes, HALF)
        column += HALF * lanes
    if last - column >= lanes:
        step_panel(previous, ahead(current, column), size, half, ahead(weights, column * size), lanes, ONE)


@function
def own_columns(columns, panel, member, members):
    """Where a member's columns begin and end, whole panels of them; none are those of a member that has left."""
    panels = (columns + panel - 1) // panel
    if members < 2:
        return 0, columns * members
    return panels * member // members * panel, min(panels * (member + 1) // members * panel, columns)


@inline
def recur(rows, stride, count, steps, size, half, weights, columns, activation, team, member, members, time):
    # rows (1 + steps, count, columns)   a row every `stride` elements: the state before the first step,
    #                                    then for each step its projected input, replaced by the state after it
    # weights                            weight_hh packed; read only
    sharing, panel = members > 1 and count * columns * size >= WORTH_SHARING, FULL * lanes_of(rows)
    first, last = 0, columns
    if member and not sharing:
        steps = 0
    together = count - count % ROWS
    step = count * stride
    if together:
        for t in range(steps):
            if sharing:
                first, last = own_columns(columns, panel, member, members)
            previous = ahead(rows, t * step)
            current = ahead(previous, step)
            product(
                previous, stride, together, size, half, ahead(weights, first * size), last - first, ahead(current, first), stride,
                ahead(current, first), stride,
            )  # fmt: skip
            for n in range(together if sharing else 1):
                activate(ahead(current, n * stride + first), last - first if sharing else together * stride, activation)
            if sharing:
                time, members = meet(team, member, members, time)
    for n in range(together, count):
        for t in range(steps):
            if sharing:
                first, last = own_columns(columns, panel, member, members)
            previous = ahead(rows, t * step + n * stride)
            current = ahead(previous, step)
            # every other step backwards: the panels read last are still in L1
            step_one(previous, current, size, half, weights, first, last, t % 2 == 1)
            activate(ahead(current, first), last - first, activation)
            if sharing:
                time, members = meet(team, member, members, time)
    return meet(team, member, members, time)
