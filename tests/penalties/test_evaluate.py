"""One evaluation of loss and penalties: the numbers of separate ones, from fewer passes."""

import pytest
import torch
from torch import nn

from fastgan import penalties
from fastgan.penalties import DRAGAN, R1, R2, WGANGP, Consistency, CriticDrift, LeCam, OrthogonalRegularization

from fastgan.penalties import WeightClip, evaluate, initial_states  # isort: skip


class Counting(nn.Module):
    """A critic that remembers the sizes of the batches it saw."""

    couples_samples = False  # a promise, which a layer of batch norm overrules; else the first call would measure

    def __init__(self, norm=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), norm or nn.Identity(), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(4 * 36, 1)
        self.double()
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        return self.head(self.layers(x)).squeeze(1)


def batches(size=3):
    return torch.randn(2, size, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def draw():
    return torch.Generator().manual_seed(2)


def gradients(critic, total):
    return torch.autograd.grad(total, list(critic.parameters()))


@pytest.mark.parametrize(
    ("terms", "passes"),
    [
        ((), [6]),
        ((R1(), R2()), [6]),
        ((R1(),), [3, 3]),
        ((R2(),), [3, 3]),
        ((R1(), R2(), WGANGP(), CriticDrift(), LeCam()), [6, 3]),
        ((WGANGP(), R2(), Consistency()), [3, 3, 3, 6]),
        ((DRAGAN(c=0.1),), [6, 3]),
        ((OrthogonalRegularization(1.0), CriticDrift(1.0)), [6]),
    ],
    ids=repr,
)
def test_shared_passes_give_the_numbers_of_separate_ones(terms, passes):
    critic, (real, fake) = Counting(), batches()
    found = evaluate(terms, critic, real, fake, states=initial_states(terms), rng=draw())
    assert critic.seen == passes
    torch.testing.assert_close(found.real_logits, critic(real))
    torch.testing.assert_close(found.fake_logits, critic(fake))
    source = draw()
    total = found.real_logits.square().sum() - found.fake_logits.sum()
    separate = critic(real).square().sum() - critic(fake).sum()
    for penalty, (value, diagnostics) in zip(terms, found.terms, strict=True):
        state = penalty.initial_state()
        expected, theirs = penalty.measure(critic, real=real, fake=fake, state=state, rng=source)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(diagnostics, theirs)
        assert not any(number.requires_grad for number in diagnostics.values())
        total, separate = total + value, separate + expected
    torch.testing.assert_close(gradients(critic, total), gradients(critic, separate))


def test_alone_a_penalty_asks_for_no_more_than_it_needs():
    (real, fake), critic = batches(), Counting()
    for penalty, passes in ((R1(), [3]), (R2(), [3]), (WGANGP(), [3]), (CriticDrift(), [3]), (Consistency(), [6, 6])):
        critic.seen.clear()
        penalty(critic, real=real, fake=fake)
        assert critic.seen == passes


def test_a_critic_that_couples_samples_sees_real_and_fake_apart():
    critic, (real, fake) = Counting(nn.BatchNorm2d(4)), batches()
    found = evaluate((R1(allow_coupled=True), R2(allow_coupled=True)), critic, real, fake)
    assert critic.seen == [3, 3]
    torch.testing.assert_close(found.real_logits, critic(real))
    torch.testing.assert_close(found.terms[1][0], R2(allow_coupled=True)(critic, real=real, fake=fake))


def test_lazy_terms_count_every_so_often_and_so_much_more():
    critic, (real, fake) = Counting(), batches()
    terms = (R1(every=4), CriticDrift())
    plain = R1()(critic, real=real, fake=fake)
    due = evaluate(terms, critic, real, fake, step=8)
    torch.testing.assert_close(due.terms[0][0], 4 * plain)
    critic.seen.clear()
    idle = evaluate(terms, critic, real, fake, step=9)
    assert idle.terms[0] is None and critic.seen == [6]
    torch.testing.assert_close(idle.terms[1][0], due.terms[1][0])
    torch.testing.assert_close(evaluate(terms, critic, real, fake).terms[0][0], plain)


def test_any_function_may_be_a_penalty():
    critic, (real, fake) = Counting(), batches()
    found = evaluate((lambda critic, real, fake: critic(real).mean(), R1()), critic, real, fake)
    torch.testing.assert_close(found.terms[0][0], found.real_logits.mean())


def test_a_constraint_is_no_penalty():
    with pytest.raises(TypeError, match="constraint, call its apply_"):
        evaluate((WeightClip(),), Counting(), *batches())


def test_without_gradients_nothing_keeps_a_graph():
    with torch.no_grad():
        found = evaluate((R1(), R2()), Counting(), *batches())
    assert not any(t.requires_grad for t in (found.real_logits, found.fake_logits, *(v for v, _ in found.terms)))


def test_all_are_known_by_name():
    for name, term in {**penalties.PENALTIES, **penalties.CONSTRAINTS, **penalties.GENERATOR_TERMS}.items():
        assert getattr(penalties, name) is term and term.__name__ == name
        assert term() == term()
