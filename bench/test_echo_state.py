"""The figure of the echo state network can be drawn."""

import xml.etree.ElementTree as ElementTree

from bench import echo_state
from tests.echo_state import AHEAD, predict


def test_figure():
    """It is well formed, and both curves have every step."""
    figure = ElementTree.fromstring(echo_state.draw(predict("float64")))
    curves = [element for element in figure.iter() if element.tag.endswith("polyline")]
    assert [len(curve.get("points").split()) for curve in curves] == [AHEAD, AHEAD]
