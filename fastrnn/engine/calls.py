"""Call a network: check arguments, start states, and return the output of all steps or of the last step alone."""

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import MOST_AXES, REAL_KINDS, Array, check_lengths, check_out, check_reset
from ..kernels.layout import HEAD_BYTES
from ..native import machine_code
from .execute import Task, readable, run_network
from .packing import Network
from .prepared import NOTHING, SPACE, PreparedCall, idle, prepare, run_checked, take_space
from .states import Named, restart, start_states

LATEST = "latest"  # key of a network's calls: the record of the latest one without workers
SHORT = 1 << 17  # multiplications, some 8 us: all checks of a call take as long


class Runnable(Protocol):
    """What a call needs of a network, or of stages."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def tokens(self) -> bool: ...
    @property
    def output_size(self) -> int: ...
    @property
    def states(self) -> tuple[int, ...]: ...


class CheckedCall(NamedTuple):
    """The checked arguments of a call, with its states and its output."""

    states: Array  # the arrays of the layers' states, one after the other
    final: tuple[Array, ...]  # views of these arrays
    output: Array  # zeros if lengths are given: steps past an end are not written
    lengths: Array | None


def checked_call(network: Network, x: object, state: object, out: object) -> tuple[Array, Any] | None:
    """Make a call whose arguments the built-in `checked_call` checks. Return None if they need all checks, be they right or wrong.

    First try the latest call without workers: the built-in returns None if the arguments don't fit it. Then look up or prepare the call
    for the shape of x. If x or the state needs conversion, convert them and begin again.
    The state is an array, or a tuple if the layers' states have several arrays. The returned state has the same form.
    """
    if (latest := network.calls.get(LATEST)) is not None:
        try:
            space = idle.pop()
        except IndexError:
            space = take_space(SPACE)
        try:
            done = machine_code.loaded.checked_call(latest, space, x, state, out, NOTHING)
        finally:
            idle.append(space)
        if done is not None:
            return done
    if type(x) is not np.ndarray:
        return None
    if x.dtype is network.x_dtype:
        if (prepared := call_for(network, x.shape)) is None:
            return None
        if prepared.serial is not latest and (done := run_checked(prepared, x, state, out)) is not None:
            return done
    converted = converted_arguments(network, x, state, out)
    return None if converted is None else checked_call(network, *converted, out)


def checked_call_for_last(network: Network, x: object, state: object, out: object) -> tuple[Array, Any] | None:
    """Make a call for the last step's output by computing all steps'. Return None if all checks would take less time than that."""
    if out is not None or type(x) is not np.ndarray or math.prod(network.steps_of(x.shape)) * network.read > SHORT:
        return None
    done = checked_call(network, x, state, None)
    return done and (done[0][..., -1, :].copy(), done[1])


def call_for(network: Network, shape: tuple[int, ...]) -> PreparedCall | None:
    """Return the prepared kernel call for x of a shape. None if one kernel call is not enough, or the shape is wrong."""
    prepared: PreparedCall | None = network.calls.get(shape)
    if prepared is None or prepared.is_stale:
        axes = 1 if network.tokens else 2
        right = axes <= len(shape) <= MOST_AXES + axes - 2 and (network.tokens or shape[-1] == network.input_size)
        small = HEAD_BYTES + 2 * network.buffer * network.dtype.itemsize <= SPACE
        if not (right and small and network.states) or network.enters:
            return None
        leading, time = shape[:-axes], shape[-axes : len(shape) - axes + 1]
        prepared = prepare(network, leading, time, network.rows)
        if prepared is None:
            return None
        network.calls.keep(shape, prepared)
    if not prepared.thread_count:
        network.calls.keep(LATEST, prepared.serial)
    return prepared


def converted_arguments(network: Network, x: Array, state: Any, out: object) -> tuple[Array, Any] | None:
    """Return x and the state as kernels read them, small arrays converted. None if that is not possible, or nothing was converted."""
    several = type(state) is tuple
    given = [x, *(state if several else [] if state is None else [state])]
    real = all(type(array) is np.ndarray and array.dtype.kind in REAL_KINDS for array in given)
    if not real or (network.tokens and x.dtype.kind not in "iu"):
        return None
    own, *states = copies = [readable(x, network.x_dtype), *[readable(array, network.dtype) for array in given[1:]]]
    same = all(copy is array for copy, array in zip(copies, given, strict=True))
    if same or (isinstance(out, np.ndarray) and any(np.may_share_memory(out, array) for array in given)):
        return None
    return own, tuple(states) if several else states[0] if states else None


def call(
    network: Network, x: Array, states: Named, out: Array | None, *, return_sequences: bool = True, **options: Any
) -> tuple[Array, tuple[Array, ...]]:
    """Check all arguments but x, which is already checked. Run, and return the output and the last states."""
    flat, final, output, lengths = check_call(network, x, states, out, return_sequences=return_sequences, **options)
    if return_sequences:
        run_network(network, Task(x, flat, output, lengths=lengths))
    else:
        run_last(network, x, flat, output, final, lengths=lengths)
    return output, final


def check_call(
    model: Runnable,
    x: Array,
    states: Named,
    out: Array | None,
    *,
    lengths: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    return_sequences: bool,
) -> CheckedCall:
    """Check a call's arguments except x, start its states, and make its output."""
    leading, steps = x.shape[:-2], x.shape[-2]
    flat, final, inputs = start_states(model, states, leading, given="x", shape=x.shape[:-1] if model.tokens else x.shape)
    valid = None if lengths is None else check_lengths(lengths, leading, steps)
    if reset is not None:
        restart(final, check_reset(reset, leading), None)
    shape = (*leading, steps, model.output_size) if return_sequences else (*leading, model.output_size)
    if out is None:
        return CheckedCall(flat, final, np.empty(shape, model.dtype) if valid is None else np.zeros(shape, model.dtype), valid)
    inputs += [(name, np.asarray(value)) for name, value in (("lengths", lengths), ("reset", reset)) if value is not None]
    output = check_out(out, shape, model.dtype, [("x", x), *inputs])
    if valid is not None:
        output[...] = 0
    return CheckedCall(flat, final, output, valid)


def run_last(network: Network, x: Array, flat: Array, output: Array, final: tuple[Array, ...], *, lengths: Array | None) -> None:
    """Run up to the last recurrent layer without storing its output, and the layers after it on its last state alone."""
    leading, steps, depth = x.shape[:-2], x.shape[-2], len(network.state_counts)
    if not steps:
        output[...] = 0
        return
    recurrent = max((i for i, arrays in enumerate(network.state_counts, 1) if arrays), default=0)
    if recurrent:
        run_network(network.cut(0, recurrent), Task(x, flat, None, lengths=lengths))
        last = final[-network.state_counts[recurrent - 1]][..., np.newaxis, :]
    else:
        at = steps - 1 if lengths is None else np.maximum(lengths - 1, 0).reshape(leading)
        last = x[(*np.indices(leading, sparse=True), at)][..., np.newaxis, :]
    if recurrent < depth:
        run_network(network.cut(recurrent, depth), Task(last, flat[:0], output[..., np.newaxis, :]))
    else:
        output[...] = last[..., 0, :]
    if lengths is not None:
        output[(lengths == 0).reshape(leading)] = 0
