"""Run a model over Dask arrays, which may exceed one machine's memory: chunk by chunk, on threads, processes or a cluster.

>>> import dask.array as da
>>> import numpy as np
>>> import fastrnn.dask
>>> gru = fastrnn.GRU(np.full((12, 3), 0.1), np.full((12, 4), 0.1))
>>> model = fastrnn.Sequential(gru, fastrnn.Dense(np.ones((2, 4)), activation="softmax"))
>>> x = da.random.default_rng(0).random((10, 100, 3), chunks=(5, 25, 3))    # batch in 2 chunks, time in 4
>>> output, (h_n,) = fastrnn.dask.forward(model, x)         # nothing is computed yet
>>> output, h_n
(dask.array<fastrnn-forward, shape=(10, 100, 2), dtype=float64, chunksize=(5, 25, 2), chunktype=numpy.ndarray>, \
dask.array<fastrnn-state-0, shape=(10, 4), dtype=float64, chunksize=(5, 4), chunktype=numpy.ndarray>)
>>> bool((output.compute() == model.predict(x.compute())).all())            # the same bits, whatever the chunks
True

Chunks of sequences run in parallel. Chunks of time run one after the other: only the state goes from one to the next, and no two are
merged. So a task needs memory for one chunk of x and one of the output. Each worker process receives the model once. Call
`python -m fastrnn compile` where workers' containers are built. A worker of `distributed` sets OMP_NUM_THREADS=1, so a call there runs on
one thread; set FASTRNN_NUM_THREADS for more.

`forward(model, x, progress=True)` shows a bar where Dask's threads or processes compute. On a cluster `distributed` has one:

    output, state = client.persist(fastrnn.dask.forward(model, x))
    distributed.progress(output)
"""

import itertools
import math
import sys
from collections.abc import Iterator
from operator import getitem
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arguments import Array, State, as_array, check_lengths, check_model, check_numbers, check_state
from .engine.progress import bars
from .layers import Model, Recurrent, Sequential

try:
    import dask.array as da
    from dask.base import normalize_token, tokenize
    from dask.callbacks import Callback
    from dask.highlevelgraph import HighLevelGraph
except ImportError as error:
    raise ImportError("fastrnn.dask needs dask; pip install 'fastrnn[dask]'") from error

Chunks = tuple[tuple[int, ...], ...]
WATCHED = "fastrnn-watched-model-"  # the beginning of the key of a model whose chunks a bar counts


def forward(
    model: Model,
    x: Any,
    state: State = None,
    *,
    lengths: ArrayLike | None = None,
    return_sequences: bool | None = None,
    progress: bool = False,
) -> tuple[Any, Any]:
    """Run a model over a Dask array, lazily: the same bits as one call, whatever the chunks.

    Parameters
    ----------
    model : layer or Sequential
    x : dask.array.Array of shape (..., T, input_size), with an Embedding of integers of shape (..., T)
        In chunks of known sizes along the leading axes and along time, and one chunk along input_size. Where the model holds a
        Bidirectional, one chunk along time, too.
    state : as the model takes it, of dask.array.Array or array_like of shape (..., hidden_size), optional
        The state before the first step; zeros where not given. Rechunked along the leading axes as x is.
    lengths : dask.array.Array or array_like of int of shape (...), optional
        Steps of each sequence, in any order; T where not given. Rechunked as x is. Steps beyond are not read.
    return_sequences : bool, optional
        Whether to return every step's output, or only the last step's; the default of the model's own call where not given.
    progress : bool
        Whether to show a bar of the chunks done, by tqdm (extra `progress`), each time that results are computed, by threads, by
        processes or in the calling thread. On a cluster leave it out, and pass what `client.persist` gives to `distributed.progress`.

    Returns
    -------
    output : dask.array.Array of shape (..., T, output_size)
        In the chunks of x. Zero past a sequence's end. Without return_sequences (..., output_size): the output of a sequence's last
        step, zero where it has none.
    state : dask.array.Array of shape (..., hidden_size), or tuple, as the model returns it
        The state after the last step, in the chunks of x; () for a layer without a state.

    Raises
    ------
    TypeError, ValueError
        For an x that is no Dask array, arguments of another dtype or shape, chunks of unknown sizes, and several chunks along an axis
        that needs one. Tokens beyond the vocabulary, and a Dask array's lengths beyond T, raise when they are computed.
    RuntimeError
        With progress=True, when a worker of a cluster computes.

    Notes
    -----
    Equal models, arguments and chunks give equal names, in every process, with and without progress.

    Examples
    --------
    >>> import dask.array as da, numpy as np, fastrnn.dask
    >>> count = fastrnn.RNN(np.eye(1), np.eye(1), nonlinearity="identity")
    >>> output, h_n = fastrnn.dask.forward(count, da.ones((2, 6, 1), chunks=(1, 2, 1)), lengths=[6, 3])
    >>> output[..., 0].compute()
    array([[1., 2., 3., 4., 5., 6.],
           [1., 2., 3., 0., 0., 0.]])
    >>> h_n[:, 0].compute()
    array([6., 3.])
    """
    model = check_model(model)
    layers: Any = model if isinstance(model, (Recurrent, Sequential)) else Sequential(model)  # type: ignore[arg-type]
    packed = layers.packed() if layers.causal else layers.staged()
    check_x(layers, x, tokens=packed.tokens)
    axes = x.ndim - (1 if packed.tokens else 2)
    leading, times, steps = x.chunks[:axes], x.chunks[axes], x.shape[axes]
    named = layers.state_form.split("state", state)
    states = [chunked_state(name, value, x, leading, size) for (name, value), size in zip(named, packed.states, strict=True)]
    ends = None if lengths is None else chunked_lengths(lengths, leading, x.shape[:axes], steps)
    if return_sequences is None:
        return_sequences = getattr(layers, "return_sequences", True)
    token = tokenize(layers, return_sequences, *[given if given is None else given.name for given in (x, ends, *states)])

    run, after = f"fastrnn-run-{token}", f"fastrnn-after-{token}"
    of_model = watched(token, layers) if progress else {f"fastrnn-model-{token}": layers}
    tasks = tasks_of(token, of_model, x, states, ends, axes, return_sequences)
    graph = HighLevelGraph.from_collections(run, tasks, [given for given in (x, ends, *states) if given is not None])

    def taken(name: str, source: str, at: tuple[int, ...], position: int, chunks: Chunks) -> Any:
        """Return a Dask array of the entries at `position` in tasks' results. `at` is the chunk of time, or () for all chunks."""
        getters = {(name, *block, 0): (getitem, (source, *block, *at), position) for block in blocks(chunks[:-1])}
        layered = HighLevelGraph({**graph.layers, name: getters}, {**graph.dependencies, name: {run}})
        return da.Array(layered, name, chunks, dtype=packed.dtype)

    final, chunks = (len(times) - 1,), (*leading, times) if return_sequences else leading
    output = taken(f"fastrnn-forward-{token}", run, () if return_sequences else final, 0, (*chunks, (packed.output_size,)))
    sizes = enumerate(packed.states)
    last = [taken(f"fastrnn-state-{i}-{token}", after, final, 1 + i, (*leading, (size,))) for i, size in sizes]
    return output, layers.state_form.join(iter(last))


def tasks_of(
    token: str, of_model: dict[Any, Any], x: Any, states: list[Any], lengths: Any, axes: int, return_sequences: bool
) -> dict[Any, Any]:
    """Return the task that returns the model, and a task for each chunk of x. This takes the state after the previous chunk of time."""
    run, after, (model,) = f"fastrnn-run-{token}", f"fastrnn-after-{token}", of_model
    tasks = dict(of_model)
    for block in blocks(x.chunks[:axes]):
        before: Any = [None, *[given if given is None else (given.name, *block, 0) for given in states]]
        valid, start = None if lengths is None else (lengths.name, *block), 0
        for t, size in enumerate(x.chunks[axes]):
            data = (x.name, *block, t, *[0] * (x.ndim - axes - 1))
            time = start, size, x.shape[axes]
            tasks[(run, *block, t)] = run_chunk, model, data, before, valid, time, return_sequences
            before = (after, *block, t)
            tasks[before] = getitem, (run, *block, t), 1  # not the output, which the next chunk's worker doesn't need
            start += size
    return tasks


def run_chunk(
    model: Any, x: Array, before: Any, lengths: Any, time: tuple[int, int, int], return_sequences: bool
) -> tuple[Array, tuple[Any, ...]]:
    """Run a chunk of steps. Return its output, and what the next chunk starts from: the last output, or None, and the states."""
    start, size, steps = time
    last, *arrays = before
    valid = None
    if lengths is not None:
        leading = np.shape(lengths)
        valid = np.clip(check_lengths(lengths, leading, steps).reshape(leading) - start, 0, size)
    output, state = model(x, model.state_form.join(iter(arrays)), lengths=valid, return_sequences=return_sequences)
    after = [array for _, array in model.state_form.split("state", state)]
    if return_sequences:
        return output, (None, *after)
    if last is not None:
        output = np.where(np.equal(size if valid is None else valid, 0)[..., np.newaxis], last, output)
    return output, (output, *after)


def watched(token: str, model: Any) -> dict[str, Any]:
    """Return the task that returns the model. A bar counts the chunks that depend on its key."""
    bars()  # raises where tqdm isn't installed
    WATCH.register()  # has no effect the second time
    return {WATCHED + token: (unless_on_a_cluster, model)}


def unless_on_a_cluster(model: Any) -> Any:
    """Return the model. Raise an error in a cluster's worker: there Dask calls no callbacks, so no bar would move."""
    distributed = sys.modules.get("distributed")  # every worker has imported it
    try:
        worker = distributed and distributed.get_worker()
    except ValueError:
        worker = None
    if worker is not None:
        remedy = "leave it out, and pass what client.persist gives to distributed.progress"
        raise RuntimeError(f"progress must be False on a cluster, whose workers can't move a bar, got True; {remedy}")
    return model


def open_bars(graph: object, state: dict[str, Any]) -> None:
    """Open a bar for each `forward` with progress. It counts the tasks that depend on the model, even if Dask fused them with others."""
    for key, chunks in state["dependents"].items():
        if isinstance(key, str) and key.startswith(WATCHED):
            running.setdefault(id(state), []).append((chunks, bars()(total=len(chunks), unit="chunk")))


def advance_bars(key: object, result: object, graph: object, state: dict[str, Any], worker: object) -> None:
    for chunks, bar in running.get(id(state), ()):
        if key in chunks:
            bar.update()


def close_bars(graph: object, state: dict[str, Any], failed: bool) -> None:
    for _, bar in running.pop(id(state), ()):
        bar.close()


running: dict[int, list[tuple[set[Any], Any]]] = {}  # the chunks' keys and the bar of each `forward`, by computation
WATCH = Callback(start_state=open_bars, posttask=advance_bars, finish=close_bars)  # called by Dask's schedulers in this process


def blocks(chunks: Chunks) -> Iterator[tuple[int, ...]]:
    """Return an iterator over the positions of all blocks."""
    return itertools.product(*[range(len(sizes)) for sizes in chunks])


def check_x(model: Any, x: Any, *, tokens: bool) -> None:
    if not isinstance(x, da.Array):
        raise TypeError(f"x must be a dask.array.Array, got {type(x).__name__}; call the model itself")
    check_known("x", x)
    shown = stand_in("x", x)
    if not tokens:
        check_numbers("x", shown, model.input_size)
        if len(x.chunks[-1]) > 1:
            raise ValueError(f"x must have one chunk along its last axis, got {len(x.chunks[-1])}; pass x.rechunk({{{x.ndim - 1}: -1}})")
    elif shown.dtype.kind not in "iu":
        raise TypeError(f"x must be integers, the tokens of an Embedding, got dtype {shown.dtype}")
    elif not shown.ndim:
        raise ValueError("x must have shape (..., T) where it holds tokens, got ()")
    axis = x.ndim - (1 if tokens else 2)
    if not model.causal and len(x.chunks[axis]) > 1:
        reason = "for a model that holds a Bidirectional, whose outputs depend on later steps"
        raise ValueError(f"x must have one chunk along time {reason}, got {len(x.chunks[axis])}; pass x.rechunk({{{axis}: -1}})")


def check_known(name: str, array: Any) -> None:
    if any(map(math.isnan, array.shape)):
        raise ValueError(f"{name} must have chunks of known sizes, got shape {array.shape}; call {name}.compute_chunk_sizes()")


def stand_in(name: str, array: Any) -> Array:
    """Return an array of the same shape and dtype that needs no memory, to check instead of the Dask array."""
    return as_array(name, np.broadcast_to(np.zeros((), array.dtype), array.shape))


def chunked_state(name: str, value: Any, x: Any, leading: Chunks, size: int) -> Any:
    """Check an array of a state, and return it in the chunks of x."""
    if value is None:
        return None
    lazy = isinstance(value, da.Array)
    if lazy:
        check_known(name, value)
    expected = (*x.shape[: len(leading)], size)
    checked = check_state(name, stand_in(name, value) if lazy else value, expected, given="x", shape=x.shape)
    return rechunked(value if lazy else checked, (*leading, (size,)))


def chunked_lengths(value: Any, leading: Chunks, shape: tuple[int, ...], steps: int) -> Any:
    """Check lengths, and return them in the chunks of x. A Dask array's values are checked when they are computed."""
    lazy = isinstance(value, da.Array)
    if lazy:
        check_known("lengths", value)
    checked = check_lengths(stand_in("lengths", value) if lazy else value, shape, steps)
    return rechunked(value if lazy else checked.reshape(shape), leading)


def rechunked(array: Any, chunks: Chunks) -> Any:
    return array.rechunk(chunks) if isinstance(array, da.Array) else da.from_array(array, chunks)


def normalized(layer: Model) -> tuple[Any, ...]:
    """Return what Dask hashes for a layer: its class, and the arguments it was made from."""
    return normalize_token((f"{type(layer).__module__}.{type(layer).__qualname__}", layer._described()))


normalize_token.register(Model, normalized)
