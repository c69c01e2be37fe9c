"""``python -m jaxlab`` is ``jaxlab``."""

from jaxlab.cli import main

main()
