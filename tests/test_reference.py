"""The reference against numbers worked by hand and against SciPy, never against fastrnn."""

import math

import numpy as np
import scipy.special

from fastrnn import reference

RNG = np.random.default_rng(5)


def test_elman_by_hand():
    """s_1 = 2*1 + 3*5 + 0.5, s_2 = 2*4 + 3*17.5 + 0.5 with one unit and the identity."""
    rnn = reference.RNN(np.array([[2.0]]), np.array([[3.0]]), np.array([0.5]), nonlinearity="identity")
    output, h_n = rnn(np.array([[1.0], [4.0]]), np.array([5.0]))
    np.testing.assert_array_equal(output, [[17.5], [61.0]])
    np.testing.assert_array_equal(h_n, [61.0])


def test_elman_matrices_are_not_transposed():
    """Unit 0 reads input 1 and unit 1's state; unit 1 reads input 0 and nothing of the state."""
    rnn = reference.RNN(np.array([[0.0, 10.0, 0.0], [1.0, 0.0, 0.0]]), np.array([[0.0, 100.0], [0.0, 0.0]]), nonlinearity="relu")
    output, _ = rnn(np.array([[1.0, 2.0, 7.0], [3.0, -50.0, 7.0]]))
    np.testing.assert_array_equal(output, [[20.0, 1.0], [0.0, 3.0]])


def test_elman_tanh_and_sigmoid_by_hand():
    """tanh(ln(2)) = 3/5 and sigmoid(ln(3)) = 3/4."""
    for nonlinearity, z, expected in (("tanh", math.log(2), 0.6), ("sigmoid", math.log(3), 0.75)):
        rnn = reference.RNN(np.array([[z]]), np.array([[0.0]]), nonlinearity=nonlinearity)
        np.testing.assert_allclose(rnn(np.array([[1.0]]))[0], [[expected]], rtol=1e-15)


def test_dense_by_hand():
    """[[1, 2, 3], [4, 5, 6]] times (1, 10, 100) plus (0.5, -700) is (321.5, -46); relu cuts the second."""
    weight, bias, x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([0.5, -700.0]), np.array([[1.0, 10.0, 100.0]])
    np.testing.assert_array_equal(reference.Dense(weight, bias)(x), [[321.5, -46.0]])
    np.testing.assert_array_equal(reference.Dense(weight, bias, activation="relu")(x), [[321.5, 0.0]])


def test_sequential_by_hand():
    """Two running sums after one another, from states 1 and 10, and a doubling: over 1, 1 they give 2, 3, then 12, 15, then 24, 30."""
    one = np.array([[1.0]])
    total = reference.RNN(one, one, nonlinearity="identity")
    model = reference.Sequential(total, total, reference.Dense(2 * one))
    output, state = model(np.ones((2, 1)), (np.array([1.0]), np.array([10.0])))
    np.testing.assert_array_equal(output, [[24.0], [30.0]])
    np.testing.assert_array_equal(state, [[3.0], [15.0]])


def test_functions_equal_scipy():
    """softmax, log_softmax and sigmoid over the last axis equal SciPy's."""
    z = RNG.normal(0, 20, (3, 4, 7))
    for name, expected in (
        ("softmax", scipy.special.softmax(z, axis=-1)),
        ("log_softmax", scipy.special.log_softmax(z, axis=-1)),
        ("sigmoid", scipy.special.expit(z)),
    ):
        np.testing.assert_allclose(reference.FUNCTIONS[name](z), expected, rtol=1e-13)


def test_batch_axes_lead():
    """Every sequence of a batch is run as if alone."""
    rnn = reference.RNN(RNG.normal(size=(4, 3)), RNG.normal(size=(4, 4)), RNG.normal(size=4))
    x, h0 = RNG.normal(size=(2, 5, 6, 3)), RNG.normal(size=(2, 5, 4))
    output, h_n = rnn(x, h0)
    for i in np.ndindex(2, 5):
        alone = rnn(x[i], h0[i])
        np.testing.assert_allclose(output[i], alone[0], rtol=1e-13)
        np.testing.assert_allclose(h_n[i], alone[1], rtol=1e-13)


def test_notebook_cell():
    """rnn_forward is the notebook's cell, its outputs put end to end."""
    x, U, W, V, b = (RNG.uniform(size=shape) for shape in ((6, 3), (5, 3), (5, 5), (2, 5), (5,)))
    state_t, outputs = np.zeros(5), []
    for x_t in x:
        state_t = np.tanh(U @ x_t + W @ state_t + b)
        outputs.append(scipy.special.softmax(V @ state_t))
    probs = reference.rnn_forward(x, U, W, V, b)
    np.testing.assert_allclose(probs.reshape(-1), np.concatenate(outputs, axis=0), rtol=1e-13)


def test_tokens_by_hand():
    """Tokens 2, 0 select columns 2 and 0 of weight_ih: states 7, then 2 * 7 + 5."""
    rnn = reference.RNN(np.array([[5.0, 6.0, 7.0]]), np.array([[2.0]]), nonlinearity="identity")
    model = reference.Sequential(reference.Embedding.one_hot(3), rnn)
    np.testing.assert_array_equal(model(np.array([2, 0]))[0], [[7.0], [19.0]])


def test_table_by_hand():
    """Tokens 1, 0, 1 are the rows (3, 4), (1, 2) and (3, 4): as 10 a + b they are 34, 12 and 34."""
    embedding = reference.Embedding(np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(embedding(np.array([1, 0, 1])), [[3, 4], [1, 2], [3, 4]])
    model = reference.Sequential(embedding, reference.Dense(np.array([[10.0, 1.0]])))
    np.testing.assert_array_equal(model(np.array([[1, 0, 1]]))[0], [[[34], [12], [34]]])


def test_integers_by_hand():
    """Integers given to a layer are numbers: 2 * 5 + 1 * 6 + 0 * 7 and 0.5."""
    dense = reference.Dense(np.array([[5.0, 6.0, 7.0]]), np.array([0.5]))
    np.testing.assert_array_equal(dense(np.array([[2, 1, 0]])), [[16.5]])


def test_lengths_by_hand():
    """Running sums over 1, 2, 3 from 10, doubled: three, one and no steps long."""
    one, x, states = np.array([[1.0]]), np.tile([[1.0], [2.0], [3.0]], (3, 1, 1)), np.full((3, 1), 10.0)
    model = reference.Sequential(reference.RNN(one, one, nonlinearity="identity"), reference.Dense(2 * one, np.array([0.5])))
    lengths = np.array([3, 1, 0])
    output, (h_n,) = model(x, (states,), lengths=lengths)
    np.testing.assert_array_equal(output[..., 0], [[22.5, 26.5, 32.5], [22.5, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(h_n[:, 0], [16, 11, 10])
    np.testing.assert_array_equal(model(x, states, lengths=lengths, return_sequences=False)[0][:, 0], [32.5, 22.5, 0])
    np.testing.assert_array_equal(model(x[0], states[0], return_sequences=False)[0], [32.5])


# Logits after token 0, 1 and 2 are the columns: probabilities 1/4, 1/4, 1/2, then 1/6, 3/6, 2/6, then 0, 0, 1.
BIGRAM = reference.Sequential(
    reference.Embedding.one_hot(3), reference.Dense(np.log([[1, 1, 1e-300], [1, 3, 1e-300], [2, 2, 1.0]]), activation="softmax")
)


def test_log_likelihood_by_hand():
    """0 -> 1 -> 1 -> 2 has 1/4 * 1/2 * 1/3."""
    tokens = np.array([[0, 1, 1, 2], [0, 2, 2, 2]])
    np.testing.assert_allclose(reference.log_likelihood(BIGRAM, tokens), np.log([1 / 24, 1 / 2]), rtol=1e-15)
    steps = reference.log_likelihood(BIGRAM, tokens, lengths=np.array([3, 1]), per_step=True)
    np.testing.assert_allclose(steps, [[np.log(1 / 4), np.log(1 / 2), 0], [0, 0, 0]], rtol=1e-15)


def test_choose_by_hand():
    """Of 1/8, 4/8, 1/8, 2/8 put end to end the share u falls into one; top_k and temperature change them; ties go to the lowest."""
    z = np.log([1.0, 4.0, 1.0, 2.0])
    for temperature, top_k, ends in (
        (1.0, None, {0: 0.125, 1: 0.625, 2: 0.75, 3: 1.0}),
        (0.5, None, {0: 1 / 22, 1: 17 / 22, 2: 18 / 22, 3: 1.0}),
        (1.0, 2, {1: 2 / 3, 3: 1.0}),
        (1.0, 3, {0: 1 / 7, 1: 5 / 7, 3: 1.0}),
    ):
        for u in np.linspace(0.001, 0.999, 97):
            expected = next(token for token, end in ends.items() if u < end)
            assert reference.choose(z, np.array(u), temperature, top_k) == expected


def test_generate_by_hand():
    """The highest after 0 is 2 and after 2 it is 2; vectors are doubled; the state is that before the token to stop at."""
    np.testing.assert_array_equal(reference.generate(BIGRAM, np.array([0, 1]), 3, feedback="argmax")[0], [[2, 2, 2], [1, 1, 1]])
    one = np.array([[1.0]])
    doubled, state = reference.generate(reference.RNN(one, one, nonlinearity="identity"), np.array([3.0]), 4, feedback="output")
    np.testing.assert_array_equal(doubled, [[3], [6], [12], [24]])
    np.testing.assert_array_equal(state, [24])
    layers = reference.RNN(np.eye(4), np.eye(4, k=-1), nonlinearity="identity"), reference.Dense(np.eye(4, k=-1))
    count = reference.Sequential(reference.Embedding.one_hot(4), *layers)
    generated, (h_n,) = reference.generate(count, np.array(0), 5, feedback="argmax", stop=2)
    np.testing.assert_array_equal(generated, [1, 2, 2, 2, 2])
    np.testing.assert_array_equal(h_n, [0, 2, 0, 0])


def test_uniform_numbers_of_a_sequence():
    """Sequence i draws with the i-th generator spawned from the seed: 40 tokens, each as likely as the others."""
    model = reference.Sequential(reference.Embedding.one_hot(5), reference.Dense(np.zeros((5, 5)), activation="log_softmax"))
    for rng in (3, np.random.default_rng(3)):
        generated, _ = reference.generate(model, np.zeros((2, 2), int), 40, rng=rng)
        expected = [np.floor(5 * child.random(40)) for child in np.random.default_rng(3).spawn(4)]
        np.testing.assert_array_equal(generated.reshape(4, 40), expected)


def test_unrolled_is_the_layer():
    """The last number of every unrolled line is the state that the layer has."""
    U, W, b, h0, x = (np.round(RNG.uniform(-1, 1, shape), 2) for shape in ((3, 2), (3, 3), (3,), (3,), (4, 2)))
    for h, first in ((None, "s_0 = tanh(U x_0 + b)"), (h0, "s_0 = tanh(U x_0 + W h0 + b)")):
        lines = reference.unrolled(x, U, W, b, h).splitlines()
        assert lines[0].startswith(first)
        states = [np.fromstring(line.rpartition("[")[2].strip("]"), sep=" ") for line in lines]
        np.testing.assert_allclose(states, reference.RNN(U, W, b)(x, h)[0], rtol=0, atol=6e-5)
