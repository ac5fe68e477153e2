"""Records for kernels: 64-bit words in memory, read and written by the names that layout.py gives them."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, lower_setattr_generic, models, register_model

from . import layout

WORD = ir.IntType(64)


class Record(types.Type):
    """The Numba type of a record's address."""

    def __init__(self, fields):
        self.fields = fields
        super().__init__(name=fields.name)


@register_model(Record)
class RecordModel(models.PrimitiveModel):
    """A pointer to words."""

    def __init__(self, manager, record):
        super().__init__(manager, record, WORD.as_pointer())


@infer_getattr
class RecordFields(AttributeTemplate):
    """Every field is an integer."""

    key = Record

    def generic_resolve(self, record, name):
        return types.int64 if name in record.fields.offsets else None


def _place(builder, record, value, name):
    return builder.gep(value, [ir.Constant(WORD, record.fields.offsets[name])], inbounds=True)


@lower_getattr_generic(Record)
def _read(context, builder, record, value, name):
    return builder.load(_place(builder, record, value, name))


@lower_setattr_generic(Record)
def _write(context, builder, signature, args, name):
    record, kind = signature.args
    builder.store(context.cast(builder, args[1], kind, types.int64), _place(builder, record, args[0], name))


def _at_address(record):
    @intrinsic
    def at_address(typing, address):
        return record(types.int64), lambda context, builder, signature, args: builder.inttoptr(args[0], WORD.as_pointer())

    return at_address


def _fresh(record):
    @intrinsic
    def fresh(typing):
        def emit(context, builder, signature, args):
            return cgutils.alloca_once(builder, WORD, size=record.fields.words)

        return record(), emit

    return fresh


LAYER, JOB, CHUNK, FACTORS, MATRIX, GENERATION = map(
    Record, (layout.LAYER, layout.JOB, layout.CHUNK, layout.FACTORS, layout.MATRIX, layout.GENERATION)
)
RUN_SERIAL, RUN_SHARED, PACK_AND_RUN, PACK = map(Record, (layout.RUN_SERIAL, layout.RUN_SHARED, layout.PACK_AND_RUN, layout.PACK))
BANK, STEP_ROWS, MOVE_ROWS = map(Record, (layout.BANK, layout.STEP_ROWS, layout.MOVE_ROWS))
PYTHON, ARRAY, CALL_SPEC, ARGUMENTS = map(Record, (layout.PYTHON, layout.ARRAY, layout.CALL_SPEC, layout.ARGUMENTS))
ADVANCE, ADVANCE_ROWS = map(Record, (layout.ADVANCE, layout.ADVANCE_ROWS))
POOL, TEAM, WORKER, LOCK, TOKEN = map(Record, (layout.POOL, layout.TEAM, layout.WORKER, layout.LOCK, layout.TOKEN))
layer_at, job_at, chunk_at, matrix_at, generation_at, pool_at, team_at = map(
    _at_address, (LAYER, JOB, CHUNK, MATRIX, GENERATION, POOL, TEAM)
)
bank_at, python_at, array_at, call_spec_at, lock_at = map(_at_address, (BANK, PYTHON, ARRAY, CALL_SPEC, LOCK))
advance_at, advance_rows_at = map(_at_address, (ADVANCE, ADVANCE_ROWS))
# Each makes a record on the caller's stack. Only functions that are declared `inline` may return one.
fresh_factors, fresh_pack, fresh_run_serial, fresh_run_shared, fresh_step_rows, fresh_arguments, fresh_token = map(
    _fresh, (FACTORS, PACK, RUN_SERIAL, RUN_SHARED, STEP_ROWS, ARGUMENTS, TOKEN)
)


@intrinsic
def address_of(typing, pointer):
    """Return the address of a record or a pointer as an integer."""
    return types.int64(pointer), lambda context, builder, signature, args: builder.ptrtoint(args[0], WORD)


@intrinsic
def word(typing, address, index):
    """Read word `index` from an address on."""

    def emit(context, builder, signature, args):
        return builder.load(builder.gep(builder.inttoptr(args[0], WORD.as_pointer()), [args[1]], inbounds=True))

    return types.int64(types.int64, types.int64), emit


@intrinsic
def put_word(typing, address, index, value):
    """Write word `index` from an address on."""

    def emit(context, builder, signature, args):
        builder.store(args[2], builder.gep(builder.inttoptr(args[0], WORD.as_pointer()), [args[1]], inbounds=True))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def byte(typing, address, index):
    """Read byte `index` from an address on."""

    def emit(context, builder, signature, args):
        place = builder.gep(builder.inttoptr(args[0], ir.IntType(8).as_pointer()), [args[1]], inbounds=True)
        return builder.zext(builder.load(place), WORD)

    return types.int64(types.int64, types.int64), emit


@intrinsic
def as_double(typing, bits):
    """Read a word's bits as a double."""
    return types.float64(types.int64), lambda context, builder, signature, args: builder.bitcast(args[0], ir.DoubleType())


@intrinsic
def copy_bytes(typing, source, target, count):
    """Copy `count` bytes from one address to another."""

    def emit(context, builder, signature, args):
        start, end = (builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in args[:2])
        cgutils.raw_memcpy(builder, end, start, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def clear_bytes(typing, address, count):
    """Set `count` bytes from an address on to zero."""

    def emit(context, builder, signature, args):
        cgutils.memset(builder, builder.inttoptr(args[0], ir.IntType(8).as_pointer()), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


def _emit_call(context, builder, signature, args):
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in args[1:]])
    builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
    return context.get_dummy_value()


# Operations are called by address, so that they are not compiled into their callers.


@intrinsic
def invoke(typing, address, layer, job, chunk):
    """Call an operation that works on a chunk of a layer."""
    return types.void(types.int64, LAYER, JOB, CHUNK), _emit_call


@intrinsic
def invoke_one(typing, address, record):
    """Call an operation that takes one record."""
    return types.void(types.int64, record), _emit_call


@intrinsic
def invoke_activation(typing, address, values, count, parameters):
    """Call an activation on `count` elements from an address on."""
    return types.void(types.int64, types.int64, types.int64, types.int64), _emit_call
