"""The built-ins that Python calls. They pass the addresses of arrays' data to an operation. `call` always releases Python's lock meanwhile,
the others where the call is long.

`call(job, *arrays)` checks nothing: all arguments must be arrays. `checked_call(spec, space, x, state, out, team)` takes the record of a
prepared call, a CallSpec. Where x, the state and out are what that call takes, it makes the arrays of the results and runs; else it returns
None. `advance(in_use, spec, space, states, first, x, out, reset)` makes a step in the same way, with states that it advances in place.
`advance_rows(in_use, spec, space, states, rows, x, at, out, reset_mask, team)` does it for rows of a bank.

`hold(in_use, function, *arguments)` calls a Python function. Of all calls that `hold`, `advance` and `advance_rows` make with one word
`in_use`, only one runs at a time: another gets a RuntimeError. The word is given back in machine code, so no Ctrl-C can skip it.

Python passes a built-in three words (METH_FASTCALL): a Python int that holds the address of the record Python, the address of the
arguments, and their count. An object is passed as its address. A job's first word is an operation's address.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .layout import ADVANCE, ADVANCE_ROWS, CALL_SPEC, LOCK, TOKEN
from .options import function, operation
from .records import (
    ARGUMENTS,
    WORD,
    address_of,
    advance_at,
    advance_rows_at,
    array_at,
    byte,
    call_spec_at,
    clear_bytes,
    copy_bytes,
    fresh_arguments,
    fresh_run_serial,
    fresh_run_shared,
    fresh_step_rows,
    fresh_token,
    invoke_one,
    lock_at,
    put_word,
    python_at,
    word,
)
from .threads.atomic import exchange, post

MOST_ARRAYS = ARGUMENTS.fields.words
INT = ir.IntType(32)
LOW = (1 << 32) - 1  # an int of C in the lower half of a word
C_CONTIGUOUS, ALIGNED, WRITABLE = 0x1, 0x100, 0x400  # NumPy's flags
READABLE = C_CONTIGUOUS | ALIGNED
ELEMENTS, SIZES = 8 * CALL_SPEC.offsets["elements"], 8 * CALL_SPEC.words
GIVEN, GIVEN_ROWS = ADVANCE.words, ADVANCE_ROWS.words  # how many objects
TAKEN, OVERFLOW = LOCK.offsets["taken"], 8 * TOKEN.offsets["overflow"]


def _c_function(name, count, *, answers=True):
    """Return an intrinsic that calls a C function of Python with `count` words."""

    def emit(context, builder, signature, args):
        kind = ir.FunctionType(WORD if answers else ir.VoidType(), [WORD] * count)
        answer = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)
        return answer if answers else context.get_dummy_value()

    result = types.int64 if answers else types.void
    signature = result(*[types.int64] * count)
    # Numba reads how many arguments there are from the function's own signature
    typed = {
        0: lambda typing: (signature, emit),
        1: lambda typing, a: (signature, emit),
        2: lambda typing, a, b: (signature, emit),
        4: lambda typing, a, b, c, d: (signature, emit),
    }
    return intrinsic(typed[count])


record_of = _c_function("PyLong_AsVoidPtr", 1)
save_thread = _c_function("PyEval_SaveThread", 0)
restore_thread = _c_function("PyEval_RestoreThread", 1, answers=False)
incref = _c_function("Py_IncRef", 1, answers=False)
decref = _c_function("Py_DecRef", 1, answers=False)
new_tuple = _c_function("PyTuple_New", 1)
size_of_tuple = _c_function("PyTuple_Size", 1)
item_of_tuple = _c_function("PyTuple_GetItem", 2)
integer_of = _c_function("PyLong_AsLongLongAndOverflow", 2)
new_integer = _c_function("PyLong_FromLongLong", 1)
call_python = _c_function("PyObject_Vectorcall", 4)


@intrinsic
def put_item(typing, whole, index, item):
    """Put an object into a new tuple, which takes over the reference. In a new tuple this can't fail."""

    def emit(context, builder, signature, args):
        kind = ir.FunctionType(INT, [WORD] * 3)
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "PyTuple_SetItem"), args)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def refuse(typing, error, text, count):
    """Raise an error. Its text may have a place for the number of arguments."""

    def emit(context, builder, signature, args):
        kind = ir.FunctionType(WORD, [WORD] * 2, var_arg=True)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "PyErr_Format"), args)

    return types.int64(types.int64, types.int64, types.int64), emit


@intrinsic
def make_array(typing, function, kind, dtype, dimensions, sizes, data, flags):
    """Make a NumPy array, which takes over the reference to the dtype. `data` is the address of its elements; 0 allocates them."""

    def emit(context, builder, signature, args):
        address, kind, dtype, dimensions, sizes, data, flags = args
        whole = ir.FunctionType(WORD, [WORD, WORD, INT, WORD, WORD, WORD, INT, WORD])
        given = kind, dtype, builder.trunc(dimensions, INT), sizes, WORD(0), data, builder.trunc(flags, INT), WORD(0)
        return builder.call(builder.inttoptr(address, whole.as_pointer()), given)

    return types.int64(*[types.int64] * 7), emit


@intrinsic
def set_base(typing, function, array, base):
    """Set the object that owns a new array's data; the array takes over the reference. For a new array this can't fail."""

    def emit(context, builder, signature, args):
        kind = ir.FunctionType(INT, [WORD, WORD])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@function
def data_of(python, array):
    return array_at(array + python.type_at).data


@function
def run(arguments):
    invoke_one(word(arguments.job, 0), arguments)


@function
def run_unlocked(arguments):
    thread = save_thread()
    run(arguments)
    restore_thread(thread)


@function
def run_prepared(spec, handed):
    """Run a prepared call: with Python's lock if it is brief, else without."""
    if spec.brief:
        run(handed)
    else:
        run_unlocked(handed)


@function
def none(python):
    incref(python.none)
    return python.none


@operation(types.int64, types.int64, types.int64)
def call(own, objects, count):
    python = python_at(record_of(own))
    if not 1 <= count <= MOST_ARRAYS:
        return refuse(python.type_error, python.text_call, count)
    handed = fresh_arguments()
    for i in range(count):
        put_word(address_of(handed), i, data_of(python, word(objects, i)))
    run_unlocked(handed)
    return none(python)


@function
def is_array(python, one, dtype, sizes, dimensions):
    """Return whether an object is an array of a dtype and of these sizes that can be read in place."""
    array = array_at(one + python.type_at)
    if array.kind != python.array or array.dtype != dtype:
        return False
    if array.dimensions & LOW != dimensions or array.flags & READABLE != READABLE:
        return False
    for i in range(dimensions):
        if word(array.sizes, i) != word(sizes, i):
            return False
    return True


@function
def is_input(python, spec, x):
    """Return whether x can be read in place. Tokens must be in the vocabulary."""
    if not is_array(python, x, spec.x_dtype, address_of(spec) + SIZES, spec.x_dimensions):
        return False
    if spec.vocabulary:
        tokens = data_of(python, x)
        for i in range(spec.x_bytes // 8):
            if not 0 <= word(tokens, i) < spec.vocabulary:
                return False
    return True


@function
def item_of(spec, state, i):
    return item_of_tuple(state, i) if spec.states > 1 else state


@function
def is_state(python, spec, state, sizes, dimensions):
    """Return whether a state is None, or what the call takes: an array, or a tuple of arrays where `spec.states` is more than 1."""
    if state == python.none:
        return True
    if spec.states > 1 and (array_at(state + python.type_at).kind != python.tuple or size_of_tuple(state) != spec.states):
        return False
    for i in range(spec.states):
        if not is_array(python, item_of(spec, state, i), spec.dtype, sizes + 8 * dimensions * i, dimensions):
            return False
    return True


@function
def overlap(start, size, other_start, size_of_other):
    """Return whether some bytes of two pieces of memory are the same."""
    return start < other_start + size_of_other and other_start < start + size


@function
def is_out(python, spec, out, sizes, data, state):
    """Return whether `out` is None, or an array that can receive the output. `data` is where x is; x and the state are already checked."""
    if out == python.none:
        return True
    dimensions, state_sizes = spec.dimensions, sizes + 8 * spec.dimensions
    if not is_array(python, out, spec.dtype, sizes, dimensions) or not array_at(out + python.type_at).flags & WRITABLE:
        return False
    start = data_of(python, out)
    shared = overlap(start, spec.out_bytes, data, spec.x_bytes)
    if state != python.none:
        for i in range(spec.states):
            size = spec.unit_bytes * word(state_sizes, (dimensions - 1) * (i + 1) - 1)
            shared |= overlap(start, spec.out_bytes, data_of(python, item_of(spec, state, i)), size)
    return not shared


@function
def new_array(python, spec, sizes, dimensions):
    """Make an array of new memory: its address, 0 where there is none."""
    incref(spec.dtype)
    return make_array(python.new_array, python.array, spec.dtype, dimensions, sizes, 0, 0)


@function
def output_array(python, spec, out, sizes):
    """Return the array that receives the output, a new one where none is given; 0 where there is no memory."""
    if out == python.none:
        return new_array(python, spec, sizes, spec.dimensions)
    incref(out)
    return out


@function
def fill_states(python, spec, state, sizes, dimensions, flat):
    """Start all states, which lie one after the other: from a state, or from zeros."""
    to = data_of(python, flat)
    for i in range(spec.states):
        size = spec.unit_bytes * word(sizes, dimensions * (i + 1) - 1)
        if state == python.none:
            clear_bytes(to, size)
        else:
            copy_bytes(data_of(python, item_of(spec, state, i)), to, size)
        to += size


@function
def split_states(python, spec, sizes, dimensions, flat):
    """Return the states as Python gets them: one array, or a tuple of views of `flat`, whose reference is taken over."""
    if spec.states == 1 or not flat:
        return flat
    whole, data = new_tuple(spec.states), data_of(python, flat)
    for i in range(spec.states if whole else 0):
        own = sizes + 8 * dimensions * i
        incref(spec.dtype)
        view = make_array(python.new_array, python.array, spec.dtype, dimensions, own, data, READABLE | WRITABLE)
        if view:
            incref(flat)
            set_base(python.set_base, view, flat)
            data += spec.unit_bytes * word(own, dimensions - 1)
            put_item(whole, i, view)
        else:
            decref(whole)
            whole = 0
            break
    decref(flat)
    return whole


@function
def pair(first, second):
    """Return a tuple of two objects, whose references it takes over; 0 where one of them is 0 or there is no memory."""
    both = new_tuple(2) if first and second else 0
    if both:
        put_item(both, 0, first)
        put_item(both, 1, second)
    else:
        decref(first)
        decref(second)
    return both


@operation(types.int64, types.int64, types.int64)
def checked_call(own, objects, count):
    python = python_at(record_of(own))
    if count != 6:
        return refuse(python.type_error, python.text_checked_call, count)
    spec, x, state, out = call_spec_at(data_of(python, word(objects, 0))), word(objects, 2), word(objects, 3), word(objects, 4)
    dimensions, out_sizes = spec.dimensions, address_of(spec) + SIZES + 8 * spec.x_dimensions
    state_sizes = out_sizes + 8 * dimensions
    right = is_input(python, spec, x) and is_state(python, spec, state, state_sizes, dimensions - 1)
    if not right or not is_out(python, spec, out, out_sizes, data_of(python, x), state):
        return none(python)
    out = output_array(python, spec, out, out_sizes)
    if not out:
        return 0
    if spec.states == 1:
        flat = new_array(python, spec, state_sizes, dimensions - 1)
    else:
        flat = new_array(python, spec, address_of(spec) + ELEMENTS, 1)
    if flat:
        fill_states(python, spec, state, state_sizes, dimensions - 1, flat)
        handed = fresh_run_shared()
        handed.job, handed.space, handed.x = spec.job, data_of(python, word(objects, 1)), data_of(python, x)
        handed.out, handed.states, handed.team = data_of(python, out), data_of(python, flat), data_of(python, word(objects, 5))
        run_prepared(spec, handed)
    return pair(out, split_states(python, spec, state_sizes, dimensions - 1, flat))


@function
def take(lock):
    return exchange(lock, TAKEN, 0, 1)


@function
def give_back(lock):
    post(lock, TAKEN, 0)


@function
def input_address(python, spec, x, token):
    """Return the address of x's elements, 0 where x isn't what the call takes. A single token may be a Python int."""
    if spec.vocabulary and spec.x_dimensions == 0 and array_at(x + python.type_at).kind == python.int:
        token.value = integer_of(x, address_of(token) + OVERFLOW)
        return address_of(token) if 0 <= token.value < spec.vocabulary else 0
    return data_of(python, x) if is_input(python, spec, x) else 0


@function
def is_reset(python, spec, reset, sizes):
    """Return whether `reset` is None, a boolean for each sequence, or where there are no leading axes Python's True or False."""
    if reset == python.none:
        return True
    if spec.dimensions == 1 and (reset == python.true or reset == python.false):
        return True
    return is_array(python, reset, python.bool_dtype, sizes, spec.dimensions - 1)


@function
def restart(python, spec, reset, sizes, states, first):
    """Start the sequences that are reset anew: copy their states from `first`."""
    if reset == python.none or reset == python.false:
        return
    every, data, sequences = reset == python.true, data_of(python, reset), spec.sequences
    for i in range(spec.states):
        size = spec.unit_bytes // max(sequences, 1) * word(sizes, spec.dimensions * (i + 1) - 1)
        for n in range(sequences):
            if every or byte(data, n):
                copy_bytes(first + n * size, states + n * size, size)
        first += sequences * size
        states += sequences * size


@function
def advance_states(python, spec, given):
    """Make a step in place. Return its output, None where an argument isn't what the call takes, 0 for an error."""
    states, out, reset = data_of(python, given.states), given.out, given.reset
    token, sizes = fresh_token(), address_of(spec) + SIZES + 8 * spec.x_dimensions
    data = input_address(python, spec, given.x, token)
    if data == 0 or not is_reset(python, spec, reset, sizes) or not is_out(python, spec, out, sizes, data, python.none):
        return none(python)
    if out != python.none and array_at(reset + python.type_at).kind == python.array:
        if overlap(data_of(python, out), spec.out_bytes, data_of(python, reset), spec.sequences):
            return none(python)
    out = output_array(python, spec, out, sizes)
    if out:
        restart(python, spec, reset, sizes + 8 * spec.dimensions, states, data_of(python, given.first))
        handed = fresh_run_serial()
        handed.job, handed.space, handed.x = spec.job, data_of(python, given.space), data
        handed.out, handed.states = data_of(python, out), states
        run_prepared(spec, handed)
    return out


@operation(types.int64, types.int64, types.int64)
def advance(own, objects, count):
    python = python_at(record_of(own))
    if count != GIVEN:
        return refuse(python.type_error, python.text_advance, count)
    given = advance_at(objects)
    lock = lock_at(data_of(python, given.in_use))
    if not take(lock):
        return refuse(python.runtime_error, python.text_in_use, 0)
    out = advance_states(python, call_spec_at(data_of(python, given.spec)), given)
    give_back(lock)
    return out


@function
def advance_own_rows(python, spec, given):
    """Step rows of a bank: return the output, an integer that says where a wrong row stands, None where an argument isn't as spec."""
    x, out, rows = given.x, given.out, data_of(python, given.rows)
    sizes, count = address_of(spec) + SIZES + 8 * spec.x_dimensions, spec.sequences
    if not is_input(python, spec, x) or not is_array(python, given.at, python.int64_dtype, sizes, 1):
        return none(python)
    if not is_out(python, spec, out, sizes, data_of(python, x), python.none):
        return none(python)
    out = output_array(python, spec, out, sizes)
    if not out:
        return 0
    copy_bytes(data_of(python, given.at), rows, 8 * count)  # another thread may change the caller's array
    handed = fresh_step_rows()
    handed.job, handed.space, handed.x = spec.job, data_of(python, given.space), data_of(python, x)
    handed.out, handed.states, handed.reset_mask = data_of(python, out), data_of(python, given.states), data_of(python, given.reset_mask)
    handed.rows, handed.team = rows, data_of(python, given.team)
    run_prepared(spec, handed)
    wrong = word(rows, count)
    if wrong < 0:
        return out
    decref(out)
    return new_integer(wrong)


@operation(types.int64, types.int64, types.int64)
def advance_rows(own, objects, count):
    python = python_at(record_of(own))
    if count != GIVEN_ROWS:
        return refuse(python.type_error, python.text_advance_rows, count)
    given = advance_rows_at(objects)
    lock = lock_at(data_of(python, given.in_use))
    if not take(lock):
        return refuse(python.runtime_error, python.text_in_use, 0)
    out = advance_own_rows(python, call_spec_at(data_of(python, given.spec)), given)
    give_back(lock)
    return out


@operation(types.int64, types.int64, types.int64)
def hold(own, objects, count):
    python = python_at(record_of(own))
    if count < 2:
        return refuse(python.type_error, python.text_hold, count)
    lock = lock_at(data_of(python, word(objects, 0)))
    if not take(lock):
        return refuse(python.runtime_error, python.text_in_use, 0)
    result = call_python(word(objects, 1), objects + 16, count - 2, 0)
    give_back(lock)
    return result
