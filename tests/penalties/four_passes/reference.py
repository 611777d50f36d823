"""What autograd gives for the same critic, draws and forwards, and the comparison with it."""

import copy

import torch

from fastgan import losses
from fastgan.penalties import backward, evaluate, initial_states

TOLERANCE = 1e-9


def by_autograd(critic, loss, penalties, real, fake, *, seed=0, step=None, share=1.0):
    found = evaluate(
        penalties,
        critic,
        real,
        fake,
        rng=torch.Generator().manual_seed(seed),
        states=initial_states(penalties),
        step=step,
    )
    total = losses.get(loss).discriminator(found.real_logits, found.fake_logits)
    total = total + sum(term[0] for term in found.terms if term is not None)
    (share * total).backward()
    return total.detach(), found


def by_backward(critic, loss, penalties, real, fake, *, seed=0, route="four passes", **settings):
    """However small the critic is."""
    rng = torch.Generator().manual_seed(seed)
    states = initial_states(penalties)
    return backward(critic, loss, penalties, real=real, fake=fake, rng=rng, states=states, route=route, **settings)


def compare(critic, loss, penalties, real, fake, *, tolerance=TOLERANCE, call=None, **settings):
    """Both on copies of the critic, from the same random state. Returns the Gradients. call: critic -> callable."""
    call = call or (lambda module: module)
    ours, theirs = copy.deepcopy(critic), copy.deepcopy(critic)
    torch.manual_seed(1)
    expected, found = by_autograd(
        call(theirs), loss, penalties, real, fake, **{k: v for k, v in settings.items() if k in ("step", "share")}
    )
    torch.manual_seed(1)
    result = by_backward(call(ours), loss, penalties, real, fake, **settings)
    assert_equal_gradients(ours, theirs, tolerance)
    torch.testing.assert_close(result.value, expected, rtol=max(tolerance, 1e-12), atol=1e-12)
    for ours_of_term, theirs_of_term in zip(result.terms, found.terms, strict=True):
        assert (ours_of_term is None) == (theirs_of_term is None)
        if ours_of_term is not None:
            close = {"rtol": max(tolerance, 1e-12), "atol": 1e-12}
            torch.testing.assert_close(ours_of_term[0], theirs_of_term[0].detach(), **close)
            torch.testing.assert_close(ours_of_term[1], theirs_of_term[1], **close)
    return result


def assert_equal_gradients(ours, theirs, tolerance=TOLERANCE):
    scale = torch.stack([p.grad.norm() for p in theirs.parameters() if p.grad is not None]).max()
    assert scale > 0
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            assert p.grad.dtype == p.dtype and p.grad.shape == p.shape, name
            error = (p.grad - q.grad).norm()
            assert error <= tolerance * (q.grad.norm() + 1e-3 * scale), (name, error.item(), q.grad.norm().item())
    for (name, ours_of_buffer), theirs_of_buffer in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(ours_of_buffer, theirs_of_buffer, rtol=0, atol=0, msg=name)
