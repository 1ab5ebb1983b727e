"""The gate: is a run no worse than a baseline, and within limits? Exit codes: 0 no worse, 1 worse, 2 can't say."""
