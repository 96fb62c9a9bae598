# Marks the package for Cython: `from normcore.c_api cimport ...` finds the declarations of the C library.
