"""Every error text, with a call that gets it: a table for each subject, and all of them as one."""

from . import banks, bidirectional, calls, inputs, models, options, padding, streams, thread_counts, tokens, weights

TABLES = [
    bidirectional.ERRORS,
    weights.ERRORS,
    options.ERRORS,
    models.ERRORS,
    inputs.ERRORS,
    calls.ERRORS,
    padding.ERRORS,
    tokens.ERRORS,
    streams.ERRORS,
    banks.ERRORS,
    thread_counts.ERRORS,
]
# call, exception, its whole text
ERRORS = {name: error for table in TABLES for name, error in table.items()}
