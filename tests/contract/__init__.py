"""Every promise of the ops, for every op: docs/house.md lists them.

An op gives its cases (attention.py, bias_act.py, grad_norm_penalty.py, normalize.py, spectral_norm.py); test_*.py hold
the promises; the same cases run on the CPU, in Triton's interpreter, in the CUDA emulator and on a GPU.
"""
