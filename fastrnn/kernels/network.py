"""A whole network, chunk by chunk: each layer works on the rows its predecessor has left in cache."""

from .choice import NOTHING, draw, likeliest
from .elementary import activate
from .elman import recur
from .jit import function, inline, kernel
from .product import embed, product, within
from .softmax import softmax
from .team import ARRAYS, CLOSED, MEETINGS, NEXT, PIECE, await_piece, enter, fetch_add, leave, linger, meet
from .tile import ROWS, ahead, at, copy, either, element, pointer, put

DENSE, ELMAN = range(2)

# A layer is one row of integers.
FIELDS = ("kind", "input_size", "output_size", "columns", "stride", "activation", "half", "weight", "weight_hh", "bias")
KIND, INPUT_SIZE, OUTPUT_SIZE, COLUMNS, STRIDE, ACTIVATION, HALF, WEIGHT, WEIGHT_HH, BIAS = range(len(FIELDS))

TOGETHER = 64  # sequences stepped side by side, so that weights are read once for them all

SOFTMAX, LOG_SOFTMAX, SCORE = 4, 5, 6  # after elementary's activations; a score is the logarithm of softmax at the next token

# The rows of what tells sequences apart
IN_X, IN_OUT, LENGTH = range(3)

# What `feedback` holds, with the uniform random numbers (total, steps) last
FEEDBACK, TEMPERATURE, TOP_K, STOP, UNIFORMS = range(5)
ARGMAX, SAMPLE, OUTPUT = range(3)


@function
def copy_rows(source, stride, target, target_stride, rows, size):
    if stride == target_stride == size:
        size, rows = rows * size, 1
    for row in range(rows):
        copy(ahead(source, row * stride), ahead(target, row * target_stride), size)


@inline
def project(x, x_step, steps, x_sequence, sequences, size, weight, columns, bias, rows, stride):
    # x (sequences, steps, I)            read only
    # rows (steps, sequences, columns)   receive x_t @ weight.T + bias
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
def stopped(feedback, tokens, by_token, at, column):
    """Whether a generated token is the one to stop at."""
    return by_token and column > 0 and element(tokens, at) == feedback[STOP]


@function
def share(steps, member, members):
    """The first of a member's steps, whole tiles of them but at the end, and how many there are."""
    size = (steps + members * ROWS - 1) // (members * ROWS) * ROWS
    first = min(member * size, steps)
    return first, min(size, steps - first)


@function
def read_piece(team):
    """What the leader said of a piece."""
    return (
        element(team, PIECE), element(team, PIECE + 1), element(team, PIECE + 2), element(team, PIECE + 3), element(team, PIECE + 4),
        element(team, PIECE + 5), element(team, PIECE + 6), element(team, PIECE + 7), element(team, PIECE + 8), element(team, PIECE + 9),
    )  # fmt: skip


@kernel
def run(
    x, tokens, out, layers, states, feedback, shared, buffer, out_sequence, helpers, by_steps,
    workspace, block, x_at, x_sequence, ragged, out_at, total, first, count, steps, number, helping,
):  # fmt: skip
    # x                      (count, steps, I) from x_at, sequences x_sequence elements apart; read only but for feedback
    # tokens                 instead of x: (count, steps); empty where x is given; read only but for feedback
    # out                    (total, steps, O) from out_at, sequences out_sequence elements apart; receives the last layer's output,
    #                        or where that is a score, (total, steps); may be empty
    # layers (L, FIELDS)     where weights and biases are addresses; read only
    # states                 for each recurrent layer (total, H): sequences first to first + count are advanced
    # feedback               settings and random numbers where the output of a step is the next one's input: it is written behind
    #                        the last input, for which x or tokens has room. Else None: what generates is compiled when it is needed
    # shared                 what a team meets at; from `ragged`, if that is not 0, (3, count): where each sequence is in x or tokens,
    #                        where in out and states, and its length, the longest of a block first
    # workspace              the address of scratch for two layers' rows, `buffer` elements each, two rows at least
    # block                  sequences stepped side by side, at most
    # helpers                how many other threads make the same call, `helping`, while the leader makes it for piece `number`: they
    #                        take blocks of sequences in turn on workspaces of their own, or by_steps all share in each block's rows;
    #                        what they know of a piece, x, tokens and out too, is in `shared`: the caller's arrays are his own again
    #                        when the call is over, while they linger; their `number` is how often the bell has been rung
    by_token, wanted, last = tokens.size > 0, out.size > 0, len(layers) - 1
    # here, for an array that the loop uses would be counted as referred to
    x, tokens, out, layers, states, team = pointer(x), pointer(tokens), pointer(out), pointer(layers), pointer(states), pointer(shared)
    members, member, rung, going = 1, 0, number, True
    if helping:
        number = 0
    while going:
        going = helping
        if helping:
            number = await_piece(team, number)
            if number == CLOSED:
                linger(team, rung)
                break
            place, block, x_at, x_sequence, ragged, out_at, total, first, count, steps = read_piece(team)
            workspace = place if by_steps else workspace
            x, tokens, out = at(element(team, ARRAYS), x), at(element(team, ARRAYS + 1), tokens), at(element(team, ARRAYS + 2), out)
            by_token, wanted = element(team, ARRAYS + 1) != 0, element(team, ARRAYS + 2) != 0
        if helpers:
            members, member = enter(team, number, helpers, by_steps, helping)
        if member == CLOSED:
            continue
        claimed, time = helpers > 0 and not by_steps, number * MEETINGS + 1
        inputs = 1 if by_token else element(layers, INPUT_SIZE)
        widest = element(layers, INPUT_SIZE) if ragged and not by_token else 0
        for index in range(last + 1):
            widest = max(widest, element(layers, index * len(FIELDS) + STRIDE))
        capacity = buffer // widest
        chunk = min(steps, capacity // block - 1)
        begun = 0
        if feedback is not None:
            chunk, begun = 1, x_at % x_sequence
        here = at(workspace, x)
        there = ahead(here, buffer)
        n = fetch_add(team, NEXT, block) if claimed else 0
        while n < count:
            together = min(block, count - n)
            t = 0
            while t < steps:
                stop = steps
                if ragged:
                    while together > 0 and either(team, ragged, LENGTH * count + n + together - 1, 0) <= t:
                        together -= 1
                    if together == 0:
                        break
                    stop = either(team, ragged, LENGTH * count + n + together - 1, 0)
                span = min(chunk, stop - t)
                mine, own = share(span, member, members)
                state = states
                source, step, sequence = ahead(x, x_at + n * x_sequence + t * inputs), inputs, x_sequence
                if ragged and not by_token:
                    for i in range(together):
                        x_place = x_at + either(team, ragged, IN_X * count + n + i, 0) * x_sequence
                        copy_rows(
                            ahead(x, x_place + (t + mine) * inputs), inputs,
                            ahead(here, (mine * together + i) * inputs), together * inputs, own, inputs,
                        )  # fmt: skip
                    source, step, sequence = here, together * inputs, inputs
                for index in range(last + 1):
                    layer = ahead(layers, index * len(FIELDS))
                    mine, own = share(span, member, members)
                    size, columns, stride = element(layer, OUTPUT_SIZE), element(layer, COLUMNS), element(layer, STRIDE)
                    activation, weight, bias = element(layer, ACTIVATION), at(element(layer, WEIGHT), here), at(element(layer, BIAS), here)
                    recurrent = element(layer, KIND) == ELMAN
                    rows = ahead(there, (mine * together + (together if recurrent else 0)) * stride)
                    if index == 0 and by_token:
                        for i in range(together):
                            token_at = x_at + either(team, ragged, IN_X * count + n + i, n + i) * x_sequence + t + mine
                            for s in range(own):
                                embed(
                                    weight, bias, element(layer, INPUT_SIZE), columns, element(tokens, token_at + s),
                                    ahead(rows, (s * together + i) * stride),
                                )  # fmt: skip
                    else:
                        project(
                            ahead(source, mine * step), step, own, sequence, together, element(layer, INPUT_SIZE), weight, columns, bias,
                            rows, stride,
                        )  # fmt: skip
                    if recurrent:
                        if member == 0:
                            for i in range(together):
                                target = either(team, ragged, IN_OUT * count + n + i, first + n + i)
                                copy(ahead(state, target * size), ahead(there, i * stride), size)
                        time, members = meet(team, member, members, time)
                        if members:
                            time, members = recur(
                                there, stride, together, span, size, element(layer, HALF), at(element(layer, WEIGHT_HH), here), columns,
                                activation, team, member, members, time,
                            )  # fmt: skip
                        if members == 0:
                            break
                        if member == 0:
                            for i in range(together):
                                target = either(team, ragged, IN_OUT * count + n + i, first + n + i)
                                if feedback is None or not stopped(feedback, tokens, by_token, x_at + (n + i) * x_sequence + t, begun + t):
                                    copy(ahead(there, (span * together + i) * stride), ahead(state, target * size), size)
                        state = ahead(state, total * size)
                        rows = ahead(there, together * stride)
                    else:
                        if activation >= SOFTMAX:
                            softmax(rows, stride, together * own, size, activation != SOFTMAX)
                        else:
                            activate(rows, together * own * stride, activation)
                        if index < last:  # the next layer overwrites what this one reads
                            time, members = meet(team, member, members, time)
                            if members == 0:
                                break
                        rows = there
                    source, step, sequence = rows, together * stride, stride
                    here, there = there, here
                if members == 0:
                    break
                mine, own = share(span, member, members)
                size = element(layers, last * len(FIELDS) + OUTPUT_SIZE)
                if feedback is not None:
                    for i in range(together):
                        token_at = x_at + (n + i) * x_sequence + t * inputs
                        row = ahead(source, i * sequence)
                        if feedback[FEEDBACK] == OUTPUT:
                            copy(row, ahead(x, token_at + inputs), size)
                        elif element(tokens, token_at) == NOTHING or stopped(feedback, tokens, by_token, token_at, begun + t):
                            put(tokens, token_at + 1, element(tokens, token_at))
                        elif feedback[FEEDBACK] == ARGMAX:
                            put(tokens, token_at + 1, likeliest(row, size))
                        else:
                            uniform = feedback[UNIFORMS + (first + n + i) * (x_sequence - 1) + begun + t]
                            put(tokens, token_at + 1, draw(row, there, size, feedback[TEMPERATURE], int(feedback[TOP_K]), uniform))
                elif wanted:
                    for i in range(together):
                        target = out_at + either(team, ragged, IN_OUT * count + n + i, first + n + i) * out_sequence
                        if element(layers, last * len(FIELDS) + ACTIVATION) == SCORE:
                            token_at = x_at + either(team, ragged, IN_X * count + n + i, n + i) * x_sequence + t + 1
                            for s in range(mine, mine + own):
                                row = ahead(source, s * step + i * sequence)
                                put(out, target + t + s, element(row, within(element(tokens, token_at + s), size)))
                        else:
                            copy_rows(
                                ahead(source, mine * step + i * sequence), step, ahead(out, target + (t + mine) * size), size,
                                own, size,
                            )  # fmt: skip
                time, members = meet(team, member, members, time)
                if members == 0:
                    break
                t += span
            if members == 0:
                break
            n = fetch_add(team, NEXT, block) if claimed else n + block
        if helpers:
            leave(team, by_steps, helping)
