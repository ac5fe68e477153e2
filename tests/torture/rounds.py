"""The kinds of rounds. Each is a function of random numbers and of counts, and fails by an exception."""

import contextlib
import dataclasses
import pickle
import sys
import threading

import numpy as np

import fastrnn

from ..cases import assert_close, assert_same_bits, assert_same_results, flat, nested, run
from ..situations import CAUSAL, CAUSAL_READERS, TELLERS, exact
from . import children, loaders, others, pages, shared
from .misuse import misuse
from .work import Work, pick, plain_run, situation, steps_of, wide

# ---- one model, one sequence of calls -------------------------------------------------------------------------------------------------


def in_pieces(rng, s, model, x, states, whole):
    """A run that goes on from its last states, again and again."""
    cuts = sorted(rng.integers(0, s.steps + 1, size=3))
    outputs = []
    for part in np.split(x, cuts, axis=len(s.leading)):
        output, states = run(model, part, states)
        outputs.append(output)
    assert_same_results((np.concatenate(outputs, axis=-2), states), whole)


def one_by_one(rng, s, model, x, states, whole):
    """One sequence of a batch, alone."""
    index = pick(rng, s.members())
    assert_same_results(
        run(model, x[index], tuple(state[index] for state in states)), (whole[0][index], tuple(last[index] for last in whole[1]))
    )


def laid_out(rng, s, model, x, states, whole):
    """The same numbers elsewhere in memory, and an output that is given."""
    change = pick(rng, [np.asfortranarray, lambda x: np.repeat(x, 2, axis=-1)[..., ::2], lambda x: x[..., ::-1].copy()[..., ::-1]])
    out = np.full_like(whole[0], np.nan)
    assert_same_results(run(model, change(x), states, out=out), whole)
    assert_same_bits(out, whole[0])


def of_lengths(rng, s, model, x, states, whole):
    """Sequences of several lengths, and the last step alone."""
    lengths, index = s.lengths, pick(rng, s.members())
    output, last = run(model, x, states, lengths=lengths)
    expected, expected_last = run(model, x[index][: lengths[index]], tuple(state[index] for state in states))
    assert_same_results((output[index][: lengths[index]], tuple(state[index] for state in last)), (expected, expected_last))
    assert not output[index][lengths[index] :].any()
    only, last_too = run(model, x, states, lengths=lengths, return_sequences=False)
    assert_same_results((only, last_too), (only, last))
    if s.case.causal and lengths[index]:
        assert_same_bits(only[index], expected[-1])
    alone, _ = run(model, x[index][: lengths[index]], tuple(state[index] for state in states), return_sequences=False)
    assert_same_bits(only[index], alone)


def of_tokens(rng, s, model, x, states, whole):
    """The same weights behind one-hot vectors, which are never made, and given the vectors."""
    reader = dataclasses.replace(s, case=dataclasses.replace(s.case, one_hot=True))
    if x.dtype.kind == "f":
        assert_same_results(run(reader.model, reader.x, states), run(model, np.eye(s.sizes[0], dtype=s.dtype)[reader.x], states))


def streamed(rng, s, model, x, states, whole):
    """A stream that takes steps and chunks, is copied and refused, and goes back to states that it had, in any order."""
    stream, at = model.stream(nested(model, states) if states else None), 0
    had = [(at, stream.state)]
    for _ in range(25):
        action = pick(rng, ["step", "chunk", "chunk", "keep", "back", "copy", "refused"])
        if action == "step" and at < s.steps:
            assert_same_bits(stream.step(steps_of(s, x, at)), whole[0][..., at, :])
            at += 1
        elif action == "chunk":
            end = int(rng.integers(at, s.steps + 1))
            assert_same_bits(stream(steps_of(s, x, slice(at, end))), whole[0][..., at:end, :])
            at = end
        elif action == "keep" and stream.state is not None:
            had.append((at, stream.state))
        elif action == "back":
            at, stream.state = pick(rng, had)
        elif action == "copy":
            stream = pickle.loads(pickle.dumps(stream))
        elif action == "refused":
            with contextlib.suppress(ValueError, TypeError):
                stream(wide(x))
                raise AssertionError("not refused")


ANY_ORDER = [one_by_one, laid_out, of_lengths, of_tokens]
IN_ORDER = [in_pieces, streamed]  # where no output depends on later steps


def sequences(rng, counts):
    """A model's run against the reference, and the same sequence run in other ways against that, bit for bit, on any number of threads."""
    s = situation(rng)
    model, x, states, whole = plain_run(s)
    for _ in range(8):
        fastrnn.set_num_threads(int(rng.integers(1, 4)))
        pick(rng, ANY_ORDER + IN_ORDER * s.case.causal)(rng, s, model, x, states, whole)
    counts["calls"] += 9
    counts["steps"] += 9 * s.steps * len(s.members())


def generations(rng, counts):
    """What is generated at once and in two calls, and what is scored, against the reference."""
    s = situation(rng, TELLERS, closed=True)
    model, start, state = s.model, s.start, nested(s.model, s.states) if s.states else None
    whole, last = fastrnn.generate(model, start, s.steps, state, feedback="argmax")
    cut = int(rng.integers(s.steps, endpoint=True))
    first, between = fastrnn.generate(model, start, cut, state, feedback="argmax")
    second, end = fastrnn.generate(model, first[..., -1] if cut else start, s.steps - cut, between, feedback="argmax")
    assert_same_bits(np.concatenate([first, second], axis=-1), whole)
    assert_same_results((whole, flat(end)), (whole, flat(last)))
    options = {"rng": s.seed, "temperature": float(rng.uniform(0.1, 3)), "top_k": int(rng.integers(1, s.sizes[0], endpoint=True))}
    drawn = [fastrnn.generate(model, start, s.steps, state, **options)[0] for _ in range(2)]
    assert_same_bits(*drawn)
    scores = fastrnn.log_likelihood(model, s.x, state, per_step=True)
    expected = fastrnn.reference.log_likelihood(s.reference, s.x, exact(state), per_step=True)
    assert_close(scores, expected, s.dtype)
    counts["calls"] += 6
    counts["steps"] += 5 * s.steps * len(s.members())


def banks(rng, counts):
    """Rows of a bank that are each somewhere in a sequence: any of them step together, and begin anew where they are handed out again."""
    s = dataclasses.replace(situation(rng, [*CAUSAL, *CAUSAL_READERS]), leading=(int(rng.integers(1, 40)),))
    model, x = s.model, s.x
    whole, bank = run(model, x)[0], model.streams(len(x) + 3)
    places = {bank.add(): (which, 0) for which in range(len(x))}  # by row: the sequence, and the next step
    for _ in range(30):
        ready = [row for row, (_, t) in places.items() if t < s.steps]
        if not ready:
            break
        rows = rng.permutation(ready)[: rng.integers(1, len(ready) + 1)]
        output = bank.step(np.array([x[places[row]] for row in rows]), at=rows)
        assert_same_bits(output, np.array([whole[places[row]] for row in rows]))
        places |= {row: (places[row][0], places[row][1] + 1) for row in rows}
        if rng.random() < 0.3:
            bank.drop(rows[0])
            places[bank.add()] = places.pop(rows[0])[0], 0
        counts["calls"] += 1
        counts["steps"] += len(rows)


# ---- many callers ---------------------------------------------------------------------------------------------------------------------


def callers(rng, counts):
    """Up to a hundred threads call the same models while the number of threads changes."""
    work, number, wrong, done = Work(rng, 6), pick(rng, [2, 5, 20, 100]), [], threading.Event()
    orders = [rng.integers(6, size=max(2, 200 // number)) for _ in range(number)]
    steps = []

    def call(order):
        try:
            steps.extend([work.check(which) for which in order])
        except BaseException as error:
            wrong.append(error)

    def change(seed):
        order = np.random.default_rng(seed)
        while not done.wait(order.uniform(0, 0.005)):
            fastrnn.set_num_threads(int(order.integers(1, 6)))

    threads = [threading.Thread(target=call, args=(order,)) for order in orders]
    changer, before = threading.Thread(target=change, args=(int(rng.integers(99)),)), sys.getswitchinterval()
    sys.setswitchinterval(pick(rng, [before, 1e-6]))
    for thread in [changer, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    changer.join()
    sys.setswitchinterval(before)
    if wrong:
        raise wrong[0]
    counts["calls"] += len(steps)
    counts["steps"] += sum(steps)


# A kind's function, and how often it is chosen.
KINDS = {
    "sequences": (sequences, 30),
    "generations": (generations, 10),
    "banks": (banks, 10),
    "misuse": (misuse, 8),
    "callers": (callers, 4),
    "compiled": (others.compiled, 3),
    "chunked": (others.chunked, 6),
    "interrupts": (children.interrupts, 3),
    "forks": (children.forks, 3),
    "exits": (children.exits, 3),
    "damage": (children.damage, 2),
    "pages": (pages.pages, 4),
    "sharing": (shared.sharing, 4),
    "handlers": (shared.handlers, 3),
    "flushing": (shared.flushing, 6),
    "mutated loader files": (loaders.mutated, 4),
}


def choose(rng):
    names, weights = list(KINDS), np.array([weight for _, weight in KINDS.values()], float)
    return str(rng.choice(names, p=weights / weights.sum()))
