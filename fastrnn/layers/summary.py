"""The table that a model's `summary` returns."""

from collections.abc import Iterator
from typing import Any

import numpy as np

HEAD = ("layer", "output", "parameters", "bytes")


def rows(layer: Any, name: str, indent: str) -> Iterator[tuple[str, str, int, int]]:
    """Yield a row for a layer, and one for each layer inside it."""
    described = layer._described()
    arrays = [value for value in described.values() if isinstance(value, np.ndarray)]
    yield indent + name, f"(..., T, {layer.output_size})", sum(array.size for array in arrays), sum(array.nbytes for array in arrays)
    for label in ("forward", "backward"):
        if label in described:
            yield from rows(described[label], f"{label}: {type(described[label]).__name__}", indent + "  ")


def summary_of(layers: tuple[Any, ...]) -> str:
    """Return the table of successive layers, with their total in the last row."""
    lines = [row for layer in layers for row in rows(layer, type(layer).__name__, "")]
    lines.append(("total", "", sum(row[2] for row in lines), sum(row[3] for row in lines)))
    cells = [HEAD, *[(name, shape, f"{count:,}", f"{size:,}") for name, shape, count, size in lines]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {count:>{widths[2]}}  {size:>{widths[3]}}" for name, shape, count, size in cells
    )
