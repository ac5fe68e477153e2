"""Make the object code of one operation: Numba compiles it to LLVM assembly, which LLVM optimizes and compiles for a target.

Only this module of the folder imports Numba. A digest of its source is part of the name of every file of machine code: after an edit here
all operations are compiled anew.
"""

import gc
import importlib
import os
import re
import sys
from typing import Any

import llvmlite.binding as llvm

from ..kernels import layout
from ..kernels.layout import HERE
from . import linking
from .processor import CPU_FEATURES, CPU_NAME, Target

Task = dict[str, str]  # an operation to compile: its name, module, dtype, symbol, and the file to write ("" for none)
OTHER_TARGET = "fastrnn must compile in this process, where Numba was imported for another processor than NUMBA_CPU_NAME says"
INLINE_ASSEMBLY = "fastrnn compiles no inline assembly: LLVM ends the process where it has no parser for it"
LIBRARY = {"llvm.memcpy": "memcpy", "llvm.memmove": "memmove", "llvm.memset": "memset"}  # LLVM's intrinsics that call C functions


def prepare(goal: Target) -> None:
    """Set up a child process, which compiles for one target only. To be called before Numba is imported."""
    cpu, features = goal.cpu, goal.features
    if goal.platform != HERE:  # Numba knows only this platform: it makes text for a generic processor, and `text_for` changes the platform
        layout.foreign, cpu, features = (goal.platform, features), "generic", ""
    os.environ[CPU_NAME], os.environ[CPU_FEATURES] = cpu, features
    gc.disable()
    sys.modules["scipy"] = None  # type: ignore[assignment]  # keeps Numba from importing SciPy, for BLAS
    leave_out_passes()
    # loop strength reduction takes three quarters of the time of code generation, for no gain
    llvm.set_option("fastrnn", "-disable-lsr")


def object_code(task: Task, goal: Target) -> tuple[bytes, list[str]]:
    """Compile an operation. Return its object code, and the symbols that the code needs from the process."""
    symbol, machine = task["symbol"], target_machine(goal)
    module = llvm.parse_assembly(text_for(machine, numba_text(task, goal)))
    for value in (*module.functions, *module.global_variables):
        # else a weak symbol of one file would silently replace another file's
        if not value.is_declaration and not value.name.startswith(symbol):
            value.linkage = "internal"
    module.verify()
    declared = {value.name for value in (*module.functions, *module.global_variables) if value.is_declaration}
    called = {function for start, function in LIBRARY.items() if any(name.startswith(start) for name in declared)}
    if goal.platform.system == "darwin" and "memset" in called:
        called.add("bzero")  # LLVM calls it on macOS to set zeros
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_unrolling = False  # it gains nothing and doubles the code
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return machine.emit_object(module), sorted(called | {name for name in declared if not name.startswith("llvm.")})


def target_machine(goal: Target) -> Any:
    """Return LLVM's code generator for a target."""
    linking.initialize()
    if goal.platform != HERE:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    triple = goal.platform.triple or llvm.get_process_triple()
    if goal.platform.is_windows and not HERE.is_windows:
        triple += "-elf"  # as llvmlite adds on Windows
    target = llvm.Target.from_triple(triple)
    reloc = "static" if target.name.startswith("x86") else "default"  # as Numba does
    return target.create_target_machine(cpu=goal.cpu, features=goal.features, opt=3, reloc=reloc, jit=True)


def text_for(machine: Any, text: str) -> str:
    """Return Numba's text with the platform of a code generator in place of this process's platform."""
    if re.search(r'\bcall [^"@]*\basm ', text):
        raise RuntimeError(INLINE_ASSEMBLY)
    rest = re.sub("^target .*$", "", text, flags=re.MULTILINE)
    return f'target datalayout = "{machine.target_data}"\ntarget triple = "{machine.triple}"\n{rest}'


def numba_text(task: Task, goal: Target) -> str:
    """Return the LLVM assembly that Numba makes of an operation, with a C function added that has the symbol's name and calls it.

    The C function takes only the operation's own arguments. It supplies the others that Numba's functions take: addresses for the result
    and for an error, and a null pointer that stands for the dtype. It returns a word, which only the built-ins use.
    """
    import numba

    from ..kernels import options

    if (goal.platform, goal.features) != (options.PLATFORM, options.FEATURES):
        raise RuntimeError(OTHER_TARGET)
    dispatcher: Any = getattr(importlib.import_module(task["module"]), task["operation"])
    kinds = (*dispatcher.kinds, *([numba.types.CPointer(getattr(numba.types, task["dtype"]))] if dispatcher.typed else []))
    dispatcher.compile(kinds)
    inner = dispatcher.overloads[kinds].fndesc.llvm_func_name
    given = [f"i64 %a{i}" if isinstance(kind, numba.types.Integer) else f"ptr %a{i}" for i, kind in enumerate(dispatcher.kinds)]
    passed = ["ptr %result", "ptr %error", *given, *(["ptr null"] if dispatcher.typed else [])]
    return f"""{dispatcher.inspect_llvm(kinds)}
define i64 @{task["symbol"]}({", ".join(given)}) {{
  %result = alloca i64
  %error = alloca ptr
  %status = call i32 @"{inner}"({", ".join(passed)})
  %answer = load i64, ptr %result
  ret i64 %answer
}}
"""


def leave_out_passes() -> None:
    """Keep Numba from optimizing each function by itself and making machine code of it, which takes more than half of the time.

    Instead `object_code` optimizes an operation once, when all of its functions are in one module.
    """
    from numba.core import codegen

    for name, owner in (
        ("_optimize_functions", codegen.CPUCodeLibrary),
        ("_optimize_final_module", codegen.CPUCodeLibrary),
        ("_finalize_specific", codegen.JITCodeLibrary),
        ("set_env", codegen.JITCPUCodegen),  # it asks LLVM for an address, for which LLVM makes machine code of every module
    ):
        if hasattr(owner, name):
            setattr(owner, name, lambda *_: None)
