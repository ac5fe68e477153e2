"""Ragged batches: the longest sequence of a block comes first. Ended sequences leave the chunk; the rows of the others are gathered."""

from .layout import LENGTH
from .network import in_x
from .options import function, operation
from .records import CHUNK, JOB, LAYER, copy_bytes, invoke, word


@function
def length_of(job, i):
    """Return how many of the piece's steps sequence i has."""
    return word(job.table, LENGTH * job.count + i)


@operation(LAYER, JOB, CHUNK)
def trim(layer, job, chunk):
    # sequences that have ended leave the chunk, which lasts until the next one ends
    while chunk.together > 0 and length_of(job, chunk.n + chunk.together - 1) <= chunk.t:
        chunk.together -= 1
    if chunk.together:
        chunk.span = min(chunk.span, length_of(job, chunk.n + chunk.together - 1) - chunk.t)


@operation(LAYER, JOB, CHUNK)
def gather(layer, job, chunk):
    # x                         sequences anywhere, as the table says; read only
    # here (own, together, I)   receives them, and feeds the layer
    size, together, step = job.itemsize * layer.input_size, chunk.together, job.itemsize * job.x_step
    for i in range(together):
        source = job.x + job.itemsize * in_x(job, chunk.n + i) + (chunk.t + chunk.first_step) * step
        for t in range(chunk.own_steps):
            copy_bytes(source + t * step, chunk.input_rows + ((chunk.first_step + t) * together + i) * size, size)
    chunk.source, chunk.step, chunk.sequence = chunk.input_rows, together * layer.input_size, layer.input_size
    invoke(layer.feed, layer, job, chunk)
