"""A progress bar, by tqdm, for calls that ask for one."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from .plan import Piece


class Bar:
    """A bar of the steps done. If there are several passes over the steps, as in two directions, each pass counts as a part of a step."""

    def __init__(self, shown: Any, total: int, passes: int) -> None:
        self.shown, self.total, self.passes, self.done = shown, total, passes, 0

    def advance(self, piece: Piece) -> None:
        self.done += piece.sequences * piece.span if piece.remaining is None else int(piece.remaining.clip(0, piece.span).sum())
        self.shown.update(min(self.done // self.passes, self.total) - self.shown.n)


BAR: ContextVar[Bar | None] = ContextVar("bar", default=None)  # the bar of the call that runs in this thread


def bars() -> Any:
    """Return tqdm's class of bars."""
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm; pip install 'fastrnn[progress]'") from error
    return tqdm


@contextlib.contextmanager
def shown(progress: bool, total: int, passes: int = 1) -> Iterator[None]:
    """Show a bar during the block, if `progress` is true."""
    if not progress:
        yield
        return
    with bars()(total=total, unit="step", unit_scale=True) as bar:
        token = BAR.set(Bar(bar, total, passes))
        try:
            yield
        finally:
            BAR.reset(token)
        bar.update(total - bar.n)
