"""A stream has the bits of the whole run, however the run is cut into calls."""

import copy
import itertools
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import streaming
from fastrnn.engine import plan
from fastrnn.native import machine_code

from .cases import CELLS, DTYPES, MODEL, Case, assert_close, assert_same_bits, assert_same_results, flat, nested, run
from .situations import ALL, CAUSAL, CAUSAL_READERS, assert_equals_reference, exact, often, situations

pytestmark = pytest.mark.usefixtures("piece_by_piece")
every_case = pytest.mark.parametrize("case", CAUSAL, ids=lambda case: case.name)
RECURRENT = [case for case in CAUSAL if any(kind in CELLS for kind, _ in case.layers)]
every_recurrent = pytest.mark.parametrize("case", RECURRENT, ids=lambda case: case.name)
every_reader = pytest.mark.parametrize("case", CAUSAL_READERS, ids=lambda case: case.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def overwrite(states):
    for state in states:
        state[...] = 7


def assert_same_state(actual, expected):
    assert isinstance(actual, tuple) == isinstance(expected, tuple)
    for one, other in zip(flat(actual), flat(expected), strict=True):
        assert_same_bits(one, other)


@every_case
@every_dtype
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_whole_run_at_every_cut(case, dtype, leading):
    """Two chunks have the bits of the whole, wherever it is cut, empty chunks too; so has the state in the end."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 9)
    output, last = run(model, x, states)
    for cut in range(10):
        stream = model.stream(nested(model, states))
        pieces = [stream(x[..., :cut, :]), stream(x[..., cut:, :])]
        assert_same_bits(np.concatenate(pieces, axis=-2), output)
        assert_same_state(stream.state, nested(model, last))


@every_case
@every_dtype
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (70,)])
def test_step_by_step(case, dtype, leading):
    """Single steps have the bits of the whole, and after each the state is that of the run so far."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 6)
    output, _ = run(model, x, states)
    stream = model.stream(nested(model, states))
    for t in range(6):
        assert_same_bits(stream.step(x[..., t, :]), output[..., t, :])
        assert_same_state(stream.state, nested(model, run(model, x[..., : t + 1, :], states)[1]))


@often
@given(situations([*CAUSAL, *CAUSAL_READERS], steps=20), st.lists(st.integers(0, 5), max_size=8), st.booleans())
def test_any_calls(s, cuts, reuse):
    """Chunks and single steps (0) in any order, of vectors or tokens, into out= or not, have the bits of the whole."""
    x, axis, t = s.x, len(s.leading), 0
    output, last = run(s.model, x, s.states)
    stream = s.model.stream(nested(s.model, s.states))
    for length in [*cuts, s.steps]:
        single = length == 0 and t < s.steps
        here, expected = (part.take(t if single else range(t, min(s.steps, t + length)), axis=axis) for part in (x, output))
        out = np.full_like(expected, np.nan, order="C") if reuse else None
        result = (stream.step if single else stream)(here, out=out)
        assert result is out or not reuse
        assert_same_bits(result, expected)
        t = min(s.steps, t + max(1, length))
    assert_same_state(stream.state, nested(s.model, last))


@every_reader
@every_dtype
@pytest.mark.parametrize("begun", [False, True])
def test_tokens_as_integers(case, dtype, begun):
    """Python's integers, or NumPy's, step by step have the bits of the array of tokens, into out= or not; so has the state."""
    model, (tokens, states) = case.layer(dtype), case.data(dtype, (), 9)
    stream = model.stream(nested(model, states) if begun else None)
    output, last = run(model, tokens, states if begun else ())
    for t, (token, expected) in enumerate(zip(tokens, output, strict=True)):
        out = np.full_like(expected, np.nan) if t % 2 else None
        assert_same_bits(stream.step(token if t % 3 == 2 else int(token), out=out), expected)
        assert out is None or np.array_equal(out, expected)
    assert_same_state(stream.state, nested(model, last))


@often
@given(situations([*CAUSAL, *CAUSAL_READERS]))
def test_reference(s):
    """Steps are the reference's."""
    x = s.x
    expected, _ = run(s.reference, exact(x), exact(s.states))
    stream = s.model.stream(nested(s.model, s.states))
    for t in range(s.steps):
        x_t = x[..., t] if s.case.tokens else x[..., t, :]
        assert_close(stream.step(x_t), expected[..., t, :], s.dtype)


@every_dtype
def test_long_chunks(dtype):
    """A chunk that is worked through in many pieces, and single steps after it, have the bits of the whole."""
    case = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (40, 60, 30))
    model, (x, states) = case.layer(dtype), case.data(dtype, (2,), 20_000)
    output, _ = model(x, states)
    stream = model.stream(states)
    assert_same_bits(stream(x[:, :19_990]), output[:, :19_990])
    for t in range(19_990, 20_000):
        assert_same_bits(stream.step(x[:, t]), output[:, t])


LAYOUTS = {
    "list": np.ndarray.tolist,
    "float16": lambda x: x.astype(np.float16),
    "float64": lambda x: x.astype(np.float64),
    "boolean": lambda x: x > 0,
    "integer": lambda x: (9 * x).astype(int),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[::-1, ..., ::-1].copy()[::-1, ..., ::-1],
}


@every_dtype
@pytest.mark.parametrize("change", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(dtype, change):
    """A step's vector, a chunk and a state may have any layout and dtype that a whole run's may have."""
    model, (x, states) = MODEL.layer(dtype), MODEL.data(dtype, (3,), 4)
    expected, _ = model(np.array(change(x)), tuple(np.array(change(state)) for state in states))
    stream = model.stream(tuple(change(state) for state in states))
    assert_same_bits(stream.step(change(x[:, 0])), expected[:, 0])
    assert_same_bits(stream(change(x[:, 1:])), expected[:, 1:])


@every_case
def test_fresh_arrays(case):
    """What a call has returned is not written to by the calls after it."""
    model, (x, _) = case.layer(np.float64), case.data(np.float64, (3,), 6)
    output, _ = run(model, x)
    stream = model.stream()
    results = [stream.step(x[:, 0]), stream.step(x[:, 1]), stream(x[:, 2:4]), stream(x[:, 4:])]
    assert_same_bits(np.concatenate([results[0][:, None], results[1][:, None], *results[2:]], axis=1), output)


@every_recurrent
def test_the_state_is_a_copy_both_ways(case):
    """Writing to a state that was set or given changes no stream; one that was read is read only; the stream changes none."""
    model, (x, states) = case.layer(np.float64), case.data(np.float64, (3,), 4)
    output, last = run(model, x, states)
    given_states = tuple(state.copy() for state in states)
    stream = model.stream(nested(model, given_states))
    overwrite(given_states)
    assert_same_bits(stream(x[:, :2]), output[:, :2])
    before = flat(stream.state)
    copies = [state.copy() for state in before]
    assert_same_bits(stream(x[:, 2:]), output[:, 2:])
    assert_same_state(stream.state, nested(model, last))
    assert all((state == 7).all() for state in given_states)
    for state, same in zip(before, copies, strict=True):
        assert_same_bits(state, same)
        with pytest.raises(ValueError, match="read-only"):
            state[...] = 7


@every_case
@every_dtype
def test_state_is_settable(case, dtype):
    """A state that was read and is set again brings the stream back to that place."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (3,), 6)
    stream = model.stream(nested(model, states))
    stream(x[:, :2])
    state, first = stream.state, stream(x[:, 2:])
    stream.state = state
    assert_same_bits(stream(x[:, 2:]), first)
    stream.state = nested(model, states)
    assert_same_bits(stream(x), run(model, x, states)[0])


@every_case
@every_dtype
def test_reset(case, dtype):
    """Without state0, reset goes back to zeros, whatever state the stream was made with."""
    model, (x, states) = case.layer(dtype), case.data(dtype, (3,), 4)
    stream = model.stream(nested(model, states))
    stream(x)
    stream.reset()
    assert_same_bits(stream(x), run(model, x)[0])


def where(reset, one, other):
    """Take the rows of reset sequences from `one`, the rows of all others from `other`."""
    return tuple(np.where(reset[..., None], a, b) for a, b in zip(one, other, strict=True))


@st.composite
def episodes(draw, cases=ALL):
    """A situation, and a boolean for each of its sequences."""
    s = draw(situations(cases))
    return s, np.random.default_rng(draw(st.integers(0, 99))).integers(2, size=s.leading) == 1


@often
@given(episodes(), st.booleans(), st.booleans())
def test_reset_in_a_call(episode, bounded, return_sequences):
    """Sequences that are reset have the bits of those that start from zeros, the others those of their states: of length 0, too."""
    s, reset = episode
    options = {"return_sequences": return_sequences} | ({"lengths": s.lengths} if bounded else {})
    zeros = where(reset, [np.zeros_like(state) for state in s.states], s.states)
    actual = run(s.model, s.x, s.states, reset=reset.tolist(), **options)
    assert_same_results(actual, run(s.model, s.x, zeros, **options))
    assert_equals_reference(s, s.x, reset=reset, **options)


@often
@given(episodes([*CAUSAL, *CAUSAL_READERS]), st.booleans(), st.booleans())
def test_reset_of_a_stream(episode, single, reuse):
    """A step or a chunk, into out= or not, begins at state0 where it is reset, and goes on elsewhere."""
    s, reset = episode
    x, first = s.x, tuple(np.sin(9 * state) for state in s.states)
    here = x.take(0, axis=len(s.leading)) if single and s.steps else x
    whole = np.expand_dims(here, len(s.leading)) if single and s.steps else x
    stream = s.model.stream(nested(s.model, s.states), state0=nested(s.model, first) if first else None)
    if not s.states:
        stream(x)
    expected, last = run(s.model, whole, where(reset, first, s.states))
    expected = expected.take(0, axis=len(s.leading)) if single and s.steps else expected
    out = np.full_like(expected, np.nan) if reuse else None
    result = (stream.step if single and s.steps else stream)(here, reset=reset if s.leading else bool(reset), out=out)
    assert result is out or not reuse
    assert_same_bits(result, expected)
    assert_same_state(stream.state, nested(s.model, last))


@every_recurrent
@every_dtype
@pytest.mark.parametrize("leading", [(), (3,)])
def test_state0(case, dtype, leading):
    """A stream begins at state0, which fixes its batch, and returns there by reset and by a state of None; state0 is a copy."""
    model, (x, states) = case.layer(dtype), case.data(dtype, leading, 4)
    given_states = tuple(state.copy() for state in states)
    stream, output = model.stream(state0=nested(model, given_states)), run(model, x, states)[0]
    overwrite(given_states)
    assert_same_state(stream.state, nested(model, states))
    assert_same_bits(stream(x), output)
    stream.reset()
    assert_same_bits(stream(x), output)
    stream.state = None
    assert_same_bits(stream.step(x[..., 0, :], reset=np.zeros(leading, bool)), output[..., 0, :])
    assert_same_bits(stream(x, reset=np.ones(leading, bool)), output)


def test_state0_where_an_entry_is_none():
    """A state's entry that is None begins at state0's, state0's at zeros."""
    model, (x, (first, second)) = MODEL.layer(np.float64), MODEL.data(np.float64, (3,), 4)
    stream = model.stream((None, second), state0=(first, None))
    assert_same_bits(stream(x), model(x, (first, second))[0])
    stream.reset()
    assert_same_bits(stream(x), model(x, (first, None))[0])


def test_no_state_means_zeros():
    """None, and a tuple with None in it, mean zeros, at the start and when set."""
    model, (x, (first, second)) = MODEL.layer(np.float64), MODEL.data(np.float64, (3,), 4)
    for state, same in ((None, None), ((None, second), (np.zeros_like(first), second)), ([first, None], (first, np.zeros_like(second)))):
        stream = model.stream(state)
        assert_same_bits(stream(x), model(x, same)[0])
        stream.state = state
        assert_same_bits(stream(x), model(x, same)[0])


def test_bare_state():
    """Where there is one recurrent layer its state alone will do; it is read as a tuple."""
    case = Case("", (("RNN", "tanh"), ("Dense", "softmax")), (5, 20, 3))
    model, (x, (state,)) = case.layer(np.float32), case.data(np.float32, (3,), 4)
    stream = model.stream(state)
    output, last = model(x, state)
    assert_same_bits(stream(x), output)
    assert_same_state(stream.state, last)
    stream.state = state
    assert_same_bits(stream(x), output)


def test_steps_that_are_converted_keep_nothing():
    """A step's x of another dtype is handed back as None by the machine code, with a reference of its own: Python's count of them stays."""
    stream, x = fastrnn.RNN(np.eye(2), np.eye(2)).stream(), np.ones(2, np.float32)
    stream.step(x)
    before = sys.getrefcount(None)
    for _ in range(1000):
        stream.step(x)
    assert abs(sys.getrefcount(None) - before) < 100


def test_streams_are_independent():
    """Streams of one model, and the model's own calls between theirs, do not touch one another."""
    model, (x, states) = MODEL.layer(np.float64), MODEL.data(np.float64, (2,), 5)
    output, _ = model(x, states)
    streams = [model.stream(tuple(state[n] for state in states)) for n in range(2)]
    for t in range(5):
        for n, stream in enumerate(streams):
            assert_same_bits(stream.step(x[n, t]), output[n, t])
        assert_same_bits(model(x, states)[0], output)


DUPLICATES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda stream: pickle.loads(pickle.dumps(stream))}


@every_case
@pytest.mark.parametrize("duplicate", DUPLICATES.values(), ids=DUPLICATES)
def test_copies(case, duplicate):
    """A copy of a stream goes on from the same state, by itself, and is reset to the same state0."""
    model, (x, states) = case.layer(np.float64), case.data(np.float64, (3,), 6)
    output, last = run(model, x, states)
    first = tuple(np.sin(9 * state) for state in states)
    stream = model.stream(nested(model, states), state0=nested(model, first) if first else None)
    stream(x[:, :2])
    other, before = duplicate(stream), stream.state
    assert_same_bits(other(x[:, 2:]), output[:, 2:])
    assert_same_state(other.state, nested(model, last))
    assert_same_state(stream.state, before)
    assert_same_bits(stream.step(x[:, 2]), output[:, 2])
    assert_same_bits(other(x, reset=[True] * 3), run(model, x, first)[0])


REFUSED = {
    "another batch": lambda stream, x: stream(x[:2]),
    "another batch, a step": lambda stream, x: stream.step(x[:2, 0]),
    "another size": lambda stream, x: stream(x[..., :-1]),
    "a token": lambda stream, x: stream.step([0, 1, 10]),
    "an out of another shape": lambda stream, x: stream(x, out=np.zeros((3, 4, 100))),
    "an out for a chunk": lambda stream, x: stream.step(x[:, 0], out=np.zeros((3, 4, 101))),
    "a reset of another batch": lambda stream, x: stream(x, reset=[True, False]),
    "a reset of another batch, a step": lambda stream, x: stream.step(x[:, 0], reset=True),
    "a reset and an out of another shape": lambda stream, x: stream.step(x[:, 0], reset=[True] * 3, out=np.zeros(3)),
    "a state of another batch": lambda stream, x: setattr(stream, "state", (np.zeros((2, 66)), np.zeros((2, 37)))),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_an_error_leaves_the_stream_as_it_was(refused):
    """A call that is refused, or a state, changes no state."""
    model, (x, states) = MODEL.layer(np.float64), MODEL.data(np.float64, (3,), 4)
    assert MODEL.sizes == (11, 66, 37, 101)
    stream = model.stream(states)
    first = stream(x)
    before = stream.state
    with pytest.raises(ValueError, match="must"):
        refused(stream, x)
    assert_same_state(stream.state, before)
    assert_same_bits(stream(x), model(x, before)[0])
    assert not np.array_equal(first, model(x, before)[0])


@pytest.mark.parametrize("reset", [None, [True, False, True]])
def test_an_interrupted_chunk(monkeypatch, reset):
    """A chunk that Ctrl-C ends between two of its pieces leaves the state where it was, of sequences that it was to reset, too."""
    model, (x, states) = MODEL.layer(np.float64), MODEL.data(np.float64, (3,), 9)
    stream = model.stream(states)
    monkeypatch.setattr(plan, "WORK", 30_000)
    calls, call = [], machine_code.loaded.call

    def interrupt(*arrays):
        calls.append(arrays)
        if len(calls) == 3:
            raise KeyboardInterrupt
        call(*arrays)

    with monkeypatch.context() as patch:
        patch.setattr(machine_code.loaded, "call", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stream(x, reset=reset)
    assert_same_state(stream.state, states)
    assert_same_bits(stream(x), model(x, states)[0])


def test_an_interrupted_first_step(monkeypatch):
    """A first call that Ctrl-C ends before it computes leaves a stream on which nothing has been fixed, and the next one starts it."""
    model, (x, _) = MODEL.layer(np.float64), MODEL.data(np.float64, (3,), 4)
    stream = model.stream()

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(machine_code, "addresses", interrupt)  # which may compile for seconds
        with pytest.raises(KeyboardInterrupt):
            stream.step(x[:, 0])
    assert stream.state is None
    assert_same_bits(stream(x), model(x)[0])


def test_interrupts_anywhere_in_the_first_step():
    """Wherever Ctrl-C comes in Python's part of a first step, the stream is sound: where it was, or one step on."""
    model, (x, _) = MODEL.layer(np.float64), MODEL.data(np.float64, (3,), 4)
    steps = [x[:, i].copy() for i in range(4)]
    outputs = model(x)[0]

    def interrupted(call, at):
        """Tell whether the call was long enough."""
        seen = itertools.count(1)

        def trace(frame, event, _):
            if not frame.f_code.co_filename.endswith("streaming.py"):
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and next(seen) == at:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # without it before settrace, Python 3.12 traces no instructions
        sys.settrace(trace)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    for at in itertools.count(1):
        stream = model.stream()
        again = interrupted(lambda stream=stream: stream.step(steps[0]), at)
        done = 0 if stream.state is None or not any(array.any() for array in flat(stream.state)) else 1
        for t in range(done, 4):
            assert_same_bits(stream.step(steps[t]), outputs[:, t])
        if not again:
            break
    assert at > 100


def test_an_interrupt_where_fewer_threads_are_left(monkeypatch):
    """A step that was one call with help, and alone is several, leaves the state where it was."""
    model, x = fastrnn.RNN(np.eye(300, dtype=np.float32), np.eye(300, dtype=np.float32)), np.ones((640, 300), np.float32)
    monkeypatch.setattr(fastrnn.engine.threads, "chosen", 2)
    stream = model.stream()
    stream.step(x)
    before, run_network = stream.state, streaming.run_network

    def stumble(network, task):
        run_network(network, task)
        raise KeyboardInterrupt

    monkeypatch.setattr(fastrnn.engine.threads, "chosen", 1)
    monkeypatch.setattr(streaming, "run_network", stumble)
    monkeypatch.setattr(fastrnn.engine.plan, "WORTH_HELP", 1)
    with pytest.raises(KeyboardInterrupt):
        stream.step(x)
    assert_same_bits(stream.state, before)
