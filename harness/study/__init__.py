"""The study: analyses of a run's cells and of its networks' inner layers, one per file."""
