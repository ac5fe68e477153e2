"""Save models as safetensors files, and load them. Such files hold arrays and no code; metadata describe the layers.

>>> import pathlib, tempfile
>>> import numpy as np
>>> import fastrnn
>>> lstm = fastrnn.LSTM(np.ones((16, 3)), np.zeros((16, 4)))
>>> model = fastrnn.Sequential(lstm, fastrnn.Dense(np.ones((5, 4)), activation="softmax"))
>>> with tempfile.TemporaryDirectory() as directory:
...     path = pathlib.Path(directory) / "model.safetensors"
...     fastrnn.save(model, path)
...     again = fastrnn.load(path)
>>> x = np.ones((10, 3))
>>> bool((again.predict(x) == model.predict(x)).all())
True
"""

import hashlib
import json
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..arguments import Array
from ..layers import LAYERS, Model
from .boundary import RAW, is_ours
from .gates import as_numbers, check_dtype

VERSION = 1  # of the description; files of other versions are refused
KEY = "fastrnn"  # of the description in the metadata
KINDS = {kind.__name__: kind for kind in LAYERS}


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a layer or a model to a file, whole or not at all.

    Parameters
    ----------
    model : Model
    path : str or path
        By custom ``*.safetensors``: any program that reads safetensors finds the weights in it, under names like
        ``layers.0.weight_ih``. An existing file is replaced when the new one is complete.

    Raises
    ------
    TypeError
        For something that is not a layer.
    OSError
        If the file can't be written.

    See Also
    --------
    load : with an example.
    """
    from safetensors.numpy import save_file

    tensors: dict[str, Array] = {}
    description = described(model, "", tensors)
    document = {"version": VERSION, "sha256": digest(description), "model": description}
    path = pathlib.Path(path).resolve()  # a link's target is replaced, not the link
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fastrnn-") as directory:
        whole = pathlib.Path(directory) / path.name
        whole.touch()
        mode = whole.stat().st_mode  # that of any new file; some versions of safetensors let only the owner read
        save_file(tensors, whole, {KEY: json.dumps(document)})
        whole.chmod(mode)
        whole.replace(path)


def described(layer: Model, place: str, tensors: dict[str, Array]) -> dict[str, Any]:
    """Return a layer's description for JSON. Add its arrays to `tensors`, named `place` plus the attribute's name."""
    if KINDS.get(type(layer).__name__) is not type(layer):
        raise TypeError(f"model must be a layer or a Sequential of fastrnn's own, got {type(layer).__name__}")
    entry: dict[str, Any] = {"layer": type(layer).__name__}
    for name, value in layer._described().items():
        if isinstance(value, np.ndarray):
            tensors[place + name] = value
            entry[name] = {"sha256": digest_of(value)}
        elif isinstance(value, Model):
            entry[name] = described(value, f"{place}{name}.", tensors)
        elif name == "layers":
            entry[name] = [described(one, f"{place}{name}.{i}.", tensors) for i, one in enumerate(value)]
        elif value is not None:
            entry[name] = value
    return entry


def digest(description: object) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def digest_of(array: Array) -> str:
    hashed = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    hashed.update(array.data)
    return hashed.hexdigest()


def load(path: str | os.PathLike[str], *, dtype: DTypeLike | None = None) -> Any:
    """Read a layer or a model that `save` wrote: it computes the same bits.

    No code is run from a file. Anything but a whole file of a known version is refused.

    Parameters
    ----------
    path : str or path
    dtype : {float32, float64}, optional
        What the model computes in; the weights' dtype where not given.

    Returns
    -------
    Model
        The layer or model that was saved.

    Raises
    ------
    ValueError
        For a file that is damaged, of another version, or without a description. To read another program's weights, call
        ``from_state_dict(safetensors.numpy.load_file(path))``.
    OSError
        If the file can't be read.

    See Also
    --------
    save, from_state_dict

    Examples
    --------
    >>> import os, tempfile, numpy as np, fastrnn
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = os.path.join(directory, "head.safetensors")
    ...     fastrnn.save(fastrnn.Dense(np.ones((2, 3)), activation="relu"), path)
    ...     fastrnn.load(path)
    Dense(input_size=3, output_size=2, bias=None, activation='relu', dtype=float64)
    """
    from safetensors import SafetensorError, safe_open

    check_dtype(dtype)
    with open(path, "rb"):  # noqa: PTH123  # safetensors' own error for a missing file names no path
        pass
    try:
        with safe_open(path, framework="np") as file:
            reader = Reader(file, dtype)
            model = reader.model(description_of((file.metadata() or {}).get(KEY)), "")
            if reader.unread:
                raise ValueError(f"its description must name every array, got {min(reader.unread)!r} besides")
            return model
    except (SafetensorError, *RAW) as error:
        kind = "" if isinstance(error, SafetensorError | ValueError | RecursionError) or is_ours(error) else f"{type(error).__name__}: "
        raise ValueError(f"path must be a whole file that fastrnn.save wrote, got {os.fspath(path)!r}: {kind}{error}") from error


def description_of(text: str | None) -> Any:
    """Return the layers' description from the metadata's text. Refuse one that was changed after it was written."""
    if text is None:
        remedy = "from_state_dict(safetensors.numpy.load_file(path)) reads recurrent weights of others"
        raise ValueError(f"it has no description of layers; {remedy}")
    document = json.loads(text)
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise ValueError(f"its description must have version {VERSION}, got {version!r}; another fastrnn may read it")
    if document.get("sha256") != digest(document.get("model")):
        raise ValueError("its description was changed, its digest is another")
    return document["model"]


class Reader:
    """Makes layers from a file's description and arrays. Each array is read once, so the number of arrays limits that of layers."""

    def __init__(self, file: Any, dtype: DTypeLike | None) -> None:
        self.file, self.dtype = file, dtype
        self.unread = set(file.keys())
        self.layers_left = 2 * len(self.unread) + 3

    def model(self, entry: Any, place: str) -> Any:
        """Return the layer that an entry describes."""
        where, kind = f"{place or 'model.'}"[:-1], KINDS.get(str(entry.get("layer"))) if isinstance(entry, dict) else None
        self.layers_left -= 1
        if kind is None or self.layers_left < 0:
            raise ValueError(f"{where} must be one of {', '.join(KINDS)}, and have arrays, got {str(entry)[:80]}")
        options = {name: self.value(name, value, place) for name, value in entry.items() if name != "layer"}
        try:
            return kind._from_described(**options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where} must be what {kind.__name__} takes: {error}") from error

    def value(self, name: str, value: Any, place: str) -> Any:
        """Return an option's value in the form that the layer takes."""
        if isinstance(value, dict):
            return self.array(place + name, value["sha256"]) if "sha256" in value else self.model(value, f"{place}{name}.")
        if isinstance(value, list):
            return [self.model(one, f"{place}layers.{i}.") for i, one in enumerate(value)] if name == "layers" else tuple(value)
        return value

    def array(self, name: str, digest: str) -> Array:
        if name not in self.unread:
            raise ValueError(f"it must have an array {name!r}, got none")
        self.unread.remove(name)
        array = self.file.get_tensor(name)
        if digest_of(array) != digest:
            raise ValueError(f"{name!r} was changed, its digest is another")
        return as_numbers(name, array, self.dtype)
