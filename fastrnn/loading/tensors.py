"""The weights of ONNX files, read one at a time: protobuf would hold the file's bytes and all weights at once."""

import math
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ..arguments import Array

# Bytes from which a weight stays in the file until it is asked for.
LARGE = 1024
# How protobuf lays out a field's value, said in the low bits of the field's key.
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}


class Tensors:
    """Gives a model's initializers as arrays: from the model, from the model's own file, or from files beside it.

    Parameters
    ----------
    onnx : module
    tensors : list of onnx.TensorProto
    places : list of (int, int) or None
        For each tensor the offset and length of its bytes in `file`, or None where the tensor holds them, or another file does.
    file : binary file
    """

    def __init__(self, onnx: Any, tensors: Any, places: Any = (), file: BinaryIO | None = None) -> None:
        self.onnx, self.file = onnx, file
        self.directory = "" if file is None else os.path.dirname(file.name)  # noqa: PTH120
        padded = [*places, *[None] * (len(tensors) - len(places))]
        self.found = {tensor.name: (tensor, place) for tensor, place in zip(tensors, padded, strict=True)}

    def __contains__(self, name: str) -> bool:
        return name in self.found

    def __getitem__(self, name: str) -> Array:
        """Read one tensor. The array isn't kept."""
        tensor, place = self.found[name]
        try:
            return self.read(tensor, place)
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # the checker's errors, among others
            raise ValueError(f"path_or_model must have all its weights, got for {name!r}: {error}") from error

    def read(self, tensor: Any, place: tuple[int, int] | None) -> Array:
        if place is None or self.file is None or tensor.data_location == self.onnx.TensorProto.EXTERNAL:
            return self.onnx.numpy_helper.to_array(tensor, self.directory)
        offset, length = place
        self.file.seek(offset)
        raw = self.file.read(length)
        dtype = self.onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if dtype.kind in "fiu" and dtype.itemsize * math.prod(tensor.dims) == len(raw):
            return np.frombuffer(raw, dtype.newbyteorder("<")).reshape(tuple(tensor.dims))
        whole = self.onnx.TensorProto()  # bfloat16, several numbers in a byte, or a wrong length
        whole.CopyFrom(tensor)
        whole.raw_data = raw
        return self.onnx.numpy_helper.to_array(whole)


def read(onnx: Any, file: BinaryIO) -> tuple[Any, Tensors]:
    """Read a model without its large weights, and check it. The weights are read from the file, which must stay open, when needed."""
    places: list[tuple[int, int] | None] = []
    names = ((onnx.ModelProto, "graph"), (onnx.GraphProto, "initializer"), (onnx.TensorProto, "raw_data"))
    path = [message.DESCRIPTOR.fields_by_name[name].number for message, name in names]
    model = onnx.ModelProto.FromString(without(file, os.fstat(file.fileno()).st_size, path, places))
    tensors = Tensors(onnx, model.graph.initializer, places, file)
    for tensor in inner(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, tensors.directory)
    checked = onnx.ModelProto()
    checked.CopyFrom(model)
    for tensor, place in zip(checked.graph.initializer, places, strict=True):
        if place is not None or tensor.data_location == onnx.TensorProto.EXTERNAL:  # the checker wants the numbers: make it an empty one
            del tensor.dims[:], tensor.external_data[:]
            tensor.dims.append(0)
            tensor.data_location = onnx.TensorProto.DEFAULT
    onnx.checker.check_model(checked)
    return model, tensors


def inner(graph: Any) -> Iterator[Any]:
    """Give the tensors in nodes' attributes, and those of the graphs in them."""
    for node in graph.node:
        for one in node.attribute:
            yield one.t
            yield from one.g.initializer
            yield from inner(one.g)


def without(file: BinaryIO, end: int, path: list[int], places: list[tuple[int, int] | None]) -> bytes:
    """Give a message's bytes up to `end` without those of a field that is large. Add to `places` where each of these lies.

    Parameters
    ----------
    path : list of int
        The numbers of the fields that lead to it, from message to message: the last but one is repeated, and each has a place.
    """
    kept = bytearray()
    while file.tell() < end:
        key = varint(file)
        number, layout = key >> 3, key & 7
        kept += encoded(key)
        if layout == VARINT:
            kept += encoded(varint(file))
            continue
        if layout not in (DELIMITED, *WIDTHS):
            raise ValueError(f"a field has the layout {layout}, which ONNX doesn't use")
        length = WIDTHS.get(layout) or varint(file)
        start = file.tell()
        if start + length > end:
            raise ValueError(f"{end - start} of {length} bytes are left")
        on_path = layout == DELIMITED and number == path[0]
        if on_path and len(path) == 1:
            places[-1] = (start, length) if length >= LARGE else None
        if on_path and len(path) == 2:
            places.append(None)
        if on_path and len(path) > 1:
            value = without(file, start + length, path[1:], places)
        elif on_path and length >= LARGE:
            file.seek(length, os.SEEK_CUR)
            value = b""
        else:
            value = file.read(length)
        kept += (encoded(len(value)) if layout == DELIMITED else b"") + value
    if file.tell() != end:
        raise ValueError("a field is longer than what it is part of")
    return bytes(kept)


def varint(file: BinaryIO) -> int:
    """Read a number of seven bits a byte, the lowest first; the last byte's high bit is 0."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number has no end")


def encoded(value: int) -> bytes:
    """Write a number as `varint` reads it."""
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
