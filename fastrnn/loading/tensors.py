"""Read the weights of ONNX files one at a time. protobuf would hold the whole file and all weights in memory."""

import math
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ..arguments import Array

# A weight of at least this many bytes stays in the file until it is needed.
LARGE = 1024
# protobuf's wire types, the low three bits of a field's key; and the bytes of values of fixed length.
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}


class Tensors:
    """Reads a model's initializers as arrays, by name: from the model, from its file, or from files beside it.

    Parameters
    ----------
    onnx : module
    tensors : list of onnx.TensorProto
    places : list of (int, int) or None
        The offset and length of each tensor's bytes in `file`; None if the tensor itself or another file holds them.
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
        """Read one tensor. The array isn't cached."""
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
    """Read and check a model without its large weights. They are read when needed, so the file must stay open."""
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
        if place is not None or tensor.data_location == onnx.TensorProto.EXTERNAL:  # the checker wants the bytes: make it an empty one
            del tensor.dims[:], tensor.external_data[:]
            tensor.dims.append(0)
            tensor.data_location = onnx.TensorProto.DEFAULT
    onnx.checker.check_model(checked)
    return model, tensors


def inner(graph: Any) -> Iterator[Any]:
    """Yield the tensors in nodes' attributes, and those of the graphs in attributes."""
    for node in graph.node:
        for one in node.attribute:
            yield one.t
            yield from one.g.initializer
            yield from inner(one.g)


def without(file: BinaryIO, end: int, path: list[int], places: list[tuple[int, int] | None]) -> bytes:
    """Return a message's bytes up to `end` without the large values of one field. Append the offset and length of each to `places`.

    Parameters
    ----------
    path : list of int
        The numbers of the nested fields that lead to the field. The last but one may repeat: each of its messages gets an entry in
        `places`, None if its value is small.
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
    """Read an integer of protobuf: seven bits a byte, the lowest first; only the last byte's high bit is 0."""
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
    """Return a number as the bytes that `varint` reads."""
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
