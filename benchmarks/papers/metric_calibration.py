"""T11, metric calibration: what the metrics say where the answer is known.

    python -m benchmarks.papers.metric_calibration [--seeds 0 1 2]

Exact protocol: N(0, I_1000) twice, N = 10,000, k = 5 (the draw that clovaai/generative-evaluation-prdc publishes:
precision .4772, recall .4705, density 1.0555, coverage .9735); FID of two Gaussians from their moments against its
closed form; KID over 200 null draws. Every criterion is judged for every seed. Writes
benchmarks/papers/results/metric_calibration.json.
"""

import torch

from benchmarks.papers.table import Criterion, Table, main
from fastgan import metrics

PUBLISHED = {"precision": 0.4772, "recall": 0.4705, "density": 1.0555, "coverage": 0.9735}
ASKED = {"precision": (0.47, 0.04), "recall": (0.47, 0.04), "density": (1.0, 0.15), "coverage": (0.969, 0.02)}

TABLE = Table(
    name="metric_calibration",
    id="T11",
    title="Metric calibration",
    source="clovaai/generative-evaluation-prdc, README; closed forms",
    label="exact",
    protocol=(
        "N(0, I_1000) twice, N = 10,000, k = 5. FID in 64 dimensions against its closed form from the moments. KID "
        "over 200 null draws of 500 x 64. The test suite compares the metrics with torch-fidelity, torchmetrics, "
        "prdc and POT."
    ),
    published={"two sets of one Gaussian": ", ".join(f"{name} {value}" for name, value in PUBLISHED.items())},
)


def normal(count, width, source):
    return torch.randn(count, width, generator=source)


def prdc(seed):
    source = torch.Generator().manual_seed(seed)
    found = metrics.precision_recall_density_coverage(*(normal(10_000, 1000, source) for _ in range(2)), k=5)
    return found._asdict()


def fid_error(seed, width=64):
    """Of the closed form for covariances with common eigenvectors."""
    source = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(normal(width, width, source).double()).Q
    a, b = torch.rand(2, width, generator=source, dtype=torch.float64)
    means = normal(2, width, source).double()
    pair = [
        metrics.GaussianStatistics.from_moments(m, basis @ torch.diag(v) @ basis.T, 10_000)
        for m, v in zip(means, (a, b), strict=True)
    ]
    exact = (means[0] - means[1]).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    return abs(metrics.frechet_distance(*pair) - exact.item())


def kid_null(seed, draws=200):
    """-> mean over the draws, its standard error"""
    source = torch.Generator().manual_seed(seed)
    values = [
        metrics.kernel_distance(normal(500, 64, source), normal(500, 64, source), subset_size=None).mean
        for _ in range(draws)
    ]
    values = torch.tensor(values, dtype=torch.float64)
    return values.mean().item(), (values.std() / draws**0.5).item()


def run(configuration, seed, device="cpu"):
    found = {**prdc(seed), "fid_error": fid_error(seed)}
    found["kid_null_mean"], found["kid_null_standard_error"] = kid_null(seed)
    return found


def criteria(rows):
    found = [
        Criterion(
            f"{name}: {value} +- {within} for every seed",
            ", ".join(f"{row[name]:.4f}" for row in rows),
            all(abs(row[name] - value) <= within for row in rows),
        )
        for name, (value, within) in ASKED.items()
    ]
    error = max(row["fid_error"] for row in rows)
    offsets = [abs(row["kid_null_mean"]) / row["kid_null_standard_error"] for row in rows]
    return [
        *found,
        Criterion("FID from moments: the closed form to 1e-6", f"off by at most {error:.1e}", error <= 1e-6),
        Criterion(
            "KID: null mean within 3 standard errors of 0", f"at most {max(offsets):.2f} away", max(offsets) <= 3
        ),
    ]


def figure(rows):
    def draw(figure):
        axis = figure.subplots()
        for i, name in enumerate(ASKED):
            axis.scatter([i + 0.06 * (j - 1) for j in range(len(rows))], [row[name] for row in rows], color="C0", s=20)
            axis.plot([i - 0.25, i + 0.25], [PUBLISHED[name]] * 2, color="C1", label="published" if i == 0 else None)
        axis.set(title="a dot for each seed", xticks=range(len(ASKED)), ylim=(0, 1.2))
        axis.set_xticklabels(ASKED)
        axis.legend(fontsize=8)

    return draw


if __name__ == "__main__":
    main(__doc__, TABLE, run, criteria, figure, ["two sets of one Gaussian"], seeds=3)
