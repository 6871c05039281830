"""Kernels: Cython and C over buffers, without the GIL. They import nothing of ours.

Each `.pyx` has a documented `.pyi`, and a plain-Python twin in tests/reference. Where a kernel has
several code paths, the best that the CPU offers is chosen when it is loaded; `force_path` switches
them in tests, for that extension alone.
"""
