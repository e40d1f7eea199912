"""The alert rules are rules that Prometheus takes, and ring when they should."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(
    PROMTOOL is None, reason="THE ALERT RULES WERE NOT CHECKED: NO promtool (apt-get install prometheus)"
)
@pytest.mark.parametrize("what", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]])
def test_the_rules_are_taken_and_ring_when_they_should(what: list[str]) -> None:
    checked = subprocess.run(["promtool", *what], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
