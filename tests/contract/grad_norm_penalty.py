"""The gradient penalty's cases."""

import torch
from hypothesis import strategies as st

from fastgan.ops import grad_norm_penalty, grad_norm_penalty_reference
from fastgan.ops.grad_norm_penalty import KINDS
from tests.contract.op import Case, Op, accumulator

OPS = torch.ops.fastgan


def plain(grad, target=1.0, kind="two-sided", eps=0.0):
    """As a user writes it."""
    squares = grad.reshape(len(grad), -1).square().sum(1)
    if kind == "squared":
        return squares.mean(), squares.sqrt()
    norms = (squares + eps).sqrt()
    over = norms - target
    return (over.relu() if kind == "one-sided" else over).square().mean(), norms


def case(name, shape, zero_sample=False, seed=0, scale=1.0, **setting):
    def tensors():
        grad = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        if zero_sample:
            grad[1] = 0
        return {"grad": grad}

    def call(function, **more):
        return lambda grad: dict(zip(("penalty", "norms"), function(grad, **setting, **more), strict=True))

    ours, reference = call(grad_norm_penalty, return_norms=True), call(grad_norm_penalty_reference)
    plains = None if zero_sample or 0 in shape else call(plain)  # at zero it has NaN
    by_reference = torch.Size(shape).numel() <= shape[0]
    bound = 1e-3 if by_reference else 2e-5  # two terms of one element's second derivative cancel, in plain torch too
    return Case(name, ours, reference, tensors, plains, by_reference=by_reference, float32=bound)


def raw_calls(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def random(*shape, dtype=dtype):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    calls = []
    for kind in range(len(KINDS)):
        grad, h = random(3, 4, 2), random(3, 4, 2)
        grad_penalty, grad_norms = random(dtype=accumulator(dtype)), random(3, dtype=accumulator(dtype))
        norms = grad.flatten(1).to(accumulator(dtype)).norm(dim=1)
        fixed = (grad_penalty, grad_norms, grad, norms)
        leaves = [t.clone().requires_grad_() for t in fixed]
        calls.append((OPS.grad_norm_penalty, (leaves[2], 1.0, kind, 0.0)))
        calls.append((OPS.grad_norm_penalty_backward, (*leaves, 1.0, kind, [True])))
        calls.append((OPS.grad_norm_penalty_double_backward, (h, *fixed, 1.0, kind, [True] * 4)))
    return calls


def _call(grad, **setting):
    return lambda: grad_norm_penalty(grad, **setting)


GOOD = torch.ones(2, 3)

OP = Op(
    name="grad_norm_penalty",
    tiny=[case(kind, (3, 4, 2), kind=kind, target=2.0, eps=1e-3) for kind in KINDS],
    cases=[
        *(case(kind, (5, 3, 6, 5), kind=kind, target=2.5) for kind in KINDS),
        *(case(f"{kind}, eps", (5, 3, 6, 5), kind=kind, target=2.5, eps=0.25) for kind in KINDS),
        *(case(f"{kind}, a sample of zeros", (4, 9), True, kind=kind) for kind in KINDS),
        case("short samples", (300, 2)),
        case("one element in each sample", (700, 1)),
        case("one element", (1, 1)),
        case("one dimension", (4,)),
        case("no elements", (3, 0)),
        case("long samples", (3, 7, 701)),
    ],
    large=[case("large", (3, 150_000), scale=1e-2), case("many samples, large", (2048, 24))],
    huge=[
        case(
            f"{kind}, {'x'.join(map(str, shape))}",
            shape,
            kind=kind,
            target=0.8,
            scale=torch.Size(shape[1:]).numel() ** -0.5,
        )
        for kind in KINDS
        for shape in ((64, 3, 32, 32), (7, 501), (4, 3, 128, 128), (2048, 2))
    ],
    drawn=st.builds(
        lambda shape, **setting: case("drawn", tuple(shape), **setting),
        st.lists(st.integers(1, 9), min_size=1, max_size=4),
        target=st.sampled_from([0.0, 1.0, 2.5]),
        kind=st.sampled_from(list(KINDS)),
        eps=st.sampled_from([0.0, 1e-3]),
        seed=st.integers(0, 100),
    ),
    raw_calls=raw_calls,
    bad_calls={
        "no dimension": (_call(torch.ones(())), ValueError, "grad must have a non-empty batch"),
        "no samples": (_call(torch.ones(0, 3)), ValueError, "grad must have a non-empty batch"),
        "integers": (_call(GOOD.long()), TypeError, "grad must be float64.*int64"),
        "a number": (_call(1.0), TypeError, "grad must be a tensor"),
        "unknown kind": (_call(GOOD, kind="both"), ValueError, "kind must be one of"),
        "negative eps": (_call(GOOD, eps=-1.0), ValueError, "eps"),
    },
    bad_raw_calls={
        "no dimension": lambda: OPS.grad_norm_penalty(torch.ones(()), 1.0, 0, 0.0),
        "unknown kind": lambda: OPS.grad_norm_penalty(GOOD, 1.0, 3, 0.0),
        "negative kind": lambda: OPS.grad_norm_penalty(GOOD, 1.0, -1, 0.0),
        "integers": lambda: OPS.grad_norm_penalty(GOOD.long(), 1.0, 0, 0.0),
        "negative eps": lambda: OPS.grad_norm_penalty(GOOD, 1.0, 0, -1.0),
    },
    laid_out_like="grad",
    free=("grad of grad_norm_penalty_backward",),
)
