"""Threads that share work wait for one another wherever one would overwrite what another still reads, and are as many as are wanted."""

import itertools
import threading
import time

import numpy as np
import pytest

from fastrnn.engine import threads
from fastrnn.kernels.layout import CHUNK, JOB

from .cases import Case
from .interception import around, field
from .sharing import BY_STEPS, IN_TURN, ONE_PIECE, PLAIN, alone, assert_same, at_once, team, until, whole

# The last layer's rows overlap, in memory, those of the first. They are so long that a piece of work has several chunks, or blocks of two
# steps.
CHUNKS, BLOCKS = (Case("", (("Dense", "tanh"),) * 3, sizes) for sizes in ((3, 9000, 16, 5000), (3, 3000, 16, 1800)))
SHARED = {"chunks": (CHUNKS, (), 60), "blocks": (BLOCKS, (22,), 2)}


@pytest.mark.parametrize(("case", "leading", "steps"), SHARED.values(), ids=SHARED)
def test_nobody_is_left_behind(case, leading, steps):
    """However late a helper is with its rows of the last layer, the leader doesn't begin the next chunk, or block, in the same memory."""
    call, late = whole(case, leading, steps), set()
    expected, turns = alone(call, np.float32), itertools.count(1)

    def delay(operation, layer, job, chunk):
        if field(CHUNK, chunk, "member").value and next(turns) % len(case.layers) == 0:
            late.add((field(CHUNK, chunk, "n").value, field(CHUNK, chunk, "t").value))
            time.sleep(3e-3)
        operation()

    with around("project", delay, np.float32), team(2, {**BY_STEPS, **ONE_PIECE}, at_once):
        for _ in until(lambda: len(late) > 1):
            turns = itertools.count(1)
            assert_same(call(np.float32), expected)


def test_no_more_workers_than_wanted():
    """Of workers who all look at an open gate, no more come in than the call wants."""
    call, leader, inside = whole(PLAIN, (64,), 60), threading.get_native_id(), set()
    expected = alone(call, np.float32)

    def hold(operation, job):
        if field(JOB, job, "team").value:
            inside.add(threading.get_native_id())
            time.sleep(0.05 if threading.get_native_id() == leader else 0.2)  # all the others have seen the gate meanwhile
        operation()

    with team(4, {**IN_TURN, **ONE_PIECE}, at_once):
        for _ in until(lambda: threads.pool.started > 2):
            call(np.float32)
    for wanted in (1, 2):
        inside.clear()
        with around("run", hold, arguments=1), team(wanted + 1, {**IN_TURN, **ONE_PIECE}, at_once):
            for _ in until(lambda wanted=wanted: len(inside) > wanted):
                inside.clear()
                assert_same(call(np.float32), expected)
        assert len(inside) == wanted + 1
