"""The machine's limits, measured with the library's own tiles: multiply-adds a second, and bytes read a second from each cache."""

import concurrent.futures
import pathlib
import re
import threading
import time

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from bench.cases import DTYPES
from fastrnn.engine.packing import empty_aligned
from fastrnn.kernels.options import SHAPE
from fastrnn.kernels.simd.tile import ahead, elementwise, fma, lanes_of, load, store, zeros_like

CACHES = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")
ASSUMED = {"L1": 32 << 10, "L2": 512 << 10, "L3": 8 << 20}  # bytes, where the system doesn't tell
SPAN = 0.02  # seconds of one measurement
TAKES = 7  # measurements; the fastest counts

ROWS, VECTORS = SHAPE.rows, SHAPE.vectors

function = njit(nogil=True, fastmath=False, error_model="numpy")
grow = elementwise(lambda tile, factor: fma(tile, factor, factor))  # with 0.5 it tends to 1, so no value is subnormal and slow
merge = elementwise(lambda tile, other: tile.bits("or_", other))


@intrinsic
def pointer(typing, array):
    """The address of an array's first element."""

    def emit(context, builder, signature, args):
        return context.make_array(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), emit


@function
def multiply_add(buffer, factor, times):
    # buffer (ROWS * VECTORS * lanes,)   one tile of accumulators, as many as fit the registers; receives the sums
    stride = VECTORS * lanes_of(pointer(buffer))
    tile = load(pointer(buffer), stride, ROWS, VECTORS)
    for _ in range(times):
        tile = grow(tile, factor)
    store(pointer(buffer), stride, tile)


@function
def read(buffer, result, times):
    # buffer (size,)                     pairs of tiles; the whole buffer is read `times` times
    # result (ROWS * VECTORS * lanes,)   receives the bitwise or of all tiles; additions would be slower than L1: 314 GB/s against 362
    stride = VECTORS * lanes_of(pointer(buffer))
    tile = zeros_like(load(pointer(result), stride, ROWS, VECTORS))
    for _ in range(times):
        for at in range(0, buffer.size, 2 * ROWS * stride):
            tile = merge(tile, load(ahead(pointer(buffer), at), stride, ROWS, VECTORS))
            tile = merge(tile, load(ahead(pointer(buffer), at + ROWS * stride), stride, ROWS, VECTORS))
    store(pointer(result), stride, tile)


def rate(kernel, amount: float, arguments: list[tuple]) -> float:
    """Run the kernel on one thread for each tuple of arguments, at once. One pass does `amount`; return the sum a second."""

    def run(arguments: tuple, times: int) -> float:
        barrier.wait()
        start = time.perf_counter()
        kernel(*arguments, times)
        return time.perf_counter() - start

    barrier = threading.Barrier(len(arguments))
    kernel(*arguments[0], 1)  # compiles
    with concurrent.futures.ThreadPoolExecutor(len(arguments)) as pool:
        times = 1
        while max(pool.map(run, arguments, [times] * len(arguments))) < SPAN / 2:
            times *= 2
        takes = [max(pool.map(run, arguments, [times] * len(arguments))) for _ in range(TAKES)]
    return len(arguments) * amount * times / min(takes)


def cache_sizes() -> dict[str, int]:
    """The size of each level of data cache, in bytes."""
    sizes = dict(ASSUMED)
    for index in sorted(CACHES.glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        number = re.fullmatch(r"(\d+)K", size)
        if kind != "Instruction" and f"L{level}" in sizes and number:
            sizes[f"L{level}"] = int(number[1]) << 10
    return sizes


def aligned_zeros(count: int, size: int, dtype: str) -> list[np.ndarray]:
    """Make arrays of about `size` bytes each: whole pairs of tiles, and for size 0 one tile."""
    tile = ROWS * VECTORS * SHAPE.bits // 8
    arrays = [empty_aligned(max(1, size // tile // 2 * 2) * tile // np.dtype(dtype).itemsize, dtype) for _ in range(count)]
    for array in arrays:
        array[:] = 0
    return arrays


def peak_rates(threads: int) -> dict[str, float]:
    """Multiply-adds a second in each dtype, and bytes read a second from L1, L2 and L3. Buffers: half of L1, half of L2, eight times L2."""
    rates, sizes = {}, cache_sizes()
    for dtype in DTYPES:
        tiles = aligned_zeros(threads, 0, dtype)
        rates[f"FMA {dtype}"] = rate(multiply_add, tiles[0].size, [(tile, 0.5) for tile in tiles])
    for level, size in {"L1": sizes["L1"] // 2, "L2": sizes["L2"] // 2, "L3": 8 * sizes["L2"]}.items():
        buffers, results = aligned_zeros(threads, size, "float32"), aligned_zeros(threads, 0, "float32")
        rates[level] = rate(read, buffers[0].nbytes, list(zip(buffers, results, strict=True)))
    return rates
