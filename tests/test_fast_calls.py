"""Calls that the built-in `at_once` takes whole: what it takes, what it leaves, and what it gives."""

import contextlib
import ctypes
import pickle
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn.engine import calls, prepared, threads
from fastrnn.engine.calls import checked_call, checked_call_for_last
from fastrnn.kernels.layout import PYTHON
from fastrnn.native import machine_code

from .cases import DTYPES, READERS, nested


def is_taken(case):
    """Tell whether a model of tokens has a state, and no array of it is computed from another."""
    kinds, forms = zip(*case.layers, strict=True)
    return case.causal and bool({"RNN", "GRU", "LSTM"} & {*kinds}) and not any("at the input" in str(form) for form in forms)


OF_TOKENS = [case for case in READERS if is_taken(case)]


def layers(dtype):
    """Give layers whose states are one array and two, and a model of two layers, with the shapes of a state's arrays."""
    U, W = np.eye(8, 3, dtype=dtype), np.eye(8, dtype=dtype) / 2
    rnn, second = fastrnn.RNN(U, W), fastrnn.RNN(np.eye(5, 8, dtype=dtype), np.eye(5, dtype=dtype))
    lstm = fastrnn.LSTM(np.tile(U, (4, 1)), np.tile(W, (4, 1)))
    return [(rnn, (8,)), (lstm, (8, 8)), (fastrnn.Sequential(rnn, second), (8, 5))]


def arrays_of(result):
    """Give the arrays of a result, however its states are nested."""
    return [result] if isinstance(result, np.ndarray) else [array for part in result for array in arrays_of(part)]


def whole(arrays):
    """Give a state as a layer takes it."""
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def long_way(model, x, state):
    *leading, steps = x.shape if x.dtype.kind == "i" else x.shape[:-1]  # of tokens, or of numbers
    return arrays_of(model(x, state, lengths=np.full(leading, steps)))


class Own(np.ndarray):
    """An array of a class of its own."""


@pytest.mark.parametrize("which", range(3))
def test_shapes_in_turn(which):
    """A call is tried as the last one was made, and is right whatever that one's shape: other steps, other sequences, other dimensions."""
    model, _ = layers("float32")[which]
    given = [np.full((*leading, 3), i + 1, "float32") for i, leading in enumerate([(2,), (1,), (2, 1), (1, 2), (0,), (2, 0), (1, 1, 2)])]
    expected = [long_way(model, x, None) for x in given]
    rng = np.random.default_rng(0)
    for i in rng.integers(0, len(given), 100):
        for array, other in zip(arrays_of(model(given[i])), expected[i], strict=True):
            assert array.shape == other.shape
            assert array.tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("leading", [(), (1,), (2, 3)])
def test_calls_at_once(dtype, which, leading):
    """What `at_once` takes and what it leaves to the long way give the same arrays, which share no memory with what was given."""
    model, sizes = layers(dtype)[which]
    rng = np.random.default_rng(which)
    x = rng.normal(size=(*leading, 2, 3)).astype(dtype)
    entries = [rng.normal(size=(*leading, size)).astype(dtype) for size in sizes]
    for given in (None, entries):
        state = None if given is None else whole(given)
        expected = long_way(model, x, state)
        result = checked_call(model.packed(), x, state, None)
        assert result is not None
        for array, other in zip(arrays_of(result), expected, strict=True):
            assert array.dtype == dtype
            assert array.shape == other.shape
            assert array.tobytes() == other.tobytes()
            assert array.flags.carray
            assert not any(np.may_share_memory(array, one) for one in (x, *entries))


@pytest.mark.parametrize("head", ["", "softmax"])
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("leading", [(), (1,), (2, 3)])
def test_last_steps_at_once(which, leading, head, monkeypatch):
    """The last step's output alone is the same, whether all steps together are computed at once or what is not wanted is left out."""
    model, sizes = layers("float32")[which]
    if head:
        before = getattr(model, "layers", (model,))
        model = fastrnn.Sequential(*before, fastrnn.Dense(np.eye(4, model.output_size, dtype="float32"), activation=head))
    rng = np.random.default_rng(which)
    entries = [rng.normal(size=(*leading, size)).astype("float32") for size in sizes]
    for steps in (1, 2, 5):
        x = rng.normal(size=(*leading, steps, 3)).astype("float32")
        for state in (None, model.state_form.join(iter(entries))):
            given = model.state_form.flat(state) if isinstance(model, fastrnn.Sequential) else state
            assert checked_call_for_last(model.packed(), x, given, None) is not None
            result = model(x, state, return_sequences=False)
            with monkeypatch.context() as patch:
                patch.setattr(calls, "SHORT", 0)
                assert checked_call_for_last(model.packed(), x, given, None) is None
                expected = model(x, state, return_sequences=False)
            for array, other in zip(arrays_of(result), arrays_of(expected), strict=True):
                assert array.shape == other.shape
                assert array.tobytes() == other.tobytes()
            output, *states = arrays_of(result)
            assert output.flags.carray
            assert output.shape == (*leading, model.output_size)
            assert not any(np.may_share_memory(output, array) for array in (x, *entries, *states))
    output, *states = arrays_of(model(np.ones((*leading, 0, 3), "float32"), state, return_sequences=False))
    assert output.shape == (*leading, model.output_size)
    assert not output.any()
    assert all(array.tobytes() == entry.tobytes() for array, entry in zip(states, entries, strict=True))


@pytest.mark.parametrize("which", range(3))
def test_what_is_not_at_once(which):
    """Anything but arrays of the right shapes is left to the long way; nothing is computed or changed."""
    model, sizes = layers("float32")[which]
    x, entries = np.ones((2, 4, 3), np.float32), [np.ones((2, size), np.float32) for size in sizes]
    network, out = model.packed(), np.full((2, 4, model.output_size), 7, np.float32)
    assert checked_call(network, x, whole(entries), None) is not None
    large = np.ones((50000, 4, 3))
    for other in [
        [[1.0] * 3] * 4,
        None,
        3,
        "x",
        x.view(Own),
        x[0, 0],
        x[..., :2],
        np.float32(1),
        x.astype(complex),
        x.astype(object),
        large,
    ]:
        assert checked_call(network, other, None, out) is None
    first, *rest = entries
    wrong = [first[:1], first.ravel(), first.view(Own), first.astype(complex), first.astype(np.float64)[:1], [1.0], 2]
    for other in [1, "h", x, [first, *rest], (first, *rest, first), (), whole(entries)[:1], *[whole([one, *rest]) for one in wrong]]:
        assert checked_call(network, x, other, out) is None
    assert (out == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("leading", [(), (1,), (2, 3)])
@pytest.mark.parametrize("case", OF_TOKENS, ids=lambda case: case.name)
def test_tokens_at_once(case, leading, dtype, monkeypatch):
    """Tokens of any integer dtype and layout give what they give on the long way, and are not changed."""
    monkeypatch.setattr(calls, "SHORT", 1 << 40)
    model, (tokens, states) = case.layer(dtype), case.data(dtype, leading, 5)
    network, vocabulary = model.packed(), model.input_size
    tokens.flat[:1], tokens.flat[-1:] = 0, vocabulary - 1
    for begun in (False, True):
        state = nested(model, states) if begun else None
        given, expected = model.state_form.flat(state), [array.tobytes() for array in long_way(model, tokens, state)]
        others = [tokens.astype(kind) for kind in ("u1", "i2", ">i4", "u8")]
        for x in [tokens, *others, np.repeat(tokens, 2, axis=-1)[..., ::2], np.asfortranarray(tokens)]:
            before, out = x.tobytes(), np.empty((*tokens.shape, model.output_size), dtype)
            for result in (checked_call(network, x, given, None), checked_call(network, x, given, out)):
                assert result is not None
                assert [array.tobytes() for array in arrays_of(result)] == expected
            assert result[0] is out
            assert x.tobytes() == before
        last = checked_call_for_last(network, tokens, given, None)
        assert last is not None
        assert last[0].tobytes() == result[0][..., -1, :].tobytes()


@pytest.mark.parametrize("case", OF_TOKENS, ids=lambda case: case.name)
def test_what_are_no_tokens(case):
    """A token beyond the vocabulary, wherever it is, and what holds no integers, are left to the long way, which refuses them."""
    model, (tokens, _) = case.layer(np.float32), case.data(np.float32, (2,), 5)
    network, out = model.packed(), np.full((2, 5, case.output_size), 7, np.float32)
    assert checked_call(network, tokens, None, None) is not None
    for place in range(tokens.size):
        for wrong in (-1, model.input_size, 1 << 40, -(1 << 63), (1 << 63) - 1):
            other = tokens.astype(np.int64)
            other.flat[place] = wrong
            with pytest.raises(ValueError, match=f"^x must hold integers from 0 to .*, got {wrong} at position "):
                model(other, out=out)
    beyond = tokens.astype(np.uint64)
    beyond[1, 4] = (1 << 64) - 1
    with pytest.raises(ValueError, match=f"^x must hold integers from 0 to .*, got {(1 << 64) - 1} at position "):
        model(beyond, out=out)
    for other in (tokens.astype(np.float32), tokens.astype(bool), tokens.astype(object)):
        assert checked_call(network, other, None, out) is None
        with pytest.raises(TypeError, match=r"^x must (be integers|hold real numbers), "):
            model(other, out=out)
    assert (out == 7).all()
    memory = np.zeros(2 * 5 * case.output_size * 4 + 80, np.uint8)
    inside = memory[:80].view(np.int64).reshape(2, 5)
    for first in (0, 76):
        with pytest.raises(ValueError, match=r"^out must "):
            model(inside, out=memory[first:][: out.nbytes].view(np.float32).reshape(out.shape))
    assert not memory.any()
    beside = memory[80:].view(np.float32).reshape(out.shape)
    assert model(inside, out=beside)[0] is beside


def varied(array):
    """Give arrays of other dtypes and layouts, whose values float32 has."""
    unaligned = np.frombuffer(b"-" + array.tobytes(), np.uint8)[1:].view(np.float32).reshape(array.shape)
    wider = np.repeat(array, 2, axis=-1)
    dtypes = ["f8", ">f4", "f2", "i4", "u1", "?"]
    return [*[array.astype(dtype) for dtype in dtypes], unaligned, wider[..., ::2], array[..., ::-1][..., ::-1], np.asfortranarray(array)]


@pytest.mark.parametrize("which", range(3))
def test_copies(which):
    """What is small and has another dtype or layout is copied; the results are those of the long way, and nothing given is changed."""
    model, sizes = layers("float32")[which]
    x, entries = np.ones((2, 4, 3), np.float32), [np.ones((2, size), np.float32) for size in sizes]
    x[0, 1], entries[0][1, 2] = 0, 0
    expected = [array.tobytes() for array in long_way(model, x, whole(entries))]
    cases = [(other, whole(entries)) for other in varied(x)] + [(x, whole([other, *entries[1:]])) for other in varied(entries[0])]
    for other, state in cases:
        before = other.tobytes()
        result = checked_call(model.packed(), other, state, None)
        assert result is not None
        assert [array.tobytes() for array in arrays_of(result)] == expected
        assert other.tobytes() == before


def test_copies_that_overflow():
    """A number beyond float32 becomes infinite, without a warning, as on the long way."""
    model, _ = layers("float32")[0]
    x = np.array([[1e300, -1e300, 1e-300]])
    with np.errstate(all="raise"):
        result = checked_call(model.packed(), x, None, None)
    assert result is not None
    assert [array.tobytes() for array in result] == [array.tobytes() for array in long_way(model, x, None)]


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("begun", [False, True])
def test_out(which, begun):
    """`out` receives the output at once where it is right; where it isn't, the error is raised and nothing is changed."""
    model, sizes = layers("float32")[which]
    memory = np.ones(400, np.float32)
    x, entries = memory[:24].reshape(2, 4, 3), [memory[24 + 20 * i :][: 2 * size].reshape(2, size) for i, size in enumerate(sizes)]
    state, network, shape = whole(entries) if begun else None, model.packed(), (2, 4, model.output_size)
    size = 8 * model.output_size
    expected = [array.tobytes() for array in long_way(model, x, state)]
    for other in (x, x.astype(np.float64)):
        out = np.full(shape, 7, np.float32)
        result = checked_call(network, other, state, out)
        assert result is not None
        assert result[0] is out
        assert [array.tobytes() for array in arrays_of(result)] == expected
    frozen = np.zeros(shape, np.float32)
    frozen.flags.writeable = False
    wrong = [
        1,
        [0.0],
        frozen,
        np.zeros(shape),
        np.zeros(shape[1:], np.float32),
        np.zeros((4, *shape[1:]), np.float32)[::2],
        frozen.view(Own),
    ]
    wrong += [memory[first:][:size].reshape(shape) for first in (0, 23)]
    wrong += [memory[first:][:size].reshape(shape) for first in (25, 44) if begun and first < 25 + 20 * (len(sizes) - 1)]
    before = memory.tobytes()
    for out in wrong:
        with pytest.raises((TypeError, ValueError), match=r"^out must "):
            model(x, state, out=out)
    assert memory.tobytes() == before
    after = memory[24 + 20 * len(sizes) :][:size].reshape(shape)  # beside what is read
    assert model(x, state, out=after)[0] is after
    assert after.tobytes() == expected[0]


NESTED = {
    "LSTM": (lambda lstm, gru: [lstm], ((4, 4),)),
    "LSTM, GRU": (lambda lstm, gru: [lstm, gru], ((4, 4), 4)),
    "GRU, LSTM": (lambda lstm, gru: [gru, lstm], (4, (4, 4))),
    "LSTM, LSTM": (lambda lstm, gru: [lstm, lstm], ((4, 4), (4, 4))),
}


def answer(model, x, state, **options):
    """Give the bytes of a call's results, nested as they are, or the error."""

    def exact(one):
        return tuple(map(exact, one)) if isinstance(one, tuple) else one.tobytes()

    try:
        return exact(model(x, state, **options))
    except (TypeError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nested_states(name, dtype):
    """A model's state has an entry for each recurrent layer, which may be a pair; any other nesting is an error, as on the long way."""
    rng = np.random.default_rng(3)
    layers_of, sizes = NESTED[name]
    kinds = (fastrnn.LSTM, 4), (fastrnn.GRU, 3)
    lstm, gru = (kind(*[rng.normal(size=(4 * gates, 4)).astype("f4") for _ in "io"]) for kind, gates in kinds)
    model, x = fastrnn.Sequential(*layers_of(lstm, gru)), rng.normal(size=(2, 3, 4)).astype("f4")

    def made(size):
        return tuple(map(made, size)) if isinstance(size, tuple) else rng.normal(size=(2, size)).astype(dtype)

    state = made(sizes)
    arrays = [array for entry in state for array in (entry if isinstance(entry, tuple) else [entry])]
    right = [state, list(state), *(state if len(state) == 1 else [])]
    wrong = [(*state, arrays[0]), state[:-1], ((*arrays[:2], arrays[0]), *state[1:]), ((arrays[0],), *state[1:])]
    wrong += [tuple(arrays), list(arrays), (tuple(arrays),), (arrays[0], *state[1:])] if len(state) > 1 else [(arrays[0],)]
    answers = [answer(model, x, given, lengths=[3, 3]) for given in right + wrong]
    assert [answer(model, x, given) for given in right + wrong] == answers
    assert len(set(answers[: len(right)])) == 1
    assert isinstance(answers[0][0], bytes)


def test_unpickled_arrays():
    """Arrays that were unpickled have another object as their dtype; they are read as they are."""
    model, _ = layers("float32")[1]
    x, state = np.ones((2, 3), np.float32), (np.ones(8, np.float32), np.ones(8, np.float32))
    expected = [array.tobytes() for array in long_way(model, x, state)]
    x, state = pickle.loads(pickle.dumps((x, state), protocol=5))
    assert x.dtype is not np.dtype(np.float32)
    for one in (model, pickle.loads(pickle.dumps(model))):
        result = checked_call(one.packed(), x, state, None)
        assert result is not None
        assert [array.tobytes() for array in arrays_of(result)] == expected


def test_what_may_not_be_written_is_read_at_once():
    """x and the state may be arrays that can't be written to, as those that come from JAX."""
    model, _ = layers("float32")[0]
    x, h = np.ones((2, 3), np.float32), np.ones(8, np.float32)
    expected = model(x, h)
    x.flags.writeable = h.flags.writeable = False
    result = checked_call(model.packed(), x, h, None)
    assert result is not None
    assert [array.tobytes() for array in result] == [array.tobytes() for array in expected]


@pytest.mark.parametrize("which", range(3))
def test_calls_at_once_keep_nothing(which):
    """A call at once, taken or not, holds no reference to what it was given or gives."""
    model, sizes = layers("float32")[which]
    x, entries = np.ones((2, 3), np.float32), [np.ones(size, np.float32) for size in sizes]
    state, network, out = whole(entries), model.packed(), np.empty((2, model.output_size), np.float32)
    objects = [x, state, *entries, out, None, np.dtype(np.float32), network.calls]

    def counts():
        return [sys.getrefcount(one) for one in objects]

    checked_call(network, x, state, None)
    before = counts()
    for _ in range(1000):
        output, after = checked_call(network, x, state, None)
        checked_call(network, x, None, out)
        checked_call(network, x.astype(np.float64), None, None)
        checked_call(network, x, "state", out)
    owner = after if len(sizes) == 1 else after[0].base  # the views' owner
    assert sys.getrefcount(output) == 2
    holders = ["owner", "after"] if len(sizes) == 1 else ["owner", *after]
    assert sys.getrefcount(owner) == len(holders) + 1
    del holders
    assert sys.getrefcount(after) == (3 if len(sizes) == 1 else 2)
    del output, after, owner
    assert max(abs(now - then) for now, then in zip(counts(), before, strict=True)) < 100


@contextlib.contextmanager
def no_memory():
    """NumPy can't make an array inside the block."""
    words, place = machine_code.python_record(), PYTHON.offsets["new_array"]
    right = words[place]
    words[place] = ctypes.cast(ctypes.pythonapi.PyErr_NoMemory, ctypes.c_void_p).value
    try:
        yield
    finally:
        words[place] = right


def test_no_memory_for_a_result():
    """Where NumPy can't make an array, its error is raised, and the next call is right."""
    model, _ = layers("float32")[0]
    x = np.ones((2, 3), np.float32)
    expected = model(x)
    with no_memory(), pytest.raises(MemoryError):
        model(x)
    assert [array.tobytes() for array in model(x)] == [array.tobytes() for array in expected]


def test_an_error_in_a_call_with_help(monkeypatch):
    """Such a call gives its team and its workspace back; one whose x is copied takes a team once, when it runs."""
    monkeypatch.setattr(threads, "chosen", 2)
    taken, take = [], threads.Pool.take
    monkeypatch.setattr(prepared.PreparedCall, "take_team", lambda call: taken.append(take(threads.pool, 1)) or taken[-1])
    model, x = fastrnn.RNN(np.eye(64, dtype="f4"), np.eye(64, dtype="f4") / 2), np.ones((8, 20, 64), np.float32)
    model(x)
    assert model.packed().calls[x.shape].thread_count
    free, spaces = len(threads.pool.free), len(prepared.idle)
    with no_memory(), pytest.raises(MemoryError):
        model(x)
    assert (len(threads.pool.free), len(prepared.idle)) == (free, spaces)
    taken.clear()
    assert model(x.astype(np.float64))[0].tobytes() == model(x)[0].tobytes()
    assert len(taken) == 2
