"""Draws echo_state.svg, the Mackey-Glass series and an echo state network that goes on by itself: `python -m bench.echo_state`.

The file isn't kept: its curve hangs on the last bits of the least squares, which differ from machine to machine.
"""

import pathlib

import numpy as np

from bench.topologies import DARK, MARGIN, STYLE, WIDTH, text
from tests.echo_state import HIDDEN, LEAK, LYAPUNOV_TIME, Results, error, predict

FIGURE = pathlib.Path(__file__).with_name("echo_state.svg")

HEIGHT = 300
LEFT, RIGHT, TOP, BOTTOM = 2 * MARGIN, WIDTH - 2 * MARGIN, 74, HEIGHT - 46
LINES = """
  .truth { fill: none; stroke: #0969da; stroke-width: 1.5 } .free { fill: none; stroke: #bc4c00; stroke-width: 1.5; stroke-dasharray: 5 3 }
  .time { stroke: #d1d9e0 }
"""
DARK_LINES = "  .truth { stroke: #4493f8 } .free { stroke: #ffa657 } .time { stroke: #3d444d }\n"


def curve(values: np.ndarray, low: float, high: float, kind: str) -> str:
    x = np.linspace(LEFT, RIGHT, len(values))
    y = BOTTOM - (values - low) / (high - low) * (BOTTOM - TOP)
    return f'<polyline class="{kind}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))}"/>'


def draw(results: Results) -> str:
    """The figure as SVG."""
    truth, one_step, free = results
    low, high = truth.min() - 0.02, truth.max() + 0.02
    style = f"{STYLE}{LINES}  @media (prefers-color-scheme: dark) {{{DARK}{DARK_LINES}  }}\n"
    errors = f"error one step ahead {error(one_step, truth):.1e}, by itself {error(free, truth):.1e} of the series' deviation"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        "<title>The Mackey-Glass series, and an echo state network that goes on by itself</title>",
        f"<style>{style}</style>",
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        text(LEFT, 30, f"Mackey-Glass, and an echo state network of {HIDDEN} units, leak {LEAK}, that goes on by itself", "title"),
        text(LEFT, 50, errors, "note"),
    ]
    for number in range(len(truth) // LYAPUNOV_TIME + 1):
        x = LEFT + (RIGHT - LEFT) * number * LYAPUNOV_TIME / len(truth)
        parts.append(f'<path class="time" d="M{x:g} {TOP} V{BOTTOM}"/>')
        parts.append(text(min(x, RIGHT - 24), BOTTOM + 16, f"{number * LYAPUNOV_TIME}", "note"))
    parts += [curve(truth, low, high, "truth"), curve(free, low, high, "free")]
    line = 'ys, _ = fastrnn.generate(fastrnn.Sequential(reservoir, readout), x, 600, state, feedback="output")  # dashed'
    parts.append(text(LEFT, HEIGHT - 10, line, "code"))
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    FIGURE.write_text(draw(predict("float64")), encoding="utf-8")
