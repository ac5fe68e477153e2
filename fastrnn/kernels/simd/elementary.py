"""exp, log and the functions that layers apply, on tiles, in both precisions, within 2 ulp, and the same bits on every CPU."""

from dataclasses import dataclass

from numba import types

from ..options import operation
from ..records import as_double, word
from .tile import Vector, ahead, at, choose, elementwise, fma, lanes_of, load, scale_unless, store

LOG2_E = 1.4426950408889634
TANH_SMALL = 0.26  # just past the tanh of 1/4, where an ulp doubles


@dataclass(frozen=True)
class Constants:
    """What the functions need to know about a precision."""

    mantissa_bits: int
    exponent_bias: int
    sign: int
    round_to_integer: float  # adding it leaves the nearest integer in the low bits
    ln2_high: float
    ln2_low: float
    exp_limits: tuple  # exp is 0 below, inf above
    tanh_limit: float  # tanh rounds to 1 above
    expm1: tuple  # (e^r - 1 - r) / r^2 for |r| <= ln(2)/2, minimax, relative to r
    tanh: tuple  # (tanh(x) / x - 1) / x^2 in x^2 for |x| <= 0.26, minimax
    log: tuple  # (2 atanh(s)/s - 2) / s^2 in s^2 for |s| <= 3 - 2 sqrt(2), minimax


SINGLE = Constants(
    mantissa_bits=23,
    exponent_bias=127,
    sign=1 << 31,
    round_to_integer=1.5 * 2.0**23,
    ln2_high=0.6931471824645996,
    ln2_low=-1.9046542121259336e-09,
    exp_limits=(-104.0, 89.0),
    tanh_limit=9.02,
    expm1=(0.5, 0.16666541993618011, 0.04166628047823906, 0.008366631343960762, 0.0013946531107649207),  # 2^-26.1
    tanh=(-0.3333333134651184, 0.13333159685134888, -0.05389004200696945, 0.020471693947911263),  # 2^-35.2
    log=(0.6666666269302368, 0.4000033736228943, 0.28537240624427795, 0.23583507537841797),
)
DOUBLE = Constants(
    mantissa_bits=52,
    exponent_bias=1023,
    sign=1 << 63,
    round_to_integer=1.5 * 2.0**52,
    ln2_high=0.6931471805599453,
    ln2_low=2.3190468138462996e-17,
    exp_limits=(-746.0, 710.0),
    tanh_limit=19.07,
    expm1=(
        0.5000000000000006,
        0.16666666666666685,
        0.04166666666657343,
        0.008333333333314522,
        0.0013888888932490412,
        0.000198412699032324,
        2.4801504271650392e-05,
        2.7557227734715056e-06,
        2.7626407950658985e-07,
        2.511455300627736e-08,
    ),  # 2^-55.6
    tanh=(
        -0.33333333333332427,
        0.1333333333298903,
        -0.05396825352689502,
        0.021869461690379673,
        -0.008862360572810628,
        0.003576391315659526,
        -0.0013075763894439317,
    ),  # 2^-56.9
    log=(
        0.6666666666666666,
        0.4000000000000628,
        0.2857142856907459,
        0.22222222648549442,
        0.18181775522179186,
        0.15387097131829178,
        0.13249972385905306,
        0.13252670264584204,
    ),
)


def _constants(x):
    return DOUBLE if x.is_double else SINGLE


def _number(x, value):
    return Vector(x.builder, x.operand(value))


def _polynomial(x, coefficients):
    """Estrin's scheme: as many operations as Horner's and half the latency."""
    terms, power = [_number(x, c) for c in coefficients], x
    while len(terms) > 1:
        paired = [fma(high, power, low) for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = paired + terms[2 * len(paired) :]
        power = power * power
    return terms[0]


def _minus_n_ln2(x, n, c):
    return fma(n, _number(x, -c.ln2_low), fma(n, _number(x, -c.ln2_high), x))


def _expm1_reduced(r, c):
    return fma(r * r, _polynomial(r, c.expm1), r)


def _power_of_two(n, c, bias):
    """2^(n + bias - exponent_bias) of an integer left in the low bits by round_to_integer."""
    return n.bits("add", bias).bits("shl", c.mantissa_bits)


def _exp_parts(x, c):
    """e^r - 1 of what x has beyond n ln(2), and 2^n in two factors, because it may be subnormal or overflow where e^x does not."""
    shifted = fma(x, _number(x, LOG2_E), _number(x, c.round_to_integer))
    n = shifted - c.round_to_integer
    beyond = _expm1_reduced(_minus_n_ln2(x, n, c), c)
    doubled = shifted.bits("sub", _number(x, c.round_to_integer)).bits("add", 2 * c.exponent_bias)
    first = doubled.bits("lshr", 1)
    second = doubled.bits("sub", first)
    return beyond, first.bits("shl", c.mantissa_bits), second.bits("shl", c.mantissa_bits)


def exp_vector(x):
    high = _constants(x).exp_limits[1]
    return _exp_bounded(choose(x, ">", high, high, x))


def _exp_bounded(x):
    """e^x of what is not above exp_limits; 0, chosen, below: an underflow takes a processor 40 ns, and a softmax of 16 took 90, now 19."""
    c = _constants(x)
    low = c.exp_limits[0]
    if x.scales:
        shifted = fma(x, _number(x, LOG2_E), _number(x, c.round_to_integer))
        n = shifted - c.round_to_integer
        return scale_unless(x, "<", low, _expm1_reduced(_minus_n_ln2(x, n, c), c) + 1.0, n)
    beyond, first, second = _exp_parts(choose(x, "<", low, 0.0, x), c)
    return choose(x, "<", low, 0.0, (beyond + 1.0) * first * second)


def tanh_vector(x):
    """u / (u + 2) with u = e^2|x| - 1; where that would lose 2.4 ulp, an odd polynomial."""
    c = _constants(x)
    magnitude = x.bits("and_", c.sign - 1)
    magnitude = choose(magnitude, ">", c.tanh_limit, c.tanh_limit, magnitude)
    shifted = fma(magnitude, _number(x, 2 * LOG2_E), _number(x, c.round_to_integer))
    n = shifted - c.round_to_integer
    r = fma(n, _number(x, -c.ln2_high), magnitude + magnitude)  # here the low part is worth 0.2 ulp at most
    scale = _power_of_two(shifted, c, c.exponent_bias)
    u = fma(_expm1_reduced(r, c), scale, scale - 1.0)
    square = magnitude * magnitude
    small = fma(magnitude * square, _polynomial(square, c.tanh), magnitude)
    result = choose(magnitude, "<", TANH_SMALL, small, u / (u + 2.0))
    return result.bits("or_", x.bits("and_", c.sign))


def sigmoid_vector(x):
    """1 / (1 + z) or z / (1 + z) with z = e^-|x|, which never overflows."""
    z = _exp_bounded(x.bits("or_", _constants(x).sign))
    one = _number(x, 1.0)
    numerator, denominator = choose(x, "<", 0.0, z, one), z + 1.0
    lost = z - (denominator - one)
    # one step of Newton's takes back what rounding 1 + z lost: 1.4 ulp in place of 2.2
    inverse = one / denominator
    quotient = numerator * inverse
    remainder = fma(quotient, lost, fma(quotient, denominator, _number(x, 0.0) - numerator))
    return quotient - remainder * inverse


def relu_vector(x):
    return choose(x, "<", 0.0, 0.0, x)


def softsign_vector(x):
    return x / (x.bits("and_", _constants(x).sign - 1) + 1.0)


def hard_sigmoid_vector(x):
    """relu6(x + 3) / 6, rounded as PyTorch does: after the sum and after the division."""
    x = x + 3.0
    x = choose(x, "<", 0.0, 0.0, x)
    return choose(x, ">", 6.0, 6.0, x) / 6.0


def clipped_line_vector(x, alpha, beta):
    """max(0, min(1, alpha x + beta)), rounded as NumPy does: after the product and after the sum."""
    x = alpha * x + beta
    x = choose(x, "<", 0.0, 0.0, x)
    return choose(x, ">", 1.0, 1.0, x)


def leaky_relu_vector(x, alpha):
    return choose(x, "<", 0.0, alpha * x, x)


def elu_vector(x, alpha):
    """alpha (e^x - 1) below 0, in two parts up to the product, whose ulp may be half of the factor's: 1.2 ulp in place of 2.1."""
    c = _constants(x)
    lowest = -2 * c.tanh_limit  # -1 from there down
    negative = choose(x, "<", lowest, lowest, x)
    negative = choose(negative, ">", 0.0, 0.0, negative)
    shifted = fma(negative, _number(x, LOG2_E), _number(x, c.round_to_integer))
    r = _minus_n_ln2(negative, shifted - c.round_to_integer, c)
    square, polynomial = r * r, _polynomial(r, c.expm1)
    high = fma(square, polynomial, r)
    low = fma(square, polynomial, r - high)
    scale = _power_of_two(shifted, c, c.exponent_bias)
    whole = scale - 1.0
    power = fma(high, scale, whole)
    rest = fma(low, scale, fma(high, scale, whole - power))
    return choose(x, "<", 0.0, fma(alpha, power, alpha * rest), x)


def softplus_vector(x):
    """max(x, 0) + log(1 + z) with z = e^-|x|, which never overflows; z in two parts, for an ulp of log(1 + z) may be half of z's.

    1 + z = 2^n (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). log(1 + f) = f - f^2/2 + s (f^2/2 + s^2 p(s^2)) with s = f / (2 + f) and log's
    polynomial p: f itself comes first, so a z that is lost beside 1 is the result. At most 1.3 ulp.
    """
    c = _constants(x)
    lowest, root = c.exp_limits[0], 2.0**0.5
    exponent = x.bits("or_", c.sign)
    beyond, first, second = _exp_parts(choose(exponent, "<", lowest, 0.0, exponent), c)
    mantissa = beyond + 1.0
    rounded = beyond - (mantissa - 1.0)
    z, rest = mantissa * first * second, rounded * first * second
    one = choose(z, ">", root - 1, 1.0, _number(x, 0.0))
    f = z - one
    rest = rest + (z - (f + one))
    half = choose(z, ">", root - 1, 0.5, _number(x, 1.0))
    f, rest = f * half, rest * half
    s = f / (f + 2.0)
    square, half_square = s * s, f * f * 0.5
    correction = fma(s, fma(square, _polynomial(square, c.log), half_square), _number(x, 0.0) - half_square)
    correction = correction + (rest - rest * f)  # rest / (1 + f), near enough
    log1p = fma(one, _number(x, c.ln2_high), f + fma(one, _number(x, c.ln2_low), correction))
    positive = choose(x, "<", 0.0, 0.0, x)
    return choose(exponent, "<", lowest, positive, positive + log1p)  # chosen, as in _exp_bounded


def log_vector(x):
    """Natural logarithm of a normal number, 0, inf or NaN: x = 2^n m with m in [sqrt(1/2), sqrt(2))."""
    c = _constants(x)
    root_half = 0.7071067811865476
    mantissa_mask = (1 << c.mantissa_bits) - 1
    m = x.bits("and_", mantissa_mask).bits("or_", _number(x, 0.5))
    exponent = x.bits("lshr", c.mantissa_bits).bits("or_", _number(x, 2.0**c.mantissa_bits)) - (2.0**c.mantissa_bits + c.exponent_bias - 1)
    n = choose(m, "<", root_half, exponent - 1.0, exponent)
    m = choose(m, "<", root_half, m + m, m)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    log_m = fma(s * z, _polynomial(z, c.log), s + s)
    result = fma(n, _number(x, c.ln2_high), fma(n, _number(x, c.ln2_low), log_m))
    infinity = float("inf")
    result = choose(x, "==", 0.0, -infinity, result)
    result = choose(x, "==", infinity, infinity, result)
    return choose(x, "==", x, result, x)


exp = elementwise(exp_vector)
log = elementwise(log_vector)


def activation(elements):
    """Declare an activation: `count` values from an address on, whole registers of them, are replaced."""

    @operation(types.int64, types.int64, types.int64)
    def activate(values, count, parameters, like):
        lanes = lanes_of(like)
        for i in range(0, count, lanes):
            place = ahead(at(values, like), i)
            store(place, 0, elements(load(place, 0, 1, 1)))

    return activate


def activation_of_one(elements):
    """The same of a function with a parameter: a double, rounded to the values' dtype."""

    @operation(types.int64, types.int64, types.int64)
    def activate(values, count, parameters, like):
        lanes, alpha = lanes_of(like), as_double(word(parameters, 0))
        for i in range(0, count, lanes):
            place = ahead(at(values, like), i)
            store(place, 0, elements(load(place, 0, 1, 1), alpha))

    return activate


def activation_of_two(elements):
    """The same of a function with two parameters."""

    @operation(types.int64, types.int64, types.int64)
    def activate(values, count, parameters, like):
        lanes, alpha, beta = lanes_of(like), as_double(word(parameters, 0)), as_double(word(parameters, 1))
        for i in range(0, count, lanes):
            place = ahead(at(values, like), i)
            store(place, 0, elements(load(place, 0, 1, 1), alpha, beta))

    return activate


tanh = activation(elementwise(tanh_vector))
relu = activation(elementwise(relu_vector))
sigmoid = activation(elementwise(sigmoid_vector))
hard_sigmoid = activation(elementwise(hard_sigmoid_vector))
softplus = activation(elementwise(softplus_vector))
softsign = activation(elementwise(softsign_vector))
leaky_relu = activation_of_one(elementwise(leaky_relu_vector))
elu = activation_of_one(elementwise(elu_vector))
clipped_line = activation_of_two(elementwise(clipped_line_vector))
