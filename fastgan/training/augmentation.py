"""The recipe's augmentation of what the critic sees."""

from functools import partial

from fastgan.augment import AdaptiveProbability, DiffAugment


def initial_memory(recipe):
    """What the adaptive probability starts from, {} where it does not adapt."""
    return {"augment": AdaptiveProbability(recipe.augment_target).initial_state()} if recipe.augment_target else {}


def augmentation(recipe, memory):
    """A function of images, or None where the recipe has none."""
    if not recipe.augment:
        return None
    augment = DiffAugment(recipe.augment)
    return partial(augment, p=memory["augment"]["p"]) if recipe.augment_target else augment


def observe(recipe, memory, real_logits):
    """Moves the adaptive probability by what the critic said of a batch of real images."""
    if recipe.augment_target:
        AdaptiveProbability(recipe.augment_target).observe(memory["augment"], real_logits)
