"""What a notebook calls: the stages of a run, each as a function of arrays and files."""
