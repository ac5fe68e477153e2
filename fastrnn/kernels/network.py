"""A whole network, chunk by chunk: each layer works on the rows its predecessor has left in cache."""

from .elementary import activate
from .elman import recur
from .jit import function, inline, kernel
from .product import product
from .softmax import softmax
from .tile import ahead, copy, pointer

DENSE, ELMAN = range(2)

# A layer is one row of integers.
FIELDS = ("kind", "input_size", "output_size", "columns", "stride", "activation", "half", "weight", "weight_hh", "bias")
KIND, INPUT_SIZE, OUTPUT_SIZE, COLUMNS, STRIDE, ACTIVATION, HALF, WEIGHT, WEIGHT_HH, BIAS = range(len(FIELDS))

TOGETHER = 64  # sequences stepped side by side, so that weights are read once for them all

SOFTMAX, LOG_SOFTMAX = 4, 5  # after elementary's activations


@function
def copy_rows(source, stride, target, target_stride, rows, size):
    for row in range(rows):
        copy(ahead(source, row * stride), ahead(target, row * target_stride), size)


@inline
def project(layer, weights, x, x_step, steps, x_sequence, sequences, rows):
    # x (sequences, steps, I)            read only
    # rows (steps, sequences, columns)   receive x_t @ weight.T + bias
    size, columns, stride = layer[INPUT_SIZE], layer[COLUMNS], layer[STRIDE]
    weight, bias = ahead(weights, layer[WEIGHT]), ahead(weights, layer[BIAS])
    still = 0 * size  # the bias is every row's start; a literal 0 would compile product again
    if steps >= sequences:
        outer, inner, x_outer, x_inner, outer_stride, inner_stride = sequences, steps, x_sequence, x_step, stride, sequences * stride
    else:
        outer, inner, x_outer, x_inner, outer_stride, inner_stride = steps, sequences, x_step, x_sequence, sequences * stride, stride
    for i in range(outer):
        product(
            ahead(x, i * x_outer), x_inner, inner, size, size, weight, columns, bias, still, ahead(rows, i * outer_stride), inner_stride
        )


@kernel
def run(layers, weights, states, x, x_at, x_sequence, out, out_at, out_sequence, workspace, total, first, count, steps):
    # layers (L, FIELDS)     read only
    # weights                every layer's packed weights and biases; read only
    # states                 for each recurrent layer (total, H): sequences first to first + count are advanced
    # x                      (count, steps, I) from x_at, sequences x_sequence elements apart; read only
    # out                    (count, steps, O) from out_at, sequences out_sequence elements apart; receives the last layer's output
    # workspace              scratch for two layers' rows, two rows each at least
    last = len(layers) - 1
    widest = 0
    for layer in layers:
        widest = max(widest, layer[STRIDE])
    buffer = workspace.size // 2
    capacity = buffer // widest
    block = min(count, capacity // 2, TOGETHER)
    chunk = min(steps, capacity // block - 1)
    packed, here, there = pointer(weights), pointer(workspace), ahead(pointer(workspace), buffer)
    for n in range(0, count, block):
        together = min(block, count - n)
        for t in range(0, steps, chunk):
            span = min(chunk, steps - t)
            state = ahead(pointer(states), 0)
            source, step, sequence = ahead(pointer(x), x_at + n * x_sequence + t * layers[0, INPUT_SIZE]), layers[0, INPUT_SIZE], x_sequence
            for index in range(last + 1):
                layer = layers[index]
                size, stride, activation = layer[OUTPUT_SIZE], layer[STRIDE], layer[ACTIVATION]
                recurrent = layer[KIND] == ELMAN
                rows = ahead(there, together * stride) if recurrent else there
                project(layer, packed, source, step, span, sequence, together, rows)
                if recurrent:
                    current = ahead(state, (first + n) * size)
                    copy_rows(current, size, there, stride, together, size)
                    recur(there, stride, together, span, size, layer[HALF], ahead(packed, layer[WEIGHT_HH]), layer[COLUMNS], activation)
                    copy_rows(ahead(there, span * together * stride), stride, current, size, together, size)
                    state = ahead(state, total * size)
                elif activation == SOFTMAX or activation == LOG_SOFTMAX:
                    softmax(there, stride, together * span, size, activation == LOG_SOFTMAX)
                else:
                    activate(there, together * span * stride, activation)
                source, step, sequence = rows, together * stride, stride
                here, there = there, here
            size = layers[last, OUTPUT_SIZE]
            for i in range(together):
                target = ahead(pointer(out), out_at + (n + i) * out_sequence + t * size)
                copy_rows(ahead(source, i * sequence), step, target, size, span, size)
