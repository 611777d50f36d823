import torch
from torch import nn

from fastgan import Recipe, Trainer
from fastgan.data import TensorData
from fastgan.training.step.ema import MovingAverage, make_average


def test_average_follows_the_formula(toy):
    torch.manual_seed(0)
    network = toy.Generator()
    average = make_average(network)
    expected = [p.detach().clone() for p in average.parameters()]
    for step in range(1, 30):
        with torch.no_grad():
            for p in network.parameters():
                p.add_(torch.randn_like(p))
        decay = min(0.7, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, network.parameters(), strict=True)]
        MovingAverage(average, network).update(0.7, step)
    for a, e in zip(average.parameters(), expected, strict=True):
        torch.testing.assert_close(a, e)


def test_without_decay_the_average_is_the_network(toy):
    network = toy.Generator()
    average = make_average(network)
    network(torch.randn(8, 3))
    with torch.no_grad():
        network.layers[0].weight.add_(1)
    MovingAverage(average, network).update(0.0, 1)
    for (name, a), b in zip(average.state_dict().items(), network.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_running_statistics_are_averaged_and_other_buffers_copied(toy):
    network = toy.Generator()
    network.register_buffer("direction", torch.tensor([1.0, 0.0]))
    average = make_average(network)
    network.direction.copy_(torch.tensor([0.0, 1.0]))
    network(torch.randn(8, 3) + 5)
    MovingAverage(average, network).update(0.999, 10_000)
    norm, averaged = network.layers[1], average.layers[1]
    torch.testing.assert_close(averaged.running_mean, 0.001 * norm.running_mean)
    assert averaged.num_batches_tracked == 1
    assert average.direction.tolist() == [0, 1]


def test_average_is_in_evaluation_mode_and_without_gradients(toy):
    network = toy.Generator()
    average = make_average(network)
    assert not any(module.training for module in average.modules())
    assert not any(p.requires_grad for p in average.parameters())
    assert network.training and all(p.requires_grad for p in network.parameters())


class Point(nn.Module):
    """A generator of one number, whatever z is."""

    def __init__(self):
        super().__init__()
        self.z_dim, self.shape, self.at = 1, (1,), nn.Parameter(torch.ones(1))

    def forward(self, z):
        return self.at.expand(len(z), 1)


def test_the_average_of_players_that_circle_is_where_they_would_rest(tmp_path):
    """The Dirac-GAN (Mescheder et al., 2018) without a penalty never converges; Yazici et al., 2019, average it."""
    critic = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Flatten(0))
    nn.init.ones_(critic[0].weight)
    recipe = Recipe(
        loss="wasserstein", optimizer="sgd", generator_lr=0.1, discriminator_lr=0.1, batch_size=4, ema_decay=0.99
    )
    never = {"log_every": 1000, "sample_every": 1000, "checkpoint_every": 1000, "progress": False}
    trainer = Trainer(Point(), critic, recipe, TensorData(torch.zeros(8, 1)), run_dir=tmp_path / "run", **never)
    last, averaged = [], []
    for step in range(800, 900, 10):
        trainer.fit(step)
        last.append(trainer.state.generator.at.abs().item())
        averaged.append(trainer.state.average.at.abs().item())
    assert max(last) > 1 and max(averaged) < max(last) / 4
