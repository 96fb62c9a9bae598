"""How accurate normcore is, beside NumPy and PyTorch: ``python -m bench.accuracy`` from the root of the repository.

Goals, measures and reading: docs/accuracy.md.
"""
