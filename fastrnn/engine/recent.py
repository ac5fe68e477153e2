"""A dictionary for what recent calls have prepared."""

from collections.abc import Hashable
from typing import Any


class Recent(dict[Hashable, Any]):
    """A dictionary of at most `most` entries. A full one is cleared in one atomic step, for other threads may be reading."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def keep(self, key: Hashable, value: Any) -> None:
        if len(self) >= self.most and key not in self:
            self.clear()
        self[key] = value
