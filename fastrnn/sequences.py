"""Sequences: variable length, tokens, many-to-one, generation, encoder and decoder, likelihood.

The examples use one model of vectors and one model of tokens, which begins with an `Embedding`:

>>> import numpy as np
>>> import fastrnn
>>> rng = np.random.default_rng(0)
>>> T, I, H, O = 100, 32, 64, 10
>>> U, W, V, b = (rng.uniform(-0.1, 0.1, shape) for shape in [(H, I), (H, H), (O, H), (H,)])
>>> head = fastrnn.Dense(V, activation="softmax")
>>> model = fastrnn.Sequential(fastrnn.RNN(U, W, b), head)
>>> language = fastrnn.Sequential(fastrnn.Embedding.one_hot(O), fastrnn.RNN(U[:, :O], W, b), head)  # a vocabulary of O = 10 tokens

**Variable length.** `pad` puts sequences of different lengths into one batch, in any order. Steps past a sequence's end are not computed.

>>> sequences = [rng.random((length, I)) for length in (5, 90, 0, 31)]
>>> x, lengths = fastrnn.pad(sequences)                     # (4, 90, I) and (4,)
>>> probs, (h_n,) = model(x, lengths=lengths)               # (4, 90, O), zero past each end; (4, H), each after its own last step
>>> first, *others = fastrnn.unpad(probs, lengths)          # the inverse: (5, O), (90, O), (0, O), (31, O)
>>> bool((first == model(sequences[0])[0]).all())           # the same bits as alone
True

**Tokens.** With `Embedding.one_hot(V)` an integer stands for its one-hot vector. The vector is never made: the token selects a column of
`weight_ih`. With `Embedding(table)` it stands for a row of the table. Without an `Embedding` integers are numbers.

>>> tokens = rng.integers(O, size=(8, T))                   # or fastrnn.pad(lists of tokens)
>>> probs, state = language(tokens)                         # (8, T) -> (8, T, O): probabilities of each next token
>>> _, *layers = language.layers
>>> bool((probs == fastrnn.Sequential(*layers)(np.eye(O)[tokens])[0]).all())  # the same bits
True
>>> table = rng.uniform(-0.1, 0.1, (1000, I))               # rows of I numbers for 1,000 words
>>> words = rng.integers(1000, size=(8, T))
>>> probs, state = fastrnn.Sequential(fastrnn.Embedding(table), *model.layers)(words)
>>> bool((probs == model(table[words])[0]).all())           # the same bits
True

**Many-to-one.** With `return_sequences=False` only the last output of each sequence is computed and kept.

>>> last, _ = model(x, lengths=lengths, return_sequences=False)  # (4, O), zero where the length is 0
>>> bool((last[0] == first[-1]).all())
True

**Generation.** `generate` makes the model's output its next input: a token drawn from the probabilities, the likeliest token, or the
output vector itself. It reads its start first. So after a prompt it starts with the prompt's last token, and with the state before
that. The state comes out, and a later call continues with the last token that was written.

>>> _, state = language(tokens[:, :-1])                                                     # all but the last token
>>> written, state = fastrnn.generate(language, tokens[:, -1], 20, state, rng=0)            # (8, 20), after the prompt
>>> more, state = fastrnn.generate(language, written[:, -1], 20, state, rng=1, top_k=5, temperature=0.7)
>>> likeliest, _ = fastrnn.generate(language, 0, 20, feedback="argmax", stop=3)             # (20,), after token 0; 3 ends it
>>> written.shape, more.shape, likeliest.shape
((8, 20), (8, 20), (20,))

**Encoder and decoder.** The encoder's last state is the decoder's first state. Here are two Elman networks, small enough to write down.
They spell the letters of a word in alphabetical order. Each unit is a latch for one letter, 0 or 1. A letter that is read sets its latch.
A letter that is written clears it. The head prefers the first letter whose latch is set.

>>> letters, end = "abcdefghijklmnopqrstuvwxyz", 26
>>> keep, threshold, put = 40 * np.eye(26), np.full(26, -20.0), 40 * np.eye(26, 27)         # token 26, the end, is no letter
>>> latch = fastrnn.RNN(put, keep, threshold, nonlinearity="sigmoid")                       # s_t = sigmoid(40 (s_t-1 + x_t) - 20)
>>> clear = fastrnn.RNN(-put, keep, threshold, nonlinearity="sigmoid")                      # s_t = sigmoid(40 (s_t-1 - x_t) - 20)
>>> choose = fastrnn.Dense(np.diag(np.arange(27.0)[::-1])[:, :26], 0.5 * np.eye(27)[end])   # 26 for a, 1 for z, 0.5 for the end
>>> one_hot = fastrnn.Embedding.one_hot(27)
>>> encoder, decoder = fastrnn.Sequential(one_hot, latch), fastrnn.Sequential(one_hot, clear, choose)
>>> words = [[letters.index(letter) for letter in word] for word in ("mississippi", "queequeg", "moby")]
>>> x, lengths = fastrnn.pad(words)                                                         # (3, 11)
>>> _, s = encoder(x, lengths=lengths, return_sequences=False)                              # (3, 26)
>>> spelled, _ = fastrnn.generate(decoder, np.full(3, end), 11, s, feedback="argmax", stop=end)  # (3, 11)
>>> ["".join(letters[number] for number in row if number != end) for row in spelled]
['imps', 'egqu', 'bmoy']

**Likelihood.** `log_likelihood` multiplies the probabilities of the observed tokens. It keeps one number for each token, and nothing of
shape `(T, O)`.

>>> log_p = fastrnn.log_likelihood(language, tokens)                       # (8,): log P(x_2 .. x_T | x_1), natural, float64
>>> each = fastrnn.log_likelihood(language, tokens, per_step=True)         # (8, T - 1)
>>> bool(np.allclose(each.sum(axis=-1), log_p))
True
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .arguments import (
    ROW_ACTIVATIONS,
    Array,
    Sampling,
    Seed,
    State,
    as_array,
    as_integer,
    as_number,
    check_axes,
    check_causal,
    check_choice,
    check_lengths,
    check_model,
    check_tokens,
    other_as_array,
    to_pad,
)
from .engine.execute import Task, assign, run_network
from .engine.packing import Network
from .engine.progress import shown
from .engine.states import start_states
from .kernels.layout import GENERATION, NOTHING
from .native import machine_code

if TYPE_CHECKING:
    from .layers import Model

Feedback = Literal["sample", "argmax", "output"]

SINKS = {"argmax": "argmax", "sample": "sample", "output": "repeat"}


def pad(sequences: Sequence[ArrayLike]) -> tuple[Array, Array]:
    """Put sequences of different lengths into one array.

    Parameters
    ----------
    sequences : list of array_like of shape (T_i, I), or of integers of shape (T_i,)
        Vectors, or tokens; an empty sequence of tokens is an empty list among others.

    Returns
    -------
    x : ndarray of shape (N, T, I) or (N, T)
        T is the longest sequence's; zero past a sequence's end. If there is no sequence, the shape is (0, 0), as of tokens.
    lengths : ndarray of int of shape (N,)

    Raises
    ------
    TypeError
        If `sequences` is no list, or a sequence holds anything but real numbers.
    ValueError
        For sequences whose steps have different sizes.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.pad([[3, 1], [2], [5, 5, 5]])
    (array([[3, 1, 0],
           [2, 0, 0],
           [5, 5, 5]]), array([2, 1, 3]))
    """
    arrays = [as_array(f"sequences[{i}]", sequence) for i, sequence in enumerate(check_iterable(sequences))]
    own = check_padding(arrays)
    lengths = np.array([len(array) for array in arrays], np.int64)
    kinds = [array.dtype for array in arrays if array.shape != (0,)]  # the dtype of an empty list says nothing
    dtype = np.result_type(*kinds) if own else np.int64
    x = np.zeros((len(arrays), max(map(len, arrays), default=0), *own), dtype)
    for row, array in zip(x, arrays, strict=True):
        row[: len(array)] = array.reshape(len(array), *own)
    return x, lengths


def unpad(output: Array, lengths: ArrayLike) -> list[Array]:
    """Cut sequences out of one array: the inverse of `pad`.

    Parameters
    ----------
    output : ndarray of shape (..., T, O) or, with lengths of shape (...), (..., T)
    lengths : array_like of int of shape (...)

    Returns
    -------
    list of ndarray of shape (T_i, O) or (T_i,)
        Copies, in C order.

    Raises
    ------
    TypeError, ValueError
        For lengths of another dtype or shape, or beyond T.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.unpad(*fastrnn.pad([[3, 1], [2]]))
    [array([3, 1]), array([2])]
    """
    output, lengths = other_as_array("output", output), as_array("lengths", lengths)
    leading = output.shape[: lengths.ndim]
    check_unpad(output, lengths.ndim)
    valid = check_lengths(lengths, leading, output.shape[len(leading)])
    rows = (output[index] for index in np.ndindex(leading))
    return [row[:length].copy() for row, length in zip(rows, valid, strict=True)]


def log_likelihood(
    model: Model,
    tokens: ArrayLike,
    state: State = None,
    *,
    lengths: ArrayLike | None = None,
    per_step: bool = False,
    progress: bool = False,
) -> Any:
    """Score sequences by the chain rule: log P(x_2 .. x_T | x_1), the sum of log P(x_{t+1} | x_t .. x_1).

    The probabilities of tokens that were not observed are not kept: memory is one number of the model's dtype for each token.

    Parameters
    ----------
    model : Sequential
        Begins with an Embedding, and ends in a Dense with softmax or log_softmax over as many tokens as it reads.
    tokens : array_like of int of shape (..., T)
    state : as the model takes it, optional
        The state before the first step.
    lengths : array_like of int of shape (...), optional
        Tokens of each sequence; T where not given.
    per_step : bool
        Whether to return each step's term instead of their sum.
    progress : bool
        Whether to show a bar of the steps done, by tqdm (extra `progress`).

    Returns
    -------
    ndarray of shape (...), or with per_step (..., T - 1)
        Natural logarithms: the sums float64, the terms of the model's dtype and zero past a sequence's end. A sequence of
        no token or one scores 0.

    Raises
    ------
    TypeError, ValueError
        For a model without probabilities, and arguments of another dtype or shape.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> head = fastrnn.Dense(np.zeros((4, 3)), activation="softmax")
    >>> model = fastrnn.Sequential(fastrnn.Embedding.one_hot(4), fastrnn.RNN(np.zeros((3, 4)), np.zeros((3, 3))), head)
    >>> bool(fastrnn.log_likelihood(model, [0, 3, 2]) == 2 * np.log(1 / 4))
    True
    """
    check_causal("log_likelihood, which would score tokens that it has seen", check_model(model).causal, model)
    network = model.packed()
    check_reads_tokens("log_likelihood", network.tokens, model, network.input_size)
    check_probabilities("log_likelihood", network.activation in ROW_ACTIVATIONS, model)
    check_vocabulary("log_likelihood", network.input_size, network.output_size)
    data = check_tokens("tokens", as_array("tokens", tokens, pad=to_pad("tokens")), network.input_size, lengths=lengths)
    leading, steps = data.shape[:-2], data.shape[-2]
    flat, _, _ = start_states(network, model.state_form.split("state", state), leading, given="tokens", shape=data.shape[:-1])
    valid = None if lengths is None else np.maximum(check_lengths(lengths, leading, steps) - 1, 0)
    terms = np.zeros((*leading, max(steps - 1, 0)), network.dtype)
    task = Task(data, flat, terms, lengths=valid, further=1, sink="score")
    with shown(progress, terms.size):
        run_network(network.finished_by("log_softmax"), task)
    if per_step:
        return terms
    return np.array([exact_sum(row) for row in terms.reshape(math.prod(leading), terms.shape[-1])]).reshape(leading)[()]


def exact_sum(terms: Array) -> float:
    """Return the sum of terms that are not positive, rounded once: it depends neither on the padding nor on the batch."""
    try:
        return math.fsum(terms)
    except OverflowError:  # the sum is beyond float64
        return math.nan if any(map(math.isnan, terms)) else -math.inf


def generate(
    model: Model,
    start: ArrayLike,
    steps: int,
    state: State = None,
    *,
    feedback: Feedback = "sample",
    temperature: float = 1.0,
    top_k: int | None = None,
    rng: Seed = None,
    stop: int | None = None,
    progress: bool = False,
) -> tuple[Array, Any]:
    """Let a model go on by itself: the output of each step is the next one's input.

    Parameters
    ----------
    model : Sequential, or for feedback="output" a recurrent layer too
        Begins with an Embedding where tokens are fed back, and has none where the output is.
    start : array_like of int of shape (...), or with feedback="output" array_like of shape (..., input_size)
        The first input of each sequence, such as a prompt's last token; not repeated in the result.
    steps : int
        How many tokens or vectors to generate.
    state : as the model takes it, optional
        The state before the start is read, such as an encoder's last, or a model's after all but the last token of a prompt.
    feedback : {"sample", "argmax", "output"}
        What goes back: a token drawn from the model's probabilities, the likeliest token (of equal ones the lowest), or the
        output itself.
    temperature : float
        Logits are divided by it before a token is drawn: below 1 likely tokens become likelier.
    top_k : int, optional
        Draw from so many of the likeliest tokens only. Tokens rank by their logits; of equal logits the lowest token comes first.
    rng : numpy.random.Generator or seed, optional
        Sequence i, in C order, draws from the stream `rng.spawn(N)[i]`: `random(steps)`, one number for each step. The token is the
        first whose cumulated probability, in the order of tokens, exceeds the number.
    stop : int, optional
        The token that ends a sequence; what lies after it is that token again, and the state stays as it was.
    progress : bool
        Whether to show a bar of the steps done, by tqdm (extra `progress`).

    Returns
    -------
    generated : ndarray of int of shape (..., steps), or of shape (..., steps, output_size)
    state : as the model returns it
        It has seen all but the last of what was generated: from there, and from that state, the model goes on.

    Raises
    ------
    TypeError, ValueError
        For a model whose output can't be fed back so, arguments of another dtype or shape, and where the output is NaN.

    Notes
    -----
    Equal rows of the last layer's weight and bias give equal logits, bit for bit. Logits that differ by less than rounding are ordered
    by their rounded values: there float32 may choose another token than float64, as may `fastrnn.reference`, which sums in another
    order. That concerns the likeliest token, the last token that top_k lets in, and a number that falls on the border of two tokens.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> count = np.roll(np.eye(4), 1, axis=0)  # after token k comes k + 1, and after 3 again 0
    >>> rnn, head = fastrnn.RNN(count, np.zeros((4, 4))), fastrnn.Dense(np.eye(4), activation="softmax")
    >>> model = fastrnn.Sequential(fastrnn.Embedding.one_hot(4), rnn, head)
    >>> fastrnn.generate(model, 1, 6, feedback="argmax")[0]
    array([2, 3, 0, 1, 2, 3])
    """
    network = check_feeds_back(model, feedback)
    steps, temperature, top_k, stop = check_sampling(steps, temperature, top_k, stop, network.output_size, vectors=feedback == "output")
    first = check_start(start, network.input_size, vectors=feedback == "output")
    leading = first.shape[:-1]
    flat, views, _ = start_states(network, model.state_form.split("state", state), leading, given="start", shape=np.shape(start))
    tokens = feedback != "output"
    data = np.zeros((*leading, steps + 1, first.shape[-1]), network.x_dtype)
    assign(data[..., 0, :], first)
    limits = np.finfo(network.dtype)  # beyond them the kernel would see zero or infinity
    temperature = min(max(temperature, float(limits.tiny)), float(limits.max))
    uniforms = np.empty(0)
    if feedback == "sample":
        network = network.finished_by("identity")
        uniforms = np.array([stream.random(steps) for stream in check_rng(rng, math.prod(leading))])
    settings = GENERATION.filled(
        temperature=struct.unpack("q", struct.pack("d", temperature))[0],
        top_k=top_k,
        stop=NOTHING if stop is None else stop,
        uniforms=machine_code.address_of(uniforms),
        per_sequence=steps,
    )
    generation = settings if tokens else None
    with shown(progress, math.prod(leading) * steps):
        run_network(network, Task(data, flat, None, further=1, sink=SINKS[feedback], generation=generation))
    generated = data[..., 1:, :].copy()
    if tokens:
        generated = generated[..., 0]
        nothing_to_choose(generated == NOTHING)
    return generated, model.state_form.join(iter(views))


def check_feeds_back(model: Model, feedback: Feedback) -> Network:
    """Check that this feedback makes a model's output its next input. Return the network."""
    check_causal("generate", check_model(model).causal, model)
    network = model.packed()
    check_choice("feedback", feedback, tuple(SINKS))
    use = f"generate with feedback={feedback!r}"
    if feedback == "output":
        check_reads_numbers(use, not network.tokens, model)
    else:
        check_reads_tokens(use, network.tokens, model, network.input_size)
    if feedback == "sample":
        check_probabilities(use, network.activation in ROW_ACTIVATIONS, model)
    check_vocabulary(use, network.input_size, network.output_size)
    return network


def check_iterable(sequences: Any) -> Iterable[Any]:
    if not isinstance(sequences, Iterable):
        raise TypeError(f"sequences must be a list of sequences, got {type(sequences).__name__}")
    return sequences


def check_padding(arrays: Sequence[Array]) -> tuple[int, ...]:
    """Check sequences before they are padded, and return the shape of one step."""
    own: tuple[int, ...] | None = None
    for i, array in enumerate(arrays):
        if array.shape == (0,):
            continue
        if array.ndim != 2 and not (array.ndim == 1 and array.dtype.kind in "iu"):
            raise ValueError(f"sequences[{i}] must be vectors (T, I) or integers (T,), got {array.dtype} of shape {array.shape}")
        if own is not None and array.shape[1:] != own:
            raise ValueError(f"sequences[{i}] must have steps of shape {own} as those before it, got {array.shape[1:]}")
        own = array.shape[1:]
    return own or ()


def check_unpad(output: Array, axes: int) -> None:
    if output.ndim <= axes:
        raise ValueError(f"output must have more axes than lengths, got {output.ndim} and {axes}")


def check_reads_tokens(purpose: str, reads: bool, model: object, input_size: int) -> None:
    if not reads:
        remedy = f"make it Sequential(Embedding.one_hot({input_size}), ...)"
        raise ValueError(f"model must begin with an Embedding for {purpose}, got {model!r}; {remedy}")


def check_reads_numbers(purpose: str, reads: bool, model: object) -> None:
    if not reads:
        raise ValueError(f"model must have no Embedding for {purpose}, which makes vectors the next input, got {model!r}")


def check_probabilities(purpose: str, given: bool, model: object) -> None:
    if not given:
        needed = "a Dense layer with activation 'softmax' or 'log_softmax'"
        raise ValueError(f"model must end in {needed} for {purpose}, got {model!r}")


def check_vocabulary(purpose: str, input_size: int, output_size: int) -> None:
    if input_size != output_size:
        sizes = f"input_size={input_size} and output_size={output_size}"
        raise ValueError(f"model must have as many outputs as inputs for {purpose}, got {sizes}")


def check_start(value: ArrayLike, input_size: int, *, vectors: bool) -> Array:
    start = as_array("start", value)
    if not vectors:
        return check_tokens("start", start, input_size, axes=0, added=2)
    if start.shape[-1:] != (input_size,):
        raise ValueError(f"start must have shape (..., {input_size}) for feedback='output', got {start.shape}")
    check_axes("start", start, 1)
    return start


def check_sampling(steps: object, temperature: object, top_k: object, stop: object, vocabulary: int, *, vectors: bool) -> Sampling:
    count, divisor, most, end = as_integer(steps), as_number(temperature), as_integer(top_k), as_integer(stop)
    if count is None or count < 0:
        raise ValueError(f"steps must be an integer from 0 up, got {steps!r}")
    if divisor is None or not divisor > 0:
        raise ValueError(f"temperature must be positive, got {temperature!r}; for the likeliest token use feedback='argmax'")
    if top_k is not None and (most is None or not 0 < most <= vocabulary):
        raise ValueError(f"top_k must be an integer from 1 to {vocabulary}, got {top_k!r}")
    if stop is not None and vectors:
        raise ValueError(f"stop must be None for feedback='output', which generates no tokens, got {stop!r}")
    if stop is not None and (end is None or not 0 <= end < vocabulary):
        raise ValueError(f"stop must be a token from 0 to {vocabulary - 1}, got {stop!r}")
    return Sampling(count, divisor, most or vocabulary, end)


def check_rng(value: Any, count: int) -> list[Any]:
    """Return a generator of random numbers for each of `count` sequences."""
    known = "None, a seed of integers from 0 up, or a numpy.random.Generator that can spawn others"
    if isinstance(value, (bool, np.bool)):
        raise TypeError(f"rng must be {known}, got {value!r}")
    try:
        streams: list[Any] = np.random.default_rng(value).spawn(count)
    except ImportError as error:  # NumPy imports its generators at their first use
        raise RuntimeError("rng needs numpy.random, which can't be imported while Python shuts down; use it once before") from error
    except TypeError as error:
        raise TypeError(f"rng must be {known}, got {value!r}") from error
    except ValueError as error:
        raise ValueError(f"rng must be {known}, got {value!r}") from error
    return streams


def nothing_to_choose(nothing: Array) -> None:
    """Raise ValueError if `nothing` is true for some step, which had no token to choose."""
    if np.logical_or.reduce(nothing, axis=None):
        position = tuple(map(int, np.unravel_index(np.argmax(nothing), nothing.shape)))
        raise ValueError(f"model must give finite outputs for a token to be chosen, got NaN or infinity at position {position}")
