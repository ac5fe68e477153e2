"""Steps of some rows of a bank: their states are gathered, advanced side by side, and scattered back."""

from .float_mode import enter_usual_mode, restore_mode
from .layout import CHANGE, HANDED, ROW_STATE, SEEN
from .network import JOB_SIZE, LAYER_BYTES, take_job
from .options import function, operation
from .records import MOVE_ROWS, STEP_ROWS, bank_at, copy_bytes, invoke_one, job_at, layer_at, put_word, word
from .threads.team import run_with_help


@function
def first_wrong(bank, rows, count):
    """Return where the first row stands that was not handed out, or that comes a second time; -1 where there is none."""
    wrong, right = -1, 0
    while right < count and wrong < 0:
        row = word(rows, right)
        if 0 <= row < bank.capacity and word(bank.handed, row) & ROW_STATE == HANDED:
            put_word(bank.handed, row, word(bank.handed, row) + SEEN - HANDED)
            right += 1
        else:
            wrong = right
    for i in range(right):
        row = word(rows, i)
        put_word(bank.handed, row, word(bank.handed, row) + HANDED - SEEN)
    return wrong


@function
def first_changed(bank, rows, count):
    """Return where the first row stands whose word is no longer what `take_rows` found; -1 where there is none."""
    for i in range(count):
        if word(bank.handed, word(rows, i)) != word(rows, count + 1 + i):
            return i
    return -1


@function
def move_rows(job, bank, states, reset_mask, rows, leaving):
    """Copy the rows' states into states of their own, or back. Rows with a word in `reset_mask` that isn't 0 come from the start."""
    here, there, start = states, bank.states, bank.start
    for index in range(job.depth):
        layer = layer_at(job.layers + index * LAYER_BYTES)
        for part in range(layer.state_arrays):
            size = job.itemsize * (layer.hidden if part else layer.output_size)
            for i in range(job.count):
                own, row = here + i * size, there + word(rows, i) * size
                if leaving:
                    copy_bytes(own, row, size)
                else:
                    copy_bytes(start if word(reset_mask, i) else row, own, size)
            here, there, start = here + job.count * size, there + bank.capacity * size, start + size
    if leaving:
        for i in range(job.count):
            put_word(bank.handed, word(rows, i), word(bank.handed, word(rows, i)) + CHANGE)


# rows (1 + 2 count)   the indices of the rows; then the position of the first wrong one, or -1; then the rows' words, where a step takes
#                      several calls


@operation(STEP_ROWS)
def step_rows(call):
    # job      the job, and the bank's record behind it
    # states       receives the rows' states
    # reset_mask   a word for each row, not 0 where it is reset
    # rows     is told where a row is wrong; then nothing else changes
    # team     of the workers that may help; not read where the job wants none
    mode = enter_usual_mode()
    job, chunk = take_job(call.job, call.space, call.x, call.out, call.states)
    bank = bank_at(call.job + JOB_SIZE)
    wrong = first_wrong(bank, call.rows, job.count)
    put_word(call.rows, job.count, wrong)
    if wrong < 0:
        move_rows(job, bank, call.states, call.reset_mask, call.rows, False)
        if job.helpers:
            run_with_help(job, chunk, call.team)
        else:
            invoke_one(job.run, job)
        move_rows(job, bank, call.states, call.reset_mask, call.rows, True)
    restore_mode(mode)


@operation(MOVE_ROWS)
def take_rows(call):
    # rows     is told where a row is wrong, else what the rows' words are
    job, bank = job_at(call.job), bank_at(call.job + JOB_SIZE)
    wrong = first_wrong(bank, call.rows, job.count)
    put_word(call.rows, job.count, wrong)
    if wrong < 0:
        move_rows(job, bank, call.states, call.reset_mask, call.rows, False)
        for i in range(job.count):
            put_word(call.rows, job.count + 1 + i, word(bank.handed, word(call.rows, i)))


@operation(MOVE_ROWS)
def put_rows(call):
    # rows     is told where a row has changed since `take_rows`; then nothing else changes
    job, bank = job_at(call.job), bank_at(call.job + JOB_SIZE)
    changed = first_changed(bank, call.rows, job.count)
    put_word(call.rows, job.count, changed)
    if changed < 0:
        move_rows(job, bank, call.states, call.reset_mask, call.rows, True)
