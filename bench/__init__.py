"""How fast normcore is, beside its peers and the machine's limits: ``python -m bench`` from the root of the repository.

Method and reading: docs/performance.md.
"""
