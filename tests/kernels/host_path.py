"""What tests/kernels/test_host_path.py looks at, each in a process of its own: python -m tests.kernels.host_path NAME.

launches: of every cycle of benchmarks.host_time and of penalties, by the fast path and by the registered op.
driver: Triton's own launcher on a driver that does nothing. repeated: plans, executed by Triton's interpreter.
"""

import ctypes
import json
import sys
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastgan
from benchmarks import host_time, stub_driver
from fastgan import ops


class Watched(TorchDispatchMode):
    """Every call takes the registered op."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def launches():
    log = []
    stub_driver.install_uncompiled(lambda *launch: log.append(launch))

    def of(function):
        log.clear()
        function()
        return list(log)

    found = {}
    for name, _, cycle, _ in host_time.cycles("cpu"):
        first, again = of(cycle), of(cycle)
        with Watched():
            watched = of(cycle)
        found[name] = {"launches": len(again), "again": again == first, "watched": watched == first}
    found["unaligned"] = unaligned()
    found["most plans"] = most_plans()
    x = torch.zeros(2, 3, 32, 32)
    r3gan = fastgan.models.create("r3gan", channels=3, resolution=32, width=16).discriminator
    found["R3GAN's critic"] = len(of(lambda: penalty(r3gan, x).backward()))
    wgan_gp = fastgan.models.create("wgan_gp", channels=3, resolution=32, width=32, norm="group").discriminator
    wgan_gp, x = (t.to(memory_format=torch.channels_last) for t in (wgan_gp, x))
    found["WGAN-GP's critic"] = len(of(lambda: penalty(wgan_gp, x).backward()))
    return found


def unaligned():
    """Triton's binder or a plan: what serves two calls whose memory is not aligned as the plan's is."""
    import triton

    served, run = [], triton.JITFunction.run
    aligned, shifted = (torch.zeros(12)[start : start + 8].reshape(2, 4) for start in (0, 1))
    assert aligned.data_ptr() % 16 == 0 and shifted.data_ptr() % 16
    ops.bias_act(aligned, act="silu")
    triton.JITFunction.run = lambda *args, **options: (served.append("run"), run(*args, **options))[1]
    ops.bias_act(aligned, act="silu")
    assert not served
    for _ in range(2):
        ops.bias_act(shifted, act="silu")
    triton.JITFunction.run = run
    return served


def most_plans():
    from fastgan.kernels import bias_act, launch

    launch.MOST_PLANS, counts = 3, []
    for n in range(1, 8):
        ops.bias_act(torch.zeros(n), act="silu")
        counts.append(len(bias_act.forward.plans))
    return max(counts[3:])


def penalty(critic, x):
    x = x.requires_grad_()
    (g,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return ops.grad_norm_penalty(g)


def driver():
    seen = []
    launches = stub_driver.install(lambda *launch: seen.append(launch))
    found = {}
    for name, _, cycle, _ in host_time.cycles("cpu"):
        if name in ("bias + silu", "bias + leaky_relu"):
            cycle()
            before, frames = launches(), []
            seen.clear()
            sys.setprofile(lambda frame, event, _, frames=frames: frames.append(frame) if event == "call" else None)
            cycle()
            sys.setprofile(None)
            own = [f for f in frames if "fastgan" in f.f_code.co_filename or "triton" in f.f_code.co_filename]
            found[name] = {"launches": launches() - before, "seen": len(seen), "frames": len(own)}
    import triton

    hooked = []
    triton.knobs.runtime.launch_enter_hook.add(lambda metadata: hooked.append(metadata.get()["name"]))
    ops.bias_act(torch.zeros(2, 4, 2, 2), torch.zeros(4), act="silu")
    found["hooked"] = hooked
    return found


def repeated():
    """name -> whether a repeated call gives the bits of a first one."""
    import triton
    from fastgan.kernels import attention, bias_act, launch, normalize
    from triton.runtime.interpreter import InterpretedFunction

    interpret, calls = InterpretedFunction.run, []

    def run(kernel, *arguments, grid, warmup, **options):
        """As a compiled kernel does, returns what can be launched again, with addresses in the place of tensors."""
        interpret(kernel, *arguments, grid=grid, warmup=warmup, **options)

        def again(*others):
            calls.append(kernel.fn.__name__)
            values = [
                _at(a, like) if isinstance(like, torch.Tensor) else a
                for a, like in zip(others[-1], arguments, strict=True)
            ]
            interpret(kernel, *values, grid=others[:3], warmup=False)

        launcher = {"global_scratch_size": 0, "profile_scratch_size": 0, "gsan_enabled": False, "launch_pdl": False}
        launcher |= {"launch_cooperative_grid": False, "arg_annotations": [], "kernel_signature": b"", "launch": again}
        return SimpleNamespace(run=SimpleNamespace(**launcher), function=0, packed_metadata=())

    InterpretedFunction.run = run
    triton.runtime.driver.set_active(SimpleNamespace(get_current_stream=lambda device: 0))

    def at_random(*like):
        return [t if t is None else torch.rand_like(t) for t in like]

    def same(function, tensors, *others):
        function(*tensors, *others)  # the first call: the plan
        fresh = at_random(*tensors)
        calls.clear()
        got = function.wanted(*fresh, *others)
        want = function.__wrapped__(launch.Steps(fresh), *fresh, *others)
        got, want = ([r] if isinstance(r, torch.Tensor) else r for r in (got, want))
        equal = [torch.equal(a, b) if a is not None else not b.numel() for a, b in zip(got, want, strict=True)]
        layouts = [a is None or a.stride() == b.stride() for a, b in zip(got, want, strict=True)]
        return bool(calls) and all(equal) and all(layouts)

    found = {}
    x, c = torch.randn(2, 4, 3, 3), torch.randn(4)
    last, cropped = x.contiguous(memory_format=torch.channels_last), torch.randn(2, 4, 3, 5)[..., :3]
    setting = (1, 3, 0.2, 1.5, 2.0)
    for name, t in {"": x, ", channels_last": last, ", half": x.half(), ", cropped": cropped}.items():
        found["bias_act" + name] = same(bias_act.forward, (t, c), *setting)
        # The same tensor twice at the first call.
        found["bias_act_backward" + name] = same(bias_act.backward, (t, t, c), *setting, False, (True, True))
        found["bias_act_double_backward" + name] = same(
            bias_act.double_backward, (x.to(t.dtype), None, t, t, c), *setting, False, (True, False, True)
        )
    for name, groups, shape in (("group", 2, (2, 2)), ("batch", 0, (4,))):
        mean, var = torch.zeros(shape), torch.ones(shape)
        found[f"{name} norm"] = same(normalize.forward, (last, c, c), groups, 1e-5)
        found[f"{name} norm, backward"] = same(
            normalize.backward, (x, last, c, mean, var), groups, 1e-5, (True, True, False)
        )
        found[f"{name} norm, double backward"] = same(
            normalize.double_backward, (x, c, None, x, x, c, mean, var), groups, 1e-5, (True, True, True)
        )
    q, lse = torch.randn(1, 2, 16, 16), torch.randn(1, 2, 16)
    found["attention"] = same(attention.forward, (q, q.mT.contiguous().mT, q, None), 0.25, False)
    found["attention, backward"] = same(
        attention.backward, (q, None, q, q, q, None, q, lse), 0.25, False, (True, False, True, False)
    )
    found["attention, double backward"] = same(
        attention.double_backward,
        (q, None, q, None, q, None, q, q, q, None, q, lse),
        0.25,
        True,
        (True, False, True, True, True, False),
    )
    return found


def _at(address, like):
    """The tensor in the place of `like` that lies at an address."""
    if not like.numel():
        return like
    memory = (ctypes.c_char * (like.numel() * like.element_size())).from_address(address)
    return torch.frombuffer(memory, dtype=like.dtype)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(json.dumps({"launches": launches, "driver": driver, "repeated": repeated}[sys.argv[1]]()))
