"""The cost of starting a library: seconds from a new process to its first result, its peak memory, and its size on disk."""

import importlib.metadata
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np
from packaging.requirements import Requirement
from tqdm import tqdm

import fastrnn
from bench.cases import SHAPES, Problem, problem
from bench.results import OURS, rounded
from bench.rivals import DISTRIBUTIONS

ROUNDS = 5
TREE = pathlib.Path(fastrnn.__file__).parents[1]
CACHED, WHEEL = ", code cached", f"{OURS}, from a wheel"
CACHING = ("OpenVINO", "JAX", OURS)  # libraries that keep compiled code for later processes
MACHINE_CODE = {"x86_64": "x86-64-v3,x86-64-v4", "aarch64": "generic"}  # what a release's wheel brings

READ = """
import sys
import numpy as np
x, h0, U, W, V, b = np.load("arrays.npz").values()
"""
PRINT = """
print(float(np.asarray(y).ravel()[-1]), flush=True)
sys.stdin.read()
"""
SCRIPTS = {
    "NumPy": """
p, h = x @ U.T + b, h0
for t in range(len(p)):
    h = p[t] = np.tanh(p[t] + W @ h)
y = np.exp(p @ V.T)
y /= y.sum(axis=-1, keepdims=True)
""",
    "PyTorch": """
import torch
rnn, head = torch.nn.RNN(U.shape[1], len(U)), torch.nn.Linear(len(U), len(V), bias=False)
weights = dict(weight_ih_l0=U, weight_hh_l0=W, bias_ih_l0=b, bias_hh_l0=0 * b)
rnn.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
head.load_state_dict({"weight": torch.from_numpy(V)})
with torch.inference_mode():
    y = torch.softmax(head(rnn(torch.from_numpy(x), torch.from_numpy(h0)[None])[0]), -1)
""",
    "ONNX Runtime": """
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(y,) = session.run(None, {"x": x[:, None], "h0": h0[None, None]})
""",
    "OpenVINO": """
import openvino
core = openvino.Core()
core.set_property({"CACHE_DIR": sys.argv[1]})
options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
y = core.compile_model("model.onnx", "CPU", options)({"x": x[:, None], "h0": h0[None, None]})[0]
""",
    "JAX": """
import jax, jax.numpy as jnp
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
def step(h, p_t):
    h = jnp.tanh(p_t + W @ h)
    return h, h
y = jax.jit(lambda x, h0: jax.nn.softmax(jax.lax.scan(step, h0, x @ U.T + b)[1] @ V.T))(x, h0)
""",
    "fastrnn": """
import fastrnn
y, _ = fastrnn.Sequential(fastrnn.RNN(U, W, b), fastrnn.Dense(V, activation="softmax"))(x, h0)
""",
}
GROWTH = """
import pathlib, sys
import numpy as np, fastrnn
T, status = int(sys.argv[1]), pathlib.Path("/proc/self/status")
def resident(name):
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name)) * 1024
_, h0, U, W, V, b = np.load("arrays.npz").values()
model = fastrnn.Sequential(fastrnn.RNN(U, W, b), fastrnn.Dense(V, activation="softmax"))
x, out = np.full((T, U.shape[1]), 0.5, U.dtype), np.ones((T, len(V)), U.dtype)
model(x[:2], h0)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
model(x, h0, out=out)
print(resident("VmHWM") - before)
"""


def prepare(directory: pathlib.Path) -> Problem:
    """Write the arrays of the notebook's shape, and its ONNX model."""
    p = problem(SHAPES[0], "float32")
    np.savez(directory / "arrays.npz", x=p.x, h0=p.h0, U=p.U, W=p.W, V=p.V, b=p.b)
    try:
        from bench.rivals.onnx_model import sequence_models
        from bench.rows import Task
    except ModuleNotFoundError:
        return p
    ((_, model, _, _),) = sequence_models(Task(**vars(p)))
    (directory / "model.onnx").write_bytes(model)
    return p


def build_package(directory: pathlib.Path, levels: str | None) -> pathlib.Path:
    """Build a wheel, with machine code for these levels, and unpack it: a package without the compiled code that a checkout may hold."""
    variables = {name: value for name, value in os.environ.items() if name != "FASTRNN_MACHINE_CODE"}
    variables |= {"FASTRNN_MACHINE_CODE": levels} if levels else {}
    options = ["--quiet", "--disable-pip-version-check", "--no-build-isolation", "--no-deps", "--wheel-dir", str(directory)]
    finished = subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(TREE)], env=variables, capture_output=True, text=True)
    if finished.returncode:
        *_, last = ["no message", *finished.stderr.strip().splitlines()]
        raise RuntimeError(f"building the wheel failed: {last}")
    (wheel,) = directory.glob("*.whl")
    if levels and wheel.stem.endswith("-any"):
        raise RuntimeError("the wheel was built without machine code")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    wheel.unlink()
    return directory


def environment(cache: pathlib.Path, package: pathlib.Path = TREE) -> dict[str, str]:
    caches = dict.fromkeys(("FASTRNN_CACHE_DIR", "XDG_CACHE_HOME"), str(cache))
    # a checkout's Python files are compiled once, too, as pip does with those that it installs
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**given, **caches, "PYTHONPATH": str(package), "CI": "true"}  # with CI, OpenVINO sends no report over the network


def launch(
    name: str, directory: pathlib.Path, cache: pathlib.Path, expected: float, package: pathlib.Path = TREE
) -> tuple[float, int | None]:
    """Seconds from a process's start to its first result, and its peak memory in bytes until then."""
    command = [sys.executable, "-c", READ + SCRIPTS[name] + PRINT, str(cache)]
    start = time.perf_counter()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=directory, env=environment(cache, package), text=True, **pipes) as process:
        printed = process.stdout.readline()
        seconds = time.perf_counter() - start
        peak = peak_memory(process.pid)
        process.communicate()
    if process.returncode or abs(float(printed) - expected) > 1e-4:
        raise RuntimeError(f"{name} printed {printed!r} for {expected}")
    return seconds, peak


def peak_memory(pid: int) -> int | None:
    status = pathlib.Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def installed_size(distribution: str, package: pathlib.Path = TREE) -> int:
    """Bytes of a distribution and of everything it requires."""
    if distribution != OURS:
        return sizes_of([distribution, "numpy"])
    files = [path for path in (package / OURS).rglob("*") if not {"__pycache__", "compiled_code"} & {*path.parts} and path.is_file()]
    return sum(path.stat().st_size for path in files) + sizes_of(required_by(OURS))


def required_by(distribution: str) -> list[str]:
    requirements = [Requirement(text) for text in importlib.metadata.requires(distribution) or []]
    return [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def sizes_of(names: list[str]) -> int:
    found, waiting, size = set(), list(names), 0
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        distribution = importlib.metadata.distribution(name)
        files = [pathlib.Path(distribution.locate_file(file)) for file in distribution.files or []]
        size += sum(path.stat().st_size for path in files if path.is_file())
        waiting += required_by(name)
    return size


def build_packages(directory: pathlib.Path) -> tuple[dict[str, pathlib.Path], dict[str, str]]:
    """Unpack fastrnn without and with machine code. Return the directories, and a note where the second couldn't be built."""
    packages = {name: directory / name for name in (OURS, WHEEL)}
    for package in packages.values():
        package.mkdir()
    build_package(packages[OURS], None)
    try:
        build_package(packages[WHEEL], MACHINE_CODE.get(platform.machine(), "generic"))
    except RuntimeError as error:
        return {OURS: packages[OURS]}, {WHEEL: str(error)}
    return packages, {}


def installed() -> list[str]:
    return [name for name, distribution in DISTRIBUTIONS.items() if any(importlib.metadata.distributions(name=distribution))]


def measure_start(rounds: int = ROUNDS) -> dict[str, dict]:
    """Start each library with an empty cache of compiled code, then again with the filled cache. Python's own files are always cached."""
    measured: dict[str, list] = {}
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary)
        expected = float(prepare(directory).expected.ravel()[-1])
        packages, notes = build_packages(directory)
        rows = [*((name, name) for name in installed() if name in SCRIPTS), *((WHEEL, OURS) for _ in packages.keys() & {WHEEL})]
        with tqdm(total=(1 + rounds) * len(rows), disable=None) as progress:
            for turn in range(1 + rounds):  # the first turn isn't counted
                for row, name in rows:
                    progress.set_postfix_str(f"start of {row}")
                    cache = directory / f"cache of {row}, {turn}"
                    cache.mkdir()
                    for label in (row, row + CACHED) if row in CACHING else (row,):
                        measured.setdefault(label, []).append(launch(name, directory, cache, expected, packages.get(row, TREE)))
                    progress.update()
        sizes = {row: installed_size(DISTRIBUTIONS[name], packages.get(row, TREE)) for row, name in rows}
    started = {
        label: {
            "first result": rounded(statistics.median(seconds for seconds, _ in launches[1:])),
            "peak memory": launches[-1][1],
            "installed": sizes[label.removesuffix(CACHED)],
        }
        for label, launches in measured.items()
    }
    return started | {row: {"note": note} for row, note in notes.items()}


def measure_growth(all_steps: tuple[int, ...] = (10_000, 100_000)) -> dict[str, int]:
    """Bytes that fastrnn needs beside input, weights and output, by number of steps. Empty where the system doesn't tell."""
    if not pathlib.Path("/proc/self/clear_refs").exists():
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary)
        prepare(directory)
        commands = {str(steps): [sys.executable, "-c", GROWTH, str(steps)] for steps in all_steps}
        run = {"cwd": directory, "env": environment(directory), "check": True, "capture_output": True, "text": True}
        return {steps: int(subprocess.run(command, **run).stdout) for steps, command in commands.items()}
