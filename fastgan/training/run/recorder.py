"""What a run leaves behind while it trains: log lines, pictures, checkpoints, and the progress bar."""

import shutil
import time

import torch

from fastgan.atomic_file import replacing
from fastgan.extras import require
from fastgan.models import sampling
from fastgan.monitor import findings, is_best, plateau
from fastgan.monitor.observer import Watch
from fastgan.nn.attention_maps import attention_layers, attention_maps
from fastgan.nn.pack import pack
from fastgan.report import save_attention_maps, save_curves, save_grid, save_scatter
from fastgan.training.run import checkpoint
from fastgan.training.run.metrics_log import MetricsLog, read_metrics
from fastgan.training.step.running_means import Diverged, Tally

PICTURES, POINTS = 100, 2000
ATTENDING = 6  # images with attention maps, the first ones of those
QUERIES = ((0.5, 0.5), (0.25, 0.5), (0.75, 0.25))  # rows and columns, as shares of the image


class Recorder:
    """Intervals are in steps; after the last step everything is due."""

    def __init__(self, folder, recipe, data, *, log_every, sample_every, checkpoint_every, progress, stop=None):
        self.folder, self.recipe, self.data = folder, recipe, data
        self.log_every, self.sample_every, self.checkpoint_every = log_every, sample_every, checkpoint_every
        self.progress, self.stop = progress, stop
        self.best_step = None  # of a run that has stopped getting better, where `stop` asks
        self.images = len(data.shape) == 3 and data.shape[0] <= 4
        self.points = tuple(data.shape) == (2,)

    def start(self, state, steps):
        self.steps = steps
        self.log, self.tally = MetricsLog(self.folder.metrics, state.step), Tally()
        self.bar = require("tqdm").tqdm(
            total=steps, initial=state.step, disable=not self.progress, unit="step", dynamic_ncols=True
        )
        self.since = (state.step, time.perf_counter())
        self.watch = Watch(self.recipe, self.data, state)
        if self.images:
            real = self.data.batch(torch.arange(min(PICTURES, len(self.data))))[0]
            save_grid(_side_by_side(real), self.folder.real)

    def step(self, state, values):
        self.tally.add(state.step, values)
        self.bar.update()
        seen = self._observe(state) if self._due(state, self.sample_every) else {}
        if self._due(state, self.log_every):
            self._log(state, seen)
        elif seen:
            self.log.write(step=state.step, **seen)
        if seen:
            self._report(state)
        if (self.images or self.points) and self._due(state, self.sample_every):
            self._draw(state)
        if self._due(state, self.checkpoint_every):
            self.save(state)

    def save(self, state):
        self.tally.check()
        _check_weights(state)  # never a checkpoint that cannot be gone on from
        checkpoint.save(state, self.folder.checkpoints, self.recipe)

    def close(self):
        self.bar.close()

    def _due(self, state, every):
        return state.step % every == 0 or state.step == self.steps

    def _observe(self, state):
        self.tally.check()
        _check_weights(state)
        seen = self.watch(state)
        return seen | self.stop.measure(state) if seen and self.stop is not None else seen

    def _report(self, state):
        rows = read_metrics(self.folder.metrics)
        found = findings(rows)
        if self.stop is not None:
            self.best_step = plateau(rows, self.stop.series)
            if is_best(rows, self.stop.series):
                checkpoint.save(state, self.folder.best, self.recipe, keep=1)
        with replacing(self.folder.findings) as unfinished:
            unfinished.write_text("".join(f"{finding}\n" for finding in found))
        self.bar.set_description_str(found[0].name if found else "")

    def _log(self, state, seen):
        means, now = self.tally.take(), time.perf_counter()
        rate = (state.step - self.since[0]) / (now - self.since[1])
        self.since = (state.step, now)
        self.log.write(step=state.step, **means, steps_per_second=round(rate, 3), **seen)
        self.bar.set_postfix_str(
            "d_loss {d_loss:.3f}  g_loss {g_loss:.3f}  D(x) {d_real:.2f}  D(G(z)) {d_fake:.2f}".format(**means)
        )

    def _draw(self, state):
        device = next(state.average.parameters()).device
        count = POINTS if self.points else PICTURES
        z = sampling.latents(state.average, count, self.recipe.seed, "pictures", device=device)
        condition = sampling.conditions(state.average, self.data, count, device)
        samples = sampling.sample(state.average, z, condition)
        path = self.folder.samples_at(state.step)
        if self.points:
            save_scatter({"generated": samples}, path, modes=getattr(self.data, "modes", None))
        else:
            sources = condition if sampling.takes_source(state.average) else None
            save_grid(_side_by_side(samples, sources), path)
            self._draw_attention(state, z[:ATTENDING], samples[:ATTENDING])
        _copy(path, self.folder.samples)
        save_curves(read_metrics(self.folder.metrics), self.folder.curves)

    def _draw_attention(self, state, z, images):
        """What both networks look at in the first samples (a pack: copies of one); nothing where neither attends."""
        labels, copies = sampling.labels_in_turn(state.average, len(images), images.device), self.recipe.pack
        judged = [None if t is None else pack(t.repeat_interleave(copies, 0), copies) for t in (images, labels)]
        networks = {"generator": (state.average, z, labels), "critic": (state.discriminator, *judged)}
        size, maps = images.shape[2:], {}
        queries = [(int(y * size[0]), int(x * size[1])) for y, x in QUERIES]
        for title, (network, *inputs) in networks.items():
            if not attention_layers(network):
                continue
            found = attention_maps(network, queries, size, *(t for t in inputs if t is not None))
            for name, weights in found.items():
                maps[title if len(found) == 1 else f"{title} {name}"] = weights
        if maps:
            save_attention_maps(images, queries, maps, self.folder.attention_maps_at(state.step))
            _copy(self.folder.attention_maps_at(state.step), self.folder.attention_maps)


def _side_by_side(images, sources=None):
    """One picture of each sample: a silhouette beside its image, a source beside what was made of it."""
    if sources is None and images.shape[1] in (2, 4):
        sources, images = images[:, :1], images[:, 1:]
    if sources is None:
        return images
    sources = torch.nn.functional.interpolate(sources, images.shape[2:])
    return torch.cat([sources.expand_as(images), images], 3)


def _copy(source, target):
    with replacing(target) as unfinished:
        shutil.copyfile(source, unfinished)


def _check_weights(state):
    for name, network in state.networks().items():
        if not all(p.isfinite().all() for p in network.parameters()):
            raise Diverged(f"step {state.step}: weights of the {name} are not finite; try lower learning rates")
