"""Makes keras_models.npz: small Keras models in both forms of files, each with an input and Keras' own output.

It needs what the benchmarks do: python -m tests.keras_models
"""

import os
import pathlib
import tempfile

import numpy as np

FILE = pathlib.Path(__file__).with_suffix(".npz")
I, H, N, T, V = 3, 4, 2, 5, 6  # noqa: E741


def models(layers):
    """Give each model's layers by its name; one that begins with an Embedding reads tokens."""
    every = {"return_sequences": True}
    return {
        "SimpleRNN": [layers.SimpleRNN(H, activation="relu", **every), layers.Dense(2)],
        "GRU": [layers.Embedding(V, I), layers.GRU(H, **every), layers.GRU(H), layers.Dense(2, activation="softmax")],
        "GRU, reset before": [layers.GRU(H, reset_after=False, **every), layers.LeakyReLU(negative_slope=0.3)],
        "LSTM": [layers.LSTM(H, **every), layers.LSTM(H, recurrent_activation="hard_sigmoid", **every), layers.Dense(2, "tanh")],
        "LSTM, both": [layers.Bidirectional(layers.LSTM(H, **every)), layers.Bidirectional(layers.GRU(H), merge_mode="sum")],
    }


def main():
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    rng, arrays = np.random.default_rng(0), {}
    for name, layers in models(keras.layers).items():
        tokens = isinstance(layers[0], keras.layers.Embedding)
        model = keras.Sequential([keras.Input((None,) if tokens else (None, I)), *layers])
        model.set_weights([rng.uniform(-0.7, 0.7, weight.shape) for weight in model.get_weights()])
        x = rng.integers(0, V, (N, T)) if tokens else rng.normal(size=(N, T, I)).astype(np.float32)
        with torch.inference_mode():
            arrays |= {f"{name}/x": x, f"{name}/output": model(torch.tensor(x)).numpy()}
        for suffix in ("keras", "h5"):
            with tempfile.TemporaryDirectory() as directory:
                path = pathlib.Path(directory, f"model.{suffix}")
                model.save(path)
                arrays[f"{name}/{suffix}"] = np.frombuffer(path.read_bytes(), np.uint8)
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
