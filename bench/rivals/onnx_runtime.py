"""ONNX Runtime: runs on NumPy arrays, and runs bound to its own inputs and outputs. Its RNN has float32 only."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime

from bench.rivals import Library, Way
from bench.rivals.onnx_model import sequence_models, step_models
from bench.rows import Task


def read(output: Any) -> np.ndarray:
    """Turn (T, directions, N, O) into (N, T, directions * O)."""
    array = np.array(output.numpy() if isinstance(output, onnxruntime.OrtValue) else output)
    return array.transpose(2, 0, 1, 3).reshape(array.shape[2], len(array), -1)


def read_step(output: Any) -> np.ndarray:
    return np.array(output.numpy() if isinstance(output, onnxruntime.OrtValue) else output).reshape(-1)


class OnnxRuntime(Library):
    dtypes = ("float32",)
    cells = ("RNN", "GRU", "LSTM", "BiLSTM")

    def ways(self, task: Task, threads: int) -> Iterator[Way]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        yield from step_ways(task, options) if task.single else sequence_ways(task, options)


def start(model: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def bind(session: onnxruntime.InferenceSession, inputs: dict[str, Any], outputs: dict[str, Any]) -> onnxruntime.IOBinding:
    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in outputs.items():
        binding.bind_ortvalue_output(name, value)
    return binding


def own(array: np.ndarray) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy(array.copy())  # an OrtValue shares the array's memory


def sequence_ways(task: Task, options: onnxruntime.SessionOptions) -> Iterator[Way]:
    for name, model, inputs, output in sequence_models(task):
        session = start(model, options)
        ((output_name, shape),) = output.items()
        result = own(np.empty(shape, np.float32))
        binding = bind(session, {key: own(array) for key, array in inputs.items()}, {output_name: result})

        def bound(session=session, binding=binding, result=result):
            session.run_with_iobinding(binding)
            return result

        yield Way(name, lambda session=session, names=[*output], inputs=inputs: session.run(names, inputs)[0], read)
        yield Way(f"{name}, bound", bound, read)


def step_ways(task: Task, options: onnxruntime.SessionOptions) -> Iterator[Way]:
    for name, model, inputs, handed_on in step_models(task):
        session = start(model, options)
        feeds, names = dict(inputs), list(handed_on.values())

        def plain(session=session, feeds=feeds, names=names, handed_on=handed_on):
            results = session.run(names, feeds)
            feeds.update(zip(handed_on, results, strict=True))
            return results[0]

        x, states = own(inputs["x"]), [{key: own(inputs[key]) for key in handed_on} for _ in range(2)]
        bindings = []
        for before, after in (states, states[::-1]):
            outputs = {output: after[key] for key, output in handed_on.items()}
            bindings.append((bind(session, {"x": x, **before}, outputs), after["h"]))

        def bound(session=session, bindings=bindings):
            bindings.reverse()
            binding, state = bindings[1]
            session.run_with_iobinding(binding)
            return state

        yield Way(name, plain, read_step)
        yield Way(f"{name}, bound", bound, read_step)


library = OnnxRuntime()
