"""Draws topologies.svg, the README's figure of topologies: `python -m bench.topologies`."""

import html
import pathlib
from dataclasses import dataclass

FIGURE = pathlib.Path(__file__).with_name("topologies.svg")

WIDTH, MARGIN = 900, 14
PANEL_HEIGHT = 262
BOX_WIDTH, BOX_HEIGHT, PITCH = 44, 28, 72  # a box's size, and the distance from one step to the next
OUTPUT_ROW, STATE_ROW, INPUT_ROW = 90, 144, 198  # the rows' centres, measured from the panel's top
CODE_ROW = 243
LABEL = 24  # from a row's centre up to the words above it
TIP = 6  # the length of an arrow's head

STYLE = """
  .page { fill: #ffffff } .panel { fill: #f6f8fa; stroke: #d1d9e0 }
  text { fill: #1f2328; font-family: system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; font-size: 13px }
  .title { font-size: 15px; font-weight: 600 } .note, .part { fill: #59636e }
  .code { white-space: pre; font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12px }
  .box { text-anchor: middle; font-style: italic; font-size: 15px } .index { font-size: 10px; font-style: normal }
  .start { font-size: 13px } .part { text-anchor: middle }
  .input { fill: #ddf4ff; stroke: #0969da } .state { fill: #fff8c5; stroke: #9a6700 } .output { fill: #dafbe1; stroke: #1a7f37 }
  .line { fill: none; stroke: #59636e; stroke-width: 1.5 } .line-tip { fill: #59636e }
  .back { fill: none; stroke: #8250df; stroke-width: 1.5; stroke-dasharray: 4 3 } .back-tip { fill: #8250df }
"""
DARK = """
  .page { fill: #0d1117 } .panel { fill: #151b23; stroke: #3d444d }
  text { fill: #f0f6fc } .note, .part { fill: #9198a1 }
  .input { fill: #0c2d6b; stroke: #4493f8 } .state { fill: #3b2300; stroke: #d29922 } .output { fill: #04260f; stroke: #3fb950 }
  .line { stroke: #9198a1 } .line-tip { fill: #9198a1 }
  .back { stroke: #ab7df8 } .back-tip { fill: #ab7df8 }
"""


@dataclass(frozen=True)
class Topology:
    """A panel. The tuples list the steps with an input, the steps with an output, and the steps that read the previous output."""

    name: str
    purpose: str
    line: str  # of code; the tests run it
    width: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    fed_back: tuple[int, ...] = ()
    start: int | None = None  # the step whose input is the start


ROWS = (
    (
        Topology("one-to-one", "one step: classify a vector", "y, _ = model(x)  # T = 1", 210, (0,), (0,)),
        Topology("one-to-many", "generate a text", "ys, _ = fastrnn.generate(model, start, 4)", 320, (0,), (0, 1, 2, 3), (1, 2, 3), 0),
        Topology("many-to-one", "classify a sequence", "y, _ = model(x, return_sequences=False)", 314, (0, 1, 2, 3), (3,)),
    ),
    (
        Topology("many-to-many, equal lengths", "predict or label every step", "ys, _ = model(x)", 366, (0, 1, 2, 3), (0, 1, 2, 3)),
        Topology(
            "many-to-many, unequal lengths",
            "an encoder, then a decoder: translate",
            "ys, _ = fastrnn.generate(decoder, start, 3, encoder(x)[1])",
            492,
            (0, 1, 2, 3),
            (3, 4, 5),
            (4, 5),
            3,
        ),
    ),
)
TOPOLOGIES = tuple(topology for row in ROWS for topology in row)


def text(x: float, y: float, content: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{html.escape(content)}</text>'


def box(x: float, y: float, kind: str, letter: str, index: int) -> str:
    corner = f'x="{x - BOX_WIDTH / 2:g}" y="{y - BOX_HEIGHT / 2:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"'
    label = f'{letter}<tspan class="index" dy="4">{index}</tspan>' if index else f'<tspan class="start">{letter}</tspan>'
    return f'<rect class="{kind}" {corner}/><text class="box" x="{x:g}" y="{y + 5:g}">{label}</text>'


def arrow(path: str, x: float, y: float, direction: str, kind: str = "line") -> str:
    """Continue a path to (x, y) and draw an arrowhead there, pointing up or right."""
    if direction == "up":
        return f'<path class="{kind}" d="{path} V{y + TIP:g}"/><path class="{kind}-tip" d="M{x:g} {y:g} l-4 {TIP} h8 z"/>'
    return f'<path class="{kind}" d="{path} H{x - TIP:g}"/><path class="{kind}-tip" d="M{x:g} {y:g} l-{TIP} -4 v8 z"/>'


def feed_back(x: float, top: float) -> str:
    """Draw the line from the output at x into the next step's state: right, down between the steps, and up."""
    half, turn, column = BOX_HEIGHT / 2, 6, x + BOX_WIDTH / 2 + 10
    path = f"M{x + BOX_WIDTH / 2:g} {top + OUTPUT_ROW} H{column - turn:g} q{turn} 0 {turn} {turn} V{top + INPUT_ROW - turn:g}"
    path += f" q0 {turn} {turn} {turn} H{x + PITCH - turn:g} q{turn} 0 {turn} -{turn}"
    return arrow(path, x + PITCH, top + STATE_ROW + half, "up", "back")


def panel(topology: Topology, left: float, top: float) -> list[str]:
    steps, half = 1 + max(*topology.inputs, *topology.outputs), BOX_HEIGHT / 2
    centre = left + topology.width / 2
    columns = [centre + (t - (steps - 1) / 2) * PITCH for t in range(steps)]
    parts = [
        f'<rect class="panel" x="{left:g}" y="{top:g}" width="{topology.width}" height="{PANEL_HEIGHT}" rx="8"/>',
        text(left + 12, top + 25, topology.name, "title"),
        text(left + 12, top + 44, topology.purpose, "note"),
        text(left + 12, top + CODE_ROW, topology.line, "code"),
    ]
    for t in topology.fed_back:
        parts.append(feed_back(columns[t - 1], top))
    for t, x in enumerate(columns):
        if t:
            parts.append(arrow(f"M{columns[t - 1] + BOX_WIDTH / 2:g} {top + STATE_ROW}", x - BOX_WIDTH / 2, top + STATE_ROW, "right"))
        if t in topology.inputs:
            parts.append(arrow(f"M{x:g} {top + INPUT_ROW - half:g}", x, top + STATE_ROW + half, "up"))
            parts.append(box(x, top + INPUT_ROW, "input", *(("start", 0) if t == topology.start else ("x", t + 1))))
        if t in topology.outputs:
            parts.append(arrow(f"M{x:g} {top + STATE_ROW - half:g}", x, top + OUTPUT_ROW + half, "up"))
            parts.append(box(x, top + OUTPUT_ROW, "output", "y", topology.outputs.index(t) + 1))
        parts.append(box(x, top + STATE_ROW, "state", "s", t + 1))
    if topology.start:  # a start after the first step: the steps before it are the encoder's
        encoder, decoder = columns[: topology.start], columns[topology.start :]
        parts.append(text(sum(encoder) / len(encoder), top + STATE_ROW - LABEL, "encoder", "part"))
        parts.append(text(sum(decoder) / len(decoder), top + OUTPUT_ROW - LABEL, "decoder", "part"))
    return parts


def draw(style: str = f"{STYLE}  @media (prefers-color-scheme: dark) {{{DARK}  }}\n") -> str:
    """The figure as SVG."""
    height = MARGIN + len(ROWS) * (PANEL_HEIGHT + MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        "<title>Five topologies of recurrent networks, each with the line of fastrnn that runs it</title>",
        f"<style>{style}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>',
    ]
    for i, row in enumerate(ROWS):
        left = float(MARGIN)
        for topology in row:
            parts += panel(topology, left, MARGIN + i * (PANEL_HEIGHT + MARGIN))
            left += topology.width + MARGIN
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    FIGURE.write_text(draw(), encoding="utf-8")
