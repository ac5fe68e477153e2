"""Operations of the tests' own: functions that no layer computes by themselves."""

from fastrnn.kernels.simd.elementary import activation, exp, log

exp_all = activation(exp)
log_all = activation(log)
