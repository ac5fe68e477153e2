"""The states of a model: the forms in which users hold them, and their place in memory, one array after the other."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ..arguments import Array, check_entries, check_state
from .execute import assign
from .packing import Network

Named = list[tuple[str, Any]]  # each array of a state, or None, with the name that errors use


class StateForm(Protocol):
    """The form in which users hold a model's state."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the elements of each array of a sequence's state, in the engine's order."""

    def split(self, name: str, state: Any) -> Named:
        """Split a state in the users' form into its arrays, each with its name."""

    def join(self, arrays: Iterator[Any]) -> Any:
        """Take the state's arrays from an iterator, and return the state in the users' form."""


class Stateful(Protocol):
    """What streams and banks need of a model."""

    @property
    def input_size(self) -> int: ...
    @property
    def output_size(self) -> int: ...
    @property
    def state_form(self) -> StateForm: ...
    @property
    def causal(self) -> bool: ...
    def packed(self) -> Network: ...


@dataclasses.dataclass(frozen=True)
class ArrayForm:
    """A state of one array."""

    size: int

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.size,)

    def split(self, name: str, state: Any) -> Named:
        return [(name, state)]

    def join(self, arrays: Iterator[Any]) -> Any:
        return next(arrays)


@dataclasses.dataclass(frozen=True)
class SecondOfTwoForm:
    """A state of one array. The engine has another one before it, which it computes from this one and hides from users."""

    size: int

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.size, self.size

    def split(self, name: str, state: Any) -> Named:
        return [(name, None), (name, state)]

    def join(self, arrays: Iterator[Any]) -> Any:
        next(arrays)
        return next(arrays)


@dataclasses.dataclass(frozen=True)
class PairForm:
    """A state that is a pair of states."""

    forms: tuple[StateForm, StateForm]
    meaning: str  # what the entries are, for errors

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.forms[0].sizes + self.forms[1].sizes

    def split(self, name: str, state: Any) -> Named:
        entries = check_entries(name, state, 2, self.meaning)
        return [array for i, form in enumerate(self.forms) for array in form.split(f"{name}[{i}]", entries[i])]

    def join(self, arrays: Iterator[Any]) -> Any:
        return self.forms[0].join(arrays), self.forms[1].join(arrays)


class TupleForm:
    """A tuple of states, one for each recurrent layer. Users may give a single one without the tuple."""

    def __init__(self, forms: Sequence[StateForm] = ()) -> None:
        self.forms = tuple(forms)
        self.counts = [len(form.sizes) for form in forms]
        self.nested = any(count > 1 for count in self.counts)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple([size for form in self.forms for size in form.sizes])

    def split(self, name: str, state: Any) -> Named:
        entries = check_states(name, state, len(self.forms))
        return [array for form, entry in zip(self.forms, entries, strict=True) for array in form.split(*entry)]

    def join(self, arrays: Iterator[Any]) -> tuple[Any, ...]:
        return tuple([form.join(arrays) for form in self.forms])

    def flat(self, state: Any) -> Any:
        """Return the state as a prepared call takes it: an array, or a tuple of arrays. Return () if the structure is wrong."""
        several, counts = isinstance(state, (tuple, list)), self.counts
        if state is None or not self.nested:
            return state[0] if several and len(state) == 1 else state
        entries = state if several and (len(counts) > 1 or len(state) == 1) else [state]
        if len(entries) != len(counts):
            return ()
        arrays: list[Any] = []
        for count, entry in zip(counts, entries, strict=True):
            if count > 1 and not (isinstance(entry, (tuple, list)) and len(entry) == count):
                return ()
            arrays += [entry] if count == 1 else entry
        return tuple(arrays)


class Sized(Protocol):
    """What has states of known sizes: a network, or stages."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def states(self) -> tuple[int, ...]: ...


def start_states(
    model: Sized, states: Named, leading: tuple[int, ...], *, given: str, shape: tuple[int, ...]
) -> tuple[Array, tuple[Array, ...], list[tuple[str, Array]]]:
    """Copy states into one array. Return it, its views for the arrays of the layers' states, and the arrays that were given."""
    flat, checked = np.zeros(math.prod(leading) * sum(model.states), model.dtype), []
    views = views_of(model.states, flat, leading)
    for (name, value), view in zip(states, views, strict=True):
        if value is not None:
            state = check_state(name, value, view.shape, given=given, shape=shape)
            checked.append((name, state))
            assign(view, state)
    return flat, views, checked


def views_of(sizes: tuple[int, ...], flat: Array, leading: tuple[int, ...]) -> tuple[Array, ...]:
    """Return a view for each array of the layers' states; in `flat` they follow one another."""
    sequences = math.prod(leading)
    ends = [sequences * end for end in itertools.accumulate(sizes)]
    return tuple([flat[end - sequences * size : end].reshape(*leading, size) for end, size in zip(ends, sizes, strict=True)])


def restart(views: tuple[Array, ...], reset: Array, first: tuple[Array, ...] | None) -> None:
    """Set the states of the sequences where `reset` is true to those in `first`, or to zeros."""
    for i, view in enumerate(views):
        shape = len(reset), view.shape[-1]
        values: Any = 0 if first is None else first[i].reshape(shape)
        np.copyto(view.reshape(shape), values, where=reset[:, np.newaxis])


def check_states(name: str, value: object, count: int) -> list[tuple[str, Any]]:
    """Split a Sequential's state. Return a name and an entry, which may be None, for each recurrent layer."""
    if count == 1 and not (isinstance(value, (tuple, list)) and len(value) == 1):
        return [(name, value)]
    entries = check_entries(name, value, count, "one for each recurrent layer")
    return [(f"{name}[{i}]", entry) for i, entry in enumerate(entries)]
