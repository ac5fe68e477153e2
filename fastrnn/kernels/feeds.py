"""Feeds, which compute a layer's projected input: a product with the weights; for tokens, a column of the weights or a row of a table."""

from .network import in_x
from .options import FULL, HALF, ONE, inline, operation
from .records import CHUNK, JOB, LAYER, copy_bytes, fresh_factors, invoke_one, word
from .simd.tile import ahead, at, lanes_of, load, store


@operation(LAYER, JOB, CHUNK)
def project(layer, job, chunk, like):
    # source (own, together, I)    read only
    # rows (own, together, ...)    receive x_t @ weight.T + bias, gate by gate, in columns left to right
    size, item, own, together = layer.input_size, job.itemsize, chunk.own_steps, chunk.together
    step, source = together * layer.stride, chunk.source + item * chunk.first_step * chunk.step
    factors = fresh_factors()
    factors.size, factors.half, factors.columns, factors.start_stride = size, size, chunk.right - chunk.left, 0
    if own >= together:
        outer, outer_x, outer_rows = together, chunk.sequence, layer.stride
        factors.count, factors.x_stride, factors.out_stride = own, chunk.step, step
    else:
        outer, outer_x, outer_rows = own, chunk.step, step
        factors.count, factors.x_stride, factors.out_stride = together, chunk.sequence, layer.stride
    for i in range(outer):
        factors.x = source + item * i * outer_x
        for gate in range(layer.gates):
            column = gate * layer.columns + chunk.left
            factors.weights, factors.start = layer.weight + item * column * size, layer.bias + item * column
            factors.out = chunk.rows + item * (i * outer_rows + column)
            invoke_one(layer.product, factors)


@inline
def choose_column(weights, bias, size, columns, token, row):
    # weights, bias    packed; read only
    # row (columns,)   receives weights @ one_hot(token) + bias
    lanes, column = lanes_of(weights), 0
    for vectors in (FULL, HALF, ONE):
        width = vectors * lanes
        while columns - column >= width:
            chosen = ahead(weights, column * size + token * width)
            for i in range(0, width, lanes):
                store(ahead(row, column + i), 0, load(ahead(bias, column + i), 0, 1, 1) + load(ahead(chosen, i), 0, 1, 1))
            column += width


@inline
def token_at(layer, job, index):
    """Read a token of x. Another thread may have changed it after it was checked: it is cut to the vocabulary."""
    return min(max(word(job.x, index), 0), layer.input_size - 1)


@operation(LAYER, JOB, CHUNK)
def embed(layer, job, chunk, like):
    # x (together, steps)         tokens; read only
    # rows (own, together, ...)   receive the token's columns + bias, gate by gate, in columns left to right
    size, stride, together = layer.input_size, layer.stride, chunk.together
    weights, bias, rows = at(layer.weight, like), at(layer.bias, like), at(chunk.rows, like)
    for i in range(together):
        start = in_x(job, chunk.n + i) + (chunk.t + chunk.first_step) * job.x_step
        for t in range(chunk.own_steps):
            token = token_at(layer, job, start + t * job.x_step)
            for gate in range(layer.gates):
                first = gate * layer.columns + chunk.left
                choose_column(
                    ahead(weights, first * size), ahead(bias, first), size, chunk.right - chunk.left, token,
                    ahead(rows, (t * together + i) * stride + first),
                )  # fmt: skip


@operation(LAYER, JOB, CHUNK)
def look_up(layer, job, chunk):
    # x (together, steps)         tokens; read only
    # rows (own, together, ...)   receive the tokens' rows of the table
    size, step, together = job.itemsize * layer.output_size, job.itemsize * layer.stride, chunk.together
    for i in range(together):
        start = in_x(job, chunk.n + i) + (chunk.t + chunk.first_step) * job.x_step
        for t in range(chunk.own_steps):
            copy_bytes(layer.weight + token_at(layer, job, start + t * job.x_step) * size, chunk.rows + (t * together + i) * step, size)
