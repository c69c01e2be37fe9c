"""Runs survive being killed at any moment and a full disk, and end with the bits of an uninterrupted one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STUDY = """
name = "tiny"
epochs = 9
keep = "best"

[data]
name = "digits"
subset = 100

[configuration]
model = "mlp"
features = [5]
batch_size = 32
dropout = true

[space.grid]
learning_rate = [1e-3, 1e-2, 1e-1, 1e30]
seed = { range = 2 }

[pruning]
successive_halving = { eta = 2, min_epochs = 2 }
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "tiny.toml").write_text(STUDY)
    return tmp_path / "tiny.toml"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kills"), [("KILL", 25), ("TERM", 6), ("USR1", 2)])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(study, name, kills):
    command = [sys.executable, str(ROOT / "scripts" / "kill_and_resume.py"), str(study)]
    found = subprocess.run(
        [*command, "--kills", str(kills), "--signal", name], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert f"{kills} times SIG{name}" in found.stdout


@pytest.mark.slow
@pytest.mark.parametrize("size", ["64k", "300k"])
def test_a_full_disk_is_one_clear_line_and_the_run_resumes_once_there_is_room(study, tmp_path, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    command = [sys.executable, "-m", "jaxlab", "run", str(study), "--checkpoint-every", "0", "--out"]
    try:
        full = subprocess.run([*command, str(disk / "run")], capture_output=True, text=True)
        assert full.returncode == 2
        (line,) = [line for line in full.stderr.splitlines() if line.startswith("jaxlab: ")]
        assert "no space left" in line.lower()
        assert "Traceback" not in full.stderr
        if (disk / "run" / "run.json").exists():
            shown = [sys.executable, "-m", "jaxlab", "show", str(disk / "run")]
            assert subprocess.run(shown, capture_output=True).returncode == 0
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        again = subprocess.run([*command, str(disk / "run")], capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        whole = subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, text=True)
        assert again.stdout.split("Compiled")[0] == whole.stdout.split("Compiled")[0]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_two_processes_on_one_folder(study, tmp_path):
    command = [
        sys.executable,
        "-m",
        "jaxlab",
        "run",
        str(study),
        "--out",
        str(tmp_path / "run"),
        "--set",
        "epochs=3000",
    ]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("records/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.1)
    second = subprocess.run(command, capture_output=True, text=True)
    first.kill()
    first.wait()
    assert second.returncode == 2
    assert "another process trains it" in second.stderr
    assert str(first.pid) in second.stderr
    command[-1] = "epochs=3001"
    third = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    time.sleep(8)
    third.terminate()  # a dead one's lock does not block
    assert "another process" not in third.communicate(timeout=120)[1]
