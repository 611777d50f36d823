"""From the rows of a run's log to sentences that say what is wrong, since when, and what helps against it."""

from dataclasses import dataclass

PATIENCE = 3  # observations in a row: a single one may be chance
COLLAPSED = 0.6  # of the diversity of real samples
FEWEST_STEPS = 20  # between observations: before that, nothing need have moved
STILL = 1e-3  # of the mean distance of two real samples
DEAD = 1e-7
TELLS_ALL, TELLS_NOTHING = 0.99, 0.55
HUGE, STEEP = 100.0, 10.0
TOO_STEEP = 3.0  # times the gradient norm that a penalty asks for
SPECTRAL, GROWN = 30.0, 5.0
NAMED = 8  # missing modes that a sentence lists


@dataclass(frozen=True)
class Finding:
    name: str
    steps: int  # for which it held so far
    text: str  # a sentence, with what to try

    def __str__(self):
        return f"{self.name}: {self.text}"


def findings(rows):
    """rows: dicts of a metrics log, each with "step"; observations have keys "watch_...". What holds in the last three
    observations, as a list of Finding, the gravest first; none before there are three of them."""
    seen = [row for row in _with_trained(rows) if "watch_auc" in row]
    found = []
    for name, holds, say in RULES:
        steps = _steps(seen, holds)
        if steps is not None:
            found.append(Finding(name, steps, say(seen[-1], f"{steps:,}")))
    return found


def _with_trained(rows):
    """The rows, each with the newest mean that training has logged of a penalty's gradient norm."""
    newest = {}
    for row in rows:
        newest |= {key: row[key] for key in row if key.endswith("_gradient_norm") and not key.startswith("watch_")}
        yield newest | row


def _steps(seen, holds):
    """Steps for which it has held up to the last observation; None where that is fewer than PATIENCE observations."""
    held = 0
    while held < len(seen) and holds(seen, len(seen) - 1 - held):
        held += 1
    return seen[-1]["step"] - seen[-held]["step"] if held >= PATIENCE else None


def _exploding(seen, i):
    """Logits far apart, and far steeper between real and generated samples than a 1-Lipschitz critic can be."""
    row = seen[i]
    return row["watch_logit_distance"] > max(HUGE, STEEP * row["watch_sample_distance"])


def _frozen(seen, i):
    return (
        seen[i].get("watch_movement", 1) < STILL * seen[i].get("watch_rate", 1)  # a rate scheduled to 0 asks for none
        and seen[i].get("watch_interval", 0) >= FEWEST_STEPS
        and seen[i]["watch_g_grad"] >= DEAD
    )


def _dead(seen, i):
    return seen[i]["watch_g_grad"] < DEAD


def _collapsed(seen, i):
    row = seen[i]
    return row.get("watch_diversity", 1) < min(COLLAPSED, row.get("watch_diversity_low", 1))


def _steep(seen, i):
    return bool(_too_steep(seen[i]))


def _too_steep(row):
    """(norm, what is asked for) of the penalty whose gradient norm is the farthest above that, or None."""
    pairs = [
        (row[k.removeprefix("watch_asked_")], row[k])
        for k in row
        if k.startswith("watch_asked_") and k.removeprefix("watch_asked_") in row
    ]
    return max(
        (pair for pair in pairs if pair[0] > TOO_STEEP * pair[1]), key=lambda pair: pair[0] / pair[1], default=None
    )


def _growing(seen, i):
    """Beyond SPECTRAL and many times what it was at first, and it still grows."""
    first, before, now = (seen[j].get("watch_spectral_norm", 0) for j in (0, max(i - 1, 0), i))
    return now > max(SPECTRAL, GROWN * first) and now > before


def _missing_modes(seen, i):
    return bool(seen[i].get("watch_modes_missing"))


def _missing(seen, i):
    return seen[i].get("watch_classes_missing", 0) > 0


def _short_of_coverage(row):
    return row.get("watch_coverage", 1) < row.get("watch_coverage_expected", 1) / 2


def _strong(seen, i):
    """It tells all apart, and the samples have not come nearer for three observations."""
    if i < PATIENCE:
        return False
    gain = seen[i].get("watch_coverage", 1) - seen[i - PATIENCE].get("watch_coverage", 0)
    return seen[i]["watch_auc"] > TELLS_ALL and _short_of_coverage(seen[i]) and gain < 0.05


def _weak(seen, i):
    """It tells nothing apart, though nearest neighbours do."""
    return seen[i]["watch_auc"] < TELLS_NOTHING and _short_of_coverage(seen[i])


def _listed(numbers):
    """ "2 (numbers 3, 5)", of many the first ones."""
    rest = ", ..." if len(numbers) > NAMED else ""
    return f"{len(numbers)} (numbers {', '.join(map(str, numbers[:NAMED]))}{rest})"


RULES = (  # name, whether it holds at an observation, the sentence
    (
        "exploding critic",
        _exploding,
        lambda row, steps: (
            f"logits of real and generated samples are {row['watch_logit_distance']:.4g} apart (on average"
            f" {row['watch_d_real']:.4g} and {row['watch_d_fake']:.4g}), for {steps} steps: try spectral norm, R1"
            " or WGANGP, or a lower discriminator_lr"
        ),
    ),
    (
        "dead gradients",
        _dead,
        lambda row, steps: (
            f"the generator's gradient has norm {row['watch_g_grad']:.1e}, for {steps} steps: try a loss that does not"
            " saturate (non_saturating, hinge, relativistic_paired), or R1 to hold the critic back"
        ),
    ),
    (
        "frozen generator",
        _frozen,
        lambda row, steps: (
            f"the same latents give the same samples for {steps} steps (movement {row['watch_movement']:.1e} of the"
            " distance of two real samples): try a higher generator_lr, and look at its schedule and what is frozen"
        ),
    ),
    (
        "collapse",
        _collapsed,
        lambda row, steps: (
            f"generated samples differ by {100 * row['watch_diversity']:.2g} % of what real ones do (chance ends at"
            f" {100 * row['watch_diversity_low']:.0f} %), for {steps} steps: try packing (pack=2), minibatch stddev,"
            " or RpGAN + R1 + R2"
        ),
    ),
    (
        "missing classes",
        _missing,
        lambda row, steps: (
            f"{row['watch_classes_missing']:.0f} of {row['watch_classes']} classes missing, some for {steps} steps:"
            " try packing (pack=2), RpGAN + R1 + R2, or unrolling (unroll_steps=5)"
        ),
    ),
    (
        "missing modes",
        _missing_modes,
        lambda row, steps: (
            f"{_listed(row['watch_modes_missing'])} of {row['watch_modes']} modes missing, some for {steps} steps:"
            " try packing (pack=2), RpGAN + R1 + R2, or unrolling (unroll_steps=5)"
        ),
    ),
    (
        "steep penalty",
        _steep,
        lambda row, steps: (
            "the penalty's gradient norm is {:.3g} where {:.3g} is asked for,".format(*_too_steep(row))
            + f" for {steps} steps: try a larger weight of the penalty, or a lower discriminator_lr"
        ),
    ),
    (
        "growing spectral norms",
        _growing,
        lambda row, steps: (
            f"the largest spectral norm of the critic's weights is {row['watch_spectral_norm']:.3g} and grows, for"
            f" {steps} steps: try spectral norm, R1 or WGANGP, or a lower discriminator_lr"
        ),
    ),
    (
        "critic too strong",
        _strong,
        lambda row, steps: (
            f"the critic puts {100 * row['watch_auc']:.1f} % of pairs in order, and coverage stays at"
            f" {row['watch_coverage']:.2f} of {row['watch_coverage_expected']:.2f} for {steps} steps: try R1 or WGANGP,"
            " spectral norm, augmentation where data are few, or fewer discriminator_steps"
        ),
    ),
    (
        "critic too weak",
        _weak,
        lambda row, steps: (
            f"the critic puts {100 * row['watch_auc']:.1f} % of pairs in order (chance: 50 %), though coverage is"
            f" {row['watch_coverage']:.2f} of {row['watch_coverage_expected']:.2f}, for {steps} steps: try more"
            " discriminator_steps, a higher discriminator_lr, a wider critic, or a weaker penalty"
        ),
    ),
)
