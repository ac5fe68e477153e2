"""What the steps of recurrent layers have in common: the address of a slot, the product of a gate, and its activation.

A step works on the columns left to right of every slot, and on all sequences of the chunk; other threads may have the other columns.
"""

from ..layout import Cell, check_kernel
from ..options import FULL, HALF, ONE, ROWS, function, inline, operation
from ..records import CHUNK, JOB, LAYER, fresh_factors, invoke_activation, invoke_one
from ..simd.tile import add_product, add_products, ahead, at, lanes_of, load, store, zeros_like


def cell(**row):
    """Declare a cell's operation, and the row that it needs in `CELLS`; with another row it would compute something else."""

    def declare(python_function):
        check_kernel(python_function.__name__, Cell(python_function.__module__, **row))
        return operation(LAYER, JOB, CHUNK)(python_function)

    return declare


@inline
def part_at(layer, job, chunk, t, part):
    """Return the address of slot `part` in the rows of step t. Step -1 is the state before the first step."""
    return chunk.output_rows + job.itemsize * ((t + 1) * chunk.together * layer.stride + part * layer.columns)


@inline
def gate_at(layer, job, chunk, gate):
    """Return the address of a gate's packed recurrent weights."""
    return layer.weight_hh + job.itemsize * (gate * layer.columns + chunk.left) * layer.output_size


@inline
def factors_of(layer, chunk, count):
    """Fill in the sizes of a product of the first `count` rows with a gate. The caller adds the addresses."""
    factors = fresh_factors()
    factors.count, factors.size, factors.half, factors.columns = count, layer.output_size, layer.half, chunk.right - chunk.left
    factors.x_stride, factors.start_stride, factors.out_stride = layer.stride, layer.stride, layer.stride
    return factors


@inline
def row_panel(x, start, out, size, half, weights, vectors):
    width, rest, tile = vectors * lanes_of(x), size - half, load(start, 0, 1, vectors)
    second, far = zeros_like(tile), ahead(weights, half * width)
    for k in range(rest):
        # both halves side by side: in a single chain each sum would wait for the one before
        tile = add_product(tile, ahead(weights, k * width), ahead(x, k))
        second = add_product(second, ahead(far, k * width), ahead(x, half + k))
    tile = add_products(tile, weights, x, rest, half)
    store(out, 0, tile + second if rest else tile)


@inline
def row_product(x, start, out, size, half, weights, window):
    """Add the product of one row with packed weights to `start`, in a window: columns left to right, or backwards."""
    left, right, backwards = window
    lanes = lanes_of(x)
    panel = FULL * lanes
    full = (right - left) // panel
    for i in range(full):
        column = left + (full - 1 - i if backwards else i) * panel
        row_panel(x, ahead(start, column), ahead(out, column), size, half, ahead(weights, column * size), FULL)
    column = left + full * panel
    if right - column >= HALF * lanes:
        row_panel(x, ahead(start, column), ahead(out, column), size, half, ahead(weights, column * size), HALF)
        column += HALF * lanes
    if right - column >= lanes:
        row_panel(x, ahead(start, column), ahead(out, column), size, half, ahead(weights, column * size), ONE)


@inline
def activate_here(layer, job, chunk, count, values, activation, parameters):
    """Apply an activation, given with its parameters, to a slot of the first `count` rows, which begin at an address."""
    width = chunk.right - chunk.left
    if activation and width == layer.stride:
        invoke_activation(activation, values, count * width, parameters)
    elif activation:
        for n in range(count):
            invoke_activation(activation, values + job.itemsize * (n * layer.stride + chunk.left), width, parameters)


@function
def activate(layer, job, chunk, count, values, activation, parameters):
    """The same, compiled once for a step that has several activations."""
    activate_here(layer, job, chunk, count, values, activation, parameters)


@function
def multiply(layer, chunk, factors, backwards, like):
    """Compute products of all rows: whole tiles by the product's operation, then row by row, which is faster for few."""
    factors.count = chunk.together - chunk.together % ROWS
    if factors.count:
        invoke_one(layer.product, factors)
    x, start, out = at(factors.x, like), at(factors.start, like), at(factors.out, like)
    weights, window = at(factors.weights, like), (0, factors.columns, backwards)
    for n in range(factors.count, chunk.together):
        here, there = ahead(x, n * factors.x_stride), ahead(out, n * factors.out_stride)
        row_product(here, ahead(start, n * factors.start_stride), there, factors.size, factors.half, weights, window)


@inline
def add_gates(layer, job, chunk, t, gates, factors, like):
    """Add the products of the rows at factors.x with the gates first to last to these gates' slots of the rows of step t."""
    first, last = gates
    backwards, item = t % 2 == 1, job.itemsize
    for i in range(first, last):
        gate = first + last - 1 - i if backwards else i  # every other step backwards: the panels read last are still in L1
        factors.weights = gate_at(layer, job, chunk, gate)
        factors.start = factors.out = part_at(layer, job, chunk, t, gate) + item * chunk.left
        multiply(layer, chunk, factors, backwards, like)


@inline
def row_at(layer, part, n, like):
    """Return a pointer to sequence n's row, from the address of a slot."""
    return ahead(at(part, like), n * layer.stride)


@inline
def vector(row, columns, part, i):
    """Read a register from column i on of a row's slot."""
    return load(ahead(row, part * columns + i), 0, 1, 1)
