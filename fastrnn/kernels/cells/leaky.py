"""The steps of leaky Elman layers, a being each unit's leak.

    at the output:  h = (1 - a) h + a f(W h + p)                               the state is h
    at the input:   v = (1 - a) v + a (W f(v) + p), and the output is f(v)     the state is v
    p = U x + b

A unit with a = 1 is a plain one, to the last bit.
"""

from ..options import function, operation
from ..records import CHUNK, JOB, LAYER
from ..simd.tile import ahead, at, choose, elementwise, fma, lanes_of, load, store
from .recurrent import activate, add_gates, cell, factors_of, part_at, row_at, vector

OUTPUT, VALUE = range(2)  # the slots of a row: the output, and v

leaked = elementwise(lambda leak, old, new: choose(leak, "==", 1.0, new, fma(leak, new, (1.0 - leak) * old)))


@function
def leak(layer, job, chunk, t, part, like):
    """Blend the output slot of step t with slot `part` of the step before, and put the result into slot `part`."""
    leaks = at(layer.vector_hh, like)
    for n in range(chunk.together):
        row, before = row_at(layer, part_at(layer, job, chunk, t, 0), n, like), row_at(layer, part_at(layer, job, chunk, t - 1, 0), n, like)
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            new, old = vector(row, layer.columns, OUTPUT, i), vector(before, layer.columns, part, i)
            store(ahead(row, part * layer.columns + i), 0, leaked(load(ahead(leaks, i), 0, 1, 1), old, new))


@function
def multiply_state(layer, job, chunk, t, like):
    """Add the product of the output before to the projected input."""
    factors = factors_of(layer, chunk, 0)
    factors.x = part_at(layer, job, chunk, t - 1, OUTPUT)
    add_gates(layer, job, chunk, t, (0, 1), factors, like)


@cell(gates=1, row_slots=1, state_arrays=1, phases=1)
def leaky_output(layer, job, chunk, like):
    # there (1 + span, together, columns)   the state before the first step, then for each step its projected input, replaced by the state
    # vector_hh                             the leaks
    for t in range(chunk.at, chunk.at + chunk.steps):
        # 1. W h + p
        multiply_state(layer, job, chunk, t, like)
        # 2. f
        activate(layer, job, chunk, chunk.together, part_at(layer, job, chunk, t, OUTPUT), layer.activation, layer.parameters)
        # 3. h = (1 - a) h + a f(W h + p)
        leak(layer, job, chunk, t, OUTPUT, like)


@function
def put_out(layer, job, chunk, t, like):
    """Compute f(v) of step t."""
    out = part_at(layer, job, chunk, t, OUTPUT)
    for n in range(chunk.together):
        row = row_at(layer, out, n, like)
        for i in range(chunk.left, chunk.right, lanes_of(like)):
            store(ahead(row, i), 0, vector(row, layer.columns, VALUE, i))
    activate(layer, job, chunk, chunk.together, out, layer.activation, layer.parameters)


@cell(gates=1, row_slots=2, state_arrays=2, phases=1, enter="leaky_enter")
def leaky_input(layer, job, chunk, like):
    # there (1 + span, together, 2 columns)   the same; beside the output is v
    for t in range(chunk.at, chunk.at + chunk.steps):
        # 1. W f(v) + p
        multiply_state(layer, job, chunk, t, like)
        # 2. v = (1 - a) v + a (W f(v) + p)
        leak(layer, job, chunk, t, VALUE, like)
        # 3. the output, f(v)
        put_out(layer, job, chunk, t, like)


@operation(LAYER, JOB, CHUNK)
def leaky_enter(layer, job, chunk, like):
    # of the state before the first step only v is given
    chunk.left, chunk.right = 0, layer.columns
    put_out(layer, job, chunk, -1, like)
