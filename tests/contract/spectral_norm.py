"""The spectral norm's cases: lists of weights at once."""

import torch
from hypothesis import strategies as st

from fastgan.ops import spectral_norm, spectral_norm_reference
from tests.contract.op import Case, Op

OPS = torch.ops.fastgan
RAGGED = [(4, 6), (3, 5), (1, 1), (7, 1), (1, 9)]
NETWORK = [(64, 27), (33, 1000), (8, 2, 3, 3), (1, 90)]


def network(shapes, seed=0):
    """(weights, us, vs); u and v are nearly the leading singular vectors, so that u^T W v does not cancel."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = [random(*shape) for shape in shapes]
    us, vs = ([torch.nn.functional.normalize(random(n), dim=0) for n in sizes] for sizes in zip(*map(sides, shapes)))  # noqa: B905
    _, _, us, vs = spectral_norm_reference(weights, us, vs, n_power_iterations=3)
    return weights, us, vs


def sides(shape):
    return shape[0], torch.Size(shape[1:]).numel()


def named(*lists):
    """{"W 0": tensor ...} of lists; and back by `lists_of`."""
    return {f"{name} {i}": t for name, tensors in lists for i, t in enumerate(tensors)}


def lists_of(tensors):
    return [[t for name, t in tensors.items() if name.startswith(f"{kind} ")] for kind in ("W", "u", "v")]


def case(name, shapes, seed=0, float32=2e-5, **setting):
    def tensors():
        weights, us, vs = network(shapes, seed)
        return named(("W", weights), ("u", us), ("v", vs))

    def call(function):
        def called(**tensors):
            results = function(*lists_of(tensors), **setting)
            return named(*zip(("normalized", "sigma", "new u", "new v"), results, strict=True))

        return called

    constants = tuple(f"{kind} {i}" for kind in "uv" for i in range(len(shapes)))
    return Case(name, call(spectral_norm), call(spectral_norm_reference), tensors, constants=constants, float32=float32)


def raw_calls(dtype=torch.float64):
    weights, us, vs = ([t.to(dtype) for t in tensors] for tensors in network([(4, 6), (3, 5)]))
    _, sigmas, us, vs = OPS.spectral_norm(weights, us, vs, 1, 1e-12, True)
    hs, grads, grad_sigmas = ([torch.randn_like(t) for t in like] for like in (weights, weights, sigmas))

    def leaves(*lists):
        return [[t.clone().requires_grad_() for t in tensors] for tensors in lists]

    return [
        (OPS.spectral_norm, (*leaves(weights), us, vs, 1, 1e-12, True)),
        (OPS.spectral_norm, (*leaves(weights), us, vs, 1, 1e-12, False)),
        (OPS.spectral_norm_backward, (*leaves(grads, grad_sigmas, weights, sigmas), us, vs, [True])),
        (OPS.spectral_norm_double_backward, (hs, grads, weights, sigmas, us, vs, [True] * 4)),
    ]


W, U, V = network([(4, 6), (3, 5)])
BAD = {  # what is wrong -> (weights, us, vs), error, message
    "weight without dimensions": (([W[0][0, 0]], U[:1], V[:1]), ValueError, r"weights\[0\].*matrix"),
    "empty weight": (([W[0][:0]], [U[0][:0]], V[:1]), ValueError, r"weights\[0\].*non-empty"),
    "weight is a vector": (([W[0].flatten()], U[:1], V[:1]), ValueError, r"weights\[0\].*matrix"),
    "short u": ((W, [U[0][:-1], U[1]], V), ValueError, r"us\[0\] must have shape \(4,\)"),
    "long v": ((W, U, [V[0], V[0]]), ValueError, r"vs\[1\] must have shape \(5,\)"),
    "missing v": ((W, U, V[:1]), ValueError, "vs must have one vector per weight"),
    "integers": (([W[0].long()], U[:1], V[:1]), TypeError, r"weights\[0\].*int64"),
    "mixed dtypes": ((W, [U[0].float(), U[1]], V), TypeError, r"us\[0\].*float64.*float32"),
    "u requires a gradient": (
        ([W[0].clone().requires_grad_()], [U[0].clone().requires_grad_()], V[:1]),
        ValueError,
        r"us\[0\].*must not require grad",
    ),
}
ONLY_PUBLIC = {
    "mixed devices": ((W, [U[0].to("meta"), U[1]], V), TypeError, r"us\[0\].*cpu.*meta"),
    "not a tensor": (([1.0, W[1]], U, V), TypeError, r"weights\[0\] must be a tensor"),
}
NUMBERS = {
    "no iterations": {"n_power_iterations": 0},
    "negative iterations": {"n_power_iterations": -1},
    "negative eps": {"eps": -1.0},
}


def _call(*args, **setting):
    return lambda: spectral_norm(*args, **setting)


def _raw_call(args, n_power_iterations=1, eps=1e-12):
    return lambda: OPS.spectral_norm(*args, n_power_iterations, eps, True)


OP = Op(
    name="spectral_norm",
    # With update=True u and v move with W, which finite differences see; in the paper they are constants.
    tiny=[case("evaluation", [(4, 6), (3, 2, 2)], update=False), case("one weight", [(3, 4)], update=False)],
    cases=[
        case("a network", NETWORK),
        case("a network, three iterations", NETWORK, n_power_iterations=3),
        case("a network, evaluation", NETWORK, update=False),
        case("ragged", RAGGED),
        case("one element", [(1, 1)]),
        case("eps above the norms", [(9, 14), (3, 40)], eps=10.0),
    ],
    large=[
        case("cut into blocks, large", [(300, 500), (64, 27), (1, 5000), (5000, 3)]),
        case("cut into blocks, large, evaluation", [(300, 700), (7, 1)], update=False),
    ],
    huge=[
        case(f"{name}{', evaluation' if setting else ''}", shapes, **setting)
        for name, shapes in {
            "the critic of DCGAN": [(64, 48), (128, 1024), (256, 2048), (512, 4096), (1, 8192)],
            "one large weight": [(2048, 18432), (16, 9)],
        }.items()
        for setting in ({}, {"update": False})
    ],
    drawn=st.builds(
        lambda shapes, update, eps, seed: case("drawn", shapes, seed, update=update, eps=eps),
        st.lists(st.tuples(st.integers(1, 70), st.integers(1, 90)), min_size=1, max_size=6),
        st.booleans(),
        st.sampled_from([1e-12, 1e-3, 10.0]),
        st.integers(0, 1000),
    ),
    raw_calls=raw_calls,
    bad_calls={
        **{name: (_call(*args), error, message) for name, (args, error, message) in (BAD | ONLY_PUBLIC).items()},
        **{name: (_call(W, U, V, **setting), ValueError, next(iter(setting))) for name, setting in NUMBERS.items()},
    },
    bad_raw_calls={
        **{name: _raw_call(args) for name, (args, _, _) in BAD.items()},
        **{name: _raw_call((W, U, V), **setting) for name, setting in NUMBERS.items()},
    },
)
