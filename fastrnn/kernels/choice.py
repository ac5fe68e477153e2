"""Sinks, which take the last layer's output: they choose the next token, make the output the next input, or score the next token."""

import numpy as np

from .layout import NOTHING
from .network import in_out, in_x, move_states
from .options import function, inline, operation
from .records import CHUNK, JOB, LAYER, as_double, copy_bytes, generation_at, put_word, word
from .simd.elementary import exp
from .simd.tile import ahead, at, copy, element, lanes_of, load, put, store


@function
def likeliest(row, size):
    # row (size,)   read only; of equal ones the first
    best = 0
    for i in range(size):
        if element(row, i) != element(row, i):
            return NOTHING
        if element(row, i) > element(row, best):
            best = i
    return best


@function
def kth_largest(values, size, k):
    # values (size,)   reordered: Hoare's selection
    low, high = 0, size - 1
    while low < high:
        pivot, i, j = element(values, k), low, high
        while i <= j:
            while element(values, i) > pivot:
                i += 1
            while element(values, j) < pivot:
                j -= 1
            if i <= j:
                swapped = element(values, i)
                put(values, i, element(values, j))
                put(values, j, swapped)
                i += 1
                j -= 1
        if j < k:
            low = i
        if k < i:
            high = j
    return element(values, k)


@inline
def keep_largest(row, scratch, size, count):
    """Make all logits -inf but the `count` largest; of equal ones the first stay."""
    copy(row, scratch, size)
    least = kth_largest(scratch, size, count - 1)
    ties = count
    for i in range(size):
        if element(row, i) > least:
            ties -= 1
    for i in range(size):
        if element(row, i) == least and ties > 0:
            ties -= 1
        elif element(row, i) <= least:
            put(row, i, -np.inf)


@function
def draw(row, scratch, size, temperature, top_k, uniform):
    # row (size,)       logits, replaced by their weights: e^((logit - highest) / temperature), 0 beyond the top_k largest
    # scratch (size,)   overwritten
    # uniform           in [0, 1); the token is the first whose cumulated weight exceeds that share of the whole
    best = likeliest(row, size)
    if best == NOTHING or not -np.inf < element(row, best) < np.inf:
        return NOTHING
    highest = element(row, best)
    if top_k < size:
        keep_largest(row, scratch, size, top_k)
    for i in range(0, size, lanes_of(row)):
        store(ahead(row, i), 0, exp((load(ahead(row, i), 0, 1, 1) - highest) / temperature))
    whole = 0.0
    for i in range(size):
        whole += element(row, i)
    cumulated, token = 0.0, best
    for i in range(size):
        if element(row, i) > 0.0:
            cumulated += element(row, i)
            token = i
            if cumulated > uniform * whole:
                break
    return token


# Generation works on one step at a time: its tokens are in x, each sequence's in a row with room for one more than it has steps.


@function
def token_place(job, chunk, i):
    return (chunk.n + i) * job.x_sequence + chunk.t


@function
def has_ended(job, chunk, i):
    """Return whether a sequence has ended: its present token is the one to stop at, or none could be chosen. The start never ends one."""
    token = word(job.x, token_place(job, chunk, i))
    return token == NOTHING or (job.begun + chunk.t > 0 and token == generation_at(job.generation).stop)


@operation(LAYER, JOB, CHUNK)
def argmax(layer, job, chunk, like):
    for i in range(chunk.together):
        here = token_place(job, chunk, i)
        if has_ended(job, chunk, i):
            put_word(job.x, here + 1, word(job.x, here))
        else:
            put_word(job.x, here + 1, likeliest(ahead(at(chunk.source, like), i * chunk.sequence), layer.output_size))


@operation(LAYER, JOB, CHUNK)
def sample(layer, job, chunk, like):
    settings, scratch = generation_at(job.generation), at(chunk.output_rows, like)
    for i in range(chunk.together):
        here = token_place(job, chunk, i)
        if has_ended(job, chunk, i):
            put_word(job.x, here + 1, word(job.x, here))
        else:
            row = ahead(at(chunk.source, like), i * chunk.sequence)
            at_uniform = (job.first + chunk.n + i) * settings.per_sequence + job.begun + chunk.t
            uniform = as_double(word(settings.uniforms, at_uniform))
            token = draw(row, scratch, layer.output_size, as_double(settings.temperature), settings.top_k, uniform)
            put_word(job.x, here + 1, token)


@operation(LAYER, JOB, CHUNK)
def repeat(layer, job, chunk):
    # the output is the next input
    size = job.itemsize * layer.output_size
    for i in range(chunk.together):
        here = job.x + job.itemsize * (chunk.n + i) * job.x_sequence + chunk.t * size
        copy_bytes(chunk.source + job.itemsize * i * chunk.sequence, here + size, size)


@operation(LAYER, JOB, CHUNK)
def leave(layer, job, chunk):
    # a sequence that has ended keeps the state that it had
    for i in range(chunk.together):
        if not has_ended(job, chunk, i):
            move_states(layer, job, chunk, i, True)


@operation(LAYER, JOB, CHUNK)
def score(layer, job, chunk, like):
    # out (total, steps)   receives each row's output at the token that comes next
    for i in range(chunk.together):
        token_at = in_x(job, chunk.n + i) + chunk.t + 1
        target = ahead(at(job.out, like), in_out(job, chunk.n + i) + chunk.t)
        for t in range(chunk.first_step, chunk.first_step + chunk.own_steps):
            token = min(max(word(job.x, token_at + t), 0), layer.output_size - 1)
            put(target, t, element(at(chunk.source, like), t * chunk.step + i * chunk.sequence + token))
