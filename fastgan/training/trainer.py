"""The loop around the step."""

from contextlib import closing
from functools import partial

import torch

from fastgan import losses, randomness
from fastgan.data import Order, as_data
from fastgan.data.batches import batches
from fastgan.extras import require
from fastgan.training import checkpoint
from fastgan.training.ema import update_average
from fastgan.training.objective import Objective
from fastgan.training.recorder import Recorder
from fastgan.training.run_folder import RunFolder
from fastgan.training.state import TrainState
from fastgan.training.updates import alternating

NEEDED = ("tqdm", "yaml", "safetensors.torch", "matplotlib.figure", "PIL.Image")


class Trainer:
    """Trains a pair of networks on a data set by a recipe, and keeps what happens in `run_dir`.

    generator: a module with an attribute z_dim, called with z (B, z_dim); with an attribute `classes` that is not None
        it is class-conditional, and both networks are called with labels (B,) as well.
    discriminator: called with samples, returns logits.
    data: a tensor of samples, or a data set as fastgan.data says.
    resume: go on from run_dir's newest checkpoint; on the CPU bit for bit as if the run had never stopped.
    device: by default the GPU where there is one.
    log_every, sample_every, checkpoint_every: in steps. progress: show a bar on stderr.
    Errors: ValueError, TypeError for networks and data that do not fit each other; FileExistsError, FileNotFoundError
        where run_dir contradicts `resume`.
    """

    def __init__(
        self,
        generator,
        discriminator,
        recipe,
        data,
        *,
        run_dir,
        resume=False,
        device=None,
        channels_last=True,
        log_every=50,
        sample_every=500,
        checkpoint_every=1000,
        progress=True,
    ):
        for module in NEEDED:
            require(module)  # now, not when the first checkpoint is due
        self.recipe, self.data = recipe, as_data(data)
        self.conditional = _check_fit(generator, self.data)
        self.device = _choose_device(device)
        self.folder = RunFolder(run_dir)
        found = self.folder.claim(resume)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        for network in (generator, discriminator):
            network.to(self.device, memory_format=memory_format)
        self.objective = Objective(losses.get(recipe.loss), recipe.penalties)
        self.state = TrainState.create(generator, discriminator, recipe)
        if found is not None:
            checkpoint.load(self.state, found)
        recipe.save(self.folder.recipe)
        self.recorder = Recorder(
            self.folder,
            recipe,
            self.data,
            log_every=log_every,
            sample_every=sample_every,
            checkpoint_every=checkpoint_every,
            progress=progress,
        )

    def fit(self, steps):
        """Train until `steps` steps have been taken in all, those before a resume included.

        A step is one update of the generator and recipe.discriminator_steps updates of the critic before it.
        Errors: Diverged, with the step and the name of what is not finite.
        """
        seed, state, repeats = self.recipe.seed, self.state, self.recipe.discriminator_steps
        stream = batches(self.data, Order.of(self.data, self.recipe.batch_size, seed), start=state.step * repeats)
        with randomness.global_seed(seed, "fit", self.device), closing(stream), closing(self.recorder):
            self.recorder.start(state, steps)
            while state.step < steps:
                randomness.reseed(seed, "step", state.step)  # what networks and penalties draw by themselves
                source = randomness.generator(seed, "latents", state.step, self.device)
                values = alternating(
                    state, self.objective, repeats, partial(self._next_batch, stream), partial(self._latents, source)
                )
                state.step += 1
                update_average(state.average, state.generator, self.recipe.ema_decay, state.step)
                self.recorder.step(state, values)

    def _next_batch(self, stream):
        samples, labels = next(stream)
        labels = labels.to(self.device, non_blocking=True) if self.conditional else None
        return samples.to(self.device, non_blocking=True), labels

    def _latents(self, source):
        shape = (self.recipe.batch_size, self.state.generator.z_dim)
        return torch.randn(shape, generator=source, device=self.device)


def _choose_device(device):
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an unknown name; a device that is not there; a torch without CUDA
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device must be one that this torch and machine have, got {str(device)!r}: {reason}"
        ) from None
    return torch.device(device)


def _check_fit(generator, data):
    """Whether the pair is class-conditional."""
    if not isinstance(getattr(generator, "z_dim", None), int):
        raise TypeError(
            "generator must have an attribute z_dim, an int: z ~ N(0, I) of shape (batch, z_dim) is drawn for it"
        )
    shape = getattr(generator, "shape", data.shape)
    if tuple(shape) != tuple(data.shape):
        raise ValueError(f"generator makes samples of shape {tuple(shape)}, data has {tuple(data.shape)}")
    classes = getattr(generator, "classes", None)
    if classes and (data.classes is None or classes != len(data.classes)):
        has = "no labels" if data.classes is None else f"{len(data.classes)}"
        raise ValueError(f"generator has {classes} classes, data has {has}")
    return bool(classes)
