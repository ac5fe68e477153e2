"""Models inside functions that Numba compiles: a step, or a whole run, without Python.

>>> import numba
>>> import numpy as np
>>> import fastrnn.jit
>>> rng = np.random.default_rng(0)
>>> gru = fastrnn.GRU(*[rng.uniform(-0.3, 0.3, shape) for shape in ((24, 2), (24, 8), (24,))])
>>> model = fastrnn.Sequential(gru, fastrnn.Dense(rng.uniform(-0.3, 0.3, (1, 8))))
>>> @numba.njit
... def controlled(net, steps):
...     position, observed, action, state = 0.0, np.zeros(2), np.zeros(1), (np.zeros(8),)
...     for _ in range(steps):
...         fastrnn.jit.step(net, observed, state, action)  # fills action, advances state
...         position += 0.1 * (action[0] - position)
...         observed[0], observed[1] = position, 1.0
...     return position
>>> round(controlled(model.jit(), 100), 3)
0.009

Pass a net as an argument. A global, or a variable of an enclosing function, would put this process's addresses into the compiled code,
which would crash another process; so it is refused. Compiled functions may be cached, run without Python's lock, in `prange`, and on
several threads: every call has memory of its own, and runs on the calling thread. If a compiled function raises, Numba frees nothing that
the function holds: neither arrays nor the net.
"""

import functools
import zlib
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import NumbaTypeError, TypingError
from numba.core.typing.typeof import Purpose
from numba.extending import NativeValue, box, intrinsic, models, overload, register_jitable, register_model, typeof_impl, unbox

from .arguments import Array, check_causal
from .kernels import layout
from .kernels.layout import HEAD_BYTES, JOB, TOGETHER
from .native import machine_code

# A net is an array of 64-bit words: these fields, then the size of each array of its state, then a job (the record of a kernel call).
VERSION, INPUT, OUTPUT, ARRAYS, WIDEST, ROWS, SIZES = range(7)
WORDS = JOB.words
# A digest of the fields' positions, which cached compiled code contains: it must be the same when the code is called.
INTERFACE = zlib.crc32(repr((JOB.names, HEAD_BYTES, TOGETHER, SIZES, 1)).encode())
SIZE_OFFSETS = tuple([JOB.offsets[name] for name in layout.JOB_SIZES])
OTHER = "net must come from the fastrnn that this function was compiled with; compile it anew"


class Words(np.ndarray):
    """The words of a net. They hold addresses of the model's memory, so they also hold the model."""

    model: Any


class Net:
    """A model as compiled functions take it. Made by the method `jit` of a layer or a model.

    Attributes
    ----------
    model : layer or Sequential

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> net = fastrnn.RNN(np.eye(2), np.eye(2)).jit()
    >>> net
    Net(RNN(input_size=2, hidden_size=2, bias=None, nonlinearity='tanh', dtype=float64))
    """

    def __init__(self, model: Any) -> None:
        check_causal("compiled functions", model.causal, model)
        network = model.packed()
        sizes = [INTERFACE, network.input_size, network.output_size, len(network.states), network.widest, network.rows, *network.states]
        job = network.job(function=machine_code.address("run_serial"))
        self.words = np.concatenate([np.array(sizes, np.int64), job]).view(Words)
        self.words.model = self.model = model
        form = model.state_form.join(iter(range(len(network.states))))  # a state as users pass it, with a number in place of each array
        self.type = NetType(network.dtype.name, network.tokens, form)

    def __reduce__(self) -> tuple[Any, ...]:
        return Net, (self.model,)

    def __repr__(self) -> str:
        return f"Net({self.model!r})"


class NetType(types.Type):
    """Numba's type of a net: its dtype, whether it reads tokens, and the form of its state, with a number in place of each array."""

    def __init__(self, dtype: str, tokens: bool, form: Any) -> None:
        self.dtype, self.tokens, self.form = types.float32 if dtype == "float32" else types.float64, tokens, form
        super().__init__(name=f"fastrnn.Net({dtype}, tokens={tokens}, state={form})")


@typeof_impl.register(Net)
def type_of_net(net: Net, c: Any) -> NetType:
    if c.purpose is Purpose.constant:
        raise NumbaTypeError("a net must be an argument of a compiled function, got a global or a variable of an enclosing function")
    return net.type


WORDS_TYPE = types.Array(types.int64, 1, "C")


@register_model(NetType)
class NetModel(models.StructModel):
    def __init__(self, manager: Any, kind: NetType) -> None:
        super().__init__(manager, kind, [("words", WORDS_TYPE)])


@unbox(NetType)
def unbox_net(kind: NetType, net: Any, c: Any) -> NativeValue:
    words = c.pyapi.object_getattr_string(net, "words")
    native_words = c.unbox(WORDS_TYPE, words)
    c.pyapi.decref(words)
    value = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    value.words = native_words.value
    return NativeValue(value._getvalue(), is_error=native_words.is_error, cleanup=native_words.cleanup)


@box(NetType)
def box_net(kind: NetType, value: Any, c: Any) -> Any:
    words = c.box(WORDS_TYPE, cgutils.create_struct_proxy(kind)(c.context, c.builder, value).words)
    function = c.pyapi.unserialize(c.pyapi.serialize_object(net_of))
    net = c.pyapi.call_function_objargs(function, [words])
    c.pyapi.decref(function)
    c.pyapi.decref(words)
    return net


def net_of(words: Any) -> Net:
    """Return the net whose words compiled code has returned."""
    return Net(words.model)


@intrinsic
def words_of(context, net):
    """Return a net's words."""

    def generate(context, builder, signature, arguments):
        words = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).words
        context.nrt.incref(builder, WORDS_TYPE, words)
        return words

    return WORDS_TYPE(net), generate


def leaves(kind: Any) -> list[Any]:
    """Return the leaves of a tuple of tuples, or of Numba's type of one, in a flat list."""
    if isinstance(kind, types.BaseTuple | tuple):
        return [leaf for one in kind for leaf in leaves(one)]
    return [kind]


def structure(kind: Any) -> Any:
    """Return the same nested tuples with 0 for each leaf."""
    return tuple(structure(one) for one in kind) if isinstance(kind, types.BaseTuple | tuple) else 0


@intrinsic
def flattened(context, state):
    """Return all arrays of a state in one flat tuple."""
    kinds = leaves(state)
    result = types.BaseTuple.from_types(kinds)

    def generate(context, builder, signature, arguments):
        def values(kind, value):
            if not isinstance(kind, types.BaseTuple):
                return [value]
            return [leaf for i, one in enumerate(kind) for leaf in values(one, builder.extract_value(value, i))]

        found = values(signature.args[0], arguments[0])
        for kind, value in zip(kinds, found, strict=True):
            context.nrt.incref(builder, kind, value)
        return context.make_tuple(builder, result, found)

    return result(state), generate


@intrinsic
def invoke(context, function, record):
    """Call an operation (a compiled function of the kernels) by its address. Its argument is a record of addresses."""
    count = len(record)

    def generate(context, builder, signature, arguments):
        function, addresses = arguments[0], [builder.extract_value(arguments[1], i) for i in range(count)]
        record = cgutils.alloca_once(builder, ir.IntType(64), size=len(addresses))
        for i, address in enumerate(addresses):
            builder.store(address, builder.gep(record, [ir.Constant(ir.IntType(64), i)]))
        kind = ir.FunctionType(ir.VoidType(), [record.type])
        builder.call(builder.inttoptr(function, kind.as_pointer()), [record])
        return context.get_dummy_value()

    return types.none(types.int64, types.UniTuple(types.int64, count)), generate


@intrinsic
def keep(context, arrays):
    """Keep arrays alive up to here. Numba frees an array after its last use, and a use of its address doesn't count."""
    return types.none(arrays), lambda context, builder, signature, arguments: context.get_dummy_value()


@intrinsic
def address_of(context, array):
    """Return the address of an array's first element."""

    def generate(context, builder, signature, arguments):
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), generate


def step(net: Any, x_t: Any, state: Any, out: Array) -> Array:
    """Advance a model by one time step, in compiled code. The output has the same bits as the model's call.

    Parameters
    ----------
    net : Net
        The result of the method `jit` of a layer or a model.
    x_t : ndarray of shape (input_size,) or (N, input_size); with an Embedding an integer, or integers of shape (N,)
        Numbers of any real dtype; converted to the model's.
    state : as the model takes it, of ndarray of shape (hidden_size,) or (N, hidden_size)
        Arrays of the model's dtype, C-contiguous. Advanced in place.
    out : ndarray of shape (output_size,) or (N, output_size)
        Receives the output: C-contiguous, of the model's dtype, sharing no memory with x_t or the state.

    Returns
    -------
    ndarray
        out.

    Raises
    ------
    numba.TypingError
        When the function is compiled: for arguments of another dtype, number of axes or layout, or a state of another structure.
    ValueError
        For arguments of another shape, tokens beyond the vocabulary, or an out that shares memory.
    RuntimeError
        If the function was compiled with an incompatible version of fastrnn.

    Examples
    --------
    >>> import numba, numpy as np, fastrnn.jit
    >>> counter = fastrnn.RNN(np.eye(1), np.eye(1), nonlinearity="identity")
    >>> @numba.njit
    ... def count(net, steps):
    ...     x_t, h, out = np.ones(1), np.zeros(1), np.empty(1)
    ...     for _ in range(steps):
    ...         fastrnn.jit.step(net, x_t, h, out)
    ...     return out[0]
    >>> count(counter.jit(), 7)
    7.0
    """
    axis = np.ndim(x_t) - (0 if net.type.tokens else 1)
    uncompiled(net, np.expand_dims(x_t, axis), state, out[..., np.newaxis, :])
    return out


def forward(net: Any, x: Any, state: Any, out: Array) -> Array:
    """Run a model over whole sequences, in compiled code. Every step's output is written, whatever the model's return_sequences.

    The outputs have the same bits as the model's call.

    Parameters
    ----------
    net : Net
        The result of the method `jit` of a layer or a model.
    x : ndarray of shape (T, input_size) or (N, T, input_size); with an Embedding integers of shape (T,) or (N, T)
        Numbers of any real dtype; converted to the model's.
    state : as the model takes it, of ndarray of shape (hidden_size,) or (N, hidden_size)
        Arrays of the model's dtype, C-contiguous. Advanced in place.
    out : ndarray of shape (T, output_size) or (N, T, output_size)
        Receives the output: C-contiguous, of the model's dtype, sharing no memory with x or the state.

    Returns
    -------
    ndarray
        out.

    Raises
    ------
    numba.TypingError, ValueError, RuntimeError
        As for `step`.

    Examples
    --------
    >>> import numba, numpy as np, fastrnn.jit
    >>> counter = fastrnn.RNN(np.eye(1), np.eye(1), nonlinearity="identity")
    >>> @numba.njit
    ... def counted(net, x):
    ...     return fastrnn.jit.forward(net, x, np.zeros(1), np.empty((len(x), 1)))
    >>> counted(counter.jit(), np.ones((3, 1)))[:, 0]
    array([1., 2., 3.])
    """
    uncompiled(net, x, state, out)
    return out


def uncompiled(net: Net, x: Any, state: Any, out: Array) -> None:
    """Do the work of `step` and `forward` in functions that aren't compiled, as under NUMBA_DISABLE_JIT."""
    stream = net.model.stream(state if leaves(state) else None)
    output = stream(x)
    if out.shape != output.shape or out.dtype != output.dtype:
        raise ValueError(f"out must have shape {output.shape} and dtype {output.dtype}, got {out.shape} and {out.dtype}")
    states = list(zip(leaves(state), leaves(stream.state), strict=True))
    if any(given.dtype != new.dtype for given, new in states):
        raise ValueError(f"state must hold {output.dtype}, got {[given.dtype for given, _ in states]}")
    out[...] = output
    for given, new in states:
        given[...] = new


@overload(step)
def compiled_step(net, x_t, state, out):
    run = register_jitable(compiled(net, "x_t", x_t, state, out, 0))
    return lambda net, x_t, state, out: run(net, x_t, state, out)


@overload(forward)
def compiled_forward(net, x, state, out):
    return compiled(net, "x", x, state, out, 1)


def is_right(kind: Any, dtype: Any, axes: int) -> bool:
    """Return whether a Numba type is an array of a dtype and a number of axes that a kernel can write to."""
    right = isinstance(kind, types.Array) and kind.dtype == dtype and kind.layout == "C"
    return right and kind.ndim == axes and kind.mutable and kind.aligned


def check_types(net: Any, name: str, x: Any, state: Any, out: Any, time: int) -> int:
    """Check what is known when a call is compiled, and return the number of leading axes. `time` is 1 for sequences, 0 for a step."""
    if not isinstance(net, NetType):
        raise TypingError(f"net must be what model.jit() gives, got {net}")
    arrays, dtype = leaves(state), net.dtype
    forms = [net.form] if not isinstance(net.form, tuple) or len(net.form) != 1 else [net.form, net.form[0]]
    if structure(state) not in map(structure, forms):
        raise TypingError(f"state must be put together as {net.form}, a number for each array, got {state}")
    first = arrays[0] if arrays else out
    leading = getattr(first, "ndim", 1) - 1 - (0 if arrays else time)
    if leading not in (0, 1) or not all(is_right(array, dtype, leading + 1) for array in arrays):
        raise TypingError(f"state must be of writable C-contiguous arrays of {dtype} with 1 or 2 axes, got {state}")
    if not is_right(out, dtype, leading + time + 1):
        raise TypingError(f"out must be a writable C-contiguous array of {dtype} with {leading + time + 1} axes, got {out}")
    if net.tokens:
        axes, numbers, wanted = leading + time, types.Integer, "integers, the tokens of an Embedding"
    else:
        axes, numbers, wanted = leading + time + 1, types.Number, f"numbers with {leading + time + 1} axes"
    kind = x.dtype if isinstance(x, types.Array) else x
    real = isinstance(kind, numbers | types.Boolean if numbers is types.Number else numbers) and not isinstance(kind, types.Complex)
    if getattr(x, "ndim", 0) != axes or not real:
        raise TypingError(f"{name} must be {wanted}, got {x}")
    return leading


@register_jitable
def read_in_place(x):
    return x


@register_jitable
def read_token(x):
    tokens = np.empty(1, np.int64)
    tokens[0] = x
    return tokens


def reader_of(kind: Any, dtype: Any) -> Any:
    """Return a compiled function that returns an array C-contiguous and in a dtype. `kind` is Numba's type of the array."""
    if kind.layout == "C" and kind.dtype == dtype:
        return read_in_place
    number = np.dtype(str(dtype)).type

    @register_jitable
    def read(x):
        return np.ascontiguousarray(x).astype(number)

    return read


@intrinsic
def extent_of(context, array):
    """Return the address of an array's lowest byte, and the address after its highest byte, whatever its strides."""

    def generate(context, builder, signature, arguments):
        parts = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
        first = last = builder.ptrtoint(parts.data, ir.IntType(64))
        nothing = ir.IntType(64)(0)
        for length, stride in zip(cgutils.unpack_tuple(builder, parts.shape), cgutils.unpack_tuple(builder, parts.strides), strict=True):
            reach = builder.mul(builder.sub(length, ir.IntType(64)(1)), stride)
            backwards = builder.icmp_signed("<", reach, nothing)
            first = builder.add(first, builder.select(backwards, reach, nothing))
            last = builder.add(last, builder.select(backwards, nothing, reach))
        return context.make_tuple(builder, signature.return_type, [first, builder.add(last, parts.itemsize)])

    return types.UniTuple(types.int64, 2)(array), generate


@register_jitable
def no_overlap(out, array):
    """Return whether two arrays share no memory: the ranges from the lowest to the highest byte are compared."""
    (first, end), (start, stop) = extent_of(out), extent_of(array)
    return end <= start or stop <= first or out.size == 0 or array.size == 0


@register_jitable
def rows_for(steps, sequences, most):
    """Return the number of sequences to run side by side, and the number of rows of a layer's workspace, at most `most`."""
    block = max(1, min(sequences, TOGETHER, most // 2))
    return block, max(2 * block, min(most, block * (steps + 1)))


job_sizes = register_jitable(layout.job_sizes)


@register_jitable
def size_job(job, sizes):
    """Write the sizes of a call into its job. `sizes` are the arguments of `job_sizes`."""
    fields = job_sizes(*sizes)
    for i in range(len(SIZE_OFFSETS)):
        job[SIZE_OFFSETS[i]] = fields[i]


@intrinsic
def copy(context, to, source, size):
    """Copy `size` bytes between addresses. Assigning slices would double a call's code: it can fail, with an error text of its own."""

    def generate(context, builder, signature, arguments):
        to, source, size = arguments
        kind = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(builder, builder.inttoptr(to, kind), builder.inttoptr(source, kind), size, 1)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), generate


@register_jitable
def total(words, count):
    """Return the sum of the sizes of a state's first `count` arrays."""
    sizes = 0
    for i in range(count):
        sizes += words[SIZES + i]
    return sizes


@register_jitable
def move_nothing(words, arrays, states, sequences, out, back):  # for a state without arrays
    pass


WRONG_STATE = (
    "state must have arrays of shape (..., hidden_size) as net has them, one row for each sequence, which share no memory with out"
)


@functools.cache  # compiled once for `step` and `forward`
def move_states(visible: tuple[int, ...], leading: int) -> Any:
    """Return a compiled function that copies a state's arrays, one after the other, to an address; or back, with `back`.

    `visible` are the numbers of the arrays that users pass, among all arrays of the network's state.
    """

    @register_jitable
    def move(words, arrays, states, sequences, out, back):
        for i in range(len(visible)):
            array, size = arrays[i], words[SIZES + visible[i]]
            place = states + out.itemsize * sequences * total(words, visible[i])
            if back:
                copy(address_of(array), place, array.nbytes)
                continue
            if array.shape[-1] != size or (leading and array.shape[0] != sequences) or not no_overlap(out, array):
                raise ValueError(WRONG_STATE)
            copy(place, address_of(array), array.nbytes)

    return move


def compiled(net: Any, name: str, x: Any, state: Any, out: Any, time: int) -> Any:
    """Return the function that Numba compiles for a call. It checks arguments, fills in a job, and calls one operation by its address."""
    leading = check_types(net, name, x, state, out, time)
    visible, tokens, item = tuple(leaves(net.form)), net.tokens, net.dtype.bitwidth // 8
    is_array = isinstance(x, types.Array)
    read = reader_of(x, types.int64 if tokens else net.dtype) if is_array else read_token
    move = move_states(visible, leading) if visible else move_nothing
    wrong_x = f"{name} must have shape (..., input_size) as net has it, with as many sequences as the state"
    wrong_token = f"{name} must hold tokens from 0 to net's input_size - 1"
    wrong_out = f"out must have the shape of {name}, but with net's output_size last, and share no memory with it"

    def run(net, x, state, out):
        words, arrays, data = words_of(net), flattened(state), read(x)
        if words[VERSION] != INTERFACE:
            raise RuntimeError(OTHER)
        inputs, outputs = 1 if tokens else words[INPUT], words[OUTPUT]
        sequences = out.shape[0] if leading else 1
        steps = out.shape[leading] if time else 1
        if data.size != sequences * steps * inputs or (not tokens and data.shape[-1] != inputs) or (leading and data.shape[0] != sequences):
            raise ValueError(wrong_x)
        if tokens:
            for token in data.flat:
                if not 0 <= token < words[INPUT]:
                    raise ValueError(wrong_token)
        if out.shape[-1] != outputs:
            raise ValueError(wrong_out)
        if is_array and not no_overlap(out, x):
            raise ValueError(wrong_out)
        block, rows = rows_for(steps, sequences, words[ROWS])
        count = sequences * total(words, words[ARRAYS])
        room = (HEAD_BYTES + 2 * rows * words[WIDEST] * item + 64) // 8
        buffer = np.empty(WORDS + count + room, np.int64)
        for i in range(count):
            buffer[WORDS + i] = 0
        begin = address_of(buffer)
        states = begin + 8 * WORDS
        move(words, arrays, states, sequences, out, False)
        if sequences and steps:
            job = SIZES + words[ARRAYS]
            for i in range(WORDS):
                buffer[i] = words[job + i]
            size_job(buffer, (steps, sequences, inputs, outputs, block, rows, words[WIDEST]))
            space = (states + 8 * count + 63) // 64 * 64
            invoke(buffer[0], (begin, space, address_of(data), address_of(out), states))
            move(words, arrays, states, sequences, out, True)
            keep((buffer, data))
        return out

    return run
