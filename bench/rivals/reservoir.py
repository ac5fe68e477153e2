"""reservoirpy: a reservoir of given weights. It computes in float64, one sequence at a time, with NumPy's products."""

from collections.abc import Iterator

import numpy as np
from reservoirpy.nodes import Reservoir

from bench.rivals import Way
from bench.rivals.loops import Loop
from bench.rows import Task


class ReservoirPy(Loop):
    dtypes = ("float64",)
    cells = ("leaky",)

    def ways(self, task: Task, threads: int) -> Iterator[Way]:
        reservoir, state = Reservoir(lr=task.leak, Win=task.U, W=task.W, bias=task.b), {"out": task.h0}
        reservoir.initialize(task.x)

        def run() -> np.ndarray:
            reservoir.state = state
            return reservoir.run(task.x)

        yield Way("Reservoir.run", run, np.array)


library = ReservoirPy()
