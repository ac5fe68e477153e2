"""Load weights from PyTorch, Keras, ONNX and safetensors files, and save them: one module for each format."""
