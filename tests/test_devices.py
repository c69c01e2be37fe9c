"""A CNN study on four forced host devices: no collective, and the bits of one device."""

import os
import subprocess
import sys

import numpy as np
import pytest
from small import grid, study

SPACE = grid(learning_rate=[1e-3, 1e-2, 1e30, 3e-2, 1e-1])
_FOUR = """
import sys; sys.path.insert(0, "tests")
import jax, numpy as np
from test_devices import SPACE, study
from jaxlab.engine import compile_programs
from jaxlab.study.resolve import example_in
assert len(jax.devices()) == 4
small = study(SPACE, 2)
(group,) = small.groups
programs = compile_programs(small.trial_of(group), example_in(group), small.arrays, small.pack(1))
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
