"""Steps of two GRUs, which show what a new cell takes: the reset after the candidate's product, as in PyTorch, and before it.

r, z = sigmoid(W_r x + U_r h + b_r), sigmoid(W_z x + U_z h + b_z)
after:  n = tanh(W_n x + b_n + r (U_n h + b_hn))      before:  n = tanh(W_n x + b_n + U_n (r h))
h = n + z (h - n)
"""

from fastrnn.kernels.jit import function, inline, operation
from fastrnn.kernels.records import CHUNK, JOB, LAYER, invoke_one
from fastrnn.kernels.recurrent import activate, factors_of, gate_at, part_at
from fastrnn.kernels.tile import ahead, at, lanes_of, load, store

RESET, UPDATE, CANDIDATE, ROOM = range(4)  # the parts of a row; the new state comes in the place of the reset gate


@inline
def add_gate(layer, job, chunk, gate, x, out):
    """Add the product of the rows at x with a gate's matrix to the rows at out."""
    factors = factors_of(layer, chunk, chunk.together)
    factors.x, factors.weights = x, gate_at(layer, job, chunk, gate)
    factors.out = out + job.itemsize * chunk.left
    factors.start = factors.out
    invoke_one(layer.product, factors)


@function
def blend(h, row, columns, left, right):
    """Replace the reset gate by n + z (h - n)."""
    z, n = ahead(row, UPDATE * columns), ahead(row, CANDIDATE * columns)
    for i in range(left, right, lanes_of(h)):
        candidate = load(ahead(n, i), 0, 1, 1)
        change = load(ahead(h, i), 0, 1, 1) - candidate
        store(ahead(row, i), 0, candidate + load(ahead(z, i), 0, 1, 1) * change)


@inline
def parts_of(layer, job, chunk, t):
    r = part_at(layer, job, chunk, t, RESET)
    size = job.itemsize * layer.columns
    return r, r + size * UPDATE, r + size * CANDIDATE, r + size * ROOM


@inline
def row_of(part, i, layer, like):
    return ahead(at(part, like), i * layer.stride)


@function
def copy_part(values, out, left, right):
    for i in range(left, right, lanes_of(out)):
        store(ahead(out, i), 0, load(ahead(values, i), 0, 1, 1))


@function
def multiply(gate, values, out, left, right):
    for i in range(left, right, lanes_of(out)):
        store(ahead(out, i), 0, load(ahead(gate, i), 0, 1, 1) * load(ahead(values, i), 0, 1, 1))


@function
def add(values, out, left, right):
    for i in range(left, right, lanes_of(out)):
        store(ahead(out, i), 0, load(ahead(out, i), 0, 1, 1) + load(ahead(values, i), 0, 1, 1))


@operation(LAYER, JOB, CHUNK)
def gru_after(layer, job, chunk, like):
    left, right, count = chunk.left, chunk.right, chunk.together
    for t in range(chunk.at, chunk.at + chunk.steps):
        h = part_at(layer, job, chunk, t - 1, RESET)
        r, z, n, room = parts_of(layer, job, chunk, t)
        for i in range(count):
            copy_part(ahead(at(layer.bias_hh, like), CANDIDATE * layer.columns), row_of(room, i, layer, like), left, right)
        add_gate(layer, job, chunk, RESET, h, r)
        add_gate(layer, job, chunk, UPDATE, h, z)
        add_gate(layer, job, chunk, CANDIDATE, h, room)
        activate(layer, job, chunk, count, r, layer.recurrent_activation, layer.recurrent_parameters)
        activate(layer, job, chunk, count, z, layer.recurrent_activation, layer.recurrent_parameters)
        for i in range(count):
            multiply(row_of(r, i, layer, like), row_of(room, i, layer, like), row_of(room, i, layer, like), left, right)
            add(row_of(room, i, layer, like), row_of(n, i, layer, like), left, right)
        activate(layer, job, chunk, count, n, layer.activation, layer.parameters)
        for i in range(count):
            blend(row_of(h, i, layer, like), row_of(r, i, layer, like), layer.columns, left, right)


@operation(LAYER, JOB, CHUNK)
def gru_before(layer, job, chunk, like):
    left, right, count = chunk.left, chunk.right, chunk.together
    for t in range(chunk.at, chunk.at + chunk.steps):
        h = part_at(layer, job, chunk, t - 1, RESET)
        r, z, n, room = parts_of(layer, job, chunk, t)
        if chunk.phase == 0:
            add_gate(layer, job, chunk, RESET, h, r)
            add_gate(layer, job, chunk, UPDATE, h, z)
            activate(layer, job, chunk, count, r, layer.recurrent_activation, layer.recurrent_parameters)
            activate(layer, job, chunk, count, z, layer.recurrent_activation, layer.recurrent_parameters)
            for i in range(count):
                multiply(row_of(r, i, layer, like), row_of(h, i, layer, like), row_of(room, i, layer, like), left, right)
        if chunk.phases == 2:  # the whole of r h is there
            add_gate(layer, job, chunk, CANDIDATE, room, n)
            activate(layer, job, chunk, count, n, layer.activation, layer.parameters)
            for i in range(count):
                blend(row_of(h, i, layer, like), row_of(r, i, layer, like), layer.columns, left, right)
