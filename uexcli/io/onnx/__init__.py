"""Noise as ONNX models. As secret as the noise."""
