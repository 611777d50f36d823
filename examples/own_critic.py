"""A critic of your own, from fastgan's layers, against a generator of the library.

python examples/own_critic.py [--steps 200]
"""

import argparse

from torch import nn

import fastgan

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--width", type=int, default=16)
parser.add_argument("--run-dir", default="runs/own-critic")
flags = parser.parse_args()


class Critic(nn.Module):
    """Images (B, 1, 28, 28) -> logits (B,): spectral norm, one block of self-attention, and a look at the minibatch."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            fastgan.nn.SNConv2d(1, width, 4, stride=2, padding=1),  # 14 x 14
            nn.LeakyReLU(0.2),
            fastgan.nn.SelfAttention2d(width),
            fastgan.nn.SNConv2d(width, 2 * width, 4, stride=2, padding=1),  # 7 x 7
            nn.LeakyReLU(0.2),
            fastgan.nn.MinibatchStdDev(),
            nn.Flatten(),
            fastgan.nn.SNLinear((2 * width + 1) * 7 * 7, 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(1)


garments = fastgan.data.load("fashion")
generator, _ = fastgan.models.create("dcgan", channels=1, resolution=28, width=flags.width)
critic = fastgan.nn.fuse_spectral_norm(Critic(flags.width))  # all power iterations of a forward in one op
recipe = fastgan.Recipe(loss="hinge", generator_lr=1e-3, discriminator_lr=2e-3, batch_size=32)
fastgan.Trainer(generator, critic, recipe, garments, run_dir=flags.run_dir).fit(steps=flags.steps)
print(f"pictures: {flags.run_dir}/samples.png")
