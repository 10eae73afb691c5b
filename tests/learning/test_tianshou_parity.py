"""Our double DQN against Tianshou's, in an environment of its own because Tianshou needs an older pandas.

The environment is `.venv-parity/` of the checkout; it is made once, with pip and a network, and kept. Without a
network the test fails: an oracle that is missing proves nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-parity"
TIANSHOU = "tianshou==2.0.1"
INSTALL_S, TRAIN_S = 1800, 3600
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}


class OracleMissingError(Exception):
    """The environment with Tianshou could not be made."""


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def tianshou_is_there(environment: Path) -> bool:
    if not python_of(environment).exists():
        return False
    code = "import tianshou, torch, gymnasium, safetensors, cryoscout; print(tianshou.__version__)"
    ran = subprocess.run([python_of(environment), "-c", code], capture_output=True, text=True, check=False)
    return ran.returncode == 0 and ran.stdout.strip() == TIANSHOU.partition("==")[2]


def make_environment(environment: Path) -> None:
    """Raises OracleMissingError with what pip said."""
    if tianshou_is_there(environment):
        return
    pip = [str(python_of(environment)), "-m", "pip", "install", "--quiet"]
    for step in (
        [sys.executable, "-m", "venv", str(environment)],
        [*pip, TIANSHOU, "--editable", ".[learn]"],
    ):
        ran = subprocess.run(step, cwd=ROOT, capture_output=True, text=True, check=False, timeout=INSTALL_S)
        if ran.returncode != 0:
            raise OracleMissingError(
                f"{environment.name} must hold {TIANSHOU}. Got a failed `{' '.join(step)}` instead. Remedy: run the "
                f"test with a network, once. What it said:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
            )


@pytest.mark.slow
def test_our_double_dqn_returns_what_tianshous_does() -> None:
    """The rule, chosen before any figure was seen, is that of scripts/tianshou_parity.py."""
    make_environment(ENVIRONMENT)
    ran = subprocess.run(
        [python_of(ENVIRONMENT), "scripts/tianshou_parity.py", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=TRAIN_S, env={**os.environ, **ONE_THREAD},
    )  # fmt: skip
    assert ran.stdout, ran.stderr[-4000:]
    result = json.loads(ran.stdout)
    assert result["both_learn"], result
    assert result["intervals_overlap"], result
    assert ran.returncode == 0


@pytest.mark.slow
def test_a_missing_network_is_an_error_and_no_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip without an index stands for a machine without a network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    message = (
        r"parity must hold tianshou==2\.0\.1\. Got a failed .*pip install .* Remedy: .* with a network, once"
    )
    with pytest.raises(OracleMissingError, match=message):
        make_environment(tmp_path / "parity")
    assert not issubclass(OracleMissingError, pytest.skip.Exception)
