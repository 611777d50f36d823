"""How far two results are apart."""

import torch


def relative_error(ours, theirs, floor=0.0):
    """|ours - theirs| / max(|theirs|, floor); equal infinities do not differ, a NaN differs from everything."""
    ours, theirs = (t.detach().cpu().double() for t in (ours, theirs))
    difference = torch.where(ours == theirs, 0.0, ours - theirs).norm()
    return (difference / max(theirs[theirs.isfinite()].norm().item(), floor, 1e-300)).item()


def assert_close(name, ours, theirs, tolerance, floor=0.0):
    """The relative error, in the norm, is at most the tolerance."""
    assert ours.shape == theirs.shape, f"{name}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    error = relative_error(ours, theirs, floor)
    assert error <= tolerance, f"{name}: relative error {error:.2e}, allowed {tolerance:.2e}"


def smallest_norm(results):
    """A sum that cancels to nothing has no relative error: its error is measured by what is beside it."""
    return 1e-2 * max((t.detach().double().norm().item() for t in results.values() if t.isfinite().all()), default=0.0)


def assert_all_close(ours, theirs, tolerance):
    """{name: tensor} on both sides, the same names."""
    assert list(ours) == list(theirs)
    floor = smallest_norm(theirs)
    for name in theirs:
        assert_close(name, ours[name], theirs[name], tolerance, floor)
