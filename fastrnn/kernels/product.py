"""Packing of weights, and the product of rows with packed weights."""

from .jit import function, inline, kernel
from .tile import REGISTER_BITS, ROWS, VECTORS, ahead, lanes_of, load, pointer, store, tile_product

DEPTH = 128  # 4 vectors of a panel so deep are 32 KB: two thirds of L1; 154 GFLOP/s against 139 at H 256
TWO_SUMS = 512  # bytes of a state that is summed in two halves; at most DEPTH elements, for a slice has no half. No gain above
FULL, HALF, ONE = VECTORS, max(VECTORS // 2, 1), 1


def first_half(size, itemsize):
    """How many products of a state's row are summed first; the sum of the others is added to theirs, where there are any."""
    return (size + 1) // 2 if size * itemsize <= TWO_SUMS else size


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
            for block in range(0, size, 64):  # so many rows of a panel stay in L1 while its columns are filled one by one
                end = min(block + 64, size)
                for c in range(width):
                    if column + c < outputs:
                        for k in range(block, end):
                            packed[at + k * width + c] = weight[column + c, k]
                    else:
                        for k in range(block, end):
                            packed[at + k * width + c] = 0
            column += width
            at += size * width


@inline
def panel_product(x, x_stride, count, size, half, weights, width, start, start_stride, out, out_stride, vectors):
    # DEPTH rows of a panel at a time stay in L1 while all rows of x pass; the sums go on where they stopped
    for k in range(0, size, DEPTH):
        depth = min(size - k, DEPTH)
        part = half if half < size else depth
        row = 0
        while row + ROWS <= count:
            tile_product(
                ahead(x, row * x_stride + k), x_stride, depth, part, ahead(weights, k * width), width,
                ahead(start, row * start_stride), start_stride, ahead(out, row * out_stride), out_stride, ROWS, vectors,
            )  # fmt: skip
            row += ROWS
        while row < count:
            tile_product(
                ahead(x, row * x_stride + k), 0, depth, part, ahead(weights, k * width), width,
                ahead(start, row * start_stride), 0, ahead(out, row * out_stride), 0, 1, vectors,
            )  # fmt: skip
            row += 1
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
        panel_product(
            x, x_stride, count, size, half, ahead(weights, column * size), FULL * lanes,
            ahead(start, column), start_stride, ahead(out, column), out_stride, FULL,
        )  # fmt: skip
        column += FULL * lanes
    if columns - column >= HALF * lanes:
        panel_product(
            x, x_stride, count, size, half, ahead(weights, column * size), HALF * lanes,
            ahead(start, column), start_stride, ahead(out, column), out_stride, HALF,
        )  # fmt: skip
        column += HALF * lanes
    if columns - column >= lanes:
        panel_product(
            x, x_stride, count, size, half, ahead(weights, column * size), lanes,
            ahead(start, column), start_stride, ahead(out, column), out_stride, ONE,
        )  # fmt: skip


@inline
def within(token, size):
    """A token inside the vocabulary: another thread may have changed it after it was checked."""
    return min(max(token, 0), size - 1)


@function
def embed(weights, bias, size, columns, token, row):
    # weights, bias    packed; read only
    # row (columns,)   receives weights @ one_hot(token) + bias
    lanes = lanes_of(weights)
    column = 0
    for vectors in (FULL, HALF, ONE):
        width = vectors * lanes
        while columns - column >= width:
            selected = ahead(weights, column * size + within(token, size) * width)
            for i in range(0, width, lanes):
                store(ahead(row, column + i), 0, load(ahead(bias, column + i), 0, 1, 1) + load(ahead(selected, i), 0, 1, 1))
            column += width
