"""Sinks that merge the output of one direction with the other direction's, which is already in out: sum, mean or product."""

from .network import in_out
from .options import inline, operation
from .records import CHUNK, JOB, LAYER
from .simd.tile import ahead, at, element, put


def merging(merge):
    """Declare an operation that takes the place of storing the output: it merges each number with the one that out holds."""
    merge = inline(merge)

    @operation(LAYER, JOB, CHUNK)
    def merge_into_out(layer, job, chunk, like):
        # source (own, together, O)   the last layer's output; read only
        # out                         holds the other direction's output; receives what both make
        for i in range(chunk.together):
            row = ahead(at(chunk.source, like), chunk.first_step * chunk.step + i * chunk.sequence)
            out = ahead(at(job.out, like), in_out(job, chunk.n + i) + (chunk.t + chunk.first_step) * job.out_step)
            for t in range(chunk.own_steps):
                here, there = ahead(row, t * chunk.step), ahead(out, t * job.out_step)
                for k in range(job.out_size):
                    put(there, k, merge(element(there, k), element(here, k)))

    return merge_into_out


merge_sum = merging(lambda one, other: one + other)
merge_mean = merging(lambda one, other: (one + other) / 2)
merge_product = merging(lambda one, other: one * other)
