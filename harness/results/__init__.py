"""Results: records, rates, intervals, checks and baselines."""
