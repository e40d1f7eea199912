"""What holds for all tests: that those without a PowerShell engine are skipped is said where nobody can miss it."""

from __future__ import annotations

import os

import pytest

from demo.programs import find_pwsh


def pytest_configure() -> None:
    """Drop the proxies of the environment: all that tests talk to is on loopback. A test of proxies sets its own."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell loudly that PowerShell tests were skipped."""
    skipped = [r for r in terminalreporter.getreports("skipped") if "powershell" in r.keywords]
    if skipped and find_pwsh() is None:
        text = f"{len(skipped)} TESTS OF THE HOST SCRIPT WERE SKIPPED: NO POWERSHELL ENGINE (set SNAPSHOTD_PWSH)"
        terminalreporter.write_sep("!", text, red=True, bold=True)
