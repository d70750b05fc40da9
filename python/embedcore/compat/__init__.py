"""Drop-ins for other packages: change one import, keep the program.

:mod:`embedcore.compat.hnswlib` stands in for ``hnswlib`` 0.8.0.
"""
