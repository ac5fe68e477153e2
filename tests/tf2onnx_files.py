"""Makes tf2onnx_files.npz: small Keras models as tf2onnx exports them, each with an input and Keras' own output.

It needs what neither tests nor benchmarks do, then: python -m tests.tf2onnx_files

    python -m pip install tensorflow==2.21.0 tf_keras==2.21.0 tf2onnx==1.17.0
"""

import importlib
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

FILE = pathlib.Path(__file__).with_suffix(".npz")
I, H, N, T, V = 3, 4, 2, 5, 6  # noqa: E741


def models(keras):
    """Give a model's layers, the shape of its input, and the opset, by the model's name."""
    layers, every = keras.layers, {"return_sequences": True}
    tokens, numbers = (None,), (None, I)
    return {
        "SimpleRNN": ([layers.SimpleRNN(H, **every)], numbers, 17),
        "SimpleRNN, fixed sizes": ([layers.SimpleRNN(H, activation="relu"), layers.Dense(2)], (N, T, I), 18),
        "SimpleRNN, both": ([layers.Bidirectional(layers.SimpleRNN(H, **every), merge_mode="ave")], (T, I), 13),
        "GRU": ([layers.GRU(H, **every), layers.Dense(2, activation="softmax")], numbers, 18),
        "GRU, the last": ([layers.Embedding(V, I), layers.GRU(H), layers.Dense(2)], tokens, 13),
        "GRU, both, stacked": ([layers.Bidirectional(layers.GRU(H, **every)), layers.Bidirectional(layers.GRU(H))], numbers, 17),
        "GRU, reset before": ([layers.GRU(H, reset_after=False, **every)], numbers, 17),
        "GRU, no bias": ([layers.GRU(H, use_bias=False)], numbers, 13),
        "GRU, reset before, both": ([layers.Bidirectional(layers.GRU(H, reset_after=False), merge_mode="mul")], (T, I), 17),
        "GRU, float64": ([layers.GRU(H, dtype="float64", **every), layers.Dense(2, dtype="float64")], numbers, 17),
        "LSTM": ([layers.LSTM(H, **every), layers.LSTM(H, **every), layers.Dense(2, activation="tanh")], numbers, 17),
        "LSTM, the last": ([layers.Embedding(V, I), layers.LSTM(H), layers.Dense(2, activation="softmax")], (N, T), 13),
        "LSTM, both": ([layers.Bidirectional(layers.LSTM(H, **every), merge_mode="sum"), layers.Dense(2)], numbers, 18),
        "refused: backwards": ([layers.GRU(H, go_backwards=True, **every)], numbers, 17),
        "refused: masked": ([layers.Embedding(V, I, mask_zero=True), layers.GRU(H)], tokens, 17),
        "refused: averaged": ([layers.LSTM(H, **every), layers.GlobalAveragePooling1D()], numbers, 17),
    }


def export(keras, name, layers, shape, opset):
    """Give the exported file, an input and the output."""
    import tensorflow
    import tf2onnx

    fixed = len(shape) == 3 or shape == (N, T)
    tokens, dtype = isinstance(layers[0], keras.layers.Embedding), "float64" if "float64" in name else "float32"
    given = keras.Input(shape=shape[1:] if fixed else shape, batch_size=N if fixed else None, dtype=dtype)
    result = given
    for layer in layers:
        result = layer(result)
    model, rng = keras.Model(given, result), np.random.default_rng(0)
    model.set_weights([rng.uniform(-0.7, 0.7, weight.shape) for weight in model.get_weights()])
    x = rng.integers(1, V, (N, T)).astype(dtype) if tokens else rng.normal(size=(N, T, I)).astype(dtype)
    function, signature = tensorflow.function(lambda x: model(x, training=False)), [tensorflow.TensorSpec(given.shape, dtype, "x")]
    proto, _ = tf2onnx.convert.from_function(function, signature, opset=opset)
    return proto.SerializeToString(), x, np.asarray(model(x))


def main():
    if sys.argv[1:]:  # in a process of one Keras
        keras = importlib.import_module("tf_keras" if os.environ["TF_USE_LEGACY_KERAS"] == "1" else "keras")
        arrays = {}
        for name, model in models(keras).items():
            keras.utils.set_random_seed(0)
            file, x, output = export(keras, name, *model)
            arrays.update({f"{name}/file": np.frombuffer(file, np.uint8), f"{name}/x": x, f"{name}/output": output})
        np.savez(sys.argv[1], **arrays)
        return
    arrays = {}
    for version, legacy in ((2, "1"), (3, "0")):
        with tempfile.TemporaryDirectory() as directory:
            path = f"{directory}/models.npz"
            environment = {**os.environ, "TF_USE_LEGACY_KERAS": legacy, "CUDA_VISIBLE_DEVICES": "-1"}
            subprocess.run([sys.executable, "-m", "tests.tf2onnx_files", path], env=environment, check=True)
            with np.load(path) as made:
                arrays.update({f"Keras {version}: {name}": array for name, array in made.items()})
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
