"""How good, how diverse, and how far from an equilibrium: metrics of generators.

Pure functions take tensors and return plain numbers. `measure` computes them by name from Samples, and returns
Measurements, which carry extractor, hash, N and versions. Features come from an Extractor.
"""

from fastgan.metrics.coverage.class_coverage import ClassCoverage, class_coverage, stacked_labels
from fastgan.metrics.coverage.inception_score import InceptionScore, inception_score
from fastgan.metrics.coverage.mode_coverage import ModeCoverage, kl_floor, mode_coverage, reverse_kl
from fastgan.metrics.coverage.precision_recall import (
    PRDC,
    PrecisionRecall,
    expected_coverage,
    precision_recall,
    precision_recall_density_coverage,
)
from fastgan.metrics.coverage.vendi_score import vendi_score
from fastgan.metrics.distances.frechet_distance import frechet_distance
from fastgan.metrics.distances.gaussian_statistics import GaussianStatistics
from fastgan.metrics.distances.kernel_distance import KernelDistance, kernel_distance
from fastgan.metrics.distances.sliced_wasserstein import sliced_wasserstein
from fastgan.metrics.distances.wasserstein import wasserstein
from fastgan.metrics.duality_gap import DualityGap, duality_gap, log_payoff
from fastgan.metrics.features.extractor import Extractor, Features
from fastgan.metrics.features.fashion_cnn import fashion_cnn
from fastgan.metrics.features.inception import inception
from fastgan.metrics.features.named import extractor
from fastgan.metrics.features.pretrained import pretrained
from fastgan.metrics.features.resize import resize
from fastgan.metrics.images.laplacian_pyramid import laplacian_pyramid
from fastgan.metrics.images.ms_ssim import fitting_scales, ms_ssim, ms_ssim_diversity, ms_ssim_name
from fastgan.metrics.images.patch_sliced_wasserstein import patch_sliced_wasserstein
from fastgan.metrics.images.perceptual_path_length import PathLength, perceptual_path_length
from fastgan.metrics.measure import DEFAULT, ON_IMAGES, Samples, check_names, measure, names
from fastgan.metrics.measurement import Measurement, column, table

__all__ = [
    "DEFAULT",
    "ON_IMAGES",
    "PRDC",
    "ClassCoverage",
    "DualityGap",
    "Extractor",
    "Features",
    "GaussianStatistics",
    "InceptionScore",
    "KernelDistance",
    "Measurement",
    "ModeCoverage",
    "PathLength",
    "PrecisionRecall",
    "Samples",
    "check_names",
    "class_coverage",
    "column",
    "duality_gap",
    "expected_coverage",
    "extractor",
    "fashion_cnn",
    "fitting_scales",
    "frechet_distance",
    "inception",
    "inception_score",
    "kernel_distance",
    "kl_floor",
    "laplacian_pyramid",
    "log_payoff",
    "measure",
    "mode_coverage",
    "ms_ssim",
    "ms_ssim_diversity",
    "ms_ssim_name",
    "names",
    "patch_sliced_wasserstein",
    "perceptual_path_length",
    "precision_recall",
    "precision_recall_density_coverage",
    "pretrained",
    "resize",
    "reverse_kl",
    "sliced_wasserstein",
    "stacked_labels",
    "table",
    "vendi_score",
    "wasserstein",
]
