"""From the rows of a run's log to sentences: what is wrong, since when, and what helps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PATIENCE = 3  # observations in a row: a single one may be chance
COLLAPSED = 0.6  # of the diversity of real samples
FEWEST_STEPS = 20  # between observations: in fewer steps nothing may have moved
STILL = 1e-3  # of the mean distance of two real samples
DEAD = 1e-7
TELLS_ALL, TELLS_NOTHING = 0.99, 0.55
HUGE, STEEP = 100.0, 10.0
TOO_STEEP = 3.0  # times the target of a penalty's gradient norm
SPECTRAL, GROWN = 30.0, 5.0
NAMED = 8  # missing modes that a sentence lists
WIDE = 5.0  # times as far apart as real samples
SATURATED = 0.98  # of all values are at an end of [-1, 1]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a run, and what helps."""

    name: str
    steps: int  # for which it held so far
    text: str  # a sentence, with what to try

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def findings(rows: Sequence[Mapping[str, Any]], recipe: Any = None) -> list[Finding]:
    """rows: dicts of a metrics log, each with "step"; observations have keys "watch_...". Returns a list of Finding for
    what holds in the last three observations, the gravest first, and none before the third observation. Samples that
    are not finite are reported at once. recipe: the run's Recipe; the advice leaves out what it already has.

    A run that has diverged misses every mode and class, and its critic separates all samples: the rules for these
    are skipped.
    """
    if broken := _not_finite(rows):
        return [broken]
    seen = [row for row in _with_trained(rows) if "watch_auc" in row]
    found: list[Finding] = []
    for name, holds, say, remedies in RULES:
        if name in FOLLOWS and any(finding.name in DIVERGED for finding in found):
            continue
        steps = _steps(seen, holds)
        if steps is not None:
            found.append(Finding(name, steps, say(seen[-1], f"{steps:,}") + advice(remedies, recipe)))
    return found


def _not_finite(rows):
    row = next((row for row in reversed(rows) if "watch_auc" in row or "watch_not_finite" in row), {})
    if not (count := row.get("watch_not_finite")):
        return None
    text = f"{count} of {row['watch_samples']} generated samples hold NaN or infinity at step {row['step']:,}"
    return Finding("not finite", 0, f"{text}: go on from an earlier checkpoint with a lower generator_lr")


def advice(remedies: Iterable[tuple[str, Callable[[Any], bool] | None]], recipe: Any = None) -> str:
    """ ": try a, b, or c" of the remedies (text, condition of a recipe that has it already or None) that are not in
    use."""
    texts = [text for text, used in remedies if recipe is None or used is None or not used(recipe)]
    if len(texts) > 1:
        texts[-1] = f"or {texts[-1]}"
    return f": try {', '.join(texts)}" if texts else ""


def _with_trained(rows):
    """The rows, each with the newest mean that training has logged of a penalty's gradient norm."""
    newest = {}
    for row in rows:
        newest |= {key: row[key] for key in row if key.endswith("_gradient_norm") and not key.startswith("watch_")}
        yield newest | row


def _steps(seen, holds):
    """Steps for which it has held up to the last observation; None if there were fewer than PATIENCE observations."""
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
        seen[i].get("watch_movement", 1)
        < STILL * seen[i].get("watch_rate", 1)  # a rate that is scheduled to 0 moves nothing
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
    """(norm, target) of the penalty with the gradient norm farthest above its target, or None."""
    pairs = [
        (row[k.removeprefix("watch_asked_")], row[k])
        for k in row
        if k.startswith("watch_asked_") and k.removeprefix("watch_asked_") in row
    ]
    return max(
        (pair for pair in pairs if pair[0] > TOO_STEEP * pair[1]), key=lambda pair: pair[0] / pair[1], default=None
    )


def _growing(seen, i):
    """Above SPECTRAL and many times the first value, and still growing."""
    first, before, now = (seen[j].get("watch_spectral_norm", 0) for j in (0, max(i - 1, 0), i))
    return now > max(SPECTRAL, GROWN * first) and now > before


def _missing_modes(seen, i):
    return bool(seen[i].get("watch_modes_missing"))


def _missing(seen, i):
    return seen[i].get("watch_classes_missing", 0) > 0


def _short_of_coverage(row):
    return row.get("watch_coverage", 1) < row.get("watch_coverage_expected", 1) / 2


def _strong(seen, i):
    """The critic separates all samples, and coverage has not grown for three observations."""
    if i < PATIENCE:
        return False
    gain = seen[i].get("watch_coverage", 1) - seen[i - PATIENCE].get("watch_coverage", 0)
    return seen[i]["watch_auc"] > TELLS_ALL and _short_of_coverage(seen[i]) and gain < 0.05


def _weak(seen, i):
    """The critic separates nothing, although nearest neighbours do."""
    return seen[i]["watch_auc"] < TELLS_NOTHING and _short_of_coverage(seen[i])


def _listed(numbers):
    """ "2 (numbers 3, 5)", of many the first ones."""
    rest = ", ..." if len(numbers) > NAMED else ""
    return f"{len(numbers)} (numbers {', '.join(map(str, numbers[:NAMED]))}{rest})"


def _wide(seen, i):
    return seen[i].get("watch_diversity", 1) > WIDE


def _saturated(seen, i):
    """Almost every value is at an end of the range, which those of real samples are not."""
    return seen[i].get("watch_saturated", 0) > max(SATURATED, (1 + seen[i].get("watch_saturated_real", 0)) / 2)


def _has(*penalties):
    """Whether a recipe has a penalty of one of these classes."""
    return lambda recipe: any(type(penalty).__name__ in penalties for penalty in recipe.penalties)


LOWER_GENERATOR_LR = ("a lower generator_lr", lambda recipe: not recipe.generator_lr)
LOWER_DISCRIMINATOR_LR = ("a lower discriminator_lr", lambda recipe: not recipe.discriminator_lr)
SPECTRAL_NORM = ("spectral norm", lambda recipe: recipe.spectral_norm in ("discriminator", "both"))
R1, WGANGP = ("R1", _has("R1")), ("WGANGP", _has("WGANGP"))
PACKING = ("packing (pack=2)", lambda recipe: recipe.pack > 1)
UNROLLING = ("unrolling (unroll_steps=5)", lambda recipe: recipe.unroll_steps > 0)
RPGAN = (
    "RpGAN + R1 + R2",
    lambda recipe: recipe.loss == "relativistic_paired" and _has("R1")(recipe) and _has("R2")(recipe),
)
NOT_SATURATING = (
    "a loss that does not saturate (non_saturating, hinge, relativistic_paired)",
    lambda recipe: recipe.loss != "minimax",
)
FEWER_STEPS = ("fewer discriminator_steps", lambda recipe: recipe.discriminator_steps == 1)
AUGMENTATION = ("augmentation if data are few", lambda recipe: bool(recipe.augment))

DIVERGED = ("diverged", "saturated samples")
FOLLOWS = ("collapse", "missing classes", "missing modes", "critic too strong")  # of divergence

RULES = (  # name, whether it holds at an observation, the sentence, the remedies
    (
        "diverged",
        _wide,
        lambda row, steps: (
            f"generated samples are {row['watch_diversity']:.3g} times as far apart as real ones, for {steps} steps"
        ),
        (LOWER_GENERATOR_LR, R1, SPECTRAL_NORM),
    ),
    (
        "saturated samples",
        _saturated,
        lambda row, steps: (
            f"{100 * row['watch_saturated']:.3g} % of the generated values are at -1 or 1 (of the real ones"
            f" {100 * row['watch_saturated_real']:.2g} %), for {steps} steps"
        ),
        (LOWER_GENERATOR_LR, NOT_SATURATING),
    ),
    (
        "exploding critic",
        _exploding,
        lambda row, steps: (
            f"logits of real and generated samples are {row['watch_logit_distance']:.4g} apart (on average"
            f" {row['watch_d_real']:.4g} and {row['watch_d_fake']:.4g}), for {steps} steps"
        ),
        (SPECTRAL_NORM, R1, WGANGP, LOWER_DISCRIMINATOR_LR),
    ),
    (
        "dead gradients",
        _dead,
        lambda row, steps: f"the generator's gradient has norm {row['watch_g_grad']:.1e}, for {steps} steps",
        (NOT_SATURATING, ("R1 to hold the critic back", _has("R1")), LOWER_DISCRIMINATOR_LR),
    ),
    (
        "frozen generator",
        _frozen,
        lambda row, steps: (
            f"the same latents give the same samples for {steps} steps (movement {row['watch_movement']:.1e} of the"
            " distance of two real samples)"
        ),
        (("a higher generator_lr", None), ("another schedule of generator_lr", lambda recipe: not recipe.schedules)),
    ),
    (
        "collapse",
        _collapsed,
        lambda row, steps: (
            f"generated samples differ by {100 * row['watch_diversity']:.2g} % of what real ones do (sets of real ones"
            f" by at least {100 * row['watch_diversity_low']:.0f} %), for {steps} steps"
        ),
        (PACKING, ("minibatch stddev", None), RPGAN),
    ),
    (
        "missing classes",
        _missing,
        lambda row, steps: (
            f"{row['watch_classes_missing']:.0f} of {row['watch_classes']} classes missing, one or more for {steps}"
            " steps"
        ),
        (PACKING, RPGAN, UNROLLING),
    ),
    (
        "missing modes",
        _missing_modes,
        lambda row, steps: (
            f"{_listed(row['watch_modes_missing'])} of {row['watch_modes']} modes missing, one or more for {steps}"
            " steps"
        ),
        (PACKING, RPGAN, UNROLLING),
    ),
    (
        "steep penalty",
        _steep,
        lambda row, steps: (
            "the penalty's gradient norm is {:.3g}, its target is {:.3g},".format(*(_too_steep(row) or ()))
            + f" for {steps} steps"
        ),
        (("a larger weight of the penalty", None), LOWER_DISCRIMINATOR_LR),
    ),
    (
        "growing spectral norms",
        _growing,
        lambda row, steps: (
            f"the largest spectral norm of the critic's weights is {row['watch_spectral_norm']:.3g} and grows, for"
            f" {steps} steps"
        ),
        (SPECTRAL_NORM, R1, WGANGP, LOWER_DISCRIMINATOR_LR),
    ),
    (
        "critic too strong",
        _strong,
        lambda row, steps: (
            f"the critic puts {100 * row['watch_auc']:.1f} % of pairs in order, and coverage stays at"
            f" {row['watch_coverage']:.2f} of {row['watch_coverage_expected']:.2f} for {steps} steps"
        ),
        (R1, WGANGP, SPECTRAL_NORM, AUGMENTATION, FEWER_STEPS, LOWER_DISCRIMINATOR_LR),
    ),
    (
        "critic too weak",
        _weak,
        lambda row, steps: (
            f"the critic puts {100 * row['watch_auc']:.1f} % of pairs in order (chance: 50 %), and coverage is"
            f" {row['watch_coverage']:.2f} of {row['watch_coverage_expected']:.2f}, for {steps} steps"
        ),
        (
            ("more discriminator_steps", None),
            ("a higher discriminator_lr", None),
            ("a wider critic", None),
            ("a weaker penalty", lambda recipe: not recipe.penalties),
        ),
    ),
)
