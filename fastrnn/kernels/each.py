"""Independent jobs, such as the two directions of a layer: each is run by one thread."""

from .layout import HEAD_BYTES, JOB_BYTES
from .network import JOB_SIZE, next_block
from .options import operation
from .records import JOB, address_of, chunk_at, copy_bytes, invoke_one, job_at


@operation(JOB)
def each(job):
    # layers   the jobs' records, `count` of them: threads claim them one by one
    # rows     of this thread: receives a job, its chunk, and then its rows
    chunk, own, own_chunk = chunk_at(address_of(job) + JOB_BYTES), job_at(job.rows), chunk_at(job.rows + JOB_BYTES)
    next_block(job, chunk, True)
    while chunk.n < job.count:
        copy_bytes(job.layers + chunk.n * JOB_SIZE, job.rows, JOB_SIZE)
        own.rows = job.rows + HEAD_BYTES
        own.team = job.team
        own_chunk.member, own_chunk.members, own_chunk.generation = 0, 1, 0
        invoke_one(own.run, own)
        next_block(job, chunk, False)
