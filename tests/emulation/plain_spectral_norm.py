"""The three ops in plain torch, from the equations, in float64; and lists of tensors to try them on."""

import comparison
import torch
from torch.nn.functional import normalize


def spectral_norm(weights, us, vs, n_power_iterations, eps, update):
    results = ([], [], [], [])
    for w, u, v in zip(weights, us, vs, strict=True):
        w, u, v = w.double(), u.double(), v.double()
        for _ in range(n_power_iterations if update else 0):
            u = normalize(w @ v, dim=0, eps=eps)
            v = normalize(w.t() @ u, dim=0, eps=eps)
        sigma = u @ (w @ v)
        for result, value in zip(results, (w / sigma, sigma, u, v), strict=True):
            result.append(value)
    return results


def spectral_norm_backward(grads, grad_sigmas, weights, sigmas, us, vs, output_mask):
    results = []
    for arguments in zip(grads, grad_sigmas, weights, sigmas, us, vs, strict=True):
        g, g_sigma, w, s, u, v = (t.double() for t in arguments)
        results.append(g / s + (g_sigma - (g * w).sum() / s**2) * torch.outer(u, v))
    return results


def spectral_norm_double_backward(hs, grads, weights, sigmas, us, vs, output_mask):
    results = ([], [], [], [])
    for arguments in zip(hs, grads, weights, sigmas, us, vs, strict=True):
        h, g, w, s, u, v = (t.double() for t in arguments)
        c = u @ h @ v
        d_sigma = 2 * (g * w).sum() * c / s**3 - (h * g).sum() / s**2
        for result, value in zip(results, (h / s - c / s**2 * w, c, -c / s**2 * g, d_sigma), strict=True):
            result.append(value)
    return results


class Network:
    """Random arguments of the ops for weights of the given shapes, such that no result is a small difference."""

    def __init__(self, shapes, dtype=torch.float32, seed=0, misaligned=False):
        generator = torch.Generator().manual_seed(seed)

        def random(shape):
            # A view that begins one element into its storage is not aligned to more than an element.
            storage = torch.randn(torch.Size(shape).numel() + 1, generator=generator, dtype=torch.float64).to(dtype)
            return (storage[1:] if misaligned else storage[1:].clone()).view(shape)

        self.weights, self.grads, self.hs = ([random(shape) for shape in shapes] for _ in range(3))
        self.us, self.vs = ([random(shape[i : i + 1]) for shape in shapes] for i in (0, 1))
        self.sigmas, self.grad_sigmas = ([random(()) for _ in shapes] for _ in range(2))
        for w, h, u, v, sigma in zip(self.weights, self.hs, self.us, self.vs, self.sigmas, strict=True):
            u.copy_(normalize(u.double(), dim=0))
            v.copy_(normalize(w.double().t() @ u.double(), dim=0))  # W v is not small
            h.add_(3 * torch.outer(u, v))  # nor is u^T H v
            sigma.abs_().add_(1)
        _, _, us, vs = spectral_norm(self.weights, self.us, self.vs, 3, 1e-12, True)
        self.trained = [u.to(dtype) for u in us], [v.to(dtype) for v in vs]

    def forward(self, n_power_iterations=1, eps=1e-12):
        return self.weights, self.us, self.vs, n_power_iterations, eps, True

    def evaluation(self):
        return self.weights, *self.trained, 1, 1e-12, False

    def backward(self):
        return self.grads, self.grad_sigmas, self.weights, self.sigmas, self.us, self.vs, [True]

    def double_backward(self):
        return self.hs, self.grads, self.weights, self.sigmas, self.us, self.vs, [True] * 4

    def calls(self, *, n_power_iterations=1):
        """(op, arguments) of every op."""
        yield "spectral_norm", self.forward(n_power_iterations)
        yield "spectral_norm", self.evaluation()
        yield "spectral_norm_backward", self.backward()
        yield "spectral_norm_double_backward", self.double_backward()


def check(emulated, op, arguments):
    comparison.check(emulated, globals()[op], arguments)
