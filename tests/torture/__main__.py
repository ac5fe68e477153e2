"""Run rounds of torture, and say at the end what was done: `python -m tests.torture --minutes 60 --seed 1`."""

import argparse
import collections
import faulthandler
import json
import logging
import os
import subprocess
import sys
import threading
import time
import traceback

import numpy as np

COUNTED = ("calls", "steps", "malformed", "interrupts", "forks", "exits", "damaged files", "mutants")
CAUSE = "cause: "  # begins a count of what errors were made of
PATIENCE = 300  # seconds that a round may take
MOST_FAILURES = 10  # of which more would say no more


def memory():
    """Megabytes that this process has in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def run_round(seed, number, kind=None):
    """Run one round, and give what it was, what it counted, and how it failed."""
    from .rounds import KINDS, choose

    rng, counts = np.random.default_rng([seed, number]), collections.Counter()
    chosen = choose(rng)
    kind, failure = kind or chosen, ""
    try:
        KINDS[kind][0](rng, counts)
    except Exception:
        failure = traceback.format_exc()[-4000:]
    return {"round": number, "kind": kind, "counts": counts, "failure": failure, "memory": memory()}


def work(options):
    """Be the worker: run rounds until the time is over, and report each in a line."""
    faulthandler.enable()
    logging.disable()
    number, end = options.work, time.time() + options.minutes * 60
    while time.time() < end:
        print(json.dumps(run_round(options.seed, number, options.kind)), flush=True)
        number += 1


class Watched:
    """The worker as it is seen from outside: a new one takes over where one has hung or crashed."""

    def __init__(self, options):
        self.options, self.end, self.next = options, time.time() + options.minutes * 60, 0
        self.counts, self.rounds, self.failures, self.memory = collections.Counter(), collections.Counter(), 0, []

    def run(self):
        while (left := self.end - time.time()) > 0 and self.failures < MOST_FAILURES:
            only = ["--kind", self.options.kind] if self.options.kind else []
            command = ["-m", "tests.torture", "--seed", self.options.seed, "--work", self.next, "--minutes", left / 60, *only]
            with subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True) as worker:
                while self.failures < MOST_FAILURES and (line := self.line(worker)):
                    self.note(json.loads(line))
                worker.kill()
            if self.end - time.time() > 0 and self.failures < MOST_FAILURES:
                self.fail("", f"the worker hung or crashed: {worker.returncode}")
                self.next += 1

    def line(self, worker):
        """Wait for the worker's next line; it is killed where that takes too long."""
        timer = threading.Timer(PATIENCE, worker.kill)
        timer.start()
        line = worker.stdout.readline()
        timer.cancel()
        return line

    def note(self, report):
        self.next = report["round"] + 1
        self.counts.update(report["counts"])
        self.rounds[report["kind"]] += 1
        self.memory.append(report["memory"])
        if report["failure"]:
            self.next -= 1
            self.fail(report["kind"], report["failure"])
            self.next += 1

    def fail(self, kind, text):
        self.failures += 1
        again = f"python -m tests.torture --seed {self.options.seed} --round {self.next}"
        print(
            f"\nround {self.next} {kind} failed; to repeat it: {again}{' --kind ' + kind if self.options.kind else ''}\n{text}", flush=True
        )

    def table(self):
        settled = self.memory[len(self.memory) // 5 :] or [0.0]  # by then most kinds of calls have been made
        rows = {name: f"{self.counts[name]:,}" for name in COUNTED}
        rows |= {"rounds": ", ".join(f"{count} {kind}" for kind, count in sorted(self.rounds.items())), "failures": f"{self.failures}"}
        rows |= {"memory at the start, MB": f"{settled[0]:.0f}", "memory at the end, MB": f"{settled[-1]:.0f}"}
        width = max(map(len, rows))
        causes = [f"{count:>7,}  {name.removeprefix(CAUSE)}" for name, count in self.counts.most_common() if name.startswith(CAUSE)]
        if causes:
            causes.insert(0, "\nWhat refusals of mutants were made of, beside our own errors: is one of them a fault of ours?")
        return "\n".join([f"{name:<{width}}  {value}" for name, value in rows.items()] + causes)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, default=None, help="what is random follows from it; by default it is drawn")
    parser.add_argument("--round", type=int, default=None, help="run this round alone")
    parser.add_argument("--kind", default=None, help="run rounds of this kind only")
    parser.add_argument("--work", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seed is None:
        options.seed = int(np.random.default_rng().integers(1 << 31))
    if options.work is not None:
        work(options)
        return 0
    if options.round is not None:
        report = run_round(options.seed, options.round, options.kind)
        print(report["kind"], dict(report["counts"]), report["failure"] or "is right")
        return int(bool(report["failure"]))
    print(f"seed {options.seed}", flush=True)
    watched = Watched(options)
    watched.run()
    print(watched.table())
    return int(watched.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
