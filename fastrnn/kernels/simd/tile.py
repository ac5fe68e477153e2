"""A SIMD tile type for Numba: rows x vectors of machine registers that a kernel computes with as one value.

LLVM keeps a tile's elements in registers, where it would keep an array's in memory. Every operation is elementwise or in one fixed
order, so an element's bits depend neither on the tile's shape nor on the registers' width.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from ..options import SHAPE

INT32 = ir.IntType(32)


class Tile(types.Type):
    """The Numba type of a tile."""

    def __init__(self, dtype, rows, vectors):
        self.dtype, self.rows, self.vectors = dtype, rows, vectors
        self.lanes = SHAPE.bits // dtype.bitwidth
        super().__init__(name=f"Tile({dtype}, {rows}x{vectors}x{self.lanes})")


@register_model(Tile)
class TileModel(models.PrimitiveModel):
    """A tile is an LLVM array of vectors, row by row."""

    def __init__(self, manager, tile):
        vector = ir.VectorType(manager.lookup(tile.dtype).get_value_type(), tile.lanes)
        super().__init__(manager, tile, ir.ArrayType(vector, tile.rows * tile.vectors))


class Vector:
    """One register while code is emitted: Python's operators on it emit LLVM instructions. A number stands for itself in every lane."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    @property
    def is_double(self):
        return self.value.type.element == ir.DoubleType()

    @property
    def integers(self):
        return ir.VectorType(ir.IntType(64 if self.is_double else 32), self.value.type.count)

    def operand(self, other):
        if isinstance(other, Vector):
            return other.value
        return ir.Constant(self.value.type, [other] * self.value.type.count)

    def _emit(self, instruction, other):
        return Vector(self.builder, getattr(self.builder, instruction)(self.value, self.operand(other)))

    def __add__(self, other):
        return self._emit("fadd", other)

    def __sub__(self, other):
        return self._emit("fsub", other)

    def __rsub__(self, number):
        return Vector(self.builder, self.operand(number))._emit("fsub", self)

    def __mul__(self, other):
        return self._emit("fmul", other)

    def __truediv__(self, other):
        return self._emit("fdiv", other)

    @property
    def scales(self):
        """Whether one instruction multiplies by a power of two, rounding once: AVX-512's."""
        return self.value.type.count == (8 if self.is_double else 16)

    def bits(self, instruction, other):
        """Apply an LLVM integer instruction to the bit patterns, and read the result as floats."""
        pattern = self.builder.bitcast(self.value, self.integers)
        if isinstance(other, Vector):
            other = self.builder.bitcast(other.value, self.integers)
        else:
            other = ir.Constant(self.integers, [other] * self.integers.count)
        return Vector(self.builder, self.builder.bitcast(getattr(self.builder, instruction)(pattern, other), self.value.type))


def fma(a, b, c):
    """a * b + c, rounded once."""
    kind = a.value.type
    name = f"llvm.fma.v{kind.count}f{64 if a.is_double else 32}"
    function = cgutils.get_or_insert_function(a.builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return Vector(a.builder, a.builder.call(function, [a.value, a.operand(b), a.operand(c)]))


def choose(a, comparison, b, yes, no):
    """Take yes in the lanes where the comparison holds, else no; nothing compares with NaN."""
    condition = a.builder.fcmp_ordered(comparison, a.value, a.operand(b))
    return Vector(a.builder, a.builder.select(condition, a.operand(yes), a.operand(no)))


def scale_unless(a, comparison, b, mantissa, exponent):
    """mantissa * 2^exponent, rounded once; 0 in the lanes where the comparison holds."""
    kind, double = a.value.type, a.is_double
    kept = a.builder.not_(a.builder.fcmp_ordered(comparison, a.value, a.operand(b)))
    lanes = ir.IntType(kind.count)
    name = f"llvm.x86.avx512.mask.scalef.p{'d' if double else 's'}.512"
    function = cgutils.get_or_insert_function(a.builder.module, ir.FunctionType(kind, [kind, kind, kind, lanes, INT32]), name)
    operands = [mantissa.value, exponent.value, a.operand(0.0), a.builder.bitcast(kept, lanes), INT32(4)]  # 4: rounds as all else does
    return Vector(a.builder, a.builder.call(function, operands))


def _splat(builder, scalar, lanes):
    kind = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(INT32, 0))
    return Vector(builder, builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)))


def _unpack(builder, value):
    return [Vector(builder, builder.extract_value(value, i)) for i in range(value.type.count)]


def _pack(context, builder, tile, vectors):
    value = ir.Constant(context.get_value_type(tile), ir.Undefined)
    for i, vector in enumerate(vectors):
        value = builder.insert_value(value, vector.value, i)
    return value


# A tile function's typing, by how many arguments it has; Numba takes no variable number of them. The first is a tile.
TYPED = {
    1: lambda emit: lambda typing, a: (a(a), emit),
    2: lambda emit: lambda typing, a, b: (a(a, b), emit),
    3: lambda emit: lambda typing, a, b, c: (a(a, b, c), emit),
    4: lambda emit: lambda typing, a, b, c, d: (a(a, b, c, d), emit),
    5: lambda emit: lambda typing, a, b, c, d, e: (a(a, b, c, d, e), emit),
}


def elementwise(function, *, operator=None):
    """Make an operation on tiles (or on a tile and scalars) from one on Vectors; a tile function where no operator is named."""

    def emit(context, builder, signature, args):
        tile, operands = signature.return_type, []
        for kind, value in zip(signature.args, args, strict=True):
            if isinstance(kind, Tile):
                operands.append(_unpack(builder, value))
            else:
                scalar = context.cast(builder, value, kind, tile.dtype)
                operands.append([_splat(builder, scalar, tile.lanes)] * (tile.rows * tile.vectors))
        return _pack(context, builder, tile, [function(*vectors) for vectors in zip(*operands, strict=True)])

    if operator is None:
        return intrinsic(TYPED[function.__code__.co_argcount](emit))

    @infer_global(operator)
    class OfTiles(AbstractTemplate):
        def generic(self, args, kws):
            if isinstance(args[0], Tile) and isinstance(args[1], (Tile, types.Float)):
                return signature(args[0], *args)

    lower_builtin(operator, Tile, Tile)(emit)
    lower_builtin(operator, Tile, types.Float)(emit)


elementwise(lambda a, b: a + b, operator=operator.add)
elementwise(lambda a, b: a - b, operator=operator.sub)
elementwise(lambda a, b: a * b, operator=operator.mul)
elementwise(lambda a, b: a / b, operator=operator.truediv)
maximum = elementwise(lambda a, b: choose(a, ">", b, a, b))


@intrinsic
def at(typing, address, pointer):
    """An address, as a pointer of the same kind as another."""
    return pointer(types.int64, pointer), lambda context, builder, signature, args: builder.inttoptr(args[0], args[1].type)


@intrinsic
def ahead(typing, pointer, elements):
    """The address so many elements further on."""
    return pointer(pointer, types.intp), lambda context, builder, signature, args: builder.gep(args[0], [args[1]], inbounds=True)


@intrinsic
def copy(typing, source, target, elements):
    """Copy so many elements."""

    def emit(context, builder, signature, args):
        cgutils.raw_memcpy(builder, args[1], args[0], args[2], context.get_abi_sizeof(context.get_value_type(source.dtype)))
        return context.get_dummy_value()

    return types.void(source, source, types.intp), emit


@intrinsic
def element(typing, pointer, index):
    """Read one element."""

    def emit(context, builder, signature, args):
        return builder.load(builder.gep(args[0], [args[1]], inbounds=True))

    return pointer.dtype(pointer, types.intp), emit


@intrinsic
def put(typing, pointer, index, value):
    """Write an element."""

    def emit(context, builder, signature, args):
        builder.store(context.cast(builder, args[2], value, pointer.dtype), builder.gep(args[0], [args[1]], inbounds=True))
        return context.get_dummy_value()

    return types.void(pointer, types.intp, value), emit


@intrinsic
def cut_off(typing, tile, count, otherwise):
    """A tile of one row that keeps so many first elements; the others become one number."""

    def emit(context, builder, signature, args):
        elements = context.get_constant(types.intp, tile.vectors * tile.lanes)
        count = builder.select(builder.icmp_signed("<", args[1], elements), args[1], elements)
        number = _splat(builder, context.cast(builder, args[2], otherwise, tile.dtype), tile.lanes)
        kept = []
        for i, vector in enumerate(_unpack(builder, args[0])):
            places = ir.Constant(vector.integers, [i * tile.lanes + lane for lane in range(tile.lanes)])
            counts = _splat(builder, context.cast(builder, count, types.intp, types.Integer.from_bitwidth(tile.dtype.bitwidth)), tile.lanes)
            kept.append(Vector(builder, builder.select(builder.icmp_signed("<", places, counts.value), vector.value, number.value)))
        return _pack(context, builder, tile, kept)

    return tile(tile, types.intp, otherwise), emit


def _vector_at(context, builder, tile, pointer, place):
    kind = context.get_value_type(tile).element
    return builder.bitcast(builder.gep(pointer, [place], inbounds=True), kind.as_pointer())


def _load_vector(context, builder, tile, pointer, place):
    vector = builder.load(_vector_at(context, builder, tile, pointer, place))
    vector.align = tile.dtype.bitwidth // 8
    return Vector(builder, vector)


def _places(builder, tile, stride):
    """Where a tile's vectors start, row by row."""
    for row in range(tile.rows):
        first = builder.mul(stride, ir.Constant(stride.type, row))
        for vector in range(tile.vectors):
            yield builder.add(first, ir.Constant(stride.type, vector * tile.lanes))


def _emit_step(context, builder, tile, sums, weights, x, x_stride):
    """Add the products of one row of a panel with a column of inputs."""
    column = [_load_vector(context, builder, tile, weights, ir.Constant(x_stride.type, v * tile.lanes)) for v in range(tile.vectors)]
    for row in range(tile.rows):
        place = builder.mul(x_stride, ir.Constant(x_stride.type, row))
        value = _splat(builder, builder.load(builder.gep(x, [place], inbounds=True)), tile.lanes)
        for v in range(tile.vectors):
            sums[row * tile.vectors + v] = fma(column[v], value, sums[row * tile.vectors + v])


def _emit_products(context, builder, tile, sums, weights, x, x_stride, rows):
    """Add the products of rows first to last, in that order, to the tile that `sums` points to."""
    first, last = rows
    width = ir.Constant(x_stride.type, tile.vectors * tile.lanes)
    with cgutils.for_range_slice(builder, first, last, ir.Constant(first.type, 1), first.type, inc=True) as (k, _):
        added = _unpack(builder, builder.load(sums))
        here = builder.gep(weights, [builder.mul(k, width)], inbounds=True)
        _emit_step(context, builder, tile, added, here, builder.gep(x, [k], inbounds=True), x_stride)
        builder.store(_pack(context, builder, tile, added), sums)


@intrinsic
def lanes_of(typing, pointer):
    """How many elements of a pointer's dtype a register holds."""
    lanes = SHAPE.bits // pointer.dtype.bitwidth
    return types.intp(pointer), lambda context, builder, signature, args: context.get_constant(types.intp, lanes)


@intrinsic(prefer_literal=True)
def load(typing, pointer, stride, rows, vectors):
    """Read a tile whose rows are `stride` elements apart."""
    return _load(Tile(pointer.dtype, rows.literal_value, vectors.literal_value), pointer, types.intp, rows, vectors)


@intrinsic(prefer_literal=True)
def load_elements(typing, pointer, elements):
    """Read a tile of one row of so many elements, however many registers they take."""
    return _load(Tile(pointer.dtype, 1, elements.literal_value * pointer.dtype.bitwidth // SHAPE.bits), pointer, elements)


def _load(tile, pointer, *kinds):
    def emit(context, builder, signature, args):
        stride = args[1] if tile.rows > 1 else ir.Constant(ir.IntType(64), 0)
        return _pack(
            context, builder, tile, [_load_vector(context, builder, tile, args[0], place) for place in _places(builder, tile, stride)]
        )

    return tile(pointer, *kinds), emit


@intrinsic
def load_square(typing, pointer, stride):
    """Read a tile of one vector a row and as many rows as a vector has elements."""
    return _load(Tile(pointer.dtype, SHAPE.bits // pointer.dtype.bitwidth, 1), pointer, types.intp)


@intrinsic
def store(typing, pointer, stride, tile):
    """Write a tile whose rows are `stride` elements apart."""

    def emit(context, builder, signature, args):
        for vector, place in zip(_unpack(builder, args[2]), _places(builder, tile, args[1]), strict=True):
            stored = builder.store(vector.value, _vector_at(context, builder, tile, args[0], place))
            stored.align = tile.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(pointer, types.intp, tile), emit


@intrinsic
def zeros_like(typing, tile):
    """A tile of zeros."""
    return tile(tile), lambda context, builder, signature, args: ir.Constant(context.get_value_type(tile), None)


@intrinsic
def splat_like(typing, tile, scalar):
    """A tile of one number."""

    def emit(context, builder, signature, args):
        number = context.cast(builder, args[1], scalar, tile.dtype)
        return _pack(context, builder, tile, [_splat(builder, number, tile.lanes)] * (tile.rows * tile.vectors))

    return tile(tile, scalar), emit


@intrinsic
def add_product(typing, tile, weights, x):
    """tile[0, v] + weights[v] * x[0]: a row of a panel of packed weights, as wide as the tile, times one input."""

    def emit(context, builder, signature, args):
        sums = _unpack(builder, args[0])
        _emit_step(context, builder, tile, sums, args[1], args[2], context.get_constant(types.intp, 0))
        return _pack(context, builder, tile, sums)

    return tile(tile, weights, x), emit


@intrinsic
def add_products(typing, tile, weights, x, first, last):
    """tile[0, v] + the sum over k from first to last, in that order, of weights[k * width + v] * x[k]."""

    def emit(context, builder, signature, args):
        sums = cgutils.alloca_once_value(builder, args[0])
        _emit_products(context, builder, tile, sums, args[1], args[2], context.get_constant(types.intp, 0), args[3:])
        return builder.load(sums)

    return tile(tile, weights, x, types.intp, types.intp), emit


@intrinsic
def tile_product(typing, tile, weights, x, x_stride, size, half):
    """Add the sum of the first `half` products to each row of a tile, and to that the sum of the rest, if there is one.

    The inner loop of every product: rows of a panel of packed weights, as wide as the tile, times columns of inputs. LLVM keeps the
    tile in registers.
    """

    def emit(context, builder, signature, args):
        start, weights, x, x_stride, size, half = args
        sums = cgutils.alloca_once_value(builder, start)
        _emit_products(context, builder, tile, sums, weights, x, x_stride, (context.get_constant(types.intp, 0), half))
        with builder.if_then(builder.icmp_signed("<", half, size)):
            rest = cgutils.alloca_once_value(builder, ir.Constant(start.type, None))
            _emit_products(context, builder, tile, rest, weights, x, x_stride, (half, size))
            added = [a + b for a, b in zip(_unpack(builder, builder.load(sums)), _unpack(builder, builder.load(rest)), strict=True)]
            builder.store(_pack(context, builder, tile, added), sums)
        return builder.load(sums)

    intp = types.intp
    return tile(tile, weights, x, intp, intp, intp), emit


@intrinsic
def transpose(typing, tile):
    """Transpose a square tile of one vector a row, in registers: halves, quarters and so on change places."""

    def emit(context, builder, signature, args):
        vectors, lanes = _unpack(builder, args[0]), tile.lanes
        distance = lanes // 2
        while distance:
            low = [i + (lanes if i & distance else 0) - (i & distance) for i in range(lanes)]
            for i in range(lanes):
                if not i & distance:
                    a, b = vectors[i], vectors[i + distance]
                    vectors[i], vectors[i + distance] = (
                        _interleaved(builder, a, b, low),
                        _interleaved(builder, a, b, [j + distance for j in low]),
                    )
            distance //= 2
        return _pack(context, builder, tile, vectors)

    return tile(tile), emit


def _interleaved(builder, a, b, places):
    return Vector(builder, builder.shuffle_vector(a.value, b.value, ir.Constant(ir.VectorType(INT32, len(places)), places)))


def _reduction(combine):
    """Fold a tile of one row into a scalar by halves: element i with i + n/2, then n/4, ...; the order does not depend on the lanes."""

    def typed(typing, tile):
        def emit(context, builder, signature, args):
            vectors = _unpack(builder, args[0])
            while len(vectors) > 1:
                half = len(vectors) // 2
                vectors = [combine(a, b) for a, b in zip(vectors[:half], vectors[half:], strict=True)]
            (vector,), lanes = vectors, tile.lanes
            while lanes > 1:
                lanes //= 2
                low, high = (
                    builder.shuffle_vector(
                        vector.value, vector.value, ir.Constant(ir.VectorType(INT32, lanes), list(range(first, first + lanes)))
                    )
                    for first in (0, lanes)
                )
                vector = combine(Vector(builder, low), Vector(builder, high))
            return builder.extract_element(vector.value, ir.Constant(INT32, 0))

        return tile.dtype(tile), emit

    return intrinsic(typed)


total = _reduction(lambda a, b: a + b)
largest = _reduction(lambda a, b: choose(a, ">", b, a, b))
