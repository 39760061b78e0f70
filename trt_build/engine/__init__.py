"""ONNX to TensorRT plans: build, load, refit, inspect."""
