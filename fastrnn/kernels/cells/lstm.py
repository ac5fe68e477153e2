"""The steps of an LSTM, with or without peepholes and a projection.

i, f = sigmoid(W_i x + U_i h + b_i + p_i c), sigmoid(W_f x + U_f h + b_f + p_f c)
g    = tanh(W_g x + U_g h + b_g)
c    = f c + i g
o    = sigmoid(W_o x + U_o h + b_o + p_o c)
h    = o tanh(c), or R (o tanh(c))
"""

from ..options import function
from ..simd.elementary import sigmoid_vector, tanh_vector
from ..simd.tile import ahead, at, elementwise, fma, lanes_of, store
from .recurrent import activate, add_gates, cell, factors_of, multiply, part_at, row_at, vector

INPUT, FORGET, CELL, OUTPUT = range(4)  # the slots of a row
STATE, UNITS = 1, 2  # slots that a step leaves: c in the place of the forget gate, and o tanh(c) where it is projected

new_cell = elementwise(lambda i, f, g, c: fma(f, c, i * g))
new_cell_usual = elementwise(lambda i, f, g, c: fma(sigmoid_vector(f), c, sigmoid_vector(i) * tanh_vector(g)))
open_output_usual = elementwise(lambda o, c: sigmoid_vector(o) * tanh_vector(c))
times, add_scaled = elementwise(lambda a, b: a * b), elementwise(lambda p, c, gate: fma(p, c, gate))


@function
def update_usual(layer, job, chunk, t, part, like):
    """Compute a step from its products, with the default activations and no peephole. o tanh(c) is put into slot `part`.

    In two loops: a processor has four vectors of each in flight, and two of one chain from the gates to o tanh(c), for which it would wait.
    """
    columns = layer.columns
    for n in range(chunk.together):
        row = row_at(layer, part_at(layer, job, chunk, t, 0), n, like)
        before = row_at(layer, part_at(layer, job, chunk, t - 1, 0), n, like)
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            gates = vector(row, columns, INPUT, i), vector(row, columns, FORGET, i), vector(row, columns, CELL, i)
            store(ahead(row, STATE * columns + i), 0, new_cell_usual(*gates, vector(before, columns, STATE, i)))
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            units = open_output_usual(vector(row, columns, OUTPUT, i), vector(row, columns, STATE, i))
            store(ahead(row, part * columns + i), 0, units)


@function
def peep(layer, job, chunk, t, gate, like):
    """Add a peephole to a gate: the output gate sees the new cell state, the other gates the old one."""
    columns, weights = layer.columns, at(layer.vector_hh, like)
    for n in range(chunk.together):
        row = row_at(layer, part_at(layer, job, chunk, t, 0), n, like)
        seen = row if gate == OUTPUT else row_at(layer, part_at(layer, job, chunk, t - 1, 0), n, like)
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            c, sum_so_far = vector(seen, columns, STATE, i), vector(row, columns, gate, i)
            store(ahead(row, gate * columns + i), 0, add_scaled(vector(weights, columns, gate, i), c, sum_so_far))


@function
def update(layer, job, chunk, t, part, like):
    """Compute a step from its products. o tanh(c) is put into slot `part`."""
    columns, size, count, first = layer.columns, job.itemsize * layer.columns, chunk.together, part_at(layer, job, chunk, t, 0)
    # 2. i and f
    for gate in (INPUT, FORGET):
        if layer.peephole:
            peep(layer, job, chunk, t, gate, like)
        activate(layer, job, chunk, count, first + gate * size, layer.recurrent_activation, layer.recurrent_parameters)
    # 3. g; c = f c + i g
    activate(layer, job, chunk, count, first + CELL * size, layer.activation, layer.parameters)
    for n in range(count):
        row, before = row_at(layer, first, n, like), row_at(layer, part_at(layer, job, chunk, t - 1, 0), n, like)
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            gates = vector(row, columns, INPUT, i), vector(row, columns, FORGET, i), vector(row, columns, CELL, i)
            c = new_cell(*gates, vector(before, columns, STATE, i))
            store(ahead(row, STATE * columns + i), 0, c)
            store(ahead(row, UNITS * columns + i), 0, c)
    # 4. o
    if layer.peephole:
        peep(layer, job, chunk, t, OUTPUT, like)
    activate(layer, job, chunk, count, first + OUTPUT * size, layer.recurrent_activation, layer.recurrent_parameters)
    # 5. tanh(c); o tanh(c)
    activate(layer, job, chunk, count, first + UNITS * size, layer.activation, layer.parameters)
    for n in range(count):
        row = row_at(layer, first, n, like)
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            store(ahead(row, part * columns + i), 0, times(vector(row, columns, OUTPUT, i), vector(row, columns, UNITS, i)))


@function
def step(layer, job, chunk, t, part, like):
    # 1. U_i h, U_f h, U_g h and U_o h, added to their slots
    factors = factors_of(layer, chunk, 0)
    factors.x = part_at(layer, job, chunk, t - 1, 0)
    add_gates(layer, job, chunk, t, (INPUT, OUTPUT + 1), factors, like)
    if layer.default_activations:
        # 2. to 5. as in `update`, in registers
        update_usual(layer, job, chunk, t, part, like)
    else:
        update(layer, job, chunk, t, part, like)


@cell(gates=4, row_slots=4, state_arrays=2, phases=1)
def lstm(layer, job, chunk, like):
    # there (1 + span, together, 4 columns)   h and c before the first step, then for each step its projected gates, replaced by h and c
    #                                         after it, and what is no longer needed
    # vector_hh                               the peepholes, if there are any
    for t in range(chunk.at, chunk.at + chunk.steps):
        step(layer, job, chunk, t, 0, like)


@function
def project_units(layer, job, chunk, t, like):
    """Multiply o tanh(c) by R, in as many of the columns left to right as R has."""
    factors, item, columns = factors_of(layer, chunk, 0), job.itemsize, layer.columns
    left, right = min(chunk.left, layer.projected), min(chunk.right, layer.projected)
    factors.size, factors.half, factors.columns = layer.hidden, layer.half_hr, right - left
    factors.x, factors.out = part_at(layer, job, chunk, t, UNITS), part_at(layer, job, chunk, t, 0) + item * left
    factors.start, factors.start_stride = layer.vector_hh + item * (CELL * columns + left), 0  # zeros, for it has no peephole
    factors.weights = layer.weight_hr + item * left * layer.hidden
    multiply(layer, chunk, factors, False, like)


@cell(gates=4, row_slots=4, state_arrays=2, phases=2)
def lstm_projected(layer, job, chunk, like):
    # as above; the second phase needs the whole of o tanh(c)
    for t in range(chunk.at, chunk.at + chunk.steps):
        if chunk.phase == 0:
            step(layer, job, chunk, t, UNITS, like)
        if chunk.phases == 2:
            # 6. R (o tanh(c)), in the slot of h
            project_units(layer, job, chunk, t, like)
