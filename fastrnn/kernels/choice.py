"""The next token from a row of outputs: the likeliest, or one drawn."""

import numpy as np

from .elementary import exp
from .jit import function
from .tile import ahead, copy, element, lanes_of, load, put, store

NOTHING = -1  # no token can be chosen: a row holds NaN, or infinity where only finite logits make sense


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
        copy(row, scratch, size)
        least = kth_largest(scratch, size, top_k - 1)
        ties = top_k
        for i in range(size):
            if element(row, i) > least:
                ties -= 1
        for i in range(size):
            if element(row, i) == least and ties > 0:
                ties -= 1
            elif element(row, i) <= least:
                put(row, i, -np.inf)
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
