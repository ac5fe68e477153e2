"""`python -m bench`: time fastrnn beside its rivals. Write results.json, RESULTS.md, the README's section on speed and the figures."""

import argparse

from bench import figures, report, results
from bench.measurement import SECTIONS, measure_all, measure_part, with_part
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
    names = ", ".join(SECTIONS)
    parser.add_argument("--only", metavar="TEXT", help=f"measure the rows whose names contain this, or one section: {names}; write nothing")
    parser.add_argument("--store", action="store_true", help="with --only: put what was measured into results.json, and write the reports")
    parser.add_argument("--report", action="store_true", help="measure nothing: write the reports from results.json")
    options = parser.parse_args()
    if options.only is not None:
        part = measure_part(options.only, tell)
        if not part:
            parser.error(f"no section is named {options.only!r} and no row's name contains it; the first row is {str(ROWS[0])!r}")
        if not options.store:
            print(results.dump(part) if options.only in SECTIONS else "", end="")  # rows are printed when they are done
            return
        results.save(with_part(results.load(), part))
    elif not options.report:
        results.save(measure_all(tell))
    report.write(results.load())
    figures.write(results.load())


if __name__ == "__main__":
    main()
