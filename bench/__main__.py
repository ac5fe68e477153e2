"""`python -m bench`: times fastrnn beside its rivals, and writes results.json, the README's section on speed and the figures."""

import argparse

from bench import figures, report, results
from bench.measurement import measure_all, measure_rows
from bench.rows import ROWS, Row


def tell(row: Row, measured: results.Results) -> str:
    lines = [str(row)]
    for name, by_threads in measured["times"].items():
        for threads, time in by_threads.items():
            median, low, high = (f"{1e6 * time[key]:,.2f}" for key in ("median", "low", "high"))
            lines.append(f"  {name:14}{threads:>3}{median:>14} us  ({low} to {high})  {time['way']}")
    return "\n".join([*lines, *(f"  {error}" for error in measured["errors"])])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="time the rows whose name contains this, print them and write nothing")
    parser.add_argument("--report", action="store_true", help="time nothing: write README and figures from results.json")
    options = parser.parse_args()
    if options.only is not None:
        rows = [row for row in ROWS if options.only in str(row)]
        if not rows:
            parser.error(f"no row's name contains {options.only!r}; the first is {str(ROWS[0])!r}")
        measure_rows(rows, tell)
        return
    if not options.report:
        results.save(measure_all(tell))
    report.write(results.load())
    figures.write(results.load())


if __name__ == "__main__":
    main()
