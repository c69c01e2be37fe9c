"""jaxlab: what does this hyperparameter do to my CNN's training?

Importing jaxlab imports nothing heavy and changes no global; the names below are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "InputError": "jaxlab.errors",
    "RunInterrupted": "jaxlab.errors",
    "use_all_cores": "jaxlab.devices",
    "Configuration": "jaxlab.settings",
    "Hyperparameters": "jaxlab.settings",
    "Trial": "jaxlab.trial",
    "Study": "jaxlab.study",
    "load_model": "jaxlab.study",
    "load_study": "jaxlab.study",
    "verify": "jaxlab.study",
    "read_results": "jaxlab.store",
}
_MODULES = (
    "settings",
    "transforms",
    "convolution",
    "pooling",
    "losses",
    "metrics",
    "schedules",
    "optimizers",
    "diagnostics",
    "space",
    "models",
    "datasets",
    "pruning",
    "trial",
    "engine",
    "store",
    "runs",
    "study",
    "analysis",
    "plots",
)

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"jaxlab.{name}")
    raise AttributeError(f"module 'jaxlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
