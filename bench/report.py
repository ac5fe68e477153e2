"""Writes RESULTS.md and the README's section on speed from results.json. No number in them is typed."""

import pathlib
import textwrap

from bench.results import CONTESTANTS, LIBRARIES, LOOP, OURS, Results, best, bound, lead, mean_lead, share, speed_up

RESULTS = pathlib.Path(__file__).with_name("RESULTS.md")
README = pathlib.Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- speed: written by `python -m bench` -->\n", "<!-- end of speed -->\n"

TABLED = (
    "shapes",
    "tokens",
    "uniform lengths",
    "long tail",
    "single step",
    "single call",
    "GRU",
    "LSTM",
    "Bidirectional LSTM",
    "leaky",
    "LSTM steps",
)
CHOSEN = (  # rows of the README's table; the row with the lowest lead joins them
    ("notebook", "float32"),
    ("notebook", "float64"),
    ("medium", "float32"),
    ("batch of small", "float32"),
    ("tokens of characters", "float32"),
    ("long tail of 64", "float32"),
    ("single step of 64 units", "float32"),
)
BOUNDED = ("hidden", "batch")
NONE = "-"
WIDTH = 140


def write(results: Results) -> None:
    """Write RESULTS.md, and put the section in its place in the README."""
    RESULTS.write_text(page(results), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(before + BEGIN + section(results) + END + after, encoding="utf-8")


def written() -> str:
    """The section that the README has."""
    return README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def section(results: Results) -> str:
    """The README's section: one figure, eight rows, and how they were chosen."""
    rows = [row for row in tabled(results) if (row["name"], row["dtype"]) in CHOSEN]
    rows.append(min((row for row in tabled(results) if row not in rows), key=lambda row: lead(row)[0]))
    machine = results["machine"]
    how = f"""\
How many times faster than the notebook's loop is each library? Every library runs on one thread and on all, and its faster time counts.
Measured on {machine["cpu"]}, {machine["cores"]} cores, {results["date"]}."""
    figure = "![How many times faster than the notebook's loop each library is, shape by shape](bench/speedup.svg)"
    link = "[bench/RESULTS.md](bench/RESULTS.md) has every row, the machine's limits, start-up, memory, and how all of it was measured."
    return "\n" + "\n\n".join((wrapped(how), figure, speeds(rows), wrapped(f"{summary(results['rows'])} {link}"))) + "\n\n"


def page(results: Results) -> str:
    """The whole of RESULTS.md."""
    return f"""\
<!-- written by `python -m bench` -->

# Speed

{measured(results)}

## Times faster than the notebook's loop

![How many times faster than the notebook's loop each library is, shape by shape](speedup.svg)

{KINDS}

{speeds(tabled(results))}

{wrapped(summary(results["rows"]))}
{failures(results["rows"])}
## Time against size

![Time of a call against hidden size, batch and steps for each library, log-log](scaling.svg)

## fastrnn's own calls

{pairs(results)}

## Share of the machine's limit

{shares(results)}

## Start-up

{starts(results)}

## Memory

{growth(results)}
"""


KINDS = """\
- A row without a batch is one sequence. A model with O outputs ends in a softmax; a model without returns its states.
- Tokens: the input is integers. A library whose RNN takes only vectors gets one-hot vectors or the columns of the input weights.
- Uniform lengths, long tail: a padded batch of sequences of different lengths. In a long tail, half of the sequences are shorter
  than a tenth of the longest one.
- Single step: one step of one sequence, in fastrnn `stream.step(x_t)`.
- Single call: the same step, in fastrnn `rnn(x, h)` with one step in x. Rivals run the same code as in "single step".
- GRU, LSTM, leaky: these layers without a head, their state given. The loop is a notebook's, one step after the other.
- Two directions: a bidirectional LSTM, which starts at zeros.
- LSTM steps: one step of many states, in fastrnn `stream.step(x_t)` or `bank.step(x)`."""


def wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def measured(results: Results) -> str:
    machine, versions = results["machine"], ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    method = """\
A row is one task: the sizes of a model, its dtype and its input. Every library gets the same arrays, and its result is compared with the
reference before it is timed. A library may use several forms of the call, and one thread or all threads; the fastest combination counts.
The libraries take turns for several rounds. Each turn starts with 30 ms of untimed calls. Compiling and loading a model are not timed.
A time is the median over the rounds."""
    where = f"Measured on {machine['cpu']}, {machine['cores']} cores, {results['date']}, with {versions}."
    where += f" Not installed: {', '.join(results['missing'])}." if results["missing"] else ""
    return wrapped(method) + "\n\n" + wrapped(where)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table. All columns but the first are aligned right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sizes(row: Results) -> str:
    letters = {"T": "steps", "I": "inputs", "H": "hidden", "O": "outputs", "batch": "batch"}
    return ", ".join(f"{letter} {row[size]:,}" for letter, size in letters.items() if row[size])


def label(row: Results) -> str:
    return f"{row['name']}: {sizes(row)}, {row['dtype']}"


def tabled(results: Results) -> list[Results]:
    return [row for row in results["rows"] if row["group"] in TABLED]


def speeds(rows: list[Results]) -> str:
    """The loop's time, how many times faster each library is, and fastrnn's lead."""
    shown = {*LIBRARIES, *(name for row in rows for name in row["times"])} - {LOOP}
    others = [name for name in CONTESTANTS if name in shown]
    lines = []
    for row in rows:
        times = {name: speed_up(row, name) for name in others}
        fastest = max(time for time in times.values() if time)
        cells = [f"**{number(time)}**" if time == fastest else number(time) for time in times.values()]
        lines.append([label(row), duration(best(row, LOOP)), *cells, number(lead(row)[0])])
    return table(["", LOOP, *others, "best rival's time / fastrnn's"], lines)


def summary(rows: list[Results]) -> str:
    lowest = min(rows, key=lambda row: lead(row)[0])
    ahead = sum(lead(row)[0] >= 1 for row in rows)
    return f"""\
fastrnn is the fastest in {ahead} of {len(rows)} rows, tables and figures together. The best rival takes {mean_lead(rows):.2f} times as
long as fastrnn (geometric mean). In the lowest row ({label(lowest)}) {lead(lowest)[1]} takes {lead(lowest)[0]:.2f} times as long."""


def failures(rows: list[Results]) -> str:
    """The rows that fastrnn loses, and the libraries that failed; empty where there are none."""
    lost = [f"- {label(row)}: {lead(row)[0]:.2f} ({lead(row)[1]})" for row in rows if lead(row)[0] < 1]
    errors = [f"- {label(row)}: {error}" for row in rows for error in row["errors"]]
    text = "\nRows in which a rival is faster, with the rival's time / fastrnn's:\n\n" + "\n".join(lost) + "\n" if lost else ""
    return text + ("\nWrong or failed:\n\n" + "\n".join(errors) + "\n" if errors else "")


def pairs(results: Results) -> str:
    """Two measurements that were taken in turns, and their ratio."""
    rows = []
    for pair in results["pairs"]:
        first, second = (f"{pair[which]}: {duration(seconds)}" for which, seconds in zip(("first", "second"), pair["seconds"], strict=True))
        rows.append([pair["name"], first, second, f"{pair['seconds'][1] / pair['seconds'][0]:.2f}"])
    text = """\
`rnn_forward` takes the weights at every call, so it checks and packs them at every call. A model does that once. The rows of NumPy's
product show what a call on all threads costs the code after it: it starts while fastrnn's worker threads may still be spinning."""
    return wrapped(text) + "\n\n" + table(["", "first", "second", "second / first"], rows)


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
The machine's limits, measured in the same run: fused multiply-adds (FMA) a second, and bytes read a second from each cache.

{table(header, rates)}

A step can't be faster than its multiply-adds at the FMA rate. Nor can it be faster than one read of the recurrent weights, from the
smallest cache that holds them. The slower of the two limits a row. The table names this limit and gives fastrnn's share of it: the time
at the limit / fastrnn's time. The share exceeds 100% where a smaller cache keeps a part of the weights from step to step.

{table(header, rows)}"""


def starts(results: Results) -> str:
    rows, notes = [], []
    for name, start in results["start"].items():
        if "note" in start:
            notes.append(f"{name}: not measured: {start['note']}.")
        else:
            cells = f"{start['first result']:.2f} s", megabytes(start["peak memory"]), megabytes(start["installed"])
            rows.append([name, *cells])
    text = """\
Seconds from the launch of a new process to the first result at the notebook's shape, float32. The cache of compiled code is empty, except
in the rows "code cached". The size on disk includes everything that a library requires."""
    lines = table(["", "first result", "peak memory", "size on disk"], rows)
    return "\n\n".join([wrapped(text), lines, *notes])


def growth(results: Results) -> str:
    grown = [f"{megabytes(size)} for {int(steps):,} steps" for steps, size in results["growth"].items()]
    return f"Beside input, weights and output, {OURS} needs {' and '.join(grown) or 'an amount that this system does not tell'}."


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
