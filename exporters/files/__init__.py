"""Reading model files back: operators, dtypes, scales; for the proof of integer and for twins."""
