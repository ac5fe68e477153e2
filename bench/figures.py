"""Draws speedup.svg and scaling.svg from results.json, for light and dark pages."""

import io
import pathlib

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bench.report import TABLED, sizes
from bench.results import LIBRARIES, LOOP, OURS, Results, best, digest, speed_up

DIRECTORY = pathlib.Path(__file__).parent

PAGE, INK, GRID = "#ffffff", "#1f2328", "#d1d9e0"
STYLES = {  # colour and marker; each alone distinguishes the libraries
    LOOP: ("#6e7781", "x"),
    "NumPy": ("#1b7c83", "^"),
    "PyTorch": ("#bc4c00", "s"),
    "ONNX Runtime": ("#0969da", "D"),
    "OpenVINO": ("#8250df", "v"),
    "JAX": ("#1a7f37", "P"),
    OURS: (INK, "o"),
}
DARK = {
    PAGE: "#0d1117",
    INK: "#f0f6fc",
    GRID: "#3d444d",
    "#6e7781": "#9198a1",
    "#1b7c83": "#39c5cf",
    "#bc4c00": "#ffa657",
    "#0969da": "#58a6ff",
    "#8250df": "#bc8cff",
    "#1a7f37": "#3fb950",
}
PANELS = (
    ("hidden", "hidden", "H", "T 100, I H/2, one sequence"),
    ("batch", "batch", "batch", "T 50, I 64, H 128"),
    ("steps", "steps", "T", "I 32, H 64, O 64, one sequence"),
)
OPTIONS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fastrnn",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 10,
    "figure.facecolor": PAGE,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def write(results: Results) -> None:
    for name, draw in {"speedup": draw_speed_up, "scaling": draw_scaling}.items():
        with matplotlib.rc_context(OPTIONS):
            (DIRECTORY / f"{name}.svg").write_text(finish(draw(results)), encoding="utf-8")


def draw_speed_up(results: Results) -> Figure:
    rows = [row for row in results["rows"] if row["group"] in TABLED and row["dtype"] == "float32"]
    figure = Figure(figsize=(9, 0.9 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for name in LIBRARIES:
        points = [(ratio, i) for i, row in enumerate(rows) if (ratio := speed_up(row, name)) is not None]
        axes.plot(*zip(*points, strict=True), label=name, linestyle="none", **marker(name))
    axes.set(xscale="log", xlabel="times faster than the notebook's loop, float32")
    axes.set_yticks(range(len(rows)), [f"{row['name']} ({sizes(row)})" for row in rows])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params(length=0)
    figure.legend(loc="outside upper center", ncols=len(LIBRARIES), handletextpad=0.2, columnspacing=1.2)
    return figure


def draw_scaling(results: Results) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, (group, size, name, fixed) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        draw_panel(axes, [row for row in results["rows"] if row["group"] == group], size)
        axes.set(xlabel=name, title=fixed)
    figure.axes[0].set_ylabel("ms a call, float32")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(LIBRARIES), columnspacing=1.2)
    return figure


def draw_panel(axes: Axes, rows: list[Results], size: str) -> None:
    for name in LIBRARIES:
        points = [(row[size], 1e3 * seconds) for row in rows if (seconds := best(row, name)) is not None]
        axes.plot(*zip(*points, strict=True), label=name, linewidth=2 if name == OURS else 1, **marker(name))
    axes.set_xscale("log", base=10 if size == "steps" else 2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:g}")


def marker(name: str) -> dict[str, object]:
    colour, shape = STYLES[name]
    return {"color": colour, "marker": shape, "markersize": 7 if name == OURS else 5, "zorder": 3 if name == OURS else 2}


def finish(figure: Figure) -> str:
    """The SVG, with colours for dark pages and the digest of the results that it shows."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Identifier": f"results {digest()}"})
    rules = [f'[style*="{kind}: {light}"] {{{kind}: {dark} !important}}' for light, dark in DARK.items() for kind in ("fill", "stroke")]
    style = f"<style>@media (prefers-color-scheme: dark) {{{' '.join(rules)}}}</style>\n</svg>"
    return "\n".join(line.rstrip() for line in buffer.getvalue().replace("</svg>", style).splitlines()) + "\n"
