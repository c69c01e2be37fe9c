"""The process that measures, before JAX starts."""

from __future__ import annotations

import jax

from jaxlab.devices import use_all_cores


def one_device_per_core() -> None:
    """As ``jaxlab run`` has it, and no compiled program taken from a cache."""
    jax.config.update("jax_enable_compilation_cache", False)
    use_all_cores()
