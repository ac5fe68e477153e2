"""Random use and misuse of the library, for as long as one says: `python -m tests.torture --minutes 60`.

One process, the worker, runs rounds; another one watches it and reports. Every round is of one kind, which a table names. All that is
random in a round follows from the seed and the round's number, so that a round can be run again.

`rounds.py` has the kinds and their table, `work.py` calls whose results are known, `misuse.py` malformed calls, `children.py` what
processes do that are interrupted, that fork, that end, or that find damaged files, `pages.py` calls beside memory that can't be read,
`shared.py` streams and banks that several threads or a signal's handler use, and `loaders.py` files of other programs that are damaged in
their structure (`tests/mutants.py`). A layer is in all of them as soon as it is in the table CASES of `tests/cases.py`. A new kind is a
function `kind(rng, counts)`, which fails by an exception, and its row in KINDS; what may end its process runs in another one, by
`children.survives`.
"""
