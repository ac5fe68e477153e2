"""Layers that are used once: packed and run in one kernel call."""

from .float_mode import enter_usual_mode, restore_mode
from .layout import HEAD_BYTES
from .network import JOB_SIZE, LAYER_BYTES, take_job
from .options import function, operation
from .records import MATRIX, PACK_AND_RUN, address_of, copy_bytes, fresh_pack, invoke_one, layer_at, matrix_at, word

FIRST, MATRIX_BYTES = PACK_AND_RUN.fields.offsets["first_matrix"], 8 * MATRIX.fields.words


@function
def aligned(address):
    return (address + 63) // 64 * 64


@operation(PACK_AND_RUN)
def pack_and_run(call):
    # job     the job; its layers' records, whose addresses count from the panels' first byte; the matrices' records
    # space   receives the layers, the panels, and the rows
    mode = enter_usual_mode()
    job, _ = take_job(call.job, call.space, call.x, call.out, call.states)
    size = job.depth * LAYER_BYTES
    job.layers = call.space + HEAD_BYTES
    panels = aligned(job.layers + size)
    job.rows = aligned(panels + job.packed)
    copy_bytes(call.job + JOB_SIZE, job.layers, size)
    for i in range(job.depth):
        layer = layer_at(job.layers + i * LAYER_BYTES)
        layer.weight, layer.weight_hh, layer.weight_hr = layer.weight + panels, layer.weight_hh + panels, layer.weight_hr + panels
        layer.bias, layer.vector_hh = layer.bias + panels, layer.vector_hh + panels
    pack = fresh_pack()
    pack.panels = panels
    for i in range(job.matrices):
        pack.matrix, pack.weight = call.job + JOB_SIZE + size + i * MATRIX_BYTES, word(address_of(call), FIRST + i)
        invoke_one(matrix_at(pack.matrix).function, pack)
    invoke_one(job.run, job)
    restore_mode(mode)
