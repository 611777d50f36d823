"""O2, R3GAN's loss where modes are lost: relativistic pairing and two penalties on a thousand modes, a weak critic.

    python -m benchmarks.papers.relativistic_digits [--seeds 0 1 ...] [--processes 2] [--steps 8000]

The ablation of Huang et al., 2024, Table 1, on T8's stacked digits and networks. One to three minutes a run.
"""

from dataclasses import replace

from benchmarks.papers import pacgan_digits
from benchmarks.papers.table import Criterion, Table, column, main, mean_and_error

GAMMA = 1.0
PENALTIES = (f"R1(gamma={GAMMA})", f"R2(gamma={GAMMA})")
CONFIGURATIONS = {
    "GAN": {},
    "RpGAN": {"loss": "relativistic_paired"},
    "GAN + R1 + R2": {"penalties": PENALTIES},
    "RpGAN + R1 + R2": {"loss": "relativistic_paired", "penalties": PENALTIES},
}
TABLE = Table(
    name="relativistic_digits",
    id="O2",
    title="R3GAN's loss with a weak critic, on stacked digits",
    source="Huang et al., 2024, Table 1 (idea)",
    label="own",
    protocol=(
        "The modes, generator, weak discriminator and settings of the stacked digits (Adam 2e-4, 8000 iterations, "
        "simultaneous updates), with batches of 64. R1 and R2 have gamma 1. GAN is the non-saturating loss."
    ),
    notes=(("Gamma was chosen on another seed: 772 modes with 1, 510 with 0.1."),),
    published={
        "RpGAN": "fails",
        "GAN + R1 + R2": "693 modes, KL 0.93",
        "RpGAN + R1 + R2": "1000 modes, KL 0.078 (StackedMNIST; all quoted from memory)",
    },
)


def run(configuration, seed, steps, device="cpu"):
    settings = replace(pacgan_digits.settings("pacgan1", seed), batch_size=64, **CONFIGURATIONS[configuration])
    return pacgan_digits.trained(settings, pacgan_digits.WEAK, steps, device)


def criteria(rows):
    modes = {name: column(rows, name, "modes") for name in CONFIGURATIONS}
    mean = {name: mean_and_error(values)[0] for name, values in modes.items()}
    whole = modes["RpGAN + R1 + R2"]
    return [
        Criterion(
            "RpGAN + R1 + R2 covers more modes than GAN, seed by seed",
            ", ".join(f"{a} against {b}" for a, b in zip(whole, modes["GAN"], strict=True)),
            all(a > b for a, b in zip(whole, modes["GAN"], strict=True)),
        ),
        *(
            Criterion(
                f"and more than {name}, on average",
                f"{mean['RpGAN + R1 + R2']:.0f} against {mean[name]:.0f}",
                mean["RpGAN + R1 + R2"] > mean[name],
            )
            for name in ("RpGAN", "GAN + R1 + R2")
        ),
    ]


def figure(rows):
    return pacgan_digits.bars(rows, CONFIGURATIONS, lambda name: name.replace(" + R1", "\n+ R1"), colours=4)


if __name__ == "__main__":
    main(__doc__, TABLE, run, criteria, figure, CONFIGURATIONS, seeds=5, steps=8000)
