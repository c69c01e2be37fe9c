"""Host devices: one for each core where asked; a CNN study on four has no collective, and the bits of one device."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from jaxlib.version import __version_info__ as jaxlib_version
from small import grid, study

from jaxlab.devices import use_all_cores
from jaxlab.errors import InputError

SPACE = grid(learning_rate=[1e-3, 1e-2, 1e30, 3e-2, 1e-1])
_FOUR = """
import sys; sys.path.insert(0, "tests")
import jax, numpy as np
from test_devices import SPACE, study
from jaxlab.engine import compile_programs, make_pack
assert len(jax.devices()) == 4
small = study(SPACE, 2)
(group,) = small.groups
programs = compile_programs(small.trial_of(group), group.example, small.arrays, make_pack(1))
text = "".join(program.as_text() for program in programs[:4])
for word in ("all-reduce", "all-gather", "all-to-all", "collective", "reduce-scatter"):
    assert word not in text, word
results = small.run(width=1)
np.savez(sys.argv[1], **{name: results[name].values for name in results.data_vars if results[name].dtype != object})
"""


@pytest.mark.slow
def test_no_collective_and_the_same_bits_on_four_devices(tmp_path):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run([sys.executable, "-c", _FOUR, str(tmp_path / "four.npz")], check=True, env=environment)
    one = study(SPACE, 2).run(width=1)
    with np.load(tmp_path / "four.npz") as four:
        assert len(four.files) > 20
        for name in four.files:
            np.testing.assert_array_equal(one[name].values, four[name], err_msg=name)


def in_a_fresh_process(code, **environment):
    environment = os.environ | {"XLA_FLAGS": None} | environment
    environment = {name: value for name, value in environment.items() if value is not None}
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    return found.stdout, found.stderr


def test_every_core_is_a_device():
    code = """
import jaxlab; jaxlab.use_all_cores()
import jax; from jaxlab.devices import cores
jaxlab.use_all_cores()
print(len(jax.devices()) == cores())
try:
    jaxlab.use_all_cores(cores() + 1)
except jaxlab.InputError as error:
    print(error)
"""
    printed, said = in_a_fresh_process(code)
    assert printed.splitlines()[0] == "True"
    assert "JAX has started already: restart the kernel and call this first" in printed
    assert said == ""


def test_a_number_of_devices_in_the_environment_is_obeyed():
    code = "import jaxlab, jax; jaxlab.use_all_cores(); print(len(jax.devices()))"
    assert in_a_fresh_process(code, JAX_NUM_CPU_DEVICES="3")[0].strip() == "3"


def test_xla_flags_are_obeyed():
    code = "import jaxlab, jax; jaxlab.use_all_cores(5); print(len(jax.devices()))"
    printed, _ = in_a_fresh_process(code, XLA_FLAGS="--xla_force_host_platform_device_count=3")
    assert printed.strip() == "3"


@pytest.mark.parametrize("devices", [0, -1, True, 1025, 10**11])
def test_a_number_of_devices_is_a_whole_number(devices):
    with pytest.raises(InputError, match=rf"devices = {devices!r}: give a whole number in \[1, 1024\]"):
        use_all_cores(devices)


@pytest.mark.parametrize(
    ("before", "devices", "times"),
    [("", "None", 1), ("", "jax.devices()[:1]", 0), ("jaxlab.use_all_cores(1)", "None", 0)],
)
def test_idle_cores_are_pointed_out_once(before, devices, times):
    code = f"""
import jax, jaxlab, jaxlab.devices, numpy as np
jaxlab.devices.cores = lambda: 2
{before}
def evaluate(h, state, shared, final):
    return state, {{"last" if final else "first": state}}
trial = jaxlab.Trial(lambda h, shared: shared, lambda h, state, shared, epoch: (state, {{}}), evaluate)
study = jaxlab.Study(trial=lambda configuration: trial, shared=np.zeros(1), epochs=1)
for _ in range(3):
    study.run(devices={devices})
"""
    _, said = in_a_fresh_process(code)
    assert said.count("call jaxlab.use_all_cores() before JAX starts") == times == len(said.splitlines())


_NORMS = """
import jaxlab; jaxlab.use_all_cores(2)
import re, jax.numpy as jnp, numpy as np
from jaxlab import Hyperparameters, Trial
from jaxlab.engine import compile_programs, make_pack, train

def step(h, state, shared, epoch):
    return state + jnp.linalg.svd(shared + state, compute_uv=False)[0] / 64, {}

def evaluate(h, state, shared, final):
    return state, {} if final else {"norm": state}

h = Hyperparameters({"seed": np.arange(8, dtype=np.uint32)})
shared = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32)
trial = Trial(lambda h, shared: h.seed.astype(jnp.float32), step, evaluate)
programs = compile_programs(trial, Hyperparameters({"seed": h.seed[0]}), shared, make_pack(2))
print(set(re.findall("f32.([0-9,]+)[^=]*custom-call.*gesdd", programs.segment.as_text())))
records = [each for each in train(programs, h, shared, 1) if "norm" in each.values and 1 in each.epochs]
print([each.values["norm"][:, 0].tolist() for each in records])
"""


@pytest.mark.skipif(jaxlib_version >= (0, 12), reason="there, LAPACK takes whole batches without waiting")
def test_lapack_takes_one_trial_after_the_other_on_several_host_devices():
    # A batch of them would now and then wait for ever, see jaxlab.engine.pack.
    printed, _ = in_a_fresh_process(_NORMS)
    shapes, norms = printed.splitlines()
    assert shapes == "{'9,9'}"  # not [2, 9, 9], a trial of each lane
    matrix = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32)
    expected = [seed + np.linalg.svd(matrix + seed, compute_uv=False)[0] / 64 for seed in range(8)]
    assert json.loads(norms) == [pytest.approx(expected[:4], rel=1e-5), pytest.approx(expected[4:], rel=1e-5)]


_CACHES = """
import jax
from jaxlab.cli.devices import keep_compiled_programs
keep_compiled_programs()
print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)
"""


def test_the_command_line_keeps_programs_in_the_users_cache_folder(tmp_path):
    (tmp_path / "file").touch()

    def found(**environment):
        printed, said = in_a_fresh_process(_CACHES, **environment)
        assert said == ""
        return printed.split()

    unset = {"JAX_COMPILATION_CACHE_DIR": None, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": None}
    here = {"XDG_CACHE_HOME": str(tmp_path)}
    folder, least = found(**unset, **here)
    assert folder.startswith(f"{tmp_path}/jaxlab/programs-")
    assert least == "0.2"
    assert found(**unset | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "3"}, **here) == [folder, "3.0"]
    assert found(**unset | {"JAX_COMPILATION_CACHE_DIR": "own"}, **here) == ["own", "1.0"]
    assert found(**unset, **here, JAX_ENABLE_COMPILATION_CACHE="false") == ["None", "1.0"]
    assert found(**unset, XDG_CACHE_HOME=str(tmp_path / "file")) == ["None", "1.0"]
