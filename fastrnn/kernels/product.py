"""Packing of weights, and the product of rows with packed weights."""

from .jit import function, inline, kernel
from .tile import REGISTER_BITS, ROWS, VECTORS, add_products, lanes_of, load, store, zeros_like

FULL, HALF, ONE = VECTORS, max(VECTORS // 2, 1), 1


def panel_widths(size, itemsize):
    """Split `size` columns into panels of FULL, HALF or ONE vectors, zero-padded; three vectors of four make a full panel."""
    lanes = REGISTER_BITS // (8 * itemsize)
    vectors = -(-size // lanes)
    full, rest = divmod(vectors, FULL)
    if rest > HALF:
        full, rest = full + 1, 0
    return [FULL * lanes] * full + [HALF * lanes] * (rest // HALF) + [lanes] * (rest % HALF)


@kernel
def pack(weight, widths, packed, at):
    # weight (O, K)   read only
    # widths (P,)     columns of each panel
    # packed (size,)  receives from `at` the panels, each (K, width), zero past O
    outputs, size = weight.shape
    first = 0
    for width in widths:
        for column in range(first, min(first + width, outputs)):
            for k in range(size):
                packed[at + k * width + column - first] = weight[column, k]
        first += width
        at += size * width


@inline
def tile_product(x, x_at, x_stride, size, half, weights, at, width, start, start_at, start_stride, out, out_at, out_stride, rows, vectors):
    tile = load(start, start_at, start_stride, rows, vectors)
    tile = add_products(tile, weights, at, width, x, x_at, x_stride, half)
    if half < size:
        second = zeros_like(tile)
        second = add_products(second, weights, at + half * width, width, x, x_at + half, x_stride, size - half)
        tile = tile + second
    store(out, out_at, out_stride, tile)


@inline
def panel_product(
    x, x_at, x_stride, rows, size, half, weights, at, width, start, start_at, start_stride, out, out_at, out_stride, vectors
):
    row = 0
    while row + ROWS <= rows:
        tile_product(
            x, x_at + row * x_stride, x_stride, size, half, weights, at, width,
            start, start_at + row * start_stride, start_stride, out, out_at + row * out_stride, out_stride, ROWS, vectors,
        )  # fmt: skip
        row += ROWS
    while row < rows:
        tile_product(
            x, x_at + row * x_stride, 0, size, half, weights, at, width,
            start, start_at + row * start_stride, 0, out, out_at + row * out_stride, 0, 1, vectors,
        )  # fmt: skip
        row += 1


@function
def product(x, x_at, x_stride, rows, size, half, weights, at, columns, start, start_at, start_stride, out, out_at, out_stride):
    # x (rows, size)           from x_at, rows x_stride elements apart; read only
    # weights                  packed, from `at`; read only
    # start (rows, columns)    what the products are added to: start + first half of the sum, then + the second; read only
    # out (rows, columns)      receives the sums; may be start
    lanes = lanes_of(weights)
    column = 0
    while columns - column >= FULL * lanes:
        panel_product(
            x, x_at, x_stride, rows, size, half, weights, at + column * size, FULL * lanes,
            start, start_at + column, start_stride, out, out_at + column, out_stride, FULL,
        )  # fmt: skip
        column += FULL * lanes
    if columns - column >= HALF * lanes:
        panel_product(
            x, x_at, x_stride, rows, size, half, weights, at + column * size, HALF * lanes,
            start, start_at + column, start_stride, out, out_at + column, out_stride, HALF,
        )  # fmt: skip
        column += HALF * lanes
    if columns - column >= lanes:
        panel_product(
            x, x_at, x_stride, rows, size, half, weights, at + column * size, lanes,
            start, start_at + column, start_stride, out, out_at + column, out_stride, ONE,
        )  # fmt: skip
