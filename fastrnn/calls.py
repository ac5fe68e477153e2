"""One call of a model: its states and its output, whole or of the last step alone."""

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arguments import Array, check_lengths, check_out, check_state
from .forward import SPACE, Task, assign, idle, plan_at_once, run_network, take_space
from .packing import Network


def call_at_once(network: Network, x: object, state: object) -> tuple[Array, Array] | None:
    """Run what needs no conversion and no second look: 3 us less than with all checks. None for anything else, wrong or right."""
    if type(x) is not np.ndarray:
        return None
    known = network.plans.get(x.shape) or plan_at_once(network, x.shape)
    if known is None:
        return None
    plan, call, dtype, output_shape, state_shape = known
    if x.dtype is not dtype or not x.flags.carray:
        return None
    if state is None:
        final = np.zeros(state_shape, dtype)
    elif type(state) is np.ndarray and state.dtype is dtype and state.shape == state_shape:
        final = state.copy()
    else:
        return None
    output = np.empty(output_shape, dtype)
    try:
        space = idle.pop()
    except IndexError:
        space = take_space(SPACE)
    call(plan, space, x, output, final)
    idle.append(space)
    return output, final


def start_states(
    network: Network, states: list[tuple[str, Any]], leading: tuple[int, ...], *, given: str, shape: tuple[int, ...]
) -> tuple[Array, tuple[Array, ...], list[tuple[str, Array]]]:
    """Copy states into one array: return that, a view of it for each recurrent layer, and the states given."""
    sequences, sizes = math.prod(leading), network.hidden_sizes
    flat, ends = np.zeros(sequences * sum(sizes), network.dtype), [sequences * end for end in itertools.accumulate(sizes)]
    views = tuple([flat[end - sequences * size : end].reshape(*leading, size) for end, size in zip(ends, sizes, strict=True)])
    checked = []
    for (name, value), view in zip(states, views, strict=True):
        if value is not None:
            state = check_state(name, value, view.shape, given=given, shape=shape)
            checked.append((name, state))
            assign(view, state)
    return flat, views, checked


def call(
    network: Network,
    x: Array,
    states: list[tuple[str, Any]],
    out: Array | None,
    *,
    lengths: ArrayLike | None = None,
    return_sequences: bool = True,
) -> tuple[Array, tuple[Array, ...]]:
    """Check what is left to check, and run."""
    *_, steps, _ = given = x.shape
    dtype, leading = network.dtype, given[:-2]
    flat, final, inputs = start_states(network, states, leading, given="x", shape=given[:-1] if network.tokens else given)
    valid = None if lengths is None else check_lengths(lengths, leading, steps)
    shape = (*leading, steps, network.output_size) if return_sequences else (*leading, network.output_size)
    if out is not None:
        if lengths is not None:
            inputs.append(("lengths", np.asarray(lengths)))
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
    leading, steps, depth = x.shape[:-2], x.shape[-2], len(network.recurrent)
    if not steps:
        output[...] = 0
        return
    recurrent = max((i for i, layer in enumerate(network.recurrent, 1) if layer), default=0)
    if recurrent:
        run_network(network.cut(0, recurrent), Task(x, flat, None, lengths=lengths))
        last = final[-1][..., np.newaxis, :]
    else:
        at = steps - 1 if lengths is None else np.maximum(lengths - 1, 0).reshape(*leading, 1, 1)
        last = np.take_along_axis(x, np.broadcast_to(at, (*leading, 1, 1)), axis=-2)
    if recurrent < depth:
        run_network(network.cut(recurrent, depth), Task(last, flat[:0], output[..., np.newaxis, :]))
    else:
        output[...] = last[..., 0, :]
    if lengths is not None:
        output[(lengths == 0).reshape(leading)] = 0
