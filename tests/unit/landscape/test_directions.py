"""Directions: each filter as long as that of the weights, and what stays stays."""

import math

import pytest
import torch
from torch import nn

from thalweg.errors import InputError
from thalweg.landscape import difference, random_direction
from thalweg.landscape.directions import dot, length


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.Embedding(5, 2)
    )


def test_every_filter_is_as_long_as_that_of_the_weights() -> None:
    model = network()
    direction = random_direction(model, seed=0)

    assert set(direction) == {"0.weight", "4.weight", "5.weight"}
    for name, d in direction.items():
        weight = model.get_parameter(name)
        own = weight.detach().flatten(1).norm(dim=1)
        assert d.shape == weight.shape
        assert torch.allclose(d.flatten(1).norm(dim=1), own, rtol=1e-6)


def test_with_biases_each_parameter_of_one_axis_is_as_long_as_it_is_and_the_others_stay_the_same() -> None:
    model = network()
    without, all_of_them = random_direction(model, 3), random_direction(model, 3, biases=True)

    assert set(all_of_them) == {name for name, _ in model.named_parameters()}
    assert all(torch.equal(d, all_of_them[name]) for name, d in without.items())
    assert all_of_them["1.weight"].norm().item() == pytest.approx(math.sqrt(3), rel=1e-6)  # ones
    assert not all_of_them["1.bias"].any()  # zeros, which stay


def test_a_seed_and_a_number_determine_a_direction_and_the_model_is_only_read() -> None:
    model = network()
    before = {name: p.clone() for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    first, again, second, other = (random_direction(model, *of) for of in ((0, 0), (0, 0), (0, 1), (1, 0)))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], x[name]) for x in (second, other) for name in first)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_scaling_a_filter_scales_its_direction_alike() -> None:
    """What ReLU networks cannot tell apart has the same slice."""
    model = nn.Linear(4, 2)
    before = random_direction(model, 0)["weight"]
    with torch.no_grad():
        model.weight[0] *= 8.0  # a power of two: exact

    after = random_direction(model, 0)["weight"]

    assert torch.equal(after[1], before[1])
    assert torch.allclose(after[0], 8 * before[0], rtol=1e-6)


def test_what_is_not_trained_does_not_move() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].weight.requires_grad_(False)

    assert set(random_direction(model, 0)) == {"1.weight"}


def test_a_model_without_filters_is_refused_unless_biases_move() -> None:
    model = nn.BatchNorm1d(3)

    with pytest.raises(InputError, match="have a weight with two axes or more"):
        random_direction(model, 0)
    assert set(random_direction(model, 0, biases=True)) == {"weight", "bias"}


def test_a_difference_leads_from_one_model_to_the_other() -> None:
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)

    for found in (difference(a, b), difference(a, b.state_dict())):
        for name, p in a.named_parameters():
            assert torch.equal(p.detach() + found[name], p.detach() + (b.get_parameter(name) - p).detach())
    with pytest.raises(InputError, match=r"have weight of shape \(2, 3\); got weight of shape \(2, 4\)"):
        difference(a, nn.Linear(4, 2))
    with pytest.raises(InputError, match="got no weight"):
        difference(a, {})


def test_length_and_product_are_over_all_parameters_together() -> None:
    a = {"w": torch.tensor([[3.0]]), "b": torch.tensor([4.0])}

    assert length(a) == 5.0
    assert dot(a, {"w": torch.tensor([[2.0]])}) == 6.0
