"""Whether samples see each other is found out by calling the critic, and costs nothing after the first call."""

import pytest
import torch
from torch import nn

from fastgan.nn import Pack, SNLinear, couples_samples
from fastgan.nn.couples_samples import coupling
from fastgan.nn.pack import pack
from fastgan.penalties import R1, R2, WGANGP, Critic, evaluate
from fastgan.penalties.critic import coupling_of


class Deviation(nn.Module):
    """A user's own minibatch deviation, of contiguous groups of `group`."""

    def __init__(self, group=None):
        super().__init__()
        self.group = group

    def forward(self, x):
        groups = x.reshape(-1, self.group or len(x), x.shape[1])
        return x + groups.std(1, correction=0).mean(1).repeat_interleave(groups.shape[1])[:, None]


class SizeOfBatch(nn.Module):
    def forward(self, x):
        return x / len(x)


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def critic_with(layer):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), layer, nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Flatten(0))


def batches(size=8):
    return torch.randn(2, size, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", [Deviation(), Deviation(4), SizeOfBatch(), nn.BatchNorm1d(8)])
def test_a_critic_that_couples_samples_is_judged_apart_and_refused_by_name(layer):
    critic, (real, fake) = critic_with(layer), batches()
    found = evaluate((), critic, real, fake)
    torch.testing.assert_close(found.real_logits, critic(real))
    torch.testing.assert_close(found.fake_logits, critic(fake))
    words = "size of the batch" if layer.__class__ is SizeOfBatch else "'1'"
    with pytest.raises(ValueError, match=f"R1 .*{words}"):
        R1()(critic, real=real, fake=fake)
    with pytest.raises(ValueError, match=f"R1 .*{words}.*fastgan.penalties.Critic"):
        evaluate((R1(), R2()), lambda x: critic(x), real, fake)
    meant = (R1(allow_coupled=True), R2(allow_coupled=True))
    for penalty, (value, _) in zip(meant, evaluate(meant, lambda x: critic(x), real, fake).terms, strict=True):
        torch.testing.assert_close(value, penalty(critic, real=real, fake=fake))


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), Noisy(), nn.GroupNorm(2, 8), SNLinear(8, 8), nn.LayerNorm(8)])
def test_critics_of_single_samples_are_not_refused_and_are_judged_in_one_call(layer):
    critic, (real, fake) = critic_with(layer), batches()
    assert coupling_of(critic, real, fake) == (None, True)
    R1()(critic, real=real, fake=fake)


def test_the_measurement_leaves_buffers_random_numbers_and_modes_and_happens_once_a_mode():
    calls = []
    norm, spectral = nn.BatchNorm1d(8), SNLinear(8, 8)
    critic = critic_with(nn.Sequential(norm, spectral))
    critic.register_forward_hook(lambda *_: calls.append(1))
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()

    def function(x):
        return critic(x)

    for _ in range(2):
        assert not coupling(function, function, *batches()).joint
        assert torch.equal(torch.get_rng_state(), state) and critic.training
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())
    once = len(calls)
    coupling(lambda x: critic(x), critic.eval(), *batches())
    assert coupling(critic, critic, *batches()).joint and len(calls) > once
    count = len(calls)
    assert coupling(critic, critic, *batches()).joint and len(calls) == count


def test_equal_logits_decide_nothing_are_judged_apart_and_measured_a_few_times():
    calls = []
    critic, (real, fake) = critic_with(nn.Identity()), batches()
    nn.init.zeros_(critic[3].weight)
    critic.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(couples_samples.MOST - 1):
        assert coupling_of(critic, real, fake) == (None, False)
    with pytest.warns(UserWarning, match="logits were all equal, or not finite, in 10 calls.*couples_samples = False"):
        coupling_of(critic, real, fake)
    count = len(calls)
    assert coupling_of(critic, real, fake) == (None, False) and len(calls) == count

    learns = critic_with(nn.Identity())
    nn.init.zeros_(learns[3].weight)
    assert coupling_of(learns, real, fake) == (None, False)
    nn.init.ones_(learns[3].weight)
    assert coupling_of(learns, real, fake) == (None, True)


def test_the_measurement_does_not_write_to_a_buffer_that_an_open_graph_holds():
    critic, (real, fake) = critic_with(nn.Sequential(nn.BatchNorm1d(8), SNLinear(8, 8))), batches()
    critic.register_buffer("scale", torch.ones(1))
    buffers = dict(critic.named_buffers())
    versions = {name: buffer._version for name, buffer in buffers.items()}
    coupling(lambda x: critic(x) * critic.scale, lambda x: critic(x) * critic.scale, real, fake)
    assert "1.0.num_batches_tracked" in versions
    assert all(buffer is buffers[name] for name, buffer in critic.named_buffers())
    assert {name: buffer._version for name, buffer in buffers.items()} == versions


def test_a_traced_critic_is_measured_and_its_buffers_stay():
    critic, (real, fake) = critic_with(nn.BatchNorm1d(8)), batches()
    traced = torch.jit.trace(critic, real, check_trace=False)
    before = {name: value.clone() for name, value in traced.state_dict().items()}
    with pytest.raises(ValueError, match="R1 is a penalty per sample"):
        R1()(traced, real=real, fake=fake)
    assert all(torch.equal(value, before[name]) for name, value in traced.state_dict().items())


def test_batch_norm_beside_a_part_named_discriminator_is_seen():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.discriminator = nn.BatchNorm1d(4), nn.Linear(4, 1)

        def forward(self, x):
            return self.discriminator(self.norm(x)).flatten()

    real, fake = batches()
    with pytest.raises(ValueError, match="BatchNorm1d 'norm'"):
        R1()(Wrapper(), real=real, fake=fake)


class Joined(nn.Module):
    """Joins two consecutive rows to one logit, as critics of tables do."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 1)

    def forward(self, x):
        return self.body(x.reshape(-1, 8)).square()


@pytest.mark.parametrize("terms", [(R1(),), (R2(),), (R1(), R2()), (WGANGP(),)], ids=repr)
def test_other_than_one_row_of_logits_a_sample_is_refused(terms):
    real, fake = batches()
    with pytest.raises(ValueError, match=r"packs"):
        evaluate(terms, Joined(), real, fake)
    promised = Joined()
    promised.couples_samples = False  # a wrong promise ends at the logits
    with pytest.raises(ValueError, match=r"logits \(\d+, 1\) for \d+ samples"):
        evaluate(terms, promised, real, fake)


def test_the_penalty_of_packs_is_that_of_each_pack():
    critic, (real, fake) = Joined(), batches()
    packs = [pack(x, 2) for x in (real, fake)]
    value = R1(gamma=2.0)(critic, real=packs[0], fake=packs[1])
    x = packs[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x)
    torch.testing.assert_close(value, gradient.square().sum(1).mean())
    with pytest.raises(ValueError, match="Pack"):
        R1()(Pack(nn.Linear(8, 1), 2), real=real, fake=fake)
    meant = R1(gamma=2.0, allow_coupled=True)(critic, real=real, fake=fake)
    torch.testing.assert_close(meant, gradient.square().sum() / len(real))
    found = evaluate((R1(allow_coupled=True), R2(allow_coupled=True)), critic, real, fake)
    assert len(found.real_logits) == len(found.fake_logits) == 4


def test_a_critic_of_patches_has_one_row_of_logits_a_sample():
    critic, x = nn.Conv2d(1, 1, 3), torch.randn(4, 1, 6, 6)
    assert R1()(critic, real=x, fake=x) > 0


def test_a_critic_with_labels_and_several_outputs_needs_no_lambda():
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.embedding = nn.Linear(4, 1), nn.Embedding(3, 4)

        def forward(self, x, labels):
            h = self.body(x * self.embedding(labels)).flatten()
            return {"logits": h, "features": x}

    discriminator, labels, (real, fake) = Several(), torch.arange(8) % 3, batches()
    critic = Critic(discriminator, labels, output="logits")
    found = evaluate((R1(), R2()), critic, real, fake)
    torch.testing.assert_close(found.fake_logits, discriminator(fake, labels)["logits"])
    x = real.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x, labels)["logits"].sum(), x)
    torch.testing.assert_close(found.terms[0][0], 5 * gradient.square().sum(1).mean())
    for output in (None, "features_and_more"):
        with pytest.raises((TypeError, KeyError), match=r"returns a dict\. Say which part|features_and_more"):
            R1()(Critic(discriminator, labels, output=output), real=real, fake=fake)
    with pytest.raises(TypeError, match=r"returns a tuple.*output=0"):
        evaluate((), lambda x: (x, x), real, fake)


def test_labels_inside_a_function_serve_one_batch_at_a_time():
    torch.manual_seed(0)
    embedding, labels, (real, fake) = nn.Embedding(3, 4), torch.arange(8) % 3, batches()

    def critic(x):
        return (x * embedding(labels)).sum(1)

    found = evaluate((), critic, real, fake)
    torch.testing.assert_close(found.fake_logits, critic(fake))
