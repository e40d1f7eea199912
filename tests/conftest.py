"""What holds for all tests: that those without a PowerShell engine are skipped is said where nobody can miss it."""

from __future__ import annotations

import os
import signal

import pytest

from demo.programs import find_pwsh


def pytest_configure() -> None:
    """Drop what tests would inherit: Ctrl-C being ignored, and proxies. Those of proxies set their own."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell starts what it runs in the background, and programs that tests interrupt would inherit.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell loudly that PowerShell tests were skipped."""
    skipped = [r for r in terminalreporter.getreports("skipped") if "powershell" in r.keywords]
    if skipped and find_pwsh() is None:
        text = f"{len(skipped)} TESTS OF THE HOST SCRIPT WERE SKIPPED: NO POWERSHELL ENGINE (set SNAPSHOTD_PWSH)"
        terminalreporter.write_sep("!", text, red=True, bold=True)
