"""`fastgan evaluate`"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from fastgan import metrics, randomness, training
from fastgan.cli import extractors
from fastgan.cli.flags import at_least_one, mendable, parse
from fastgan.cli.real_features import real_features
from fastgan.data import data_source
from fastgan.models import sampling


@dataclass(frozen=True)
class Evaluate:
    """Measure the generator of a run, or a folder of images, against real images."""

    run_dir: Path | None = None
    """The run whose newest averaged generator is measured, or its best/, or one of its checkpoints; the numbers are
    kept in the run's evaluations.jsonl."""

    best: bool = False
    """Measure the best checkpoint, which a run with --stop-when or --evaluate-every keeps."""

    model: str | None = None
    """Of a run with networks of your own: their module:function, named again; the folder alone does not make code
    run."""

    images: str | None = None
    """A folder or archive of images to measure instead of a run."""

    against: str | None = None
    """"fashion", or real images as `fastgan train --data` takes them; by default what the run was trained on."""

    metrics: str = ",".join(metrics.DEFAULT)
    """Names with commas: fid, kid, is, pr, prdc, vendi, modes, swd, ms_ssim; or all."""

    extractor: str | None = None
    """What makes the features: fashion-cnn (the default), which knows garments alone and is trained when it is first
    used; inception:FILE, the weights that torch-fidelity converted, as a file of tensors; torchvision:NAME, as
    torchvision:resnet50, if its weights are on the disk; module:function, a Python function of your own that returns a
    network or an Extractor."""

    skip_broken: bool = False
    """Leave out images of folders that cannot be decoded; without it the first such image ends the command."""

    count: int = 10_000
    """How many images of each side, or all that there are where those are fewer."""

    resolution: int | None = None
    """Side of the images in pixels; by default the run's, else 28 for the garments, 64 for a folder."""

    channels: int | None = None
    """1 (grey) or 3 (colour); by default the run's, else 1 for the garments, 3 for a folder."""

    seed: int = 0
    """Which images."""

    threads: int | None = None
    """Processor threads; by default torch's choice, one for each core."""

    json: bool = False
    """Print JSON, one line a number, instead of a table."""

    reading: data_source.Reading = field(default_factory=data_source.Reading)


def main(arguments: list[str]) -> None:
    flags = parse("evaluate", Evaluate(), arguments)
    with mendable(ValueError, TypeError, OSError):
        rows, kept = _evaluate(flags)
    for row in rows:
        print(json.dumps(row) if flags.json else _line(row))
    if not flags.json:
        first = rows[0]
        print(
            f"{first['of']} against {first['against']}; extractor {flags.extractor or extractors.GARMENTS_ONLY}"
            f"#{first['extractor_hash']}"
        )
        if kept:
            print(f"kept in {kept}")


def _evaluate(flags):
    """-> a dict for each number, and the file that they were added to, if any"""
    if (flags.run_dir is None) == (flags.images is None):
        raise ValueError("evaluate needs one of --run-dir and --images")
    at_least_one(flags, "count", "resolution", "channels", "threads")
    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    names = metrics.names() if flags.metrics == "all" else tuple(flags.metrics.split(","))
    metrics.check_names(names)
    fake, about, kept, reading = _folder(flags) if flags.run_dir is None else _run(flags)
    extractor = extractors.of(flags.extractor, about["against"])
    fake = metrics.Samples.of(fake, extractor)
    real = _real(replace(flags, reading=reading), about["against"], about.pop("size"), extractor, names)
    found = metrics.measure(real, fake, names)
    rows = [{**about, **measurement.as_dict(), "extractor_hash": extractor.hash} for measurement in found]
    if kept is not None:
        with open(kept, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return rows, kept


def _run(flags):
    """-> images of the run's generator, what they are and go against, the file that keeps the numbers, a Reading"""
    run = training.load_generator(flags.run_dir, best=flags.best, model=flags.model)
    model, trained_on = run.model, run.flags.get("data")
    if "resolution" not in model:
        raise ValueError(f"{flags.run_dir}: makes points, not images; `fastgan compare` counts their modes")
    for name, own in (("resolution", model["resolution"]), ("channels", model["channels"])):
        if getattr(flags, name) not in (None, own):
            raise ValueError(f"{name} must be the run's, {own}; got {getattr(flags, name)}")
    size = (model["resolution"], model["channels"])
    reading = flags.reading if flags.reading != data_source.Reading() else data_source.Reading.of(run.flags)
    if trained_on is not None and (flags.against is None or run.generator.z_dim == 0):
        data_source.recorded(trained_on)
    against = flags.against or trained_on
    if against is None or (run.generator.z_dim == 0 and trained_on is None):
        raise ValueError(f"{flags.run_dir}: does not name the data it was trained on: give --against")
    z = sampling.latents(run.generator, flags.count, flags.seed, "evaluation")
    source = None
    if trained_on is not None and run.generator.z_dim == 0:
        source = data_source.load(trained_on, *size, reading=reading)
    images = sampling.sample(run.generator, z, sampling.conditions(run.generator, source, flags.count)).clamp(-1, 1)
    about = {"of": str(flags.run_dir), "step": run.step, "against": against, "size": size}
    return images, about, run.folder.evaluations, reading


def _folder(flags):
    if flags.best:
        raise ValueError("--best needs --run-dir")
    images = data_source.load(flags.images, flags.resolution, flags.channels, flags.skip_broken, flags.reading)
    if len(images.shape) != 3:
        raise ValueError(f"--images must name images; {flags.images} holds samples of shape {tuple(images.shape)}")
    if flags.against is None:
        raise ValueError("--images needs --against: fashion, or a folder of real images")
    size = (images.shape[1], images.shape[0])
    return _images(images, flags), {"of": flags.images, "against": flags.against, "size": size}, None, flags.reading


def _images(images, flags):
    """A random selection of a data set's images in [-1, 1], in random order."""
    order = torch.randperm(len(images), generator=randomness.generator(flags.seed, "selection"))[: flags.count]
    return torch.cat([images.batch(indices)[0] for indices in order.split(256)])


def _real(flags, source, size, extractor, names):
    """Samples whose features are kept; without images where no metric in `names` looks at those."""

    def images():
        return _images(data_source.load(source, size[0], size[1], flags.skip_broken, flags.reading), flags)

    about = {
        "data": data_source.stamp(source, flags.reading),
        "size": list(size),
        "count": flags.count,
        "seed": flags.seed,
        "skip_broken": flags.skip_broken,
    }
    if set(names) & set(metrics.ON_IMAGES) or about["data"] is None:
        return metrics.Samples.of(images(), extractor)
    return metrics.Samples(None, real_features(about, extractor, lambda: extractor.features(images())))


def _line(row):
    size = f"N = {row['n']:,}" + (f" / {row['n_real']:,}" if row["n_real"] != row["n"] else "")
    spread = "" if row["std"] is None else f" +- {row['std']:.3g}"
    return f"{row['name']:32}{row['value']:>12.5g}{spread:12}  {size:16}{row['note']}".rstrip()
