"""Forward mode, torch.func, torch.compile, autocast: right, or an exception."""

import pytest
import torch
import torch.utils.checkpoint
from torch.autograd import forward_ad
from torch.library import opcheck

from tests.contract.check import check
from tests.contract.closeness import assert_all_close
from tests.contract.derivatives import COTANGENTS, derivatives
from tests.contract.every_op import EVERY_OP, listed

TINY = listed("tiny")
PUBLIC = {name: case for name, (_, case) in TINY.items() if not case.raw}  # a raw op refuses, see below
HALF_WITH_WIDE = {
    f"{name}, {dtype}": (op, case, getattr(torch, dtype))
    for name, (op, case) in listed("tiny").items()
    for dtype in ("bfloat16", "float16")
    if any(n in op.wide for n in case.tensors())
}


def split(case):
    """(the tensors that may have a tangent or a gradient, the others)."""
    inputs = case.inputs()
    moving = {name: t for name, t in inputs.items() if name in case.differentiable}
    return moving, {name: t for name, t in inputs.items() if name not in moving}


def tangent_of(t, seed=3):
    return torch.randn(t.shape, generator=torch.Generator().manual_seed(seed), dtype=t.dtype)


def exact_tangents(case, moving, fixed):
    """J t by two backward passes over the reference: forward mode is not used."""
    leaves = {name: t.clone().requires_grad_() for name, t in moving.items()}
    outputs = case.reference(**leaves, **fixed)
    results = {}
    for name, out in outputs.items():
        results[name] = torch.zeros_like(out)
        if out.requires_grad:
            v = torch.zeros_like(out, requires_grad=True)
            first = torch.autograd.grad(
                out, leaves.values(), v, create_graph=True, retain_graph=True, materialize_grads=True
            )
            along = sum((g * tangent_of(g)).sum() for g in first)
            (results[name],) = torch.autograd.grad(along, v, retain_graph=True)
    return results


@pytest.mark.parametrize("name", TINY)
def test_forward_mode_is_right_or_raises(name):
    check_forward_mode(TINY[name][1])


def check_forward_mode(case):
    moving, fixed = split(case)
    expected = exact_tangents(case, moving, fixed)
    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(t, tangent_of(t)) for name, t in moving.items()}
        try:
            outputs = case.ours(**duals, **fixed)
        except NotImplementedError as error:
            assert "forward-mode" in str(error)
            return
        tangents = {name: forward_ad.unpack_dual(t).tangent for name, t in outputs.items()}
    ours = {n: torch.zeros_like(expected[n]) if t is None else t for n, t in tangents.items()}
    assert_all_close(ours, expected, 1e-10)


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: op.name)
def test_forward_mode_of_a_raw_op_raises(op):
    """Of the op and of both its derivatives, whichever argument has a tangent."""
    for raw, arguments in op.raw_calls():
        for i, argument in enumerate(arguments):
            tensors = argument if isinstance(argument, list) else [argument]
            if not isinstance(tensors[0], torch.Tensor):
                continue
            with forward_ad.dual_level():
                duals = [forward_ad.make_dual(t.detach(), torch.ones_like(t)) for t in tensors]
                changed = [*arguments[:i], duals if isinstance(argument, list) else duals[0], *arguments[i + 1 :]]
                # The highest derivative has torch's wrapper, which raises another error.
                with pytest.raises((NotImplementedError, RuntimeError)):
                    raw(*changed)


@pytest.mark.parametrize("name", PUBLIC)
def test_torch_func_transforms_are_right(name):
    case = PUBLIC[name]
    moving, fixed = split(case)

    def loss(function):
        return lambda moving: sum((t.square() * t).sum() for t in function(**moving, **fixed).values())

    ours, reference = loss(case.ours), loss(case.reference)
    leaves = {name: t.clone().requires_grad_() for name, t in moving.items()}
    first = torch.autograd.grad(reference(leaves), leaves.values(), create_graph=True)
    tangents = {name: tangent_of(t) for name, t in moving.items()}
    along = sum((g * t).sum() for g, t in zip(first, tangents.values(), strict=True))
    second = torch.autograd.grad(along, leaves.values())
    assert_all_close(torch.func.grad(ours)(moving), dict(zip(moving, first, strict=True)), 1e-10)
    _, moved = torch.func.jvp(ours, (moving,), (tangents,))
    assert_all_close({"tangent": moved}, {"tangent": along}, 1e-10)
    _, hessian_vector = torch.func.jvp(torch.func.grad(ours), (moving,), (tangents,))
    assert_all_close(hessian_vector, dict(zip(moving, second, strict=True)), 1e-10)
    two = {name: torch.stack([t, 0.5 * t]) for name, t in moving.items()}
    batched = torch.func.vmap(lambda moving: case.ours(**moving, **fixed))(two)
    for i in range(2):
        one = case.reference(**{name: t[i] for name, t in two.items()}, **fixed)
        assert_all_close({name: t[i] for name, t in batched.items()}, one, 1e-10)


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: op.name)
def test_every_op_passes_opcheck(op):
    for raw, arguments in op.raw_calls():
        opcheck(raw.default, arguments)


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: op.name)
def test_half_precision_passes_opcheck(op):
    """The dtypes of sums and statistics differ from those of the tensors."""
    for raw, arguments in op.raw_calls(torch.bfloat16):
        opcheck(raw.default, arguments, test_utils=("test_schema", "test_faketensor"))


# torch.compile takes seconds a case: what differs between the cases is in the kernels, which the other tests run.
COMPILED = {
    name: TINY[f"{name}, tiny"][1]
    for name in (
        "attention: dot",
        "attention: causal L2, key bias",
        "bias_act: leaky_relu",
        "bias_act: silu",
        "bias_act: tanh",
        "grad_norm_penalty: two-sided",
        "normalize: group_norm",
        "normalize: layer_norm",
        "normalize: instance_norm",
        "normalize: batch_norm",
        "spectral_norm: evaluation",
    )
}


@pytest.mark.parametrize("name", COMPILED)
def test_a_whole_penalty_compiles_to_one_graph(name):
    case = COMPILED[name]
    moving, fixed = split(case)
    leaves = {name: t.requires_grad_() for name, t in moving.items()}

    def step(leaves):
        outputs = [t for t in case.ours(**leaves, **fixed).values() if t.requires_grad]
        score = sum((t.square() * t).sum() for t in outputs)
        first = torch.autograd.grad(score, list(leaves.values()), create_graph=True)
        penalty = sum(g.square().sum() for g in first)
        second = torch.autograd.grad(penalty, list(leaves.values()))
        return [t.detach() for t in (*outputs, *first, *second)]

    torch._dynamo.reset()  # else the cases count as recompilations of one step
    with torch._dynamo.config.patch(trace_autograd_ops=True):  # torch's switch for autograd.grad inside a graph
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(leaves)
    for i, (ours, expected) in enumerate(zip(compiled, step(leaves), strict=True)):
        assert_all_close({f"result {i}": ours}, {f"result {i}": expected}, 1e-10)


@pytest.mark.parametrize("name", TINY)
def test_autocast_changes_the_dtype_alone(name):
    """The output has the dtype that torch's own operation has under autocast, the gradients those of the inputs."""
    op, case = TINY[name]
    inputs = case.inputs(torch.float32)
    requires = [*case.differentiable, COTANGENTS]
    with torch.autocast("cpu", torch.bfloat16):
        ours = derivatives(case.ours, inputs, requires, rounding=torch.bfloat16)
    exact = derivatives(case.reference, case.inputs(), requires, rounding=torch.bfloat16)
    if not case.raw:  # a raw op knows nothing of autocast
        assert next(iter(ours.values())).dtype == op.autocast
    lowered = next(iter(ours.values())).dtype == torch.bfloat16
    assert_all_close(ours, exact, 5e-2 if lowered else case.float32)
    for n in case.differentiable:
        assert ours[f"grad of {n}"].dtype == ours[f"second grad of {n}"].dtype == torch.float32


@pytest.mark.parametrize("name", HALF_WITH_WIDE)
def test_float32_parameters_beside_half_precision(name):
    op, case, dtype = HALF_WITH_WIDE[name]
    check(case, dtype, wide=op.wide)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_penalty_under_activation_checkpointing_is_the_same(name):
    """A saved tensor may be unpacked once in a pass, also by the inner gradient of the recomputed function."""
    check_checkpointing(PUBLIC[name])


def check_checkpointing(case):
    def penalty(*tensors):
        outputs = case.ours(**dict(zip(moving, tensors, strict=True)), **fixed).values()
        total = sum((out.sin()).sum() for out in outputs if out.requires_grad)
        first = torch.autograd.grad(total, tensors, create_graph=True, materialize_grads=True)
        return sum(g.square().sum() for g in first)

    moving, fixed = split(case)
    results = []
    for run in (penalty, lambda *t: torch.utils.checkpoint.checkpoint(penalty, *t, use_reentrant=False)):
        leaves = [t.clone().requires_grad_() for t in moving.values()]
        value = run(*leaves)
        results.append(dict(zip(moving, torch.autograd.grad(value, leaves, materialize_grads=True), strict=True)))
    assert_all_close(results[1], results[0], 1e-12)
