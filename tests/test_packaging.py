"""What a wheel and an sdist hold."""

import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from .process import PACKAGE, ROOT

BUILD = """
import sys
from setuptools import build_meta
print(build_meta.build_sdist("built"), build_meta.build_wheel("built"))
"""


@pytest.mark.skipif(PACKAGE.parent != ROOT, reason="the package is installed from elsewhere")
def test_no_compiled_code_is_packaged(tmp_path):
    """What was compiled beside the package is this machine's alone: neither a wheel nor an sdist takes it, and git ignores it."""
    files = ["pyproject.toml", "README.md", "LICENSE", ".gitignore"]
    for name in files:
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(PACKAGE, tmp_path / "fastrnn", ignore=shutil.ignore_patterns("__pycache__", "compiled_code"))
    (tmp_path / "fastrnn" / "compiled_code").mkdir()
    for name in ("relu.bin", "lock"):
        (tmp_path / "fastrnn" / "compiled_code" / name).touch()
    subprocess.run([sys.executable, "-c", BUILD], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (sdist,), (wheel,) = (tmp_path / "built").glob("*.tar.gz"), (tmp_path / "built").glob("*.whl")
    with tarfile.open(sdist) as of_sdist, zipfile.ZipFile(wheel) as of_wheel:
        packed = [of_sdist.getnames(), of_wheel.namelist()]
    for names in packed:
        assert any(name.endswith("fastrnn/native/storage.py") for name in names)
        assert not [name for name in names if "compiled_code" in name]
    assert "fastrnn/compiled_code/" in (ROOT / ".gitignore").read_text().splitlines()
