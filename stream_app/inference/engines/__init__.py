"""Engines that compute the model: ONNX Runtime, TensorRT, the fallback, and the choice between them."""
