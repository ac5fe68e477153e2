"""Packing of weights, and the product of rows with packed weights."""

from .layout import DEPTH
from .options import FULL, HALF, ONE, ROWS, inline, operation
from .records import FACTORS, PACK, matrix_at
from .simd.tile import ahead, at, element, lanes_of, load, load_square, put, store, tile_product, transpose


@inline
def pack_square(source, stride, outputs, depth, target, width):
    # source (outputs, depth)   rows `stride` elements apart; of lanes by lanes, or less at the matrix's edges
    # target (depth, lanes)     rows `width` elements apart; zero past the outputs
    lanes = lanes_of(target)
    if outputs >= lanes and depth == lanes:
        store(target, width, transpose(load_square(source, stride)))
    else:
        for k in range(depth):
            for c in range(lanes):
                put(target, k * width + c, element(source, c * stride + k) if c < outputs else 0.0)


@operation(PACK)
def pack(call, like):
    # weight (gates, outputs, size)   rows row_stride elements apart; read only
    # panels                          receive the weights from `start`, (size, width) each, zero past a gate's outputs
    matrix = matrix_at(call.matrix)
    lanes, size, columns, row_stride = lanes_of(like), matrix.size, matrix.columns, matrix.row_stride
    for gate in range(matrix.gates):
        weight = ahead(at(call.weight, like), gate * matrix.outputs * row_stride)
        panels, column = ahead(at(call.panels, like), matrix.start + gate * columns * size), 0
        for vectors in (FULL, HALF, ONE):
            width = vectors * lanes
            while columns - column >= width:
                for k in range(0, size, lanes):
                    for c in range(0, width, lanes):
                        pack_square(
                            ahead(weight, (column + c) * row_stride + k), row_stride, matrix.outputs - column - c, min(lanes, size - k),
                            ahead(panels, column * size + k * width + c), width,
                        )  # fmt: skip
                column += width


@inline
def panel_product(factors, like, column, vectors):
    # DEPTH rows of a panel at a time stay in L1 while all rows of x pass; the sums go on where they stopped
    size, half, count, width = factors.size, factors.half, factors.count, vectors * lanes_of(like)
    x, x_stride, weights = at(factors.x, like), factors.x_stride, ahead(at(factors.weights, like), column * size)
    start, start_stride = ahead(at(factors.start, like), column), factors.start_stride
    out, out_stride = ahead(at(factors.out, like), column), factors.out_stride
    for k in range(0, size, DEPTH):
        depth = min(size - k, DEPTH)
        part = half if half < size else depth
        panel = ahead(weights, k * width)
        row = 0
        while row + ROWS <= count:
            tile = load(ahead(start, row * start_stride), start_stride, ROWS, vectors)
            tile = tile_product(tile, panel, ahead(x, row * x_stride + k), x_stride, depth, part)
            store(ahead(out, row * out_stride), out_stride, tile)
            row += ROWS
        while row < count:
            line = load(ahead(start, row * start_stride), 0, 1, vectors)
            line = tile_product(line, panel, ahead(x, row * x_stride + k), 0, depth, part)
            store(ahead(out, row * out_stride), 0, line)
            row += 1
        start, start_stride = out, out_stride


@operation(FACTORS)
def product(factors, like):
    # x (count, size)          rows x_stride elements apart; read only
    # weights                  packed; read only
    # start (count, columns)   what the products are added to: start + first half of the sum, then + the second; read only
    # out (count, columns)     receives the sums; may be start
    lanes, columns, column = lanes_of(like), factors.columns, 0
    while columns - column >= FULL * lanes:
        panel_product(factors, like, column, FULL)
        column += FULL * lanes
    if columns - column >= HALF * lanes:
        panel_product(factors, like, column, HALF)
        column += HALF * lanes
    if columns - column >= lanes:
        panel_product(factors, like, column, ONE)
