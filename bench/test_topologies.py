"""The README's figure of topologies is what its script draws, and every line of code in it runs."""

import numpy as np
import pytest

import fastrnn
from bench import topologies
from bench.cases import DTYPES, WORDS, problem

SHAPES = ((1, 80), (4,), (80,), (4, 80), (3,))


def test_figure():
    """The file is what `python -m bench.topologies` draws."""
    assert topologies.FIGURE.read_text(encoding="utf-8") == topologies.draw()


@pytest.mark.parametrize(
    ("topology", "shape"), list(zip(topologies.TOPOLOGIES, SHAPES, strict=True)), ids=[t.name for t in topologies.TOPOLOGIES]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_line(topology, shape, dtype):
    """A panel's line gives as many steps as the panel shows. One output for a whole sequence has no axis of steps."""
    p = problem(WORDS, dtype)
    encoder = fastrnn.RNN(p.U, p.W, p.b)
    model = fastrnn.Sequential(encoder, fastrnn.Dense(p.V, activation="softmax"))
    decoder = fastrnn.Sequential(fastrnn.Embedding.one_hot(len(p.V)), *model.layers)
    steps = sum(t != topology.start for t in topology.inputs)
    names = {"fastrnn": fastrnn, "encoder": encoder, "decoder": decoder, "x": p.x[:steps], "start": 0}
    names["model"] = model if topology.start is None else decoder
    exec(topology.line, names)
    output = names["ys" if "ys" in names else "y"]
    assert np.shape(output) == shape
