"""Times contestants in interleaved rounds: each has a turn in every round, so a slow phase of the machine slows all of them."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.contestants import Contestant, Remote
from bench.results import rounded
from bench.rows import Task

ROUNDS = 7
BLOCK = 0.01  # seconds of a block of calls, at least
LONG = 0.2  # seconds of a call, from which on it needs no warm-up
SPENT = 2.0  # seconds: a contestant that has used them stops after FEWEST rounds
FEWEST = 3
PAUSE = 0.01  # seconds of sleep
QUIET = 0.1  # CPU seconds a second; below that, no worker thread is spinning


def settle() -> None:
    """Wait until the previous contestant's threads sleep. OpenBLAS's threads spin for 0.1 s, ONNX Runtime's for 0.03 s."""
    for _ in range(30):
        before = time.process_time()
        time.sleep(PAUSE)
        if time.process_time() - before < QUIET * PAUSE:
            return


def measure(arrays: Task, label: str, contestants: Sequence[Contestant | Remote], progress: tqdm, rounds: int = ROUNDS) -> dict[str, Any]:
    """Prepare and time the contestants that have the dtype and the cell. Return the quartiles of their seconds a call, and the errors."""
    ready, errors = [], []
    for contestant in contestants:
        progress.set_postfix_str(f"{label}, {contestant.name}")
        if arrays.W.dtype not in contestant.dtypes or arrays.cell not in contestant.cells:
            progress.update(1 + rounds)
            continue
        settle()
        try:
            ready.append((contestant, *contestant.prepare(arrays)))
        except Exception as error:
            errors.append(f"{contestant.name}, threads {contestant.threads}: {error}")
            progress.update(rounds)
        progress.update()
    samples: list[list[float]] = [[] for _ in ready]
    failed: set[int] = set()
    for turn in range(rounds):
        for i in [*range(turn % len(ready), len(ready)), *range(turn % len(ready))]:
            contestant, _, seconds = ready[i]
            progress.update()
            if i not in failed and (len(samples[i]) < FEWEST or seconds * len(samples[i]) < SPENT):
                settle()
                try:
                    samples[i].append(contestant.time(max(1, round(BLOCK / seconds)), seconds < LONG))
                except Exception as error:
                    errors.append(f"{contestant.name}, threads {contestant.threads}: {error}")
                    failed.add(i)
    times: dict[str, dict[str, Any]] = {}
    for i, ((contestant, way, _), seconds) in enumerate(zip(ready, samples, strict=True)):
        if i in failed:
            continue
        low, median, high = (rounded(quartile) for quartile in np.percentile(seconds, (25, 50, 75)))
        times.setdefault(contestant.name, {})[str(contestant.threads)] = {"median": median, "low": low, "high": high, "way": way}
        contestant.forget()
    return {"times": times, "errors": errors}
