"""The driver: it takes a piece of work through all layers, block by block of sequences and chunk by chunk of steps.

It calls the layers' operations by address, so it is compiled once for all dtypes and cells. Optional features (tokens, lengths,
generation, scores, threads) are separate operations, called only if their address in the job is not 0.
"""

from .float_mode import enter_usual_mode, restore_mode
from .layout import HEAD_BYTES, IN_OUT, IN_STATES, IN_X, JOB_BYTES
from .options import ROWS, function, inline, operation
from .records import (
    JOB,
    LAYER,
    RUN_SERIAL,
    address_of,
    chunk_at,
    clear_bytes,
    copy_bytes,
    invoke,
    invoke_activation,
    invoke_one,
    job_at,
    layer_at,
    word,
)

LAYER_BYTES, JOB_SIZE = 8 * LAYER.fields.words, 8 * JOB.fields.words


@function
def in_x(job, i):
    """Return the number of elements from the job's x to the first step of sequence i of the piece."""
    return word(job.table, IN_X * job.count + i) if job.table else i * job.x_sequence


@function
def in_out(job, i):
    """Return the number of elements from the job's out to the first step of sequence i."""
    return word(job.table, IN_OUT * job.count + i) if job.table else (i + job.first) * job.out_sequence


@function
def in_states(job, i):
    """Return the index of sequence i among all sequences of the states."""
    return word(job.table, IN_STATES * job.count + i) if job.table else i + job.first


@function
def move_states(layer, job, chunk, i, leaving):
    """Copy a sequence's state into the row before its first step, or back from the row of its last."""
    item, states = job.itemsize, chunk.state
    row = chunk.output_rows + item * layer.stride * (i + (chunk.span * chunk.together if leaving else 0))
    for part in range(layer.state_arrays):
        size = item * (layer.hidden if part else layer.output_size)
        state, values = states + size * in_states(job, chunk.n + i), row + item * part * layer.columns
        copy_bytes(values if leaving else state, state if leaving else values, size)
        if not leaving:  # steps compute past a state's end, too: with what was there, that could be slow
            clear_bytes(values + size, item * layer.columns - size)
        states += size * job.total


@inline
def share_steps(chunk):
    """Choose the steps that this thread projects and stores: whole tiles of steps, except at the end."""
    grain = max(1, ROWS // chunk.together)
    share = (chunk.span + chunk.members * grain - 1) // (chunk.members * grain) * grain
    chunk.first_step = min(chunk.member * share, chunk.span)
    chunk.own_steps = min(share, chunk.span - chunk.first_step)


@inline
def feed(layer, job, chunk, index):
    """Project the input. Threads share the steps, or the columns of all steps where the steps are too few to share."""
    step, replaced = chunk.together * layer.stride, index == 0 and job.feed
    before = step if layer.recur else 0  # the row before the first step holds the state
    share_steps(chunk)
    chunk.left, chunk.right = 0, layer.columns
    if job.divide and layer.recur and not replaced:
        invoke(job.divide, layer, job, chunk)
    chunk.rows = chunk.output_rows + job.itemsize * (before + chunk.first_step * step)
    invoke(job.feed if replaced else layer.feed, layer, job, chunk)
    return before


@inline
def recur(layer, job, chunk):
    """Take a recurrent layer through the chunk's steps. Its rows hold the projected input."""
    if chunk.member == 0:
        for i in range(chunk.together):
            move_states(layer, job, chunk, i, False)
        if layer.enter:
            invoke(layer.enter, layer, job, chunk)
    if job.share:
        invoke(job.share, layer, job, chunk)
        if chunk.members == 0:
            return
    else:
        chunk.at, chunk.steps, chunk.left, chunk.right = 0, chunk.span, 0, layer.columns
        chunk.phase, chunk.phases = 0, layer.phases
        invoke(layer.recur, layer, job, chunk)
    if chunk.member == 0:
        if job.leave:
            invoke(job.leave, layer, job, chunk)
        else:
            for i in range(chunk.together):
                move_states(layer, job, chunk, i, True)
    chunk.state += job.itemsize * job.total * (layer.output_size + (layer.state_arrays - 1) * layer.hidden)


@inline
def walk(job, chunk):
    """Take a chunk through all layers."""
    for index in range(job.depth):
        layer = layer_at(job.layers + index * LAYER_BYTES)
        step, before = chunk.together * layer.stride, feed(layer, job, chunk, index)
        if layer.recur:
            recur(layer, job, chunk)
        elif layer.finish:
            invoke(layer.finish, layer, job, chunk)
        elif layer.activation:
            invoke_activation(layer.activation, chunk.rows, chunk.own_steps * step, layer.parameters)
        if job.barrier and not layer.recur and index < job.depth - 1:  # the next layer overwrites what this one reads
            invoke(job.barrier, layer, job, chunk)
        if chunk.members == 0:
            return
        chunk.source, chunk.step, chunk.sequence = chunk.output_rows + job.itemsize * before, step, layer.stride
        chunk.input_rows, chunk.output_rows = chunk.output_rows, chunk.input_rows


@inline
def store(job, chunk):
    """Copy this thread's steps of the last layer's output to out."""
    item, size = job.itemsize, job.out_size
    for i in range(chunk.together):
        source = chunk.source + item * (chunk.first_step * chunk.step + i * chunk.sequence)
        target = job.out + item * (in_out(job, chunk.n + i) + (chunk.t + chunk.first_step) * job.out_step)
        if chunk.step == size == job.out_step:
            copy_bytes(source, target, item * size * chunk.own_steps)
        else:
            for t in range(chunk.own_steps):
                copy_bytes(source + item * t * chunk.step, target + item * t * job.out_step, item * size)


@inline
def next_block(job, chunk, first):
    if job.claim:
        invoke(job.claim, layer_at(job.layers), job, chunk)
    else:
        chunk.n = 0 if first else chunk.n + job.block


@inline
def run_chunk(job, chunk):
    """Run all layers over the chunk, and pass on what comes out."""
    chunk.source = job.x + job.itemsize * (in_x(job, chunk.n) + chunk.t * job.x_step)
    chunk.step, chunk.sequence, chunk.state = job.x_step, job.x_sequence, job.states
    chunk.input_rows, chunk.output_rows = job.rows, job.rows + job.itemsize * job.buffer
    walk(job, chunk)
    if chunk.members == 0:
        return
    share_steps(chunk)  # anew: helpers may have left in the last layer
    last = layer_at(job.layers + (job.depth - 1) * LAYER_BYTES)
    if job.sink:
        invoke(job.sink, last, job, chunk)
    elif job.out_size:
        store(job, chunk)
    if job.barrier and (chunk.t + chunk.span < job.steps or chunk.n + job.block < job.count):
        invoke(job.barrier, last, job, chunk)  # the next chunk overwrites what is stored from


@operation(JOB)
def run(job):
    chunk = chunk_at(address_of(job) + JOB_BYTES)
    next_block(job, chunk, True)
    while chunk.n < job.count:
        chunk.together, chunk.t = min(job.block, job.count - chunk.n), 0
        while chunk.t < job.steps:
            chunk.span = min(job.chunk, job.steps - chunk.t)
            if job.trim:
                invoke(job.trim, layer_at(job.layers), job, chunk)
                if chunk.together == 0:
                    break
            run_chunk(job, chunk)
            if chunk.members == 0:
                return
            chunk.t += chunk.span
        next_block(job, chunk, False)


@function
def take_job(plan, space, x, out, states):
    """Copy a job to the front of this thread's workspace, because other threads may use the original, too; fill in where the data is."""
    job, chunk = job_at(space), chunk_at(space + JOB_BYTES)
    copy_bytes(plan, space, JOB_SIZE)
    job.x, job.out, job.states, job.rows = job.x + x, job.out + out, job.states + states, space + HEAD_BYTES
    chunk.member, chunk.members, chunk.generation = 0, 1, 0
    return job, chunk


@operation(RUN_SERIAL)
def run_serial(call):
    mode = enter_usual_mode()
    job, _ = take_job(call.job, call.space, call.x, call.out, call.states)
    invoke_one(job.run, job)
    restore_mode(mode)
