"""Which networks let one sample of a batch see the others: by their layers, and by a measurement."""

import functools
import types
import warnings
import weakref
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from fastgan import processes


class Coupling(NamedTuple):
    """What is known of a function from samples to logits."""

    by: str | None = None
    """What lets samples see each other, in words for an error; None if each logit depends on its own sample alone."""

    joint: bool = True
    """Whether one call on two batches, joined, returns the logits of two calls."""


def coupling_layer(network: nn.Module) -> tuple[str, nn.Module] | None:
    """(name, module) of the first layer through which an output depends on the batch's other samples, or None.

    Batch norm that uses the batch's statistics (in training, or without running ones), and any module with a true
    attribute `couples_samples`. The network itself has the name "".
    """
    for name, module in network.named_modules():
        if getattr(module, "couples_samples", False) or _uses_batch_statistics(module):
            return name, module
    return None


def couples_samples(network: nn.Module) -> bool:
    """Whether the network has a layer through which an output depends on the batch's other samples."""
    return coupling_layer(network) is not None


def coupling(
    function: Callable[[torch.Tensor], torch.Tensor], network: Any, x: torch.Tensor, y: torch.Tensor
) -> Coupling:
    """The Coupling of a function (B, ...) -> (B, ...) in the modes in which its networks are now.

    network: the module that the function calls, or the function itself. x, y: two batches of samples, as they are
    judged. The layers are looked at first. A network with the attribute couples_samples = False promises that samples
    do not see each other. Everything else is measured, once for a function's code, its modules, their modes and the
    shape of a sample: the logit of the first sample must not change when the other samples do, and two batches must
    have the same logits in one call as in two. The random numbers are the same in each of these calls, so that dropout
    couples nothing. Buffers (running statistics, the vectors of spectral norm) and the state of the random numbers stay
    as they were: the calls see copies.

    Logits that are all equal, or not finite, decide nothing. Batches then are judged apart, which is right for every
    function. The function is measured again at the next call, at most MOST times, and then a warning says so.
    """
    anchor, key, roots = _identity(network)
    known, key = _KNOWN.setdefault(anchor, {}), (*key, x.shape[1:], y.shape[1:])
    found = known.get(key, 0)
    if isinstance(found, Coupling):
        return found
    measured = found + 1
    found, decided = _find(function, network, roots, x, y)
    if decided is None:  # not measured
        return found
    if not decided and measured == MOST:
        warnings.warn(
            f"the critic's logits were all equal, or not finite, in {MOST} calls: whether the critic couples samples"
            " cannot be measured. Real and generated samples are judged in two calls. Set the critic's attribute"
            " couples_samples = False if each logit depends on its own sample alone",
            stacklevel=2,
        )
    known[key] = found if decided or measured == MOST else measured
    return found


MOST = 10  # measurements that decide nothing
_KNOWN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""module, or code of a function -> its modules and their modes -> Coupling, or how often it was measured in vain"""


def _find(function, network, roots, x, y):
    """-> (Coupling, whether that is final; None if nothing was measured)"""
    if isinstance(network, nn.Module):
        if (found := coupling_layer(network)) is not None:
            return Coupling(_words(*found), joint=False), True
        if getattr(network, "couples_samples", None) is False:
            return Coupling(), True
    if torch.compiler.is_compiling() or type(x) not in (torch.Tensor, nn.Parameter) or x.is_meta:
        return Coupling(), None
    try:
        return _measure(function, roots, x.detach(), y.detach())
    except Exception:  # of the function, which raises it again when it is called in earnest
        return Coupling(), None


def _measure(function, roots, x, y):
    outputs = []

    def logits(batch, seed=0):
        restore()  # a power iteration of the call before would change the weights
        torch.manual_seed(seed)
        outputs.clear()
        return function(batch.clone()).detach()

    eager = torch.compiler.set_stance("force_eager")
    with torch.no_grad(), processes.alone(), eager, _undone(x.device, roots) as restore:
        with _recorded_first_rows(outputs):
            batch, joint, whole = x, x.shape[1:] == y.shape[1:], None
            if joint:
                try:
                    whole = logits(torch.cat([x, y]))
                    batch = torch.cat([x, y])
                except Exception:  # a function that holds the labels of one batch, say
                    joint = False
            if whole is None:
                whole = logits(batch)
            if whole.ndim == 0 or len(whole) != len(batch):
                count = len(whole) if whole.ndim else "one"
                return Coupling(f"which returns {count} logits for {len(batch)} samples", False), True
            before = list(outputs)
            changed = torch.cat([batch[:1], batch.roll(1, 0)[1:] * 0.5 + 0.25])
            other = logits(changed)
            after = list(outputs)
        decided = bool(whole.isfinite().all() and (whole != whole[:1]).any())
        scale = whole.abs().max() * torch.finfo(whole.dtype).eps
        moved = (whole[0] - other[0]).abs().max() > 8 * scale
        if moved and (whole - logits(batch)).abs().max() <= 8 * scale:  # and not because each call is another
            return Coupling(_first_that_differs(before, after, roots, scale), joint=False), True
        if joint:
            apart = torch.cat([logits(x), logits(y)])
            # Other sizes of a batch may be summed in another order, by half-precision products too.
            close = (whole - apart).abs().max() <= max(1e4 * scale, 0.02 * whole.abs().max() * x.is_cuda)
            if not close and (whole - logits(batch, seed=1)).abs().max() <= 8 * scale:  # and nothing is random
                return Coupling("whose logits depend on the size of the batch", joint=False), True
    return Coupling(None, joint and decided), decided


@contextmanager
def _undone(device, roots):
    """Modules that are called inside see copies of their buffers. The state of the random numbers is given back.

    The buffers themselves are not written to: a graph that is still open may hold them. Yields a function that gives
    the modules new copies. Modules of torch.jit take no copies: their buffers are set back in place.
    """
    own = {}  # module -> name -> buffer
    in_place = []  # (buffer, value)

    def save(module, args):
        if module not in own:
            for part in module.modules():
                if part not in own and isinstance(part, torch.jit.ScriptModule):
                    own[part] = {}
                    in_place.extend((buffer, buffer.clone()) for buffer in part.buffers(recurse=False))
                elif part not in own:
                    own[part] = {name: buffer for name, buffer in part._buffers.items() if buffer is not None}
                    give(part, copies)

    def give(module, copies):
        for name, buffer in own[module].items():
            module._buffers[name] = copies.setdefault(id(buffer), buffer.clone())  # shared buffers stay shared

    copies: dict = {}

    def restore():
        copies.clear()
        for module in own:
            give(module, copies)
        set_back()

    def set_back():
        for buffer, value in in_place:
            buffer.copy_(value)

    for root in roots:
        save(root, ())
    hook = register_module_forward_pre_hook(save)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield restore
        finally:
            hook.remove()
            for module, buffers in own.items():
                if buffers:
                    module._buffers.update(buffers)
            set_back()


@contextmanager
def _recorded_first_rows(outputs):
    """(module, the output's first row) of each module that is called inside, inner ones first."""

    def record(module, args, output):
        if isinstance(output, torch.Tensor) and output.ndim:
            outputs.append((module, output[0].clone()))

    hook = register_module_forward_hook(record)
    try:
        yield
    finally:
        hook.remove()


def _first_that_differs(before, after, roots, scale):
    names = {module: name for root in roots for name, module in root.named_modules()}
    for (module, a), (_, b) in zip(before, after, strict=False):
        if a.shape == b.shape and (a.float() - b.float()).abs().max() > 8 * scale:
            return _words(names.get(module, ""), module)
    return "which computes a logit from other samples too"


def _words(name, layer):
    return f"whose {type(layer).__name__} {name or '(the critic itself)'!r} couples the samples of a batch"


def _identity(network):
    """-> (what the knowledge is kept with, key among what is kept there, modules behind the function)"""
    roots = _modules_behind(network)
    code = getattr(network, "__code__", None) or getattr(getattr(network, "__func__", None), "__code__", None)
    key = (code or type(network), *(mode for root in roots for mode in _modes(root)))
    anchor = roots[0] if roots else code or type(network)
    return anchor, key, roots


def _modules_behind(function):
    if isinstance(function, nn.Module):
        return [function]
    if isinstance(function, functools.partial):
        return _modules_behind(function.func)
    if isinstance(function, types.MethodType):
        return _modules_behind(function.__self__)
    if isinstance(function, types.FunctionType):
        held = []
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # a variable that has no value yet
                held.append(cell.cell_contents)
        held += [function.__globals__.get(name) for name in function.__code__.co_names]
    else:
        held = list(getattr(function, "__dict__", {}).values())
    return [value for value in held if isinstance(value, nn.Module)]


def _modes(module):
    """What the coupling of a module depends on: the class, the mode and the word of each part."""
    waiting = [module]
    while waiting:
        part = waiting.pop()
        if part is not None:
            own = part.__dict__
            yield type(part), part.training, own.get("couples_samples")
            waiting.extend(own["_modules"].values() if "_modules" in own else part.children())  # of torch.jit: no dict


def _uses_batch_statistics(module):
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    return module.training or (module.running_mean is None and module.running_var is None)
