"""Packing of weights, and the product of rows with packed weights."""

from .jit import function, inline, kernel
from .tile import REGISTER_BITS, ROWS, VECTORS, add_products, ahead, lanes_of, load, pointer, store, zeros_like

DEPTH = 128  # 4 vectors of a panel so deep are 32 KB: two thirds of L1; 154 GFLOP/s against 139 at H 256
FULL, HALF, ONE = VECTORS, max(VECTORS // 2, 1), 1


def padded(size, itemsize):
    """Columns of so many packed outputs: panels of FULL vectors, then HALF or ONE; three vectors of four make a full panel."""
    lanes = REGISTER_BITS // (8 * itemsize)
    vectors = -(-size // lanes)
    rest = vectors % FULL
    return (vectors - rest + (FULL if rest > HALF else rest)) * lanes


@kernel
def pack(weight, columns, packed, at):
    # weight (O, K)   read only
    # packed (size,)  receives from `at` the panels, each (K, width), zero past O
    outputs, size = weight.shape
    lanes = lanes_of(pointer(packed))
    column = 0
    for vectors in (FULL, HALF, ONE):
        width = vectors * lanes
        while columns - column >= width:
            for c in range(width):
                if column + c < outputs:
                    for k in range(size):
                        packed[at + k * width + c] = weight[column + c, k]
                else:
                    for k in range(size):
                        packed[at + k * width + c] = 0
            column += width
            at += size * width


@inline
def tile_product(x, x_stride, size, half, weights, width, start, start_stride, out, out_stride, rows, vectors):
    tile = add_products(load(start, start_stride, rows, vectors), weights, width, x, x_stride, half)
    if half < size:
        tile = tile + add_products(zeros_like(tile), ahead(weights, half * width), width, ahead(x, half), x_stride, size - half)
    store(out, out_stride, tile)


@inline
def panel_product(x, x_stride, count, size, half, weights, width, start, start_stride, out, out_stride, vectors):
    row = 0
    while row + ROWS <= count:
        tile_product(
            ahead(x, row * x_stride), x_stride, size, half, weights, width,
            ahead(start, row * start_stride), start_stride, ahead(out, row * out_stride), out_stride, ROWS, vectors,
        )  # fmt: skip
        row += ROWS
    while row < count:
        tile_product(
            ahead(x, row * x_stride), 0, size, half, weights, width,
            ahead(start, row * start_stride), 0, ahead(out, row * out_stride), 0, 1, vectors,
        )  # fmt: skip
        row += 1


@inline
def deep_product(x, x_stride, count, size, half, weights, width, start, start_stride, out, out_stride, vectors):
    # DEPTH rows of a panel at a time stay in L1 while all rows of x pass; the sums go on where they stopped
    for k in range(0, size, DEPTH):
        depth = min(size - k, DEPTH)
        panel_product(
            ahead(x, k), x_stride, count, depth, half if half < size else depth, ahead(weights, k * width), width,
            start, start_stride, out, out_stride, vectors,
        )  # fmt: skip
        start, start_stride = out, out_stride


@function
def product(x, x_stride, count, size, half, weights, columns, start, start_stride, out, out_stride):
    # x (count, size)          rows x_stride elements apart; read only
    # weights                  packed; read only
    # start (count, columns)   what the products are added to: start + first half of the sum, then + the second; read only
    # out (count, columns)     receives the sums; may be start
    lanes = lanes_of(x)
    column = 0
    while columns - column >= FULL * lanes:
        deep_product(
            x, x_stride, count, size, half, ahead(weights, column * size), FULL * lanes,
            ahead(start, column), start_stride, ahead(out, column), out_stride, FULL,
        )  # fmt: skip
        column += FULL * lanes
    if columns - column >= HALF * lanes:
        deep_product(
            x, x_stride, count, size, half, ahead(weights, column * size), HALF * lanes,
            ahead(start, column), start_stride, ahead(out, column), out_stride, HALF,
        )  # fmt: skip
        column += HALF * lanes
    if columns - column >= lanes:
        deep_product(
            x, x_stride, count, size, half, ahead(weights, column * size), lanes,
            ahead(start, column), start_stride, ahead(out, column), out_stride, ONE,
        )  # fmt: skip
