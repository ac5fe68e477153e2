"""Put object code into memory, where it can run.

Code for x86-64 on Linux lacks only addresses: of its own sections, and of functions of the process. This module writes them into the code.
On other platforms LLVM places the code. On Linux it isn't used, because it would double a process's memory, and takes longer to import than
all else.
"""

import ctypes
import functools
import mmap
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..kernels.layout import HERE, Platform

Finder = Callable[[str], int]  # returns the address of a symbol; 0 if the code doesn't define it


def record(size: int, /, **fields: tuple[str, int]) -> np.dtype[Any]:
    """Return the structured dtype of a record of `size` bytes. A field is its type and its offset; fields that aren't read are left out."""
    types, offsets = zip(*fields.values(), strict=True)
    return np.dtype({"names": list(fields), "formats": types, "offsets": offsets, "itemsize": size})


# The records of an ELF file, from the System V application binary interface, chapters 4 and 5
HEADER = record(
    64, magic=("S4", 0), bits=("u1", 4), order=("u1", 5), type=("<u2", 16), machine=("<u2", 18), sections=("<u8", 40), count=("<u2", 60)
)
SECTION = record(
    64, type=("<u4", 4), flags=("<u8", 8), offset=("<u8", 24), size=("<u8", 32), link=("<u4", 40), info=("<u4", 44), alignment=("<u8", 48)
)
SYMBOL = record(24, name=("<u4", 0), section=("<u2", 6), value=("<u8", 8))
RELOCATION = record(24, offset=("<u8", 0), type=("<u4", 8), symbol=("<u4", 12), addend=("<i8", 16))
X86_64 = (b"\x7fELF", 2, 1, 1, 62)  # magic, 64 bits, little-endian, relocatable, machine
WRITABLE, PLACED = 1, 2  # flags of a section: SHF_WRITE, SHF_ALLOC
SYMBOLS, RELOCATIONS, ZEROS, UNWINDING = 2, 4, 8, 0x70000001  # types of a section: SHT_SYMTAB, SHT_RELA, SHT_NOBITS, SHT_X86_64_UNWIND
ELSEWHERE = 0  # the section of a symbol that the file doesn't define: SHN_UNDEF
ADDRESS = 1  # the type of a relocation that writes a 64-bit address: R_X86_64_64


def needs_llvm(where: Platform) -> bool:
    """Return whether LLVM must place code on a platform. The code's format doesn't tell: llvmlite makes ELF files on Windows, too."""
    return where != ("linux", "x86_64")


def place(code: bytes, needs: Sequence[str]) -> Finder | None:
    """Put object code into memory. Return a finder of its symbols; None if the process lacks a symbol that the code needs.

    `needs` names these symbols, for LLVM; without LLVM they are read from the code.
    """
    file = None if needs_llvm(HERE) else ObjectFile.read(code)
    return place_by_llvm(code, needs) if file is None else file.place()


def place_code(code: bytes) -> int:
    """Put instructions that need no addresses into executable memory, and return their address."""
    start = new_memory(len(code))
    ctypes.memmove(start, code, len(code))
    make_executable(start, len(code))
    return start


def keep_forever(one: Any) -> None:
    """Keep an object alive, even when Python shuts down: machine code may use it after all modules are gone."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


class ObjectFile:
    """An ELF file for x86-64 whose code lacks only addresses."""

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
        """Return the ObjectFile of some code; None if the code isn't ELF for x86-64, or lacks more than 64-bit addresses."""
        if not code.startswith(X86_64[0]):
            return None
        (header,) = np.frombuffer(code, HEADER, 1)
        if header[["magic", "bits", "order", "type", "machine"]].item() != X86_64:
            return None
        file = cls(code, np.frombuffer(code, SECTION, header["count"], header["sections"]))
        return file if all((entries["type"] == ADDRESS).all() for _, entries in file.relocations) else None

    def entries(self, section: Any, kind: Any) -> Any:
        """Return a section's content as an array of records."""
        return np.frombuffer(self.code, kind, section["size"] // np.dtype(kind).itemsize, section["offset"])

    def place(self) -> Finder | None:
        """Copy the sections to memory and write the addresses into them. Return a finder of symbols; None if the process lacks one."""
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
        """Choose the sections' offsets in memory. Writable sections come last, on pages of their own; the others end at `fixed`."""
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
        """Return a symbol's name."""
        start = self.names + int(symbol["name"])
        return self.code[start : self.code.index(b"\0", start)].decode()


def up(size: int, unit: int) -> int:
    """Return a size rounded up to a multiple of `unit`."""
    return -(-size // unit) * unit


@functools.cache
def process() -> ctypes.CDLL:
    """Return a library object that finds the C functions of this process."""
    functions = ctypes.CDLL(None, use_errno=True)
    functions.mmap.restype = ctypes.c_void_p
    functions.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    functions.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return functions


def process_address(name: str) -> int:
    """Return the address of a C function of this process; 0 if there is none of that name."""
    try:
        return ctypes.cast(getattr(process(), name), ctypes.c_void_p).value or 0
    except AttributeError:
        return 0


def new_memory(size: int) -> int:
    """Map pages of memory, and return their address. They are never unmapped: threads may run the code there until the process ends."""
    start = process().mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if start == ctypes.c_void_p(-1).value:
        raise MemoryError(f"no memory for {size} bytes of machine code: {os.strerror(ctypes.get_errno())}")
    return int(start)


def make_executable(start: int, size: int) -> None:
    """Make memory executable, and no longer writable."""
    if process().mprotect(start, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "this system lets no machine code be made executable that a process has written")


def place_by_llvm(code: bytes, needs: Sequence[str]) -> Finder | None:
    """Do the same as `place`, by LLVM. Symbols are looked up first: LLVM would end the process if one were missing."""
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
    """Prepare LLVM for code of this machine."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    keep_forever(new_engine())  # from then on LLVM finds the process's own symbols


def new_engine() -> Any:
    import llvmlite.binding as llvm

    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
