"""Any Flax model with the convolutions swapped: the same model, without a grouped convolution under vmap."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx
from jax import lax
from small import digits, grid, study

from jaxlab.convolution import conv_general_dilated
from jaxlab.engine import compile_programs, make_pack
from jaxlab.errors import InputError
from jaxlab.models import CNN, use_fast_convolutions


class Nested(nnx.Module):
    """Convolutions in a list, in a sequence and alone, one of them with a function of the user's own."""

    def __init__(self, rngs, own=None):
        self.first = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.blocks = nnx.List(
            [nnx.Sequential(nnx.Conv(4, 4, (3, 3), feature_group_count=4, rngs=rngs), nnx.relu)]
        )
        self.last = nnx.Conv(4, 10, (1, 1), rngs=rngs, conv_general_dilated=own or lax.conv_general_dilated)

    def __call__(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x).mean((1, 2))


def compiled_pack(model, x, width=3):
    """The compiled text of a gradient step of several copies of a model."""
    graph, parameters = nnx.split(model)

    def gradient(parameters):
        return jax.grad(lambda p: (nnx.merge(graph, p)(x) ** 2).sum())(parameters)

    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * width), parameters)
    return jax.jit(jax.vmap(gradient)).lower(stacked).compile().as_text()


def test_every_convolution_is_swapped_and_the_outputs_stay():
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 1)).astype(np.float32)
    model = Nested(nnx.Rngs(0))
    before, text = model(x), compiled_pack(model, x)
    assert "feature_group_count" in text or "batch_group_count" in text
    assert use_fast_convolutions(model) is model
    np.testing.assert_allclose(model(x), before, rtol=1e-5, atol=1e-6)
    assert " convolution(" not in compiled_pack(model, x)


def doubled(*arguments, **options):
    return 2 * lax.conv_general_dilated(*arguments, **options)


@pytest.mark.parametrize(
    "own",
    [
        doubled,
        partial(lax.conv_general_dilated, precision="highest"),
        partial(conv_general_dilated, lowering="native"),
    ],
)
def test_a_convolution_of_the_users_own_stays(own):
    model = use_fast_convolutions(Nested(nnx.Rngs(0), own))
    assert model.last.conv_general_dilated is own
    assert model.first.conv_general_dilated is conv_general_dilated


def test_it_can_be_forced_and_taken_back():
    model = use_fast_convolutions(CNN((8, 8, 1), 10, rngs=nnx.Rngs(0)), "native")
    x = np.ones((2, 8, 8, 1), np.float32)
    assert "conv_general_dilated" in str(jax.make_jaxpr(lambda x: model(x)[0])(x))
    use_fast_convolutions(model)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(lambda x: model(x)[0])(x))
    assert isinstance(use_fast_convolutions(model, "product").conv[0].layer.conv_general_dilated, partial)


def test_an_unknown_lowering_is_bad_input():
    with pytest.raises(InputError, match=r"lowering = 'nativ': did you mean 'native'\? give one of auto, "):
        use_fast_convolutions(Nested(nnx.Rngs(0)), "nativ")


@pytest.mark.parametrize("convolution", ["auto", "native"])
def test_studies_swap_it_into_a_users_model(convolution):
    """Counted in the compiled text of a pack, forward and backward."""

    def model(configuration, hyperparameters, rngs):
        return Nested(rngs)

    its = study(grid(learning_rate=[1e-3, 1e-2]), data=digits(), model=model, convolution=convolution)
    (group,) = its.groups
    programs = compile_programs(its.trial_of(group), group.example, its.arrays, make_pack(2))
    grouped = programs.segment.as_text().count(" convolution(")
    assert (grouped == 0) == (convolution == "auto")
