"""The loop around the step."""

import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Dataset

from fastgan import losses, metrics, processes, randomness
from fastgan.data import DataSet, Order, as_data
from fastgan.data.batches import batches
from fastgan.extras import require
from fastgan.models import sampling
from fastgan.monitor import Finding, not_finite
from fastgan.monitor.stop import criterion
from fastgan.nn import synchronize_batch_norm
from fastgan.training import distributed
from fastgan.training.add_spectral_norm import add_spectral_norm
from fastgan.training.callbacks.callback import Callback
from fastgan.training.callbacks.checkpoints import Checkpoints
from fastgan.training.callbacks.evaluation import Evaluation
from fastgan.training.callbacks.log import Log
from fastgan.training.callbacks.notebook import Notebook, in_notebook
from fastgan.training.callbacks.observations import Best, Findings, Observations
from fastgan.training.callbacks.pictures import Pictures
from fastgan.training.callbacks.progress_bar import ProgressBar
from fastgan.training.callbacks.report import Report
from fastgan.training.first_pass import (
    check_first_pass,
    check_normalized,
    check_parameters,
    initialize_lazy,
)
from fastgan.training.recipe.growth import shrink
from fastgan.training.recipe.recipe import Recipe
from fastgan.training.run import checkpoint, setup_file
from fastgan.training.run.folder import RunFolder
from fastgan.training.run.interrupts import Interrupted, asked_to_stop
from fastgan.training.run.options import Options, RunOptions, seconds
from fastgan.training.run.sharding import Sharding
from fastgan.training.step.augmentation import augmentation, observe
from fastgan.training.step.compile_critic_loss import CompiledLosses
from fastgan.training.step.ema import MovingAverage
from fastgan.training.step.graphs import graphs_of
from fastgan.training.step.objective import Objective
from fastgan.training.step.optimizers import trained_by
from fastgan.training.step.plan import StepSchedule
from fastgan.training.step.precision import Precision
from fastgan.training.step.running_means import (
    Diverged,
    EachStep,
    RunningMeans,
    advice_against_divergence,
    exploded,
)
from fastgan.training.step.state import TrainState
from fastgan.training.step.updates import alternating, eagerly, simultaneous

if TYPE_CHECKING:  # in `typing` from Python 3.11 on
    from typing_extensions import Unpack

NEEDED = ("tqdm", "yaml", "safetensors.torch", "matplotlib.figure", "PIL.Image")


class StartsFresh(UserWarning):
    """A part of a resumed run's state is not in its checkpoint."""


class Trainer:
    """Trains a pair of networks on a data set by a recipe; `run_dir` holds the log, pictures and checkpoints.

    generator: a module with an attribute z_dim, called with z (B, z_dim); with an attribute `classes` that is not None
        it is class-conditional, and both networks are called with labels (B,) as well.
    discriminator: called with samples, returns logits.
    data: what fastgan.data.as_data takes: a tensor, a torch Dataset or DataLoader, a path, a data set.
    run_dir: the run's folder; None for a temporary one (trainer.folder.path). The folder is written from the first step
        of `fit` on, by one process at a time.
    resume: go on from run_dir's newest whole checkpoint; on the CPU bit for bit as if the run had never stopped.
        "auto": go on if run_dir has a checkpoint, else begin. What the checkpoint has no state for starts fresh, with a
        warning.
    exist_ok: begin a new run in place of the one that run_dir holds.
    device: by default the GPU if there is one. channels_last: the memory format of weights with four dimensions.
    callbacks: training.Callbacks that are called after the Trainer's, such as training.TensorBoard(). In a run
        of several processes the first process alone calls callbacks.
    shard: calls torch.distributed.fsdp.fully_shard on the module that it gets, and on the module's parts first. The
        Trainer calls it with the generator and its average; each of several processes then keeps a part of both.
    options: the fields of RunOptions: log_every=50, sample_every=500, checkpoint_every=1000 (in steps,
        or "10min"), keep_checkpoints=2, on_divergence="stop", rollbacks=3, stop_when="never",
        evaluate_every=None, evaluate_count=10_000, extractor=None,
        report=True, progress=True, cuda_graphs=None.
    route: an attribute, the route of the newest gradient penalty and why, "four passes: ..." or "general: ..."; None
        before the first one. The first line of the log on stderr has it.
    Under torchrun all processes train one pair: see docs/many_processes.md. The first process writes the folder.
    Errors: ValueError, TypeError for networks, data and recipe that do not fit each other, found by one call of copies
        of the networks; FileExistsError, FileNotFoundError if run_dir contradicts `resume`.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        recipe: Recipe,
        data: "torch.Tensor | np.ndarray | DataSet | Dataset[Any] | DataLoader[Any] | str | Path",
        *,
        run_dir: str | Path | None = None,
        resume: bool | Literal["auto"] = False,
        exist_ok: bool = False,
        device: str | torch.device | None = None,
        channels_last: bool = True,
        callbacks: Iterable[Callback] = (),
        shard: Callable[[nn.Module], Any] | None = None,
        **options: "Unpack[Options]",
    ) -> None:
        for module in NEEDED:
            require(module)  # now, not when the first checkpoint is due
        device = distributed.join(device)
        self.options = RunOptions(**options)
        self.recipe, self.data = recipe, as_data(data)
        distributed.check_batch(_batch_sizes(recipe), recipe.accumulate)
        if recipe.compile and processes.world() > 1:
            raise ValueError("recipe.compile does not go with several processes: leave compile out, or run one process")
        if recipe.precision == "fp16" and shard is not None:
            raise ValueError(
                'precision="fp16" does not go with shard=, where each process sees its own overflow: use "bf16"'
            )
        if self.options.on_divergence == "rollback" and shard is not None:
            raise ValueError('on_divergence="rollback" does not go with shard=: use "stop", and resume the run')
        distributed.check_alike(
            seed=recipe.seed, batch_size=recipe.batch_size, samples=(len(self.data), *self.data.shape)
        )
        self.conditional = _check_fit(generator, self.data)
        check_parameters(generator, discriminator)
        every = self.options.evaluate_every
        stop = criterion(
            self.options.stop_when, recipe, self.data, generator, discriminator, measures_fid=every is not None
        )
        self.device = _choose_device(device)
        named = self.options.extractor
        extractor = None if named is None else metrics.extractor(named, device=self.device)
        if extractor is not None:
            extractor(self.data.batch(torch.arange(1))[0])  # an extractor for other samples is refused now
        if every is None or extractor is None:  # options with an interval have an extractor
            evaluation = []
        else:
            evaluation = [Evaluation(every, extractor, self.data, recipe.seed, self.options.evaluate_count)]
        path = distributed.by_first(lambda: tempfile.mkdtemp(prefix="fastgan-") if run_dir is None else run_dir)
        self.folder = RunFolder(path)
        found = distributed.by_first(lambda: self.folder.find(resume, exist_ok))
        self._newest = checkpoint.latest(self.folder.checkpoints)  # what no other process may change meanwhile
        self._replaces = exist_ok and found is None
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        for network in add_spectral_norm((generator, discriminator), recipe):
            network.to(self.device)
            for weight in network.parameters():
                if not is_lazy(weight) and weight.dim() == 4:
                    weight.data = weight.data.contiguous(memory_format=memory_format)
        initialize_lazy(generator, discriminator, self.data, recipe, self.device, self.conditional)
        check_normalized(generator, discriminator)
        if processes.world() > 1 and recipe.sync_batch_norm:
            synchronize_batch_norm(generator), synchronize_batch_norm(discriminator)
        self.precision = Precision(recipe.precision, self.device)
        self._loss = losses.get(recipe.loss)
        self._compiled = CompiledLosses(self._loss, recipe.compile) if recipe.compile else None
        self.schedule = StepSchedule(recipe, generator, self.device)
        self.graphs = graphs_of(recipe, self.schedule.terms.changing, self.device, self.options.cuda_graphs)
        self.state = TrainState.create(generator, discriminator, recipe)
        if found is not None:
            for note in checkpoint.load(self.state, found):
                if processes.rank() == 0:
                    warnings.warn(f"{found}: {note}", StartsFresh, stacklevel=2)
        if processes.world() > 1:
            distributed.take_from_first(self.state.networks().values())
        for network in self.state.networks().values():
            checkpoint.extra_state(network)
        self._check_first_pass()
        self._sharding = None if shard is None else Sharding(self.state, recipe, shard)
        model = getattr(generator, "created_as", None)
        self.setup = None if model is None else {"model": model}
        self.best_step: int | None = None
        self.findings: list[Finding] = []
        self.is_stopped = False
        self.route: str | None = None
        self._checkpoints = Checkpoints(self.options.keep_checkpoints)
        self.callbacks = [
            Observations(self.options.sample_every, stop, extractor),
            *evaluation,
            Log(self.options.log_every),
            Findings(self.options.sample_every),
            *([Best(stop)] if stop is not None else []),
            Pictures(self.options.sample_every, self.data),
            self._checkpoints,
            Report(self.options.report),
            *([ProgressBar()] if self.options.progress else []),
            *([Notebook()] if self.options.progress and in_notebook() else []),
            *callbacks,
        ]
        if processes.rank() > 0:
            self.callbacks = []

    def fit(self, steps: int) -> None:
        """Train until `steps` steps have been taken in all, those before a resume included.

        A step is recipe.discriminator_steps updates of the critic and recipe.generator_steps of the generator after
        them (or both at once: recipe.update).
        Ctrl-C, SIGTERM and SIGHUP end the run after the current step, with a checkpoint; a second signal ends
        the run at once.
        Errors: Diverged, with the step and the name of what is not finite, unless on_divergence="rollback" goes back to
        a checkpoint; Interrupted (a KeyboardInterrupt) after a
        signal to any process of the run; FileExistsError if another run has the folder; ProcessFailed in the other
        processes when the first one has failed.
        """
        seed, state = self.recipe.seed, self.state
        self.steps, self.is_stopped, signal = steps, False, None
        self._begin_counting()
        plan = self.schedule.at(state.step)
        plan.enter(state)
        average = MovingAverage(state.average, state.generator)
        distributed.check_alike(steps=(state.step, steps))
        with (
            self._claimed(),
            randomness.global_seed(seed, "fit", self.device),
            randomness.sharing(self.device) as shared,
            self.precision.switched(),
            nullcontext() if self.graphs is None else self.graphs.capture.running(),
            distributed.watching(),
            asked_to_stop() as asked,
            ExitStack() as at_the_end,
            self._callbacks_around(),
        ):
            stream = at_the_end.enter_context(closing(self._stream()))
            while state.step < steps:
                randomness.reseed(self._seed, "step", state.step)  # what networks and penalties draw by themselves
                plan.enter(state)
                shared.rows = plan.samples // (processes.world() * self.recipe.accumulate)
                self.values = distributed.of_all(self._step(plan, stream))
                distributed.share_buffers((state.generator, state.discriminator))
                state.step += 1
                plan = self.schedule.at(state.step)
                average.update(plan.recipe.ema_decay, state.step)
                self.means.add(state.step, self.values)
                signal, diverged = self._after_step(asked)
                if diverged is not None:
                    self._roll_back(diverged)
                    stream.close()
                    stream = at_the_end.enter_context(closing(self._stream()))
                    plan = self.schedule.at(state.step)
                elif self.is_stopped:
                    break
            at_the_end.enter_context(self._whole())  # for a last checkpoint and the report
        signal = asked.signal or signal
        if signal is not None:
            raise Interrupted(signal, state.step)

    def _after_step(self, asked):
        """The callbacks of a step; what all processes then agree on. -> (the signal that ends the run, the error of a
        state that has diverged), each may be None"""
        error, failed, row = self._find_divergence(), True, {}
        every, step = self.options.checkpoint_every, self.state.step
        self.checkpoint_is_due = step == self.steps or (self._late if isinstance(every, str) else step % every == 0)
        due = self.is_due(self.options.sample_every) or self.checkpoint_is_due
        try:
            with self._whole() if due else nullcontext(), processes.alone():
                for callback in self.callbacks if error is None else ():
                    callback.on_step(self, row)
            failed = False
        except Diverged as found:
            error, failed = found, False
        finally:
            if self.checkpoint_is_due:
                self._written = time.monotonic()
            late = isinstance(every, str) and time.monotonic() - self._written >= seconds(every)
            signal, stopped, best, diverged, self._late = distributed.agreed(
                asked.signal, self.is_stopped, self.best_step, failed, error is not None, late
            )
        if diverged:
            return signal, error or Diverged(f"step {step}: another process has found what is not finite")
        if signal is not None or stopped:
            self.stop(best)
        return signal, None

    def _begin_counting(self):
        """What follows from the state, at the start and after a rollback."""
        state, seed = self.state, self.recipe.seed
        advice = advice_against_divergence(self.recipe, state.discriminator)
        self.means = RunningMeans(advice, state.log.get("means", ()), self.device)
        self._each_step, self._late, self._written = EachStep(), False, time.monotonic()
        self._seed = randomness.derive(seed, "rollback", state.rollbacks) if state.rollbacks else seed

    def _stream(self):
        """The batches of the steps from the state's on."""
        updates = self.schedule.updates(Order.of(self.data, self._seed), start=self.state.step)
        return batches(self.data, (processes.part(indices, self.recipe.accumulate) for indices in updates))

    def _find_divergence(self):
        """-> the error of a step that is known to have diverged, or None"""
        state, gradients = self.state, []
        if not state.scalers:  # with fp16 gradients overflow, and the step is left out
            optimizers = (state.discriminator_optimizer, state.generator_optimizer)
            gradients = [p.grad for optimizer in optimizers for p in trained_by(optimizer) if p.grad is not None]
            gradients = [cast(Any, g).to_local() if distributed.is_sharded(g) else g for g in gradients]
        step = self._each_step.look(state.step, self.values, gradients)
        if step is None:
            return None
        networks = {name: state.networks()[name] for name in ("discriminator", "generator", "average")}
        tensor = not_finite(networks, gradients=not state.scalers)
        try:
            self.means.check()
        except Diverged as error:
            return Diverged(f"{error}; the first tensor: {tensor}" if tensor else str(error))
        what = f"{tensor} is not finite" if tensor else exploded(self.values) or "a gradient has exploded"
        return Diverged(f"step {step}: {what}; try lower learning rates")

    def _roll_back(self, error):
        """Keep the state that diverged; go back to the newest checkpoint, or raise the error."""
        state, limit = self.state, self.options.rollbacks
        with self._whole():
            found = distributed.by_first(self._keep_post_mortem)
        if self.options.on_divergence == "stop":
            raise Diverged(f"{error}; the state is kept in {self.folder.post_mortem}") from None
        if found is None or state.rollbacks >= limit:
            why = "the run has no checkpoint to go back to" if found is None else f"{limit} rollbacks did not help"
            raise Diverged(f"{error}; {why}") from error
        rollbacks = state.rollbacks + 1
        checkpoint.load(state, found)
        state.rollbacks = rollbacks
        self._begin_counting()
        distributed.by_first(lambda: [callback.on_rollback(self, error) for callback in self.callbacks])

    def _keep_post_mortem(self):
        """-> the checkpoint to go back to, or None"""
        if self._checkpoints in self.callbacks:
            self._checkpoints.settle(self)
        try:
            checkpoint.save(self.state, self.folder.post_mortem, self.recipe, keep=1)
        except OSError as reason:
            warnings.warn(f"the state that diverged is not kept: {reason}", stacklevel=2)
        return checkpoint.newest_whole(self.folder.checkpoints)[0]

    @contextmanager
    def _claimed(self):
        """The run's folder is held by the first process, and says what the run is made of."""
        with ExitStack() as stack:
            distributed.by_first(lambda: stack.enter_context(self._held()))
            yield

    @contextmanager
    def _held(self):
        with self.folder.held():
            if checkpoint.latest(self.folder.checkpoints) != self._newest:
                raise FileExistsError(
                    f"{self.folder.path}: holds a run already, trained since this Trainer was made: make a new Trainer"
                    " to resume it, or choose another folder"
                )
            if self._replaces:
                self.folder.clear()
                self._replaces = False
            checkpoint.set_aside(self.folder.checkpoints, self.state.step)
            self.recipe.save(self.folder.recipe)
            if self.setup is not None:
                setup_file.save(self.folder.setup, **self.setup)
            try:
                yield
            finally:
                self._newest = checkpoint.latest(self.folder.checkpoints)

    def _whole(self):
        """A context in which the state of the first process is whole, for callbacks."""
        return nullcontext() if self._sharding is None else self._sharding.whole(self.state)

    def is_due(self, every: int) -> bool:
        """Whether the step is a multiple of `every`, or the last step."""
        return self.state.step % every == 0 or self.state.step == self.steps

    def stop(self, best_step: int | None = None) -> None:
        """End `fit` after this step. best_step: the best one, of a run that stopped getting better."""
        self.is_stopped, self.best_step = True, best_step

    def check(self) -> None:
        """Errors: Diverged for a number since the last log line, a weight or a buffer that is not finite."""
        self.means.check()
        if found := not_finite(self.state.networks()):
            raise Diverged(f"step {self.state.step}: {found} is not finite; try lower learning rates")

    def whole_state(self) -> TrainState:
        """The state, checked, with what the log goes on from: for a checkpoint. Errors: Diverged, as `check`."""
        self.check()
        self.state.log["means"] = self.means.kept()
        return self.state

    def wrote(self, path: Path) -> None:
        """A callback calls this after it has written a picture or a checkpoint; `on_file` of all callbacks follows."""
        for callback in self.callbacks:
            callback.on_file(self, path)

    @contextmanager
    def _callbacks_around(self):
        started = []

        def start():
            for callback in self.callbacks:
                callback.on_start(self)
                started.append(callback)

        try:
            with self._whole():
                distributed.by_first(start)
            yield
        finally:
            with processes.alone():
                for callback in started:
                    callback.on_end(self)

    def _step(self, plan, stream):
        state, recipe = self.state, plan.recipe
        source = randomness.generator(self._seed, "latents", plan.step, self.device)
        objective = self._objective(plan, state)
        settings = {
            "next_batch": partial(self._next_batch, stream, plan.stage),
            "next_latents": partial(self._latents, source, plan.samples, recipe.accumulate),
            "discriminator_steps": plan.discriminator_steps,
            "compute": eagerly if self.graphs is None else self.graphs.at(plan.stage, plan.terms),
        }
        if recipe.unroll_steps:
            settings["unroll"] = {"steps": recipe.unroll_steps, "recompute": recipe.unroll_recompute}
        if recipe.update == "simultaneous":
            return simultaneous(state, objective, **settings)
        return alternating(
            state, objective, generator_steps=recipe.generator_steps, parts=recipe.accumulate, **settings
        )

    def _objective(self, plan, state):
        recipe = plan.recipe
        return Objective(
            self._loss,
            plan.terms,
            augment=augmentation(recipe, state.memory),
            pack=recipe.pack,
            memory=state.memory,
            observe=partial(observe, recipe, state.memory) if recipe.augment_target else None,
            on_gradients=self._keep_route,
            autocast=self.precision.autocast,
            compiled=self._compiled.of(plan.terms) if self._compiled else None,
        )

    def _keep_route(self, found):
        """Of an update with a gradient penalty; a lazy one is not in each."""
        if any(term is not None and "gradient_norm" in term[1] for term in found.terms):
            self.route = f"{found.route}: {found.reason}"

    def _check_first_pass(self):
        plan = self.schedule.at(self.state.step)
        plan.enter(self.state)
        own = replace(plan, samples=plan.samples // processes.world())
        with processes.alone():
            check_first_pass(
                self.state,
                self.data,
                own,
                self.device,
                self.conditional,
                partial(self._objective, plan),
                partial(self._shown, stage=plan.stage),
            )

    def _next_batch(self, stream, stage):
        samples, condition = next(stream)
        condition = condition.to(self.device, non_blocking=True) if self.conditional else None
        return self._shown(samples.to(self.device, non_blocking=True), stage), condition

    def _shown(self, samples, stage):
        """Real samples as the stage of a growing pair has them."""
        return samples if stage is None else shrink(samples, self.schedule.levels - stage.level, stage.alpha)

    def _latents(self, source, count, parts):
        """This process's rows of the latents of the whole batch."""
        z = torch.randn(count, cast(int, self.state.generator.z_dim), generator=source, device=self.device)
        return processes.part(z, parts)


def _batch_sizes(recipe):
    """Of all stages."""
    return (recipe.progressive.batch_sizes if recipe.progressive else ()) or (recipe.batch_size,)


def _choose_device(device):
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).item()  # a meta device has no values
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
