"""Object code put into memory, where it can run.

What is compiled for x86-64 on Linux is ELF that lacks nothing but addresses: of its own parts, and of functions of the process. They are
written into it here. LLVM, which places all other code, would double the memory of a process, and takes longer to import than all else.
"""

import ctypes
import functools
import mmap
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Find = Callable[[str], int]  # gives the address of a symbol that the code defines, 0 where it doesn't


def record(size: int, /, **fields: tuple[str, int]) -> np.dtype[Any]:
    """Describe a record by its size, and the types and offsets of the fields that are read here."""
    types, offsets = zip(*fields.values(), strict=True)
    return np.dtype({"names": list(fields), "formats": types, "offsets": offsets, "itemsize": size})


# What an ELF file consists of, by the System V application binary interface, chapters 4 and 5
HEADER = record(
    64, magic=("S4", 0), bits=("u1", 4), order=("u1", 5), type=("<u2", 16), machine=("<u2", 18), sections=("<u8", 40), count=("<u2", 60)
)
SECTION = record(
    64, type=("<u4", 4), flags=("<u8", 8), offset=("<u8", 24), size=("<u8", 32), link=("<u4", 40), info=("<u4", 44), alignment=("<u8", 48)
)
SYMBOL = record(24, name=("<u4", 0), section=("<u2", 6), value=("<u8", 8))
RELOCATION = record(24, offset=("<u8", 0), type=("<u4", 8), symbol=("<u4", 12), addend=("<i8", 16))
X86_64 = (b"\x7fELF", 2, 1, 1, 62)  # magic, 64 bits, little-endian, relocatable, machine
WRITABLE, PLACED = 1, 2  # flags of a section
SYMBOLS, RELOCATIONS, ZEROS, UNWINDING = 2, 4, 8, 0x70000001  # types of a section
UNDEFINED = 0  # the section of a symbol that is elsewhere
ADDRESS = 1  # the type of relocation that is an address of 64 bits

forever: list[Any] = []  # a built-in that outlives its engine crashes


def place(code: bytes, needs: Sequence[str]) -> Find | None:
    """Put object code into memory; None where the process lacks a symbol that it needs."""
    lacking = ObjectFile.read(code)
    if lacking is None:
        return place_by_llvm(code, needs)
    return lacking.place() if all(map(process_address, needs)) else None


class ObjectFile:
    """An ELF file for x86-64 that lacks nothing but addresses."""

    def __init__(self, code: bytes, sections: Any):
        self.code, self.sections = code, sections
        self.is_placed = (sections["flags"] & PLACED != 0) & (sections["type"] != UNWINDING)
        (table,) = sections[sections["type"] == SYMBOLS]
        self.symbols, self.names = self.entries(table, SYMBOL), int(sections["offset"][table["link"]])
        tables = [table for table in sections[sections["type"] == RELOCATIONS] if self.is_placed[table["info"]]]
        self.relocations = [(int(table["info"]), self.entries(table, RELOCATION)) for table in tables]

    @classmethod
    def read(cls, code: bytes) -> "ObjectFile | None":
        """Read object code, if it is such a file."""
        if not code.startswith(X86_64[0]):
            return None
        (header,) = np.frombuffer(code, HEADER, 1)
        if header[["magic", "bits", "order", "type", "machine"]].item() != X86_64:
            return None
        file = cls(code, np.frombuffer(code, SECTION, header["count"], header["sections"]))
        return file if all((entries["type"] == ADDRESS).all() for _, entries in file.relocations) else None

    def entries(self, section: Any, kind: Any) -> Any:
        return np.frombuffer(self.code, kind, section["size"] // np.dtype(kind).itemsize, section["offset"])

    def place(self) -> Find:
        """Copy the sections to memory and write the addresses into them."""
        offsets, fixed, size = self.layout()
        memory = new_memory(size)
        starts = {index: memory + offset for index, offset in offsets.items()}
        for index, start in starts.items():
            section = self.sections[index]
            if section["type"] != ZEROS:
                ctypes.memmove(start, self.entries(section, "u1").tobytes(), section["size"])
        addresses = [self.address(symbol, starts) for symbol in self.symbols]
        for index, entries in self.relocations:
            for offset, _, symbol, addend in entries.tolist():
                ctypes.c_uint64.from_address(starts[index] + offset).value = addresses[symbol] + addend
        make_executable(memory, fixed)
        known = dict(zip(map(self.name, self.symbols), addresses, strict=True))
        return lambda name: known.get(name, 0)

    def layout(self) -> tuple[dict[int, int], int, int]:
        """Choose where the sections go: those that are written to into pages of their own, after the others.

        The offset of each, and the sizes of the part that stays as it is, and of all.
        """
        offsets, end, fixed = {}, 0, 0
        writable = self.sections["flags"] & WRITABLE != 0
        for kind in (False, True):
            for index in np.flatnonzero(self.is_placed & (writable == kind)).tolist():
                offsets[index] = up(end, int(self.sections[index]["alignment"]))
                end = offsets[index] + int(self.sections[index]["size"])
            end = up(end, mmap.PAGESIZE)
            fixed = fixed or end
        return offsets, fixed, end

    def address(self, symbol: Any, starts: dict[int, int]) -> int:
        """Tell where a symbol is; 0 for those that no address is asked of, such as the file's name."""
        if symbol["section"] == UNDEFINED:
            return process_address(self.name(symbol))
        start = starts.get(int(symbol["section"]))
        return 0 if start is None else start + int(symbol["value"])

    def name(self, symbol: Any) -> str:
        start = self.names + int(symbol["name"])
        return self.code[start : self.code.index(b"\0", start)].decode()


def up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


@functools.cache
def process() -> ctypes.CDLL:
    """Give what finds the process's own functions."""
    functions = ctypes.CDLL(None, use_errno=True)
    functions.mmap.restype = ctypes.c_void_p
    functions.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    functions.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return functions


def process_address(name: str) -> int:
    """Tell where a function of the process is, 0 where there is none of that name."""
    try:
        return ctypes.cast(getattr(process(), name), ctypes.c_void_p).value or 0
    except AttributeError:
        return 0


def new_memory(size: int) -> int:
    """Map pages that are never given back: threads may run what is there until the process ends."""
    start = process().mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if start == ctypes.c_void_p(-1).value:
        raise MemoryError(f"no memory for {size} bytes of machine code: {os.strerror(ctypes.get_errno())}")
    return int(start)


def make_executable(start: int, size: int) -> None:
    if process().mprotect(start, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "this system lets no machine code be made executable that a process has written")


def place_by_llvm(code: bytes, needs: Sequence[str]) -> Find | None:
    """Have LLVM do it; it would end the process where a symbol is lacking."""
    import llvmlite.binding as llvm

    initialize()
    if not all(map(llvm.address_of_symbol, needs)):
        return None
    engine = new_engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    forever.append(engine)
    return lambda name: engine.get_function_address(name) or engine.get_global_value_address(name)


@functools.cache
def initialize() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    forever.append(new_engine())  # from then on LLVM finds the process's own symbols


def new_engine() -> Any:
    import llvmlite.binding as llvm

    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
