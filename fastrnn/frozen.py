"""Objects whose attributes can't be set from outside."""

from typing import NoReturn

from .arguments import frozen_error


class Frozen:
    """Refuse to set attributes, except properties with a setter, and to delete any."""

    _remedy = "make a new layer"

    def __setattr__(self, name: str, value: object) -> None:
        if getattr(getattr(type(self), name, None), "fset", None) is None:
            raise frozen_error(self, name, "set", self._remedy)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> NoReturn:
        raise frozen_error(self, name, "deleted", self._remedy)

    def _set(self, **attributes: object) -> None:
        """Set attributes in one dictionary update: no signal handler sees some of them old and some new."""
        self.__dict__.update(attributes)
