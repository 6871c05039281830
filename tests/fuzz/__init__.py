"""Programs in C that throw bytes at the kernels, built with sanitizers."""
