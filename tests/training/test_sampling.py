import torch

from fastgan.models import sampling


def test_samples_are_drawn_in_evaluation_mode_which_is_then_left(toy):
    generator = toy.Generator()
    seen = []
    generator.register_forward_hook(lambda module, args, output: seen.append(module.training))
    z = sampling.latents(generator, 3, 0, "test")
    images = sampling.sample(generator, z)
    assert seen == [False] and generator.training and not images.requires_grad
    assert generator.layers[1].num_batches_tracked == 0


def test_a_sample_does_not_depend_on_how_many_are_drawn_in_a_batch(toy, monkeypatch):
    generator = toy.Generator(classes=4)
    z, labels = sampling.latents(generator, 10, 0, "test"), sampling.labels_in_turn(generator, 10)
    assert labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    whole = sampling.sample(generator, z, labels)
    monkeypatch.setattr(sampling, "BATCH", 3)
    torch.testing.assert_close(sampling.sample(generator, z, labels), whole)


def test_latents_depend_on_seed_and_purpose(toy):
    generator = toy.Generator()
    a, b, c, d = (sampling.latents(generator, 2, s, p) for s, p in ((0, "x"), (0, "x"), (1, "x"), (0, "y")))
    assert torch.equal(a, b) and not torch.equal(a, c) and not torch.equal(a, d)
    assert sampling.labels_in_turn(generator, 2) is None
