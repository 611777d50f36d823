"""Train on a folder of your own images, and draw from what was learned.

python examples/own_folder.py PHOTOS [--steps 2000] [--resolution 64]
"""

import argparse

import fastgan
from fastgan.data import load
from fastgan.figures import save_grid
from fastgan.models import sampling

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", help="images, flat or in a sub-folder for each class")
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--resolution", type=int, default=32)
parser.add_argument("--width", type=int, default=16)
parser.add_argument("--run-dir", default="runs/own-folder")
flags = parser.parse_args()

images = load(flags.folder, resolution=flags.resolution, channels=3)
pair = fastgan.models.create("dcgan", channels=3, resolution=flags.resolution, width=flags.width, spectral_norm="both")
recipe = fastgan.Recipe(loss="hinge", generator_lr=1e-3, discriminator_lr=2e-3, batch_size=min(32, len(images)))
trainer = fastgan.Trainer(*pair, recipe, images, run_dir=flags.run_dir)
trainer.fit(steps=flags.steps)

average = trainer.state.average  # of the generator's weights: it draws better than the last step's
save_grid(sampling.sample(average, sampling.latents(average, 36, seed=1, purpose="samples")), "own_folder.png")
print(f"own_folder.png; losses, pictures and checkpoints: {flags.run_dir}")
