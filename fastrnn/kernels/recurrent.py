"""What the steps of recurrent layers have in common: where a part of a row is, the product of a gate, and its activation.

A step works on the columns left to right of every part, and on all sequences of the chunk; other threads may have the other columns.
"""

from .jit import inline
from .records import fresh_factors, invoke_activation


@inline
def part_at(layer, job, chunk, t, part):
    """Give the address of a part of the rows after step t; before the first step there is the state."""
    return chunk.there + job.itemsize * ((t + 1) * chunk.together * layer.stride + part * layer.columns)


@inline
def gate_at(layer, job, chunk, gate):
    """Give the address of a gate's packed recurrent weights."""
    return layer.weight_hh + job.itemsize * (gate * layer.columns + chunk.left) * layer.output_size


@inline
def factors_of(layer, chunk, count):
    """Prepare products of the first `count` rows with a gate: what is missing is where weights, x, start and out are."""
    factors = fresh_factors()
    factors.count, factors.size, factors.half, factors.columns = count, layer.output_size, layer.half, chunk.right - chunk.left
    factors.x_stride, factors.start_stride, factors.out_stride = layer.stride, layer.stride, layer.stride
    return factors


@inline
def activate(layer, job, chunk, count, values, activation, parameters):
    """Apply an activation, given with its parameters, to a part of the first `count` rows, which begin at an address."""
    width = chunk.right - chunk.left
    if activation and width == layer.stride:
        invoke_activation(activation, values, count * width, parameters)
    elif activation:
        for n in range(count):
            invoke_activation(activation, values + job.itemsize * (n * layer.stride + chunk.left), width, parameters)
