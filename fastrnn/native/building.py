"""Build wheels that contain machine code. FASTRNN_MACHINE_CODE=x86-64-v3,x86-64-v4 in the environment names the levels (sets of features).

setuptools loads this file without the package, so it imports the package only when a wheel is built with the variable set. Without the
variable the wheel is pure Python.
"""

import os
import pathlib
import shutil
import sys

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

VARIABLE = "FASTRNN_MACHINE_CODE"
ROOT = pathlib.Path(__file__).parents[2]


def levels() -> list[str]:
    """Return the levels that the variable names."""
    return [level.strip() for level in os.environ.get(VARIABLE, "").split(",") if level.strip()]


class BuildPy(build_py):
    """Copy the package into an empty folder, and compile every operation for the levels asked for."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if levels() and not self.editable_mode:
            sys.path.insert(0, str(ROOT))
            from fastrnn.native.compiling import compile_levels

            compile_levels(levels(), pathlib.Path(self.build_lib) / "fastrnn" / "machine_code")


class BdistWheel(bdist_wheel):
    """Tag a wheel that contains machine code with its platform, and for any Python 3."""

    def finalize_options(self) -> None:
        if levels():
            self.distribution.has_ext_modules = lambda: True  # makes setuptools tag the wheel with a platform
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        return ("py3", "none", platform) if levels() else (python, abi, platform)
