"""Triton kernels, one file per op family; imported only where a CUDA tensor needs them."""
