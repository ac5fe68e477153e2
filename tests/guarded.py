"""Calls of every kind whose arrays are all beside a page that can't be read; see `guard.py`. They run in a process of their own."""

import itertools

import numpy as np

import fastrnn
from fastrnn.engine import prepared

from .cases import DTYPES, assert_same_bits, assert_same_results, nested, run
from .exhaustive import CHOSEN
from .guard import beside, guard_own, zeros
from .situations import ALL, TELLERS, Situation

SIZES = {"the case's": None, "odd": (17, 3, 65, 33, 9), "small": (1, 2, 1, 3, 5)}  # sizes of layers, as many as the case has


def whole(s, model, placed):
    """All sequences at once, also converted from another dtype, and one alone, with states and an output that are given."""
    x, states, out = placed(s.x), tuple(map(placed, s.states)), zeros((*s.leading, s.steps, model.output_size), s.dtype, last=placed.last)
    result, last = run(model, x, states, out=out)
    first = tuple(placed(state[0]) for state in states)
    assert_same_results(run(model, placed(x[0]), first), (result[0], tuple(state[0] for state in last)))
    assert_same_bits(run(model, placed(s.x.astype(np.int32 if s.case.tokens else np.longdouble)), states)[0], result)
    return result


def with_lengths(s, model, placed, result):
    """Sequences of several lengths, every step and the last alone."""
    x, states, lengths = placed(s.x), tuple(map(placed, s.states)), placed(s.lengths)
    for again in ({}, {"reset": placed(lengths % 2 == 1)}):
        output, last = run(model, x, states, lengths=lengths, **again)
        only, last_too = run(model, x, states, lengths=lengths, return_sequences=False, **again)
        assert_same_results((only, last_too), (only, last))
        if s.case.causal and not again:
            for row, expected, length in zip(output, result, lengths, strict=True):
                assert_same_bits(row[:length], expected[:length])


def streamed(s, model, placed, result):
    """A stream's steps, some of which start anew, and its chunks; with outputs that are given and without."""
    stream = model.stream(nested(model, tuple(map(placed, s.states))))
    assert_same_bits(stream.step(placed(s.x[:, 0])), result[:, 0])
    out = placed(np.full_like(result[:, 1], np.nan))
    assert_same_bits(stream.step(placed(s.x[:, 1]), out=out), result[:, 1])
    assert_same_bits(stream(placed(s.x[:, 2:])), result[:, 2:])
    stream.step(placed(s.x[:, 0]), reset=placed(s.lengths % 2 == 1))


def banked(s, model, placed):
    """A bank whose last rows are stepped, in any order, some anew."""
    count = len(s.x)
    bank, stream, x = model.streams(count), model.stream(), placed(s.x)
    at, again = placed(np.array([bank.add() for _ in range(count)])[::-1].copy()), placed(s.lengths % 2 == 1)
    for options in ({}, {"reset": again}):
        out = zeros((count, model.output_size), s.dtype, last=placed.last)
        assert_same_bits(bank.step(placed(x[:, 0]), at=at, out=out, **options), stream.step(placed(x[:, 0]), **options))


def generated(s, model, placed):
    """Tokens that are chosen, and scored with lengths."""
    state = nested(model, tuple(map(placed, s.states))) if s.states else None
    for options in ({"feedback": "argmax"}, {"feedback": "sample", "rng": 0, "top_k": min(2, s.sizes[0])}):
        tokens, _ = fastrnn.generate(model, placed(s.start), s.steps, state, **options)
        fastrnn.log_likelihood(model, placed(tokens), state, lengths=placed(s.lengths))


def notebook(sizes, dtype, placed):
    """The notebook's function, which packs the caller's own weights."""
    rng = np.random.default_rng(sizes)
    inputs, hidden, outputs = sizes
    U, W, V, b, c = (
        rng.uniform(-0.1, 0.1, shape).astype(dtype) for shape in ((hidden, inputs), (hidden, hidden), (outputs, hidden), hidden, outputs)
    )
    x, h0 = rng.uniform(-1, 1, (5, inputs)).astype(dtype), rng.uniform(-1, 1, hidden).astype(dtype)
    model = fastrnn.Sequential(fastrnn.RNN(U, W, b), fastrnn.Dense(V, c, activation="softmax"))
    expected = model(x, h0)[0]
    for out in (None, zeros(expected.shape, dtype, last=placed.last)):
        given = [placed(array) for array in (x, U, W, V, b)]
        assert_same_bits(fastrnn.rnn_forward(*given, c=placed(c), h0=placed(h0), out=out), expected)


def place(*, last):
    """Place all that the library allocates from now on, and give the function that places what a caller gives."""
    guard_own(last=last)
    prepared.idle.clear()  # workspaces of calls before

    def placed(array):
        return beside(array, last=last)

    placed.last = last
    return placed


def check(s, placed):
    """Make every kind of call of a situation with one leading axis."""
    model = s.model
    result = whole(s, model, placed)
    with_lengths(s, model, placed, result)
    if s.case.causal and s.states:
        streamed(s, model, placed, result)
        banked(s, model, placed)
    if s.case in TELLERS:
        generated(s, model, placed)


def situations(*, some):
    """Give every case, or one of each kind, in each dtype at each of SIZES."""
    cases = [case for case in [*ALL, *TELLERS] if not some or case.name in CHOSEN or case in TELLERS]
    for case, dtype, sizes in itertools.product(cases, DTYPES, SIZES.values()):
        own = case.sizes if sizes is None else sizes[: len(case.sizes)]
        yield Situation(case, dtype, (*own[:-1], own[0]) if case in TELLERS else own, (5,), 4, 0)


def main(last, *, some):
    """Say what comes next before each of many calls, so that the last line names the one that ended the process."""
    placed = place(last=last)
    for s in situations(some=some):
        print(s.case.name, np.dtype(s.dtype), s.sizes, flush=True)
        check(s, placed)
    for sizes, dtype in itertools.product(itertools.product((1, 3, 16, 33), (1, 7, 66), (1, 5, 32)), DTYPES):
        print("rnn_forward", np.dtype(dtype), sizes, flush=True)
        notebook(sizes, dtype, placed)
    print("over")
