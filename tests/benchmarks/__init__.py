import tinygen  # noqa: F401 - before NumPy, as the command line does
