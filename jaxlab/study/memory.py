"""Out of memory as bad input."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax

from jaxlab.engine import is_out_of_memory
from jaxlab.errors import InputError


@contextmanager
def memory_named(width: Callable[[], int | str]) -> Iterator[None]:
    """Out of memory as one line that says what to change; ``width()`` is the width under way."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError("width", width(), "out of memory: give a smaller --width") from error
