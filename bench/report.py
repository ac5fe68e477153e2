"""Writes the README's section on speed from results.json; none of it is typed."""

import pathlib
import textwrap

from bench.results import LIBRARIES, LOOP, Results, best, bound, lead, mean_lead, share, speed_up

README = pathlib.Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- speed: written by `python -m bench` -->\n", "<!-- end of speed -->\n"

TABLED = ("shapes", "tokens", "uniform lengths", "long tail", "single step")
BOUNDED = ("hidden", "batch")
NONE = "-"
WIDTH = 140


def write(results: Results) -> None:
    """Put the section in its place in the README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(before + BEGIN + section(results) + END + after, encoding="utf-8")


def written() -> str:
    """The section that the README has."""
    return README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def section(results: Results) -> str:
    parts = (measured(results), FIGURES, speeds(results), summary(results), shares(results), starts(results))
    return "\n" + "\n\n".join(parts) + "\n\n"


FIGURES = """\
![How many times faster than the notebook's loop each library is, shape by shape](bench/speedup.svg)

![Time of a call against hidden size, batch and steps for each library, log-log](bench/scaling.svg)"""


def measured(results: Results) -> str:
    machine, versions = results["machine"], ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    text = f"""
Every library computes the same from the same arrays, each in the form it likes best, on one thread or on all, whichever is faster, and
is compared with the reference before it is timed. They take turns, round after round, each after 30 ms of calls that don't count, nor do
compiling and building sessions. Medians of {results["date"]}, {machine["cpu"]}, {machine["cores"]} cores; {versions}."""
    text += f" Not installed: {', '.join(results['missing'])}." if results["missing"] else ""
    return textwrap.fill(text.strip(), WIDTH, break_long_words=False, break_on_hyphens=False)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table whose columns after the first are set right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sizes(row: Results) -> str:
    letters = {"T": "steps", "I": "inputs", "H": "hidden", "O": "outputs", "batch": "batch"}
    return ", ".join(f"{letter} {row[size]:,}" for letter, size in letters.items() if row[size])


def label(row: Results) -> str:
    return f"{row['name']}: {sizes(row)}, {row['dtype']}"


def speeds(results: Results) -> str:
    """The loop's time, how many times faster each library is, and fastrnn's lead."""
    others = [name for name in LIBRARIES if name != LOOP]
    rows = []
    for row in results["rows"]:
        if row["group"] in TABLED:
            times = {name: speed_up(row, name) for name in others}
            fastest = max(time for time in times.values() if time)
            cells = [f"**{number(time)}**" if time == fastest else number(time) for time in times.values()]
            rows.append([label(row), duration(best(row, LOOP)), *cells, number(lead(row)[0])])
    return "How many times faster than the notebook's loop:\n\n" + table(["", LOOP, *others, "best rival / fastrnn"], rows)


def summary(results: Results) -> str:
    rows = results["rows"]
    lost = [row for row in rows if lead(row)[0] < 1]
    text = f"""\
Over all {len(rows)} rows, those of the second figure included, the best rival takes {mean_lead(rows):.2f} times as long as fastrnn
(geometric mean); fastrnn is the fastest in {len(rows) - len(lost)}."""
    if lost:
        text += " It loses, best rival / fastrnn, in:\n\n" + "\n".join(
            f"- {label(row)}: {lead(row)[0]:.2f} ({lead(row)[1]})" for row in lost
        )
    errors = [f"- {label(row)}: {error}" for row in rows for error in row["errors"]]
    return text + ("\n\nWrong or failed:\n\n" + "\n".join(errors) if errors else "")


def shares(results: Results) -> str:
    """What the machine can do, and how much of it fastrnn uses."""
    threads = list(results["rates"])
    rates = [
        [name, *(f"{results['rates'][n][name] / 1e9:,.0f}" + (" G/s" if name.startswith("FMA") else " GB/s") for n in threads)]
        for name in results["rates"][threads[0]]
    ]
    rows = [
        [label(row), *(f"{share(row, results, n):.0%} of {bound(row, results, n)[1]}" for n in threads)]
        for row in results["rows"]
        if row["group"] in BOUNDED
    ]
    header = ["", *(f"{n} thread{'s' * (n != '1')}" for n in threads)]
    return f"""\
The machine's limits, measured beside: fused multiply-adds (FMA) a second, and bytes read a second from each cache.

{table(header, rates)}

fastrnn's share of what bounds a row: of the FMA rate, or where the weights of one step take longer to read than to multiply, of the
read rate of the smallest cache that holds them; more than all of it where a part stays in a smaller one.

{table(header, rows)}"""


def starts(results: Results) -> str:
    rows = [
        [name, f"{start['cold']:.2f} s", f"{start['warm']:.2f} s", megabytes(start["peak memory"]), megabytes(start["installed"])]
        for name, start in results["start"].items()
    ]
    header = ["", "first result, nothing cached", "compiled code cached", "peak memory", "installed, with what it requires"]
    text = f"A new process, from its launch to the first result of the notebook's shape:\n\n{table(header, rows)}"
    grown = [f"{megabytes(size)} for {int(steps):,} steps" for steps, size in results["growth"].items()]
    return text + (f"\n\nBeside input, weights and output fastrnn needs {' and '.join(grown)}." if grown else "")


def number(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def megabytes(size: int | None) -> str:
    return NONE if size is None else f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
