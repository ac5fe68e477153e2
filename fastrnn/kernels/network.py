"""A whole network, chunk by chunk: each layer works on the rows its predecessor has left in cache."""

from .elementary import activate
from .elman import recur
from .jit import function, kernel
from .product import product
from .softmax import softmax

DENSE, ELMAN = range(2)

# A layer is one row of integers.
FIELDS = ("kind", "input_size", "output_size", "columns", "stride", "activation", "half", "weight", "weight_hh", "bias")
KIND, INPUT_SIZE, OUTPUT_SIZE, COLUMNS, STRIDE, ACTIVATION, HALF, WEIGHT, WEIGHT_HH, BIAS = range(len(FIELDS))

TOGETHER = 64  # sequences stepped side by side, so that weights are read once for them all

SOFTMAX, LOG_SOFTMAX = 4, 5  # after elementary's activations


@function
def copy_rows(source, at, stride, out, out_at, out_stride, rows, size):
    for row in range(rows):
        for i in range(size):
            out[out_at + row * out_stride + i] = source[at + row * stride + i]


@function
def project(layer, weights, x, x_at, x_step, steps, x_sequence, sequences, rows, at):
    # x (sequences, steps, I)            from x_at; read only
    # rows (steps, sequences, columns)   from `at`; receive x_t @ weight.T + bias
    size, columns, stride = layer[INPUT_SIZE], layer[COLUMNS], layer[STRIDE]
    still = 0 * size  # the bias is every row's start; a literal 0 would compile product again
    if steps >= sequences:
        outer, inner, x_outer, x_inner, outer_stride, inner_stride = sequences, steps, x_sequence, x_step, stride, sequences * stride
    else:
        outer, inner, x_outer, x_inner, outer_stride, inner_stride = steps, sequences, x_step, x_sequence, sequences * stride, stride
    for i in range(outer):
        product(
            x, x_at + i * x_outer, x_inner, inner, size, size, weights, layer[WEIGHT], columns,
            weights, layer[BIAS], still, rows, at + i * outer_stride, inner_stride,
        )  # fmt: skip


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
    here, there = 0 * buffer, buffer  # a literal 0 would compile project again
    capacity = buffer // widest
    block = min(count, capacity // 2, TOGETHER)
    chunk = min(steps, capacity // block - 1)
    for n in range(0, count, block):
        together = min(block, count - n)
        for t in range(0, steps, chunk):
            span = min(chunk, steps - t)
            state_at = 0
            for index in range(last + 1):
                layer = layers[index]
                size, stride, activation = layer[OUTPUT_SIZE], layer[STRIDE], layer[ACTIVATION]
                rows_at = there + together * stride if layer[KIND] == ELMAN else there
                if index == 0:
                    x_from = x_at + n * x_sequence + t * layer[INPUT_SIZE]
                    project(layer, weights, x, x_from, layer[INPUT_SIZE], span, x_sequence, together, workspace, rows_at)
                else:
                    below = layers[index - 1, STRIDE]
                    project(layer, weights, workspace, here, together * below, span, below, together, workspace, rows_at)
                if layer[KIND] == ELMAN:
                    state = state_at + (first + n) * size
                    copy_rows(states, state, size, workspace, there, stride, together, size)
                    recur(
                        workspace, there, stride, together, span, size, layer[HALF], weights, layer[WEIGHT_HH], layer[COLUMNS], activation
                    )
                    copy_rows(workspace, there + span * together * stride, stride, states, state, size, together, size)
                    state_at += total * size
                elif activation == SOFTMAX or activation == LOG_SOFTMAX:
                    softmax(workspace, there, stride, together * span, size, activation == LOG_SOFTMAX)
                else:
                    activate(workspace, there, together * span * stride, activation)
                here, there = rows_at, 0 if there else buffer
            size, stride = layers[last, OUTPUT_SIZE], layers[last, STRIDE]
            for sequence in range(together):
                copy_rows(
                    workspace, here + sequence * stride, together * stride,
                    out, out_at + (n + sequence) * out_sequence + t * size, size, span, size,
                )  # fmt: skip
