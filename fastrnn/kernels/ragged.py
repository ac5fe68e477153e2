"""Sequences of different lengths, the longest of a block first: which of them go on, and their rows side by side."""

from .jit import operation
from .layout import IN_X, LENGTH
from .network import place
from .records import CHUNK, JOB, LAYER, copy_bytes, invoke


@operation(LAYER, JOB, CHUNK)
def trim(layer, job, chunk):
    # sequences that have ended leave the chunk, which lasts until the next one ends
    while chunk.together > 0 and place(job, LENGTH, chunk.n + chunk.together - 1) <= chunk.t:
        chunk.together -= 1
    if chunk.together:
        chunk.span = min(chunk.span, place(job, LENGTH, chunk.n + chunk.together - 1) - chunk.t)


@operation(LAYER, JOB, CHUNK)
def gather(layer, job, chunk):
    # x                         sequences anywhere, as the table says; read only
    # here (own, together, I)   receives them, and feeds the layer
    size, together = job.itemsize * layer.input_size, chunk.together
    for i in range(together):
        source = job.x + job.itemsize * place(job, IN_X, chunk.n + i) * job.x_sequence + (chunk.t + chunk.begin) * size
        for t in range(chunk.own):
            copy_bytes(source + t * size, chunk.here + ((chunk.begin + t) * together + i) * size, size)
    chunk.source, chunk.step, chunk.sequence = chunk.here, together * layer.input_size, layer.input_size
    invoke(layer.feed, layer, job, chunk)
