"""The loop around the step."""

from contextlib import closing, contextmanager
from functools import partial

import torch

from fastgan import losses, randomness
from fastgan.data import Order, as_data
from fastgan.data.batches import batches
from fastgan.extras import require
from fastgan.models import sampling
from fastgan.monitor.stop import criterion
from fastgan.training.add_spectral_norm import normalize_weights
from fastgan.training.recipe.growth import shrink
from fastgan.training.run import checkpoint
from fastgan.training.run.checkpoints import Checkpoints
from fastgan.training.run.folder import RunFolder
from fastgan.training.run.log import Log
from fastgan.training.run.observations import Findings, Observations
from fastgan.training.run.pictures import Pictures
from fastgan.training.run.progress_bar import ProgressBar
from fastgan.training.step.augmentation import augmentation, observe
from fastgan.training.step.ema import MovingAverage
from fastgan.training.step.objective import Objective
from fastgan.training.step.plan import StepSchedule
from fastgan.training.step.running_means import Diverged, RunningMeans
from fastgan.training.step.state import TrainState
from fastgan.training.step.updates import alternating, simultaneous

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
    stop_when: ends `fit` where a number of the observations has stopped falling (fastgan.monitor.plateau), and
        keeps the best state so far in run_dir/best, beside the last one. "plateau": the averaged generator's distance
        from real samples; "wasserstein": the critic's estimate, where it is one; "gap": the perturbed duality gap,
        300 updates of copies at each observation (every sample_every steps).
    callbacks: training.Callbacks that are called after the Trainer's own, such as training.TensorBoard().
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
        stop_when="never",
        callbacks=(),
    ):
        for module in NEEDED:
            require(module)  # now, not when the first checkpoint is due
        self.recipe, self.data = recipe, as_data(data)
        self.conditional = _check_fit(generator, self.data)
        stop = criterion(stop_when, recipe, self.data, generator, discriminator)
        self.device = _choose_device(device)
        self.folder = RunFolder(run_dir)
        found = self.folder.claim(resume)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        for network in normalize_weights((generator, discriminator), recipe):
            network.to(self.device, memory_format=memory_format)
        self.schedule = StepSchedule(recipe, generator)
        self.state = TrainState.create(generator, discriminator, recipe)
        if found is not None:
            checkpoint.load(self.state, found)
        recipe.save(self.folder.recipe)
        self.best_step, self.findings, self.is_stopped = None, [], False
        self.callbacks = [
            Observations(sample_every, stop),
            Log(log_every),
            Findings(sample_every, stop),
            Pictures(sample_every, self.data),
            Checkpoints(checkpoint_every),
            *([ProgressBar()] if progress else []),
            *callbacks,
        ]

    def fit(self, steps):
        """Train until `steps` steps have been taken in all, those before a resume included.

        A step is recipe.discriminator_steps updates of the critic and recipe.generator_steps of the generator after
        them (or both at once: recipe.update).
        Errors: Diverged, with the step and the name of what is not finite.
        """
        seed, state = self.recipe.seed, self.state
        self.steps, self.means, self.is_stopped = steps, RunningMeans(), False
        plan = self.schedule.at(state.step)
        plan.enter(state)
        average = MovingAverage(state.average, state.generator)
        updates = self.schedule.updates(Order.of(self.data, seed), start=state.step)
        stream = batches(self.data, updates)
        with randomness.global_seed(seed, "fit", self.device), closing(stream), self._callbacks_around():
            while state.step < steps:
                randomness.reseed(seed, "step", state.step)  # what networks and penalties draw by themselves
                plan.enter(state)
                self.values = self._step(plan, stream)
                state.step += 1
                plan = self.schedule.at(state.step)
                average.update(plan.recipe.ema_decay, state.step)
                self.means.add(state.step, self.values)
                row = {}
                for callback in self.callbacks:
                    callback.on_step(self, row)
                if self.is_stopped:
                    break

    def is_due(self, every):
        """Whether this step is one of every so many; after the last step everything is due."""
        return self.state.step % every == 0 or self.state.step == self.steps

    def stop(self, best_step=None):
        """End `fit` after this step. best_step: the best one, of a run that stopped getting better."""
        self.is_stopped, self.best_step = True, best_step

    def check(self):
        """Errors: Diverged for a number since the last log line, or a weight, that is not finite."""
        self.means.check()
        for name, network in self.state.networks().items():
            if not all(p.isfinite().all() for p in network.parameters()):
                raise Diverged(
                    f"step {self.state.step}: weights of the {name} are not finite; try lower learning rates"
                )

    def wrote(self, path):
        """For the callback that has written a picture or a checkpoint: lets the others know."""
        for callback in self.callbacks:
            callback.on_file(self, path)

    @contextmanager
    def _callbacks_around(self):
        started = []
        try:
            for callback in self.callbacks:
                callback.on_start(self)
                started.append(callback)
            yield
        finally:
            for callback in started:
                callback.on_end(self)

    def _step(self, plan, stream):
        state, recipe = self.state, plan.recipe
        source = randomness.generator(recipe.seed, "latents", plan.step, self.device)
        objective = Objective(
            losses.get(recipe.loss),
            recipe.penalties,
            recipe.generator_terms,
            augment=augmentation(recipe, state.memory),
            pack=recipe.pack,
            step=plan.step,
            memory=state.memory,
            observe=partial(observe, recipe, state.memory) if recipe.augment_target else None,
        )
        settings = {
            "next_batch": partial(self._next_batch, stream, plan.stage),
            "next_latents": partial(self._latents, source, plan.samples),
            "discriminator_steps": plan.discriminator_steps,
        }
        if recipe.unroll_steps:
            settings["unroll"] = {"steps": recipe.unroll_steps, "recompute": recipe.unroll_recompute}
        if recipe.update == "simultaneous":
            return simultaneous(state, objective, **settings)
        return alternating(
            state, objective, generator_steps=recipe.generator_steps, parts=recipe.accumulate, **settings
        )

    def _next_batch(self, stream, stage):
        samples, condition = next(stream)
        condition = condition.to(self.device, non_blocking=True) if self.conditional else None
        samples = samples.to(self.device, non_blocking=True)
        if stage is not None:
            samples = shrink(samples, self.schedule.levels - stage.level, stage.alpha)
        return samples, condition

    def _latents(self, source, count):
        return torch.randn(count, self.state.generator.z_dim, generator=source, device=self.device)


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
    """Whether both networks are called with a condition, too."""
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
    if sampling.takes_source(generator) and getattr(data, "condition_shape", None) is None:
        raise ValueError("generator translates images (z_dim is 0): data must be pairs, see fastgan.data.paired")
    return bool(classes) or sampling.takes_source(generator)
