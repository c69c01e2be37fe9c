"""Strict settings for every test: no silent rank promotion, warnings are errors, hints are checked."""

import jax
import pytest
from beartype import BeartypeConf
from beartype.claw import beartype_package

beartype_package("jaxlab", conf=BeartypeConf(is_pep484_tower=True))
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """Run one test in float64."""
    with jax.enable_x64(True):
        yield
