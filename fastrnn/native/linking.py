"""Object code put into memory, where it can run.

What is compiled for x86-64 on Linux lacks only addresses, which are written into it here: those of its own parts, and of functions that the
process has. LLVM places all other code. It would double a process's memory, and takes longer to import than all else.
"""

import ctypes
import functools
import mmap
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..kernels.layout import HERE, Platform

Finder = Callable[[str], int]  # gives the address of a symbol that the code defines, 0 where it doesn't


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
ELSEWHERE = 0  # the section of a symbol that another file has
ADDRESS = 1  # the type of relocation that is an address of 64 bits


def needs_llvm(where: Platform) -> bool:
    """Return whether LLVM must place code on this platform. The form of the code doesn't tell: llvmlite makes ELF on Windows, too."""
    return where != ("linux", "x86_64")


def place(code: bytes, needs: Sequence[str]) -> Finder | None:
    """Put object code into memory; None where the process lacks a symbol that it needs. LLVM has to be told which these are."""
    file = None if needs_llvm(HERE) else ObjectFile.read(code)
    return place_by_llvm(code, needs) if file is None else file.place()


def place_code(code: bytes) -> int:
    """Put instructions that need no addresses into memory, and give theirs."""
    start = new_memory(len(code))
    ctypes.memmove(start, code, len(code))
    make_executable(start, len(code))
    return start


def keep_forever(one: Any) -> None:
    """Keep an object when Python shuts down, too: what machine code uses may be used after all modules are gone."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


class ObjectFile:
    """An ELF file for x86-64 that lacks only addresses."""

    def __init__(self, code: bytes, sections: Any):
        self.code, self.sections = code, sections
        self.placed = (sections["flags"] & PLACED != 0) & (sections["type"] != UNWINDING)
        (table,) = sections[sections["type"] == SYMBOLS]
        self.symbols, self.names = self.entries(table, SYMBOL), int(sections["offset"][table["link"]])
        tables = [table for table in sections[sections["type"] == RELOCATIONS] if self.placed[table["info"]]]
        self.relocations = [(int(table["info"]), self.entries(table, RELOCATION)) for table in tables]
        self.lay_out()

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

    def place(self) -> Finder | None:
        """Copy the sections to memory and write the addresses into them; None where the process lacks one."""
        outside = [process_address(self.name(symbol)) if symbol["section"] == ELSEWHERE else 0 for symbol in self.symbols]
        used = {index for _, entries in self.relocations for index in entries["symbol"].tolist()}
        if any(not outside[index] and int(self.symbols[index]["section"]) not in self.offsets for index in used):
            return None
        memory = new_memory(self.size)
        starts = {index: memory + offset for index, offset in self.offsets.items()}
        for index, start in starts.items():
            section = self.sections[index]
            if section["type"] != ZEROS:
                ctypes.memmove(start, self.entries(section, "u1").tobytes(), section["size"])
        inside = [starts.get(int(symbol["section"]), 0) + int(symbol["value"]) for symbol in self.symbols]
        for index, entries in self.relocations:
            for offset, _, symbol, addend in entries.tolist():
                ctypes.c_uint64.from_address(starts[index] + offset).value = (outside[symbol] or inside[symbol]) + addend
        make_executable(memory, self.fixed)
        known = {self.name(symbol): address for symbol, address in zip(self.symbols, inside, strict=True)}
        return lambda name: known.get(name, 0)

    def lay_out(self) -> None:
        """Choose the sections' offsets: those that are written to go into pages of their own, after the others."""
        self.offsets: dict[int, int] = {}
        self.size = 0
        written = self.sections["flags"] & WRITABLE != 0
        for chosen in (~written, written):
            self.fixed = self.size
            for index in np.flatnonzero(self.placed & chosen).tolist():
                self.offsets[index] = up(self.size, int(self.sections[index]["alignment"]))
                self.size = self.offsets[index] + int(self.sections[index]["size"])
            self.size = up(self.size, mmap.PAGESIZE)

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


def place_by_llvm(code: bytes, needs: Sequence[str]) -> Finder | None:
    """Have LLVM do it; it would end the process where a symbol is lacking."""
    import llvmlite.binding as llvm

    initialize()
    if not all(map(llvm.address_of_symbol, needs)):
        return None
    engine = new_engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    keep_forever(engine)
    return lambda name: engine.get_function_address(name) or engine.get_global_value_address(name)


@functools.cache
def initialize() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    keep_forever(new_engine())  # from then on LLVM finds the process's own symbols


def new_engine() -> Any:
    import llvmlite.binding as llvm

    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
