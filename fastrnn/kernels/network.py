"""A whole network, chunk by chunk: each layer works on the rows its predecessor has left in cache."""

from .choice import NOTHING, draw, likeliest
from .elementary import activate
from .elman import recur
from .jit import function, inline, kernel
from .product import embed, product, within
from .softmax import softmax
from .tile import ahead, copy, element, pointer

DENSE, ELMAN = range(2)

# A layer is one row of integers.
FIELDS = ("kind", "input_size", "output_size", "columns", "stride", "activation", "half", "weight", "weight_hh", "bias")
KIND, INPUT_SIZE, OUTPUT_SIZE, COLUMNS, STRIDE, ACTIVATION, HALF, WEIGHT, WEIGHT_HH, BIAS = range(len(FIELDS))

TOGETHER = 64  # sequences stepped side by side, so that weights are read once for them all

SOFTMAX, LOG_SOFTMAX, SCORE = 4, 5, 6  # after elementary's activations; a score is the logarithm of softmax at the next token

# The rows of `ragged`
IN_X, IN_OUT, LENGTH = range(3)

# What `feedback` holds, with the uniform random numbers (total, steps) last
FEEDBACK, TEMPERATURE, TOP_K, STOP, UNIFORMS = range(5)
ARGMAX, SAMPLE, OUTPUT = range(3)


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


@inline
def stopped(feedback, tokens, at, column):
    """Whether a generated token is the one to stop at."""
    return tokens.size > 0 and column > 0 and tokens[at] == feedback[STOP]


@kernel
def run(
    layers, weights, states, x, tokens, x_at, x_sequence, ragged, feedback, out, out_at, out_sequence, workspace, total, first, count, steps
):
    # layers (L, FIELDS)     read only
    # weights                every layer's packed weights and biases; read only
    # states                 for each recurrent layer (total, H): sequences first to first + count are advanced
    # x                      (count, steps, I) from x_at, sequences x_sequence elements apart; read only but for feedback
    # tokens                 instead of x: (count, steps); empty where x is given; read only but for feedback
    # ragged                 (3, count) where sequences differ in length, longest first, else empty: where each is in x or
    #                        tokens, where in out and states, and its length
    # feedback               settings and random numbers where the output of a step is the next one's input: it is written behind
    #                        the last input, for which x or tokens has room. Else None: what generates is compiled when it is needed
    # out                    (total, steps, O) from out_at, sequences out_sequence elements apart; receives the last layer's output,
    #                        or where that is a score, (total, steps); may be empty
    # workspace              scratch for two layers' rows, two rows each at least
    last = len(layers) - 1
    widest = layers[0, INPUT_SIZE] if ragged.size and not tokens.size else 0
    for layer in layers:
        widest = max(widest, layer[STRIDE])
    buffer = workspace.size // 2
    capacity = buffer // widest
    block = min(count, capacity // 2, TOGETHER)
    chunk = min(steps, capacity // block - 1)
    begun = 0
    if feedback is not None:
        chunk, begun = 1, x_at % x_sequence
    inputs = 1 if tokens.size else layers[0, INPUT_SIZE]
    packed, here, there = pointer(weights), pointer(workspace), ahead(pointer(workspace), buffer)
    for n in range(0, count, block):
        together = min(block, count - n)
        t = 0
        while t < steps:
            end = steps
            if ragged.size:
                while together > 0 and ragged[LENGTH, n + together - 1] <= t:
                    together -= 1
                if together == 0:
                    break
                end = ragged[LENGTH, n + together - 1]
            span = min(chunk, end - t)
            state = ahead(pointer(states), 0)
            source, step, sequence = ahead(pointer(x), x_at + n * x_sequence + t * inputs), inputs, x_sequence
            if ragged.size and not tokens.size:
                for i in range(together):
                    copy_rows(
                        ahead(pointer(x), x_at + ragged[IN_X, n + i] * x_sequence + t * inputs), inputs,
                        ahead(here, i * inputs), together * inputs, span, inputs,
                    )  # fmt: skip
                source, step, sequence = here, together * inputs, inputs
            for index in range(last + 1):
                layer = layers[index]
                size, stride, activation = layer[OUTPUT_SIZE], layer[STRIDE], layer[ACTIVATION]
                recurrent = layer[KIND] == ELMAN
                rows = ahead(there, together * stride) if recurrent else there
                if index == 0 and tokens.size:
                    for i in range(together):
                        token_at = x_at + (ragged[IN_X, n + i] if ragged.size else n + i) * x_sequence + t
                        for s in range(span):
                            embed(
                                ahead(packed, layer[WEIGHT]), ahead(packed, layer[BIAS]), layer[INPUT_SIZE], layer[COLUMNS],
                                tokens[token_at + s], ahead(rows, (s * together + i) * stride),
                            )  # fmt: skip
                else:
                    project(layer, packed, source, step, span, sequence, together, rows)
                if recurrent:
                    for i in range(together):
                        place = ragged[IN_OUT, n + i] if ragged.size else first + n + i
                        copy(ahead(state, place * size), ahead(there, i * stride), size)
                    recur(there, stride, together, span, size, layer[HALF], ahead(packed, layer[WEIGHT_HH]), layer[COLUMNS], activation)
                    for i in range(together):
                        place = ragged[IN_OUT, n + i] if ragged.size else first + n + i
                        if feedback is None or not stopped(feedback, tokens, x_at + (n + i) * x_sequence + t, begun + t):
                            copy(ahead(there, (span * together + i) * stride), ahead(state, place * size), size)
                    state = ahead(state, total * size)
                elif activation >= SOFTMAX:
                    softmax(there, stride, together * span, size, activation != SOFTMAX)
                else:
                    activate(there, together * span * stride, activation)
                source, step, sequence = rows, together * stride, stride
                here, there = there, here
            size = layers[last, OUTPUT_SIZE]
            if feedback is not None:
                for i in range(together):
                    at = x_at + (n + i) * x_sequence + t * inputs
                    row = ahead(source, i * sequence)
                    if feedback[FEEDBACK] == OUTPUT:
                        copy(row, ahead(pointer(x), at + inputs), size)
                    elif tokens[at] == NOTHING or stopped(feedback, tokens, at, begun + t):
                        tokens[at + 1] = tokens[at]
                    elif feedback[FEEDBACK] == ARGMAX:
                        tokens[at + 1] = likeliest(row, size)
                    else:
                        uniform = feedback[UNIFORMS + (first + n + i) * (x_sequence - 1) + begun + t]
                        tokens[at + 1] = draw(row, there, size, feedback[TEMPERATURE], int(feedback[TOP_K]), uniform)
            elif out.size:
                for i in range(together):
                    place = ragged[IN_OUT, n + i] if ragged.size else first + n + i
                    if layers[last, ACTIVATION] == SCORE:
                        token_at = x_at + (ragged[IN_X, n + i] if ragged.size else n + i) * x_sequence + t + 1
                        for s in range(span):
                            row = ahead(source, s * step + i * sequence)
                            out[out_at + place * out_sequence + t + s] = element(row, within(tokens[token_at + s], size))
                    else:
                        target = ahead(pointer(out), out_at + place * out_sequence + t * size)
                        copy_rows(ahead(source, i * sequence), step, target, size, span, size)
            t += span
