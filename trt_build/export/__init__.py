"""Checkpoint to ONNX, and ONNX in reduced precision."""
