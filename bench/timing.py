"""Interleaved rounds: in each, every contestant has its turn, so that what slows the machine for a while slows them all."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.contestants import Contestant, Remote
from bench.results import rounded
from bench.rows import Task

ROUNDS = 7
BLOCK = 0.01  # seconds a block of calls takes at least
LONG = 0.2  # seconds of a call that needs no warming up
SPENT = 2.0  # seconds, after which a contestant takes part in no more than FEWEST rounds
FEWEST = 3
PAUSE = 0.01  # seconds
QUIET = 0.1  # CPU seconds a second; below, no worker thread is spinning


def settle() -> None:
    """Wait until the threads of the contestant before have gone to sleep: OpenBLAS's spin for 0.1 s, ONNX Runtime's for 0.03 s."""
    for _ in range(30):
        before = time.process_time()
        time.sleep(PAUSE)
        if time.process_time() - before < QUIET * PAUSE:
            return


def measure(arrays: Task, label: str, contestants: Sequence[Contestant | Remote], progress: tqdm, rounds: int = ROUNDS) -> dict[str, Any]:
    """Prepare the contestants that have the dtype, and time them: the quartiles of the seconds a call, and what went wrong."""
    ready, errors = [], []
    for contestant in contestants:
        progress.set_postfix_str(f"{label}, {contestant.name}")
        if arrays.W.dtype not in contestant.dtypes:
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
