"""Files of other programs that are damaged in their structure: each is loaded, or refused by an error of ours that says so."""

import importlib.util
import pathlib
import re
import tempfile
import traceback
import warnings

import fastrnn
from fastrnn.loading.boundary import is_ours

from .. import mutants
from ..process import PACKAGE

FILES = {
    "keras": (mutants.keras_3, "model.keras", fastrnn.from_keras),
    "h5": (mutants.keras_2, "model.h5", fastrnn.from_keras),
    "safetensors": (mutants.safetensors, "model.safetensors", fastrnn.load),
}
NEEDED = {"keras": "h5py", "h5": "h5py", "onnx": "onnx", "onnx file": "onnx"}
KINDS = [kind for kind in (*FILES, "onnx", "onnx file", "mapping") if kind not in NEEDED or importlib.util.find_spec(NEEDED[kind])]


def load(rng, kind, directory):
    """Make one damaged thing, and load it."""
    if kind in FILES:
        write, name, read = FILES[kind]
        write(rng, directory / name, True)
        return read(directory / name)
    if kind == "mapping":
        return fastrnn.from_state_dict(mutants.damaged_mapping(rng))
    model = mutants.damaged_graph(rng)
    if kind == "onnx":
        return fastrnn.from_onnx(model)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    return fastrnn.from_onnx(directory / "model.onnx")


def cause_of(error):
    """What an error was made of: the type, the last line of the package, and the text, if that line raised it. "" for our own."""
    cause = error.__cause__
    if cause is None or is_ours(cause):
        return ""
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if pathlib.Path(frame.filename).is_relative_to(PACKAGE)]
    text = re.sub(r"[0-9]+", "#", str(cause))[:80] if own and own[-1] is frames[-1] else "from a library"
    return f"{type(cause).__name__}, {text}, {own[-1].name if own else 'nowhere'}: {own[-1].line if own else ''}"


def attempt(rng, kind, directory):
    """Load something damaged. "loaded", "refused", or the cause; any other error than one of ours is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load(rng, kind, directory)
            return "loaded"
        except (TypeError, ValueError) as error:
            if not is_ours(error):
                raise
            return cause_of(error) or "refused"


def mutated(rng, counts):
    """Fifty of a kind. What the refusals were made of is counted: a fault of ours shows among the causes."""
    kind = mutants.pick(rng, KINDS)
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(50):
            said = attempt(rng, kind, pathlib.Path(directory))
            counts["mutants"] += 1
            if said not in ("loaded", "refused"):
                counts[f"cause: {kind}: {said}"] += 1
