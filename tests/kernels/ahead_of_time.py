"""Triton kernels compiled for GPUs that are not here: nothing runs, the compiler's report is read."""

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import triton

# compute capability -> bytes of shared memory that a block can have
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}


def compile_ahead(kernel, types, constants, arch, warps, stages=3):
    """(bytes and instructions of local memory, shared bytes, SASS). types: of every argument but the constants."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    places = {name: (i,) for i, name in enumerate(kernel.arg_names)}
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={places[name]: value for name, value in constants.items() if name in places},
        attrs={places[name]: [["tt.divisibility", 16]] for name, t in signature.items() if t.startswith("*")},
    )
    target = GPUTarget("cuda", arch, 32)
    compiled = triton.compile(source, target=target, options=dict(num_warps=warps, num_stages=stages))
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([tools / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True).stdout
        sass = subprocess.run([tools / "nvdisasm", "-c", file.name], capture_output=True, text=True).stdout
    local = Counter(re.findall(r"\b(LDL|STL)\b", sass))
    return int(re.search(r"STACK:(\d+)", usage)[1]) + sum(local.values()), compiled.metadata.shared, sass
