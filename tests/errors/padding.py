"""Errors of pad and unpad."""

import numpy as np

from fastrnn import pad, unpad

from .given import MASKED, X, ones

ERRORS = {
    "unpad a masked array": (
        lambda: unpad(MASKED, [7, 7, 7]),
        TypeError,
        "output must not be a masked array; pass output.filled(value)",
    ),
    "masked lengths to unpad": (
        lambda: unpad(X, np.ma.masked_less([7, 7, 7], 0)),
        TypeError,
        "lengths must not be a masked array; pass lengths.filled(value)",
    ),
    "masked sequence": (
        lambda: pad([ones(2, 3), MASKED[0]]),
        TypeError,
        "sequences[1] must not be a masked array; pass sequences[1].filled(value)",
    ),
    "masked rows of a sequence": (
        lambda: pad([[MASKED[0, 0], MASKED[0, 1]]]),
        TypeError,
        "sequences[0][0] must not be a masked array; pass sequences[0][0].filled(value)",
    ),
    "ragged output to unpad": (
        lambda: unpad([[1, 2], [3]], [1, 1]),
        ValueError,
        "output must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "ragged lengths to unpad": (
        lambda: unpad(X, [[1], [2, 3]]),
        ValueError,
        "lengths must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "nothing to pad": (lambda: pad(None), TypeError, "sequences must be a list of sequences, got NoneType"),
    "sequences of different sizes": (
        lambda: pad([ones(2, 3), ones(2, 4)]),
        ValueError,
        "sequences[1] must have steps of shape (3,) as those before it, got (4,)",
    ),
    "tokens and vectors": (
        lambda: pad([[1, 2], ones(2, 4)]),
        ValueError,
        "sequences[1] must have steps of shape () as those before it, got (4,)",
    ),
    "vectors and tokens": (
        lambda: pad([ones(2, 4), [1, 2]]),
        ValueError,
        "sequences[1] must have steps of shape (4,) as those before it, got ()",
    ),
    "ragged sequence": (
        lambda: pad([[1], [[1.0], [2.0, 3.0]]]),
        ValueError,
        "sequences[1] must be an array or a rectangular nested list, got rows of different lengths",
    ),
    "words": (lambda: pad(["call", "me"]), TypeError, "sequences[0] must hold real numbers, got dtype <U4"),
    "unpad beyond T": (lambda: unpad(X, [7, 7, 8]), ValueError, "lengths must be from 0 to T=7, got 8 at position (2,)"),
    "unpad floating": (lambda: unpad(X, ones(3)), TypeError, "lengths must be integers, got dtype float64"),
    "unpad the last step": (
        lambda: unpad(ones(3), [7, 7, 8]),
        ValueError,
        "output must have more axes than lengths, got 1 and 1",
    ),
    "vectors without an axis": (
        lambda: pad([[0.5, 1.5]]),
        ValueError,
        "sequences[0] must be vectors (T, I) or integers (T,), got float64 of shape (2,)",
    ),
}
