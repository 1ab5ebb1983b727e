"""The plan of a run: a suite as steps, each with the key of its result. Nothing runs and no torch is loaded."""
