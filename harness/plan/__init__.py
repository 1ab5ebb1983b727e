"""The plan of a run: a suite as steps, each with the key of its result. Pure: nothing runs, no torch loads."""
