"""The recipe's augmentation of what the critic sees."""

from functools import partial

from fastgan.augment import AdaptiveProbability, DiffAugment


def adaptive_probability(recipe):
    """None where the recipe's augmentation does not adapt."""
    if recipe.augment_target:
        return AdaptiveProbability(recipe.augment_target, images=recipe.augment_images)


def initial_memory(recipe):
    """What the adaptive probability starts from, {} where it does not adapt."""
    adaptive = adaptive_probability(recipe)
    return {"augment": adaptive.initial_state()} if adaptive else {}


def augmentation(recipe, memory):
    """A function of images, or None where the recipe has none."""
    if not recipe.augment:
        return None
    augment = DiffAugment(recipe.augment)
    return partial(augment, p=memory["augment"]["p"]) if recipe.augment_target else augment


def observe(recipe, memory, real_logits):
    """Moves the adaptive probability by what the critic said of a batch of real images."""
    if adaptive := adaptive_probability(recipe):
        adaptive.observe(memory["augment"], real_logits)
