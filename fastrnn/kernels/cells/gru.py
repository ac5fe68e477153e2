"""The steps of a GRU, with the reset gate after the product of the candidate, as in PyTorch, or before it.

r, z = sigmoid(W_r x + U_r h + b_r), sigmoid(W_z x + U_z h + b_z)
after:  n = tanh(W_n x + b_n + r (U_n h + b_hn))      before:  n = tanh(W_n x + b_n + U_n (r h))
h = (1 - z) n + z h, which keeps h exactly where z is 1
"""

from ..options import function
from ..simd.elementary import sigmoid_vector, tanh_vector
from ..simd.tile import ahead, elementwise, fma, lanes_of, store
from .recurrent import activate, add_gates, cell, factors_of, gate_at, multiply, part_at, row_at, vector

RESET, UPDATE, CANDIDATE = range(3)  # the slots of a row; the new state takes the place of the reset gate
ROOM = UPDATE  # a slot of the row before: step t no longer needs the update gate of step t - 1


def blended(h, z, n):
    return fma(z, h, (1.0 - z) * n)


blend, add_scaled, times = elementwise(blended), elementwise(lambda r, u, n: fma(r, u, n)), elementwise(lambda r, h: r * h)
# the same with the default activations, in registers
reset_usual = elementwise(lambda r, h: sigmoid_vector(r) * h)
blend_usual = elementwise(lambda h, z, n: blended(h, sigmoid_vector(z), tanh_vector(n)))
add_reset_usual = elementwise(lambda r, u, n: fma(sigmoid_vector(r), u, n))


@function
def update(layer, job, chunk, t, like):
    """Blend candidate and state, which become the new state, in columns left to right."""
    count, r = chunk.together, part_at(layer, job, chunk, t, 0)
    columns, size = layer.columns, job.itemsize * layer.columns
    if not layer.default_activations:
        activate(layer, job, chunk, count, r + size * UPDATE, layer.recurrent_activation, layer.recurrent_parameters)
        activate(layer, job, chunk, count, r + size * CANDIDATE, layer.activation, layer.parameters)
    for n in range(count):
        row, before = row_at(layer, r, n, like), row_at(layer, part_at(layer, job, chunk, t - 1, 0), n, like)
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            h, z, candidate = vector(before, columns, 0, i), vector(row, columns, UPDATE, i), vector(row, columns, CANDIDATE, i)
            store(ahead(row, i), 0, blend_usual(h, z, candidate) if layer.default_activations else blend(h, z, candidate))


@function
def update_usual(layer, job, chunk, t, like):
    """Compute a step from its products, with the default activations. In two loops, as an LSTM's."""
    columns = layer.columns
    for n in range(chunk.together):
        row = row_at(layer, part_at(layer, job, chunk, t, 0), n, like)
        before = row_at(layer, part_at(layer, job, chunk, t - 1, 0), n, like)
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            product, candidate = vector(before, columns, ROOM, i), vector(row, columns, CANDIDATE, i)
            store(ahead(row, CANDIDATE * columns + i), 0, add_reset_usual(vector(row, columns, RESET, i), product, candidate))
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            h, z = vector(before, columns, 0, i), vector(row, columns, UPDATE, i)
            store(ahead(row, i), 0, blend_usual(h, z, vector(row, columns, CANDIDATE, i)))


@function
def reset_product(layer, job, chunk, t, like):
    """Add the recurrent product of the candidate, times the reset gate, to the candidate's slot."""
    columns, r = layer.columns, part_at(layer, job, chunk, t, RESET)
    activate(layer, job, chunk, chunk.together, r, layer.recurrent_activation, layer.recurrent_parameters)
    for n in range(chunk.together):
        row, before = row_at(layer, r, n, like), row_at(layer, part_at(layer, job, chunk, t - 1, 0), n, like)
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            product, candidate = vector(before, columns, ROOM, i), vector(row, columns, CANDIDATE, i)
            store(ahead(row, CANDIDATE * columns + i), 0, add_scaled(vector(row, columns, RESET, i), product, candidate))


@cell(gates=3, row_slots=3, state_arrays=1, phases=1)
def gru(layer, job, chunk, like):
    # there (1 + span, together, 3 columns)   the state before the first step, then for each step its projected gates, replaced by the
    #                                         state after it and what is no longer needed
    # vector_hh                               of the candidate: b_hn
    factors, item = factors_of(layer, chunk, 0), job.itemsize
    left, bias = item * chunk.left, layer.vector_hh + item * (CANDIDATE * layer.columns + chunk.left)
    for t in range(chunk.at, chunk.at + chunk.steps):
        # 1. U_r h and U_z h, added to their slots; U_n h + b_hn, put into the room
        factors.x, backwards = part_at(layer, job, chunk, t - 1, 0), t % 2 == 1
        for i in range(3):
            gate = CANDIDATE - i if backwards else i  # every other step backwards: the panels read last are still in L1
            alone = gate == CANDIDATE  # not added to its slot, because the reset gate comes between
            factors.weights = gate_at(layer, job, chunk, gate)
            factors.out = left + (part_at(layer, job, chunk, t - 1, ROOM) if alone else part_at(layer, job, chunk, t, gate))
            factors.start, factors.start_stride = bias if alone else factors.out, 0 if alone else layer.stride
            multiply(layer, chunk, factors, backwards, like)
        if layer.default_activations:
            # 2. and 3. as below, in registers
            update_usual(layer, job, chunk, t, like)
        else:
            # 2. r, and r (U_n h + b_hn), added to the slot of n
            reset_product(layer, job, chunk, t, like)
            # 3. z and n; h = (1 - z) n + z h, in the slot of r
            update(layer, job, chunk, t, like)


@function
def reset_state(layer, job, chunk, t, like):
    """Put the state, times the reset gate, into the room."""
    columns, r = layer.columns, part_at(layer, job, chunk, t, RESET)
    if not layer.default_activations:
        activate(layer, job, chunk, chunk.together, r, layer.recurrent_activation, layer.recurrent_parameters)
    for n in range(chunk.together):
        row, before = row_at(layer, r, n, like), row_at(layer, part_at(layer, job, chunk, t - 1, 0), n, like)
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            gate, h = vector(row, columns, RESET, i), vector(before, columns, 0, i)
            store(ahead(before, ROOM * columns + i), 0, reset_usual(gate, h) if layer.default_activations else times(gate, h))


@cell(gates=3, row_slots=3, state_arrays=1, phases=2)
def gru_reset_before(layer, job, chunk, like):
    # as above; the second phase needs the whole of r h
    factors = factors_of(layer, chunk, 0)
    for t in range(chunk.at, chunk.at + chunk.steps):
        if chunk.phase == 0:
            # 1. U_r h and U_z h, added to their slots
            factors.x = part_at(layer, job, chunk, t - 1, 0)
            add_gates(layer, job, chunk, t, (RESET, CANDIDATE), factors, like)
            # 2. r, and r h, put into the room
            reset_state(layer, job, chunk, t, like)
        if chunk.phases == 2:
            # 3. U_n (r h), added to the slot of n
            factors.x = part_at(layer, job, chunk, t - 1, ROOM)
            add_gates(layer, job, chunk, t, (CANDIDATE, CANDIDATE + 1), factors, like)
            # 4. z and n; h = (1 - z) n + z h, in the slot of r
            update(layer, job, chunk, t, like)
