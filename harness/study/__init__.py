"""The study: analyses of a run's cells and of what goes on inside its networks, one a file."""
