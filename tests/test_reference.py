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
