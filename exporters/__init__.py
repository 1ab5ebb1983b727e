"""Export torch networks to ONNX and TFLite, float or INT8, and read such files back.

Part of patchbench.
"""
