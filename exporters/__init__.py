"""From a victim to a file: ONNX and TFLite, float and integer."""
