"""Dask arrays: the bits of one call whatever the chunks, laziness, names, errors, and a cluster of processes that loses one."""

import os
import pathlib
import pickle
import re
import signal
import sys
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

import fastrnn
import fastrnn.dask

from .cases import DTYPES, MODEL, assert_same_bits, assert_same_results, case_named, flat, nested, run
from .exhaustive import exhaustive, few, few_cases
from .process import python
from .situations import ALL, CAUSAL, CAUSAL_READERS

CUT = [*CAUSAL, *CAUSAL_READERS]
LEADING, STEPS = (3, 5), 11
CHUNKS = {  # of the leading axes and of time
    "one": ((3,), (5,), (11,)),
    "of one step": ((3,), (5,), (1,) * 11),
    "of the batch": ((1, 2), (2, 2, 1), (11,)),
    "of both": ((2, 1), (4, 1), (1, 7, 3)),
    "empty": ((3,), (0, 5), (4, 0, 7, 0)),
}
every_cut = pytest.mark.parametrize("case", few_cases(CUT), ids=lambda case: case.name)
every_chunks = pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
both_returns = pytest.mark.parametrize("return_sequences", [True, False], ids=["sequences", "last"])
GRU = fastrnn.GRU(np.full((12, 3), 0.1), np.full((12, 4), 0.2))
BOTH = fastrnn.Bidirectional(GRU, GRU)
WORDS = fastrnn.Sequential(fastrnn.Embedding.one_hot(3), GRU)
X = da.ones((2, 6, 3), chunks=(1, 2, 3))


def lengths_of(leading, steps):
    """Of any order, the first 0 and the last T."""
    lengths = np.random.default_rng(2).integers(0, steps + 1, leading)
    lengths.flat[:1], lengths.flat[-1:] = 0, steps
    return lengths


def chunked(x, chunks):
    """A Dask array of x, whose features, where it has any, are one chunk."""
    return da.from_array(x, (*chunks, *[(size,) for size in x.shape[len(chunks) :]]))


def computed(result):
    """Output and states of a call, the states as one array after the other."""
    output, state = dask.compute(*result, scheduler="synchronous")
    return output, flat(state)


def whole(model, x, states, **options):
    """What one call gives, of a layer without time too."""
    return run(fastrnn.Sequential(model) if isinstance(model, (fastrnn.Dense, fastrnn.Embedding)) else model, x, states, **options)


@both_returns
@every_chunks
@every_cut
def test_chunks_are_a_call(case, chunks, return_sequences):
    """Every model gives, from any chunks, states and lengths, bit for bit what one call gives."""
    for dtype in DTYPES:
        model, (x, states) = case.layer(dtype), case.data(dtype, LEADING, STEPS)
        options = {"lengths": lengths_of(LEADING, STEPS), "return_sequences": return_sequences}
        actual = fastrnn.dask.forward(model, chunked(x, chunks), nested(model, states), **options)
        assert_same_results(computed(actual), whole(model, x, states, **options))


@both_returns
@every_chunks
@pytest.mark.parametrize("case", few_cases(ALL), ids=lambda case: case.name)
def test_chunks_are_a_call_from_zeros(case, chunks, return_sequences):
    """The same without states and lengths, and for models with a Bidirectional over one chunk of time."""
    if not case.causal:
        chunks = *chunks[:2], (STEPS,)
    model, (x, _) = case.layer(np.float32), case.data(np.float32, LEADING, STEPS)
    actual = fastrnn.dask.forward(model, chunked(x, chunks), return_sequences=return_sequences)
    assert_same_results(computed(actual), whole(model, x, (), return_sequences=return_sequences))


@both_returns
@pytest.mark.parametrize("leading", [(), (4,), (0,), (2, 1, 3)], ids=str)
def test_leading_axes(leading, return_sequences):
    """There may be any number of leading axes, none and an empty one too."""
    for case in (MODEL, case_named("looked-up-table-dense-rnn", CUT)):
        model, (x, states) = case.layer(np.float32), case.data(np.float32, leading, STEPS)
        options = {"lengths": lengths_of(leading, STEPS), "return_sequences": return_sequences}
        actual = fastrnn.dask.forward(model, chunked(x, (*leading, 4)), nested(model, states), **options)
        assert_same_results(computed(actual), whole(model, x, states, **options))


def test_no_steps():
    """Without any step the output is empty, or zero, and the state is the one given."""
    h0 = np.full((2, 4), 0.5)
    for options in ({}, {"return_sequences": False}):
        actual = fastrnn.dask.forward(GRU, X[:, :0], h0, **options)
        assert_same_results(computed(actual), run(GRU, np.ones((2, 0, 3)), (h0,), **options))


def test_chunks_of_state_and_lengths():
    """States and lengths may be Dask arrays of other chunks than those of x; what comes out has those of x."""
    x, lengths, model = np.random.default_rng(0).random((7, 6, 3)), np.arange(7), fastrnn.Sequential(GRU)
    state = np.random.default_rng(1).random((7, 4))
    given = (da.from_array(state, (3, 1)),)
    output, (h_n,) = fastrnn.dask.forward(model, da.from_array(x, (5, 4, 3)), given, lengths=da.from_array(lengths, 2))
    assert output.chunks == ((5, 2), (4, 2), (4,))
    assert h_n.chunks == ((5, 2), (4,))
    assert_same_results(computed((output, h_n)), run(GRU, x, (state,), lengths=lengths))


def test_the_threaded_scheduler():
    """Threads that share the model give the same bits."""
    model, (x, states) = MODEL.layer(np.float32), MODEL.data(np.float32, (8,), 40)
    output, state = fastrnn.dask.forward(model, chunked(x, (1, 7)), nested(model, states))
    output, state = dask.compute(output, state, scheduler="threads", num_workers=4)
    assert_same_results((output, flat(state)), run(model, x, states))


def test_what_the_model_returns():
    """Where return_sequences isn't given, the model's own decides."""
    model = fastrnn.Sequential(GRU, return_sequences=False)
    output, _ = fastrnn.dask.forward(model, X)
    assert_same_bits(output.compute(), model.predict(np.ones((2, 6, 3))))


def test_nothing_is_computed_before():
    """A call computes no chunk of its arguments; a result computes each once, and only those that it depends on."""
    seen = []

    def ones(block, block_info):
        seen.append(block_info[0]["chunk-location"])
        return block

    x = da.ones((2, 6, 3), chunks=(1, 2, 3)).map_blocks(ones, dtype=float, meta=np.empty((0, 0, 0)))
    output, h_n = fastrnn.dask.forward(GRU, x)
    assert not seen
    output[0, :3].compute(scheduler="synchronous")
    assert sorted(seen) == [(0, 0, 0), (0, 1, 0)]
    seen.clear()
    dask.compute(output, h_n, scheduler="synchronous")
    assert sorted(seen) == [(i, t, 0) for i in range(2) for t in range(3)]


def test_the_model_is_in_the_graph_once():
    """Tasks name the model, which is one task's value."""
    output, h_n = fastrnn.dask.forward(GRU, X)
    for array in (output, h_n):
        graph = dict(array.__dask_graph__())
        assert sum(value is GRU for value in graph.values()) == 1
        assert not any(isinstance(value, tuple) and any(part is GRU for part in value) for value in graph.values())


NAMES = """
import dask.array as da
import numpy as np
import fastrnn.dask
gru = fastrnn.GRU(np.full((12, 3), 0.1), np.full((12, 4), 0.2))
output, h_n = fastrnn.dask.forward(gru, da.ones((2, 6, 3), chunks=(1, 2, 3)))
print(output.name, h_n.name)
"""


def test_names_are_deterministic():
    """Equal calls give equal names, in another process too."""
    output, h_n = fastrnn.dask.forward(GRU, X)
    again = fastrnn.dask.forward(fastrnn.GRU(np.full((12, 3), 0.1), np.full((12, 4), 0.2)), X)
    assert [array.name for array in again] == [output.name, h_n.name]
    assert python(NAMES).split() == [output.name, h_n.name]


def test_names_know_no_identity():
    """A model that holds one layer twice has the name of one that holds two equal layers, and of its own copy."""
    x, other = X.rechunk((1, 6, 3)), fastrnn.GRU(np.full((12, 3), 0.1), np.full((12, 4), 0.2))
    models = BOTH, fastrnn.Bidirectional(GRU, other), pickle.loads(pickle.dumps(BOTH))
    assert len({fastrnn.dask.forward(model, x)[0].name for model in models}) == 1


def test_names_differ():
    """Other weights, options, kinds of layers, arguments and chunks give other names."""
    weights = GRU.weight_ih, GRU.weight_hh
    dense = fastrnn.Dense(np.ones((2, 4)))

    class Other(fastrnn.GRU):
        pass

    calls = [
        (Other(*weights), X),
        (GRU, X),
        (fastrnn.GRU(np.full((12, 3), 0.1), np.full((12, 4), 0.3)), X),
        (fastrnn.GRU(*weights, reset_after=False), X),
        (fastrnn.GRU(*weights, np.zeros(12)), X),
        (fastrnn.GRU(*[weight.astype(np.float32) for weight in weights]), X),
        (fastrnn.Sequential(GRU), X),
        (fastrnn.Sequential(GRU, return_sequences=False), X),
        (fastrnn.Sequential(GRU, dense), X),
        (GRU, X + 1),
        (GRU, X.rechunk((2, 2, 3))),
        (GRU, X, np.ones((2, 4))),
        (fastrnn.RNN(np.ones((4, 3)), np.ones((4, 4))), X),
        (fastrnn.RNN(np.ones((4, 3)), np.ones((4, 4)), leak=0.5), X),
    ]
    names = [fastrnn.dask.forward(*arguments)[0].name for arguments in calls]
    names += [fastrnn.dask.forward(GRU, X, **options)[0].name for options in ({"lengths": [1, 2]}, {"return_sequences": False})]
    assert len(set(names)) == len(names)


SCHEDULERS = {"synchronous": {}, "threads": {"num_workers": 4}, "processes": {"num_workers": 1}}
COMPUTED = {  # of output and state, and of how many chunks
    "output": (lambda output, h_n: output, 6),
    "state": (lambda output, h_n: h_n, 6),
    "both": (lambda output, h_n: da.concatenate([output.sum(axis=1), h_n]), 6),
    "fused": (lambda output, h_n: (2 * output + 1).sum(axis=0), 6),
    "a half": (lambda output, h_n: output[:, :3], 4),
    "one chunk": (lambda output, h_n: output[1:, :2], 1),
}


@pytest.mark.parametrize("kind", few(list(COMPUTED), "both", "a half"))
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_bar(scheduler, kind, recorded, capsys):
    """It counts the chunks that are computed, whatever Dask fuses them with, and is closed; the bits and names are the same."""
    of, chunks = COMPUTED[kind]
    expected, shown = (of(*fastrnn.dask.forward(GRU, X, progress=progress)) for progress in (False, True))
    assert shown.name == expected.name
    assert not recorded
    options = {"scheduler": scheduler, **SCHEDULERS[scheduler]}
    assert_same_bits(shown.compute(**options), expected.compute(scheduler="synchronous"))
    (bar,) = recorded
    assert bar.total == chunks
    assert bar.seen == list(range(chunks + 1))
    assert bar.disable  # closed
    assert not fastrnn.dask.running
    assert f"{chunks}/{chunks}" in capsys.readouterr().err


def test_a_bar_for_each_forward(recorded):
    """Two models in one computation have a bar each, and a computation without progress has none, before and after it."""
    without = fastrnn.dask.forward(fastrnn.Sequential(GRU), X)[0]
    hidden, _ = fastrnn.dask.forward(GRU, X, progress=True)
    output, _ = fastrnn.dask.forward(fastrnn.Dense(np.ones((2, 4))), hidden[:, :4], progress=True)
    for array, bars in ((without, []), (output, [4, 4]), (without, [4, 4]), (hidden, [4, 4, 6])):
        array.compute()
        assert [bar.total for bar in recorded] == [bar.n for bar in recorded] == bars


def test_an_error_ends_the_bar(recorded):
    """A chunk that fails leaves no bar to the next computation."""
    x = (TOKENS + 3 * (da.arange(6, chunks=2) == 5)).astype(int)
    output, _ = fastrnn.dask.forward(WORDS, x, progress=True)
    with pytest.raises(ValueError, match=r"^x must hold integers from 0 to 2 "):
        output.compute(scheduler="synchronous")
    (bar,) = recorded
    assert bar.disable
    assert bar.n < bar.total == 6
    assert not fastrnn.dask.running


def test_a_bar_without_tqdm(monkeypatch):
    """Where tqdm isn't installed, the call says so, before anything is computed."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"^progress=True needs tqdm; pip install 'fastrnn\[progress\]'$"):
        fastrnn.dask.forward(GRU, X, progress=True)


UNKNOWN = X[da.ones(2, chunks=1) > 0]
TOKENS = da.zeros((2, 6), chunks=(1, 2), dtype=int)
ERRORS = [
    (("gru", X), {}, TypeError, "model must be a layer or a Sequential, got str"),
    ((GRU, np.ones((2, 6, 3))), {}, TypeError, "x must be a dask.array.Array, got ndarray; call the model itself"),
    (
        (GRU, UNKNOWN),
        {},
        ValueError,
        "x must have chunks of known sizes, got shape (nan, 6, 3); call x.compute_chunk_sizes()",
    ),
    ((GRU, X.rechunk((2, 6, 2))), {}, ValueError, "x must have one chunk along its last axis, got 2; pass x.rechunk({2: -1})"),
    ((GRU, X[0, 0]), {}, ValueError, "x must have shape (..., T, 3), got (3,)"),
    ((GRU, X[..., :2]), {}, ValueError, "x must have shape (..., T, 3) for input_size=3, got (2, 6, 2)"),
    ((GRU, X.astype(complex)), {}, TypeError, "x must hold real numbers, got dtype complex128"),
    ((WORDS, X), {}, TypeError, "x must be integers, the tokens of an Embedding, got dtype float64"),
    ((WORDS, TOKENS[0, 0]), {}, ValueError, "x must have shape (..., T) where it holds tokens, got ()"),
    (
        (BOTH, X),
        {},
        ValueError,
        "x must have one chunk along time for a model that holds a Bidirectional, whose outputs depend on later steps, got 3; "
        "pass x.rechunk({1: -1})",
    ),
    (
        (fastrnn.Sequential(fastrnn.Embedding(np.ones((3, 3))), BOTH), TOKENS),
        {},
        ValueError,
        "x must have one chunk along time for a model that holds a Bidirectional, whose outputs depend on later steps, got 3; "
        "pass x.rechunk({1: -1})",
    ),
    ((GRU, X, np.ones(4)), {}, ValueError, "state must have shape (2, 4) for x of shape (2, 6, 3) and hidden_size=4, got (4,)"),
    ((GRU, X, da.ones(4)), {}, ValueError, "state must have shape (2, 4) for x of shape (2, 6, 3) and hidden_size=4, got (4,)"),
    (
        (GRU, X, UNKNOWN[:, 0]),
        {},
        ValueError,
        "state must have chunks of known sizes, got shape (nan, 3); call state.compute_chunk_sizes()",
    ),
    ((GRU, X), {"lengths": [1, 7]}, ValueError, "lengths must be from 0 to T=6, got 7 at position (1,)"),
    ((GRU, X), {"lengths": da.ones(3, dtype=int)}, ValueError, "lengths must have shape (2,), one for each sequence, got (3,)"),
    ((GRU, X), {"lengths": da.ones(2)}, TypeError, "lengths must be integers, got dtype float64"),
    (
        (GRU, X),
        {"lengths": UNKNOWN[:, 0, 0].astype(int)},
        ValueError,
        "lengths must have chunks of known sizes, got shape (nan,); call lengths.compute_chunk_sizes()",
    ),
]


@pytest.mark.parametrize(("arguments", "options", "exception", "text"), ERRORS)
def test_errors(arguments, options, exception, text):
    """Wrong arguments are refused when the graph is made, with a text that names them."""
    with pytest.raises(exception, match=f"^{re.escape(text)}$"):
        fastrnn.dask.forward(*arguments, **options)


def test_late_errors():
    """What only a Dask array's elements can tell is refused when they are computed."""
    output, _ = fastrnn.dask.forward(GRU, X, lengths=da.from_array(np.array([6, 7]), 1))
    with pytest.raises(ValueError, match=r"^lengths must be from 0 to T=6, got 7 at position \(0,\)$"):
        output.compute(scheduler="synchronous")
    output, _ = fastrnn.dask.forward(WORDS, TOKENS + 3)
    with pytest.raises(ValueError, match=r"^x must hold integers from 0 to 2 for a vocabulary of 3, got 3 at position \(0, 0\)$"):
        output.compute(scheduler="synchronous")


@contextmanager
def cluster(workers):
    """A client of so many processes on this machine, each with one thread. They soon give up one that is gone."""
    options = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with dask.config.set({"distributed.comm.timeouts.connect": "5s"}), LocalCluster(**options) as local, Client(local) as client:
        yield client


@pytest.mark.timeout(120)
def test_a_worker_that_is_killed(tmp_path):
    """Two processes give the bits of one call, although one is killed while it computes a chunk in the middle."""
    marker = tmp_path / "killed"

    def die_once(block, block_info):
        if block_info[0]["chunk-location"] == (1, 3, 0) and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    model, (x, states) = MODEL.layer(np.float32), MODEL.data(np.float32, (6,), 60)
    options = {"lengths": lengths_of((6,), 60)}
    with cluster(2) as client:
        before = set(client.scheduler_info()["workers"])
        data = chunked(x, (2, 10)).map_blocks(die_once, dtype=x.dtype, meta=x[:0, :0])
        output, state = client.compute(fastrnn.dask.forward(model, data, nested(model, states), **options), sync=True)
        client.wait_for_workers(2, timeout=60)
        after = set(client.scheduler_info()["workers"])
    assert marker.exists()
    assert before != after
    assert_same_results((output, flat(state)), run(model, x, states, **options))


@pytest.mark.timeout(120)
def test_no_bar_on_a_cluster(recorded):
    """A cluster's worker refuses it; a scheduler of this process shows it, although there is a cluster."""
    (output, _), (expected, _) = [fastrnn.dask.forward(GRU, X, progress=progress) for progress in (True, False)]
    text = "progress must be False on a cluster, whose workers can't move a bar, got True; "
    remedy = "leave it out, and pass what client.persist gives to distributed.progress"
    with cluster(1) as client:
        with pytest.raises(RuntimeError, match=f"^{re.escape(text + remedy)}$"):
            output.compute()
        assert not recorded
        assert_same_bits(output.compute(scheduler="threads"), client.persist(expected).compute())
    assert recorded[0].n == 6


def reset_peak():
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def peak():
    """The most bytes of memory that this process has had since the reset."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def memory(client, shape, chunks):
    """The peak of a cluster's one worker while it runs a model over random data and adds up the output."""
    model = fastrnn.GRU(np.full((192, 64), 0.01, np.float32), np.full((192, 64), 0.01, np.float32))
    x = da.random.default_rng(0).random(shape, dtype=np.float32, chunks=chunks)
    output, _ = fastrnn.dask.forward(model, x)
    client.run(reset_peak)
    output.sum().compute()
    return max(client.run(peak).values())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@exhaustive
@pytest.mark.timeout(120)
def test_memory_of_a_worker():
    """32 chunks, of a batch in four, need less than four chunks of memory more than one chunk needs."""
    chunks, shape, size = (64, 1024, 64), (4 * 64, 8 * 1024, 64), 4 * 64 * 1024 * 64
    with cluster(1) as client:
        memory(client, chunks, chunks)  # imports and packs
        one, many = memory(client, chunks, chunks), memory(client, shape, chunks)
    assert many - one < 4 * size
