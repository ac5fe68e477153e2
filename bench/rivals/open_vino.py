"""OpenVINO: the ONNX model compiled for latency, run in the calling thread on tensors that are set once. It computes in float32."""

import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np

from bench.rivals import Library, Way
from bench.rivals.onnx_model import sequence_models, step_models
from bench.rows import Task

# without CI the import sends a report over the network, from a fork of this process and its threads
with mock.patch.dict(os.environ, {"CI": "true"}):
    import openvino

CORE = openvino.Core()


class OpenVINO(Library):
    dtypes = ("float32",)

    def ways(self, task: Task, threads: int) -> Iterator[Way]:
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        yield from step_ways(task, options) if task.single else sequence_ways(task, options)


def start(model: bytes, options: dict[str, Any]) -> openvino.InferRequest:
    return CORE.compile_model(CORE.read_model(model, b""), "CPU", options).create_infer_request()


def tensor(array: np.ndarray) -> openvino.Tensor:
    """Copy an array into a tensor."""
    return openvino.Tensor(np.ascontiguousarray(array))


def sequence_ways(task: Task, options: dict[str, Any]) -> Iterator[Way]:
    for name, model, inputs, output in sequence_models(task):
        request = start(model, options)
        ((output_name, shape),) = output.items()
        result = tensor(np.empty(shape, np.float32))
        for key, array in inputs.items():
            request.set_tensor(key, tensor(array))
        request.set_tensor(output_name, result)

        def run(request=request, result=result):
            request.infer(share_outputs=True)
            return result

        yield Way(name, run, lambda result: np.array(result.data)[:, 0].swapaxes(0, 1))


def step_ways(task: Task, options: dict[str, Any]) -> Iterator[Way]:
    for name, model, inputs, handed_on in step_models(task):
        states, requests = [{key: tensor(inputs[key]) for key in handed_on} for _ in range(2)], []
        for before, after in (states, states[::-1]):
            request = start(model, options)
            request.set_tensor("x", tensor(inputs["x"]))
            for key, output in handed_on.items():
                request.set_tensor(key, before[key])
                request.set_tensor(output, after[key])
            requests.append((request, after["h"]))

        def run(requests=requests):
            requests.reverse()
            request, state = requests[1]
            request.infer(share_outputs=True)
            return state

        yield Way(name, run, lambda state: np.array(state.data).reshape(-1))


library = OpenVINO()
