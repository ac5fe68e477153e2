"""Arrays of other libraries: each works, or is refused with what to do."""

import dask.array
import ml_dtypes
import numpy as np
import pandas
import pytest
import scipy.sparse
import xarray

import fastrnn

from .cases import assert_same_bits

RNG = np.random.default_rng(0)
X = RNG.integers(-8, 8, (5, 9, 2)) / 4  # which a short float holds
MODEL = fastrnn.Sequential(
    fastrnn.RNN(RNG.normal(size=(4, 2)), RNG.normal(size=(4, 4))), fastrnn.Dense(RNG.normal(size=(3, 4)), activation="softmax")
)
READER = fastrnn.Sequential(fastrnn.Embedding.one_hot(2), *MODEL.layers)
TABLE = pandas.DataFrame(X[0], columns=["wind", "rain"])


@pytest.mark.parametrize("short", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2], ids=lambda one: np.dtype(one).name)
def test_short_floats(short):
    """Input and states of short floats are read, by a call, a stream and a bank; weights of them are refused, like other dtypes."""
    short_x = X.astype(short)
    wide_x = short_x.astype(np.float32)
    assert_same_bits(MODEL.predict(short_x), MODEL.predict(wide_x))
    h0 = wide_x[:, 0, :1].repeat(4, axis=1)
    assert_same_bits(MODEL.predict(X, h0.astype(short)), MODEL.predict(X, h0))
    assert_same_bits(MODEL.stream().step(short_x[:, 0]), MODEL.stream().step(wide_x[:, 0]))
    stepped = []
    for step in (short_x[:, 0], wide_x[:, 0]):
        bank = MODEL.streams(5)
        rows = [bank.add() for _ in range(5)]
        stepped.append(bank.step(step, at=rows))
    assert_same_bits(*stepped)
    with pytest.raises(TypeError) as raised:
        fastrnn.Dense(np.ones((2, 3), short))
    assert str(raised.value) == f"weight must be float32 or float64, got {np.dtype(short)}; convert it with .astype(numpy.float32)"


def test_tables_of_pandas():
    """A table of numbers is a sequence; one that may lack values isn't, until it says what these are."""
    assert_same_bits(MODEL.predict(TABLE), MODEL.predict(X[0]))
    nullable = TABLE.astype("Float64").mask(TABLE > 1.5)
    for table in (nullable, nullable.convert_dtypes(), TABLE.astype("Float64")):
        with pytest.raises(TypeError) as raised:
            MODEL(table)
        assert str(raised.value) == "x must hold real numbers, got dtype object; pass x.to_numpy(numpy.float64, na_value=numpy.nan)"
    assert np.isnan(MODEL.predict(nullable.to_numpy(np.float64, na_value=np.nan))).any()
    with pytest.raises(TypeError, match=r"^x must hold real numbers, got dtype object$"):
        MODEL(TABLE.assign(rain="none"))


OF_PANDAS = {
    "days": (pandas.date_range("2026-01-01", periods=3).as_unit("ns"), "datetime64[ns]"),
    "days in a time zone": (pandas.date_range("2026-01-01", periods=3, tz="UTC"), "object"),
    "periods": (pandas.period_range("2026-01", periods=3, freq="M"), "object"),
    "times between": (pandas.timedelta_range("1D", periods=3).as_unit("ns"), "timedelta64[ns]"),
    "a categorical": (pandas.Categorical(["a", "b"]), "object"),
    "intervals": (pandas.arrays.IntervalArray.from_breaks([0, 1, 2]), "object"),
    "an index of intervals": (pandas.IntervalIndex.from_breaks([0, 1, 2]), "object"),
    "an index of tuples": (pandas.MultiIndex.from_arrays([[1, 2], [3, 4]]), "object"),
    "texts": (pandas.array(["a", "b"]), "object"),
    "sparse texts": (pandas.arrays.SparseArray(["a", "b"]), "object"),
    "a missing value": (pandas.NA, "object"),
    "a day": (pandas.Timestamp("2026-01-01"), "object"),
    "a window": (pandas.Series([1.0, 2.0]).rolling(1), "object"),
    "booleans, one missing": (pandas.array([True, None]), "object; pass x.to_numpy(numpy.float64, na_value=numpy.nan)"),
}


@pytest.mark.parametrize("kind", OF_PANDAS)
def test_what_else_pandas_has(kind):
    """Anything of pandas' that holds no real numbers is refused by the argument's name; where a conversion helps, with it."""
    value, got = OF_PANDAS[kind]
    with pytest.raises(TypeError) as raised:
        MODEL.predict(value)
    assert str(raised.value) == f"x must hold real numbers, got dtype {got}"


DATA_ARRAY = xarray.DataArray(X, dims=("place", "time", "feature"))
AN_XARRAY = (
    "{0} must not be an xarray DataArray, whose dimensions may be in any order; call xarray.apply_ufunc(model.predict, ...), or pass "
    "{0}.transpose(..., time, feature).values"
)
A_DASK = "x must be an array in memory, got a Dask Array; pass x.compute(), or call fastrnn.dask.forward"
REFUSED = {
    "xarray": (lambda: MODEL(DATA_ARRAY), AN_XARRAY.format("x")),
    "xarray in a layer": (lambda: MODEL.layers[0](DATA_ARRAY), AN_XARRAY.format("x")),
    "xarray in a stream": (lambda: MODEL.stream().step(DATA_ARRAY[0, 0]), AN_XARRAY.format("x_t")),
    "xarray for a weight": (lambda: fastrnn.Dense(DATA_ARRAY[0]), AN_XARRAY.format("weight")),
    "a state of xarray": (lambda: MODEL(X, xarray.DataArray(np.zeros((5, 4)))), AN_XARRAY.format("state")),
    "dask": (lambda: MODEL(dask.array.from_array(X)), A_DASK),
    "tokens of dask": (lambda: READER(dask.array.zeros(3, dtype=int)), A_DASK),
    "a sparse matrix": (
        lambda: MODEL(scipy.sparse.csr_matrix(X[0])),
        "x must be dense, got a SciPy csr_matrix; pass x.toarray()",
    ),
    "a sparse array for a weight": (
        lambda: fastrnn.RNN(np.ones((4, 2)), scipy.sparse.coo_array(np.eye(4))),
        "weight_hh must be dense, got a SciPy coo_array; pass weight_hh.toarray()",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    """What NumPy would read at the wrong time, or in the wrong order, is refused with what to do."""
    call, text = REFUSED[kind]
    with pytest.raises(TypeError) as raised:
        call()
    assert str(raised.value) == text


class Unreadable:
    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error("it lies elsewhere")


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, IndexError, OverflowError, NotImplementedError])
def test_what_numpy_cannot_read(error):
    """An array that can't be had is refused by the name of the argument, with its own reason."""
    with pytest.raises(TypeError, match=r"^x must be something that NumPy makes an array of, got Unreadable: it lies elsewhere$"):
        MODEL(Unreadable(error))


@pytest.mark.parametrize("chunks", [{}, {"place": 2}], ids=["plain", "parallelized"])
def test_apply_ufunc(chunks):
    """xarray's apply_ufunc runs `predict` on any order of dimensions, also in parallel, and keeps their names."""
    given = DATA_ARRAY.transpose("feature", "place", "time").chunk(chunks) if chunks else DATA_ARRAY.transpose("feature", "place", "time")
    output = xarray.apply_ufunc(
        MODEL.predict,
        given,
        input_core_dims=[["time", "feature"]],
        output_core_dims=[["time", "output"]],
        dask="parallelized",
        output_dtypes=[MODEL.dtype],
        dask_gufunc_kwargs={"output_sizes": {"output": MODEL.output_size}},
    )
    assert output.dims == ("place", "time", "output")
    assert_same_bits(output.values, MODEL.predict(X))
