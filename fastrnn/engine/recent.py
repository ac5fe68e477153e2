"""What is kept of recent calls."""

from collections.abc import Hashable
from typing import Any


class Recent(dict[Hashable, Any]):
    """A dictionary of at most `most` entries. When it is full it forgets all of them in one act, for another thread may be looking."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def keep(self, key: Hashable, value: Any) -> None:
        if len(self) >= self.most and key not in self:
            self.clear()
        self[key] = value
