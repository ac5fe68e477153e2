"""An echo state network on the Mackey-Glass series: a random leaky layer whose readout alone is fitted, which then goes on by itself."""

from typing import NamedTuple

import numpy as np

import fastrnn

HIDDEN, LEAK, RADIUS = 500, 0.3, 1.25
DELAY = 17  # chaotic from 16.8 on
LYAPUNOV_TIME = 200  # steps in which a small error grows by e: the largest exponent, measured over 14,000 steps, is 0.005
WASHED_OUT, FITTED, AHEAD = 500, 3500, 3 * LYAPUNOV_TIME
RIDGE = {"float32": 1e-4, "float64": 1e-8}  # of the least squares: states are known to a rounding, which free running makes larger


def mackey_glass(steps, substeps=10):
    """Solve x' = 0.2 x_d / (1 + x_d^10) - 0.1 x, where x_d is x 17 time units before, by Runge and Kutta's method: one value a unit."""
    delayed, size = DELAY * substeps, 1 / substeps
    x = np.full(delayed + 1 + steps * substeps, 1.2)
    for i in range(delayed, len(x) - 1):
        before, after = (0.2 * x_d / (1 + x_d**10) for x_d in (x[i - delayed], x[i - delayed + 1]))
        k = np.zeros(5)
        for number, (part, forced) in enumerate(((0, before), (0.5, (before + after) / 2), (0.5, (before + after) / 2), (1, after)), 1):
            k[number] = forced - 0.1 * (x[i] + part * size * k[number - 1])
        x[i + 1] = x[i] + size / 6 * (k[1] + 2 * k[2] + 2 * k[3] + k[4])
    return x[delayed + substeps :: substeps]


class Results(NamedTuple):
    """True values after the fitted ones, and the network's: one step ahead of the true input, and by itself; (AHEAD,) each."""

    truth: np.ndarray
    one_step: np.ndarray
    free: np.ndarray


def predict(dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = mackey_glass(WASHED_OUT + FITTED + AHEAD + 1)[:, None] - 0.93  # about its mean
    start = WASHED_OUT + FITTED
    weight_hh = rng.uniform(-1, 1, (HIDDEN, HIDDEN))
    weight_hh *= RADIUS / np.abs(np.linalg.eigvals(weight_hh)).max()
    weights = rng.uniform(-1, 1, (HIDDEN, 1)), weight_hh, rng.uniform(-0.2, 0.2, HIDDEN)
    reservoir = fastrnn.RNN(*(weight.astype(dtype) for weight in weights), leak=LEAK)

    states, state = reservoir(x[:start])
    known = np.column_stack([states[WASHED_OUT:], np.ones(FITTED)]).astype("float64")
    readout = np.linalg.solve(known.T @ known + RIDGE[dtype] * np.eye(HIDDEN + 1), known.T @ x[WASHED_OUT + 1 : start + 1])
    model = fastrnn.Sequential(reservoir, fastrnn.Dense(readout[:-1].T.astype(dtype), readout[-1].astype(dtype)))

    one_step, _ = model(x[start:-1], state)
    free, _ = fastrnn.generate(model, x[start], AHEAD, state, feedback="output")
    return Results(x[start + 1 :, 0], one_step[:, 0], free[:, 0])


def error(predicted, truth):
    """The root of the mean square error, over the series' deviation."""
    return np.sqrt(np.mean((predicted - truth) ** 2)) / 0.226
