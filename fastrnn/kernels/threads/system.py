"""What workers need of the operating system: sleep, and memory."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..layout import POOL
from ..options import PLATFORM, function
from ..records import WORD

INT32 = ir.IntType(32)
MUTEX, CONDITION = POOL.offsets["mutex"], POOL.offsets["condition"]


def _emit(builder, name, result, *arguments):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _of_pool(names, *words):
    """Return an intrinsic that calls a function of the system on fields of the pool. `names` are for POSIX and for Windows."""

    def emit(context, builder, signature, args):
        places = [builder.gep(args[0], [ir.Constant(WORD, word)]) for word in words]
        if PLATFORM.is_windows and len(words) == 2:
            _emit(builder, names[1], INT32, *places, INT32(-1), INT32(0))  # for any time, with an exclusive lock
        else:
            _emit(builder, names[PLATFORM.is_windows], ir.VoidType() if PLATFORM.is_windows else INT32, *places)
        return context.get_dummy_value()

    return intrinsic(lambda typing, pool: (types.void(pool), emit))


lock = _of_pool(("pthread_mutex_lock", "AcquireSRWLockExclusive"), MUTEX)
unlock = _of_pool(("pthread_mutex_unlock", "ReleaseSRWLockExclusive"), MUTEX)
wait = _of_pool(("pthread_cond_wait", "SleepConditionVariableSRW"), CONDITION, MUTEX)
notify_all = _of_pool(("pthread_cond_broadcast", "WakeAllConditionVariable"), CONDITION)


@function
def wake_all(pool):
    """Wake every worker that sleeps. No Python code runs between lock and unlock, so no signal's handler finds the lock taken."""
    lock(pool)
    pool.wakes += 1
    notify_all(pool)
    unlock(pool)


@intrinsic
def allocate(typing, size):
    """Return the address of `size` bytes from the system, or 0."""
    return types.int64(types.int64), lambda context, builder, signature, args: _emit(builder, "malloc", WORD, args[0])


@intrinsic
def release(typing, address):
    def emit(context, builder, signature, args):
        _emit(builder, "free", ir.VoidType(), args[0])
        return context.get_dummy_value()

    return types.void(types.int64), emit
