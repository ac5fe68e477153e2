"""One call of a model: its states and its output, whole or of the last step alone."""

import itertools
import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .arguments import Array, check_lengths, check_out, check_reset, check_state
from .forward import SPACE, Task, assign, idle, plan_at_once, run_network, take_space
from .packing import Network


class Model(Protocol):
    """What states are started for."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def states(self) -> tuple[int, ...]: ...


def call_at_once(network: Network, x: object, state: object) -> tuple[Array, Any] | None:
    """Run what needs no conversion and no second look: 3 us less than with all checks. None for anything else, wrong or right.

    The state that comes with the output is an array, or a tuple where the layers' states have several.
    """
    if type(x) is not np.ndarray:
        return None
    known = network.plans.get(x.shape) or plan_at_once(network, x.shape)
    if known is None:
        return None
    plan, call, dtype, output_shape, state_shape, shapes = known
    if x.dtype is not dtype or not x.flags.carray:
        return None
    after: Any
    if state_shape is None:
        if (started := start_at_once(state, shapes, dtype)) is None:
            return None
        final, after = started
    elif state is None:
        final = after = np.zeros(state_shape, dtype)
    elif type(state) is np.ndarray and state.dtype is dtype and state.shape == state_shape:
        final = after = state.copy()
    else:
        return None
    output = np.empty(output_shape, dtype)
    try:
        space = idle.pop()
    except IndexError:
        space = take_space(SPACE)
    call(plan, space, x, output, final)
    idle.append(space)
    return output, after


def start_at_once(state: object, shapes: tuple[tuple[int, ...], ...], dtype: np.dtype[Any]) -> tuple[Array, tuple[Array, ...]] | None:
    """Start several arrays from zeros, or two from a pair: one array and views of it. None for anything that must be looked at."""
    if state is not None and not (type(state) is tuple and len(state) == len(shapes) == 2):
        return None
    sizes = [math.prod(shape) for shape in shapes]
    flat, end, views = np.zeros(sum(sizes), dtype), 0, []
    for size, shape in zip(sizes, shapes, strict=True):
        views.append(flat[end : end + size].reshape(shape))
        end += size
    for view, given in zip(views, state or (), strict=False):
        if type(given) is not np.ndarray or given.dtype is not dtype or given.shape != view.shape:
            return None
        view[...] = given
    return flat, tuple(views)


def start_states(
    model: Model, states: list[tuple[str, Any]], leading: tuple[int, ...], *, given: str, shape: tuple[int, ...]
) -> tuple[Array, tuple[Array, ...], list[tuple[str, Array]]]:
    """Copy states into one array: return that, a view of it for each array of the layers' states, and the arrays given."""
    flat, checked = np.zeros(math.prod(leading) * sum(model.states), model.dtype), []
    views = views_of(model, flat, leading)
    for (name, value), view in zip(states, views, strict=True):
        if value is not None:
            state = check_state(name, value, view.shape, given=given, shape=shape)
            checked.append((name, state))
            assign(view, state)
    return flat, views, checked


def views_of(model: Model, flat: Array, leading: tuple[int, ...]) -> tuple[Array, ...]:
    """Give each array of the layers' states, which lie in one array one after the other."""
    sequences, sizes = math.prod(leading), model.states
    ends = [sequences * end for end in itertools.accumulate(sizes)]
    return tuple([flat[end - sequences * size : end].reshape(*leading, size) for end, size in zip(ends, sizes, strict=True)])


def restart(views: tuple[Array, ...], reset: Array, first: tuple[Array, ...] | None) -> None:
    """Set the states of those sequences whose boolean is true to what they are in `first`, or to zeros."""
    for i, view in enumerate(views):
        shape = len(reset), view.shape[-1]
        values: Any = 0 if first is None else first[i].reshape(shape)
        np.copyto(view.reshape(shape), values, where=reset[:, np.newaxis])


def call(
    network: Network,
    x: Array,
    states: list[tuple[str, Any]],
    out: Array | None,
    *,
    lengths: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    return_sequences: bool = True,
) -> tuple[Array, tuple[Array, ...]]:
    """Check what is left to check, and run."""
    *_, steps, _ = given = x.shape
    dtype, leading = network.dtype, given[:-2]
    flat, final, inputs = start_states(network, states, leading, given="x", shape=given[:-1] if network.tokens else given)
    valid = None if lengths is None else check_lengths(lengths, leading, steps)
    if reset is not None:
        restart(final, check_reset(reset, leading), None)
    shape = (*leading, steps, network.output_size) if return_sequences else (*leading, network.output_size)
    if out is not None:
        if lengths is not None:
            inputs.append(("lengths", np.asarray(lengths)))
        if reset is not None:
            inputs.append(("reset", np.asarray(reset)))
        output = check_out(out, shape, dtype, [("x", x), *inputs])
        if valid is not None:
            output[...] = 0
    else:
        output = np.empty(shape, dtype) if valid is None else np.zeros(shape, dtype)
    if return_sequences:
        run_network(network, Task(x, flat, output, lengths=valid))
    else:
        run_last(network, x, flat, output, final, lengths=valid)
    return output, final


def run_last(network: Network, x: Array, flat: Array, output: Array, final: tuple[Array, ...], *, lengths: Array | None) -> None:
    """Run to the last recurrent layer without keeping its output, and what follows it on the last state alone."""
    leading, steps, depth = x.shape[:-2], x.shape[-2], len(network.kept)
    if not steps:
        output[...] = 0
        return
    recurrent = max((i for i, arrays in enumerate(network.kept, 1) if arrays), default=0)
    if recurrent:
        run_network(network.cut(0, recurrent), Task(x, flat, None, lengths=lengths))
        last = final[-network.kept[recurrent - 1]][..., np.newaxis, :]
    else:
        at = steps - 1 if lengths is None else np.maximum(lengths - 1, 0).reshape(leading)
        last = x[(*np.indices(leading, sparse=True), at)][..., np.newaxis, :]
    if recurrent < depth:
        run_network(network.cut(recurrent, depth), Task(last, flat[:0], output[..., np.newaxis, :]))
    else:
        output[...] = last[..., 0, :]
    if lengths is not None:
        output[(lengths == 0).reshape(leading)] = 0
