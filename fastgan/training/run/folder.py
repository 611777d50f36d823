"""What lies where in the folder of a run."""

from pathlib import Path

from fastgan.training.run import checkpoint


class RunFolder:
    def __init__(self, path):
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.setup = self.path / "setup.yaml"  # data and model of a run by `fastgan train`
        self.metrics = self.path / "metrics.jsonl"
        self.evaluations = self.path / "evaluations.jsonl"  # by `fastgan evaluate`
        self.findings = self.path / "findings.txt"  # what seems wrong at the newest observation
        self.curves = self.path / "curves.png"
        self.real = self.path / "real.png"
        self.samples = self.path / "samples.png"  # the newest of:
        self.attention_maps = self.path / "attention_maps.png"  # the newest, where the networks attend
        self.best = self.path / "best"  # the best checkpoint so far by what the run stops for
        self.checkpoints = self.path / "checkpoints"

    def samples_at(self, step):
        return self.path / "samples" / f"step_{step:08d}.png"

    def attention_maps_at(self, step):
        return self.path / "attention_maps" / f"step_{step:08d}.png"

    def claim(self, resume):
        """The checkpoint to go on from, or None for a new run. Errors: where this contradicts `resume`."""
        found = checkpoint.latest(self.checkpoints)
        if resume and found is None:
            raise FileNotFoundError(f"{self.path}: has no checkpoint to resume from")
        if not resume and (found is not None or self.metrics.exists()):
            raise FileExistsError(f"{self.path}: holds a run already; resume it, or choose another folder")
        self.path.mkdir(parents=True, exist_ok=True)
        return found
