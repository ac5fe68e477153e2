"""Steps of some rows of a bank: their states are gathered, advanced side by side, and scattered back."""

from .jit import function, operation
from .layout import HANDED, SEEN
from .network import JOB_SIZE, LAYER_BYTES, take_plan
from .records import MOVE_ROWS, STEP_ROWS, bank_at, copy_bytes, invoke_one, job_at, layer_at, put_word, word
from .team import run_with_help


@function
def first_wrong(bank, count):
    """Find the first row that was not handed out, or that comes a second time: where it stands, -1 where there is none."""
    wrong, right = -1, 0
    while right < count and wrong < 0:
        row = word(bank.rows, right)
        if 0 <= row < bank.capacity and word(bank.handed, row) == HANDED:
            put_word(bank.handed, row, SEEN)
            right += 1
        else:
            wrong = right
    for i in range(right):
        put_word(bank.handed, word(bank.rows, i), HANDED)
    return wrong


@function
def move_rows(job, bank, states, again, leaving):
    """Copy the rows' states into states of their own, or back. Rows with a word in `again` that isn't 0 come from the start."""
    here, there, start = states, bank.states, bank.start
    for index in range(job.depth):
        layer = layer_at(job.layers + index * LAYER_BYTES)
        for part in range(layer.kept):
            size = job.itemsize * (layer.hidden if part else layer.output_size)
            for i in range(job.count):
                own, row = here + i * size, there + word(bank.rows, i) * size
                if leaving:
                    copy_bytes(own, row, size)
                else:
                    copy_bytes(start if word(again, i) else row, own, size)
            here, there, start = here + job.count * size, there + bank.capacity * size, start + size


@operation(STEP_ROWS)
def step_rows(call):
    # plan     a job, and the bank, which is told where a row is wrong; then nothing else changes
    # states   receives the rows' states
    # again    a word for each row
    # team     of the workers that may help; not read where the job wants none
    job, chunk = take_plan(call.plan, call.space, call.x, call.out, call.states)
    bank = bank_at(call.plan + JOB_SIZE)
    bank.wrong = first_wrong(bank, job.count)
    if bank.wrong < 0:
        move_rows(job, bank, call.states, call.again, False)
        if job.helpers:
            run_with_help(job, chunk, call.team)
        else:
            invoke_one(job.run, job)
        move_rows(job, bank, call.states, call.again, True)


@operation(MOVE_ROWS)
def take_rows(call):
    job, bank = job_at(call.plan), bank_at(call.plan + JOB_SIZE)
    bank.wrong = first_wrong(bank, job.count)
    if bank.wrong < 0:
        move_rows(job, bank, call.states, call.again, False)


@operation(MOVE_ROWS)
def put_rows(call):
    move_rows(job_at(call.plan), bank_at(call.plan + JOB_SIZE), call.states, call.again, True)
