"""Imports run in one direction, and importing jaxlab changes nothing."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jaxlab

ROOT = Path(jaxlab.__file__).parent
# A line may import the lines above it and itself where a module is a package; modules of one line stay apart.
LAYERS = [
    ("errors", "files"),
    ("checks",),
    ("devices", "settings", "optax_functions"),
    ("transforms", "convolution", "pooling", "losses", "schedules", "diagnostics", "space"),
    ("models", "datasets", "pruning", "optimizers", "metrics"),
    ("trial",),
    ("engine",),
    ("store",),
    ("runs",),
    ("study",),
    ("analysis",),
    ("plots",),
    ("cli",),
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module)
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "jaxlab" else set()
            )
    return found


MODULES = sorted(
    path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem not in ("__init__", "__main__")
)


def test_imports_go_one_way():
    assert {part_of(path) for path in MODULES} == set(LEVEL)
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in MODULES
        for name in sorted(imports(path))
        if name.startswith("jaxlab.") and not may_import(part_of(path), name.split(".")[1])
    ]
    assert wrong == []


def may_import(part: str, other: str) -> bool:
    return other in (part, "__version__") or LEVEL[other] < LEVEL[part]


def in_a_fresh_process(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT.parent
    ).stdout


def test_the_training_path_needs_only_jax_flax_optax_numpy():
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {
            "xarray", "zarr", "pandas", "typer", "matplotlib", "pooch", "mnist1d", "sklearn", "torch", "psutil",
            "platformdirs", "msgspec", "safetensors",
        }:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, "scripts")
import jaxlab.engine, jaxlab.trial, jaxlab.datasets, benchmark.run, benchmark.options
print(jaxlab.datasets.load("digits").name)
"""
    assert in_a_fresh_process(code).strip() == "digits"


def test_a_study_without_a_folder_needs_xarray_besides():
    code = """
import sys
import importlib.util
missing = {"zarr", "numcodecs", "filelock", "typer", "psutil", "platformdirs", "msgspec", "safetensors"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in missing:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in missing else found(name, package)
from jaxlab import Study, datasets, pruning, space
data = datasets.load("digits", subset=64)
configuration = {"model": "mlp", "features": [2]}
study = Study(data, space.grid(seed=[0, 1]), 1, configuration, rules=[pruning.Median()])
print(study.run().sizes["trial"])
try:
    study.run("/tmp/never")
except Exception as error:
    print(error)
"""
    trained, refused = in_a_fresh_process(code).strip().splitlines()
    assert trained == "2"
    assert "pip install -e '.[cli]' in a clone" in refused


def test_importing_changes_no_global_and_does_not_start_jax():
    code = """
import os, logging, jax
before = dict(os.environ), dict(jax.config.values), list(logging.getLogger().handlers)
import jaxlab, jaxlab.study, jaxlab.analysis, jaxlab.plots
after = dict(os.environ), dict(jax.config.values), list(logging.getLogger().handlers)
jax.config.update("jax_num_cpu_devices", 1)  # an error once JAX has started
print(before == after)
"""
    assert in_a_fresh_process(code).strip() == "True"


def test_public_names_load_on_first_use():
    code = """
import sys, jaxlab
assert not {"jax", "flax", "xarray"} & set(sys.modules)
for name in jaxlab.__all__:
    getattr(jaxlab, name)
try:
    jaxlab.nothing
except AttributeError as error:
    print(error)
"""
    assert in_a_fresh_process(code).strip() == "module 'jaxlab' has no attribute 'nothing'"


def test_what_is_to_be_installed_exists_under_the_name_that_is_registered():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = set(
        re.findall(r"how_to_install\(['\"](\w+)", "".join(path.read_text() for path in ROOT.rglob("*.py")))
    )
    assert {"cli", "data", "plot"} <= named <= set(extras)
    own = [each for requirements in extras.values() for each in requirements if each.startswith("jaxlab")]
    assert own
    for requirement in own:
        name, _, parts = requirement.rstrip("]").partition("[")
        assert name == project["name"] != "jaxlab"
        assert set(parts.split(",")) <= set(extras)
    assert project["version"] == jaxlab.__version__
