"""Memory that is left: of the host, of its control group, without psutil."""

import math
import sys

import jax
import numpy as np
import psutil
import pytest

from jaxlab.engine import memory
from jaxlab.errors import InputError
from jaxlab.runs.curves import Curves
from jaxlab.trial import Variable


def test_devices_of_a_cpu_share_the_hosts_memory(free_memory):
    free_memory(1000)
    (device,) = jax.devices()[:1]
    assert memory.fits(900, [device])
    assert not memory.fits(901, [device])
    assert memory.fits(450, [device] * 2)
    assert not memory.fits(451, [device] * 2)


def test_memory_is_known_without_psutil(monkeypatch):
    total = psutil.virtual_memory().total
    assert 0 < memory.free_on_host() <= total
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert memory.free_on_host() == pytest.approx(total / 2, rel=0.1)
    monkeypatch.delattr("os.sysconf")
    assert memory.free_on_host() == math.inf


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"max": "1000", "current": "400"}, 600),
        ({"max": "max", "current": "400"}, math.inf),
        ({}, math.inf),
        ({"max": "1000", "current": "999", "stat": "anon 9\nactive_file 300\ninactive_file 600"}, 901),
        ({"max": "1000", "current": "400", "stat": "nonsense"}, 600),
    ],
)
def test_memory_left_in_a_control_group(tmp_path, files, left):
    for name, content in files.items():
        (tmp_path / f"memory.{name}").write_text(f"{content}\n")
    assert memory.free_in_cgroup(tmp_path) == left


def test_the_further_axes_of_curves_count_in_their_size(free_memory):
    free_memory(10**6)
    curves = Curves(np.arange(3), 10, {"wide": Variable("", dims=("layer",))}, {"layer"})
    with pytest.raises(InputError, match="epochs = 10: is too many for the results of 3 trials"):
        curves.allocate_all([{"wide": jax.ShapeDtypeStruct((2, 1_000_000), np.float32)}])
