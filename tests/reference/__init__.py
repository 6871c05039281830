"""Plain Python twins of the kernels: obvious, slow, and the yardstick of their property tests."""
