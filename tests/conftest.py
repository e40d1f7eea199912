"""What holds for all tests: that those without PowerShell or a KDC are skipped is said where nobody can miss it."""

from __future__ import annotations

import os
import signal

import pytest

from demo.programs import find_pwsh
from tests.integration.kdc import missing


def pytest_configure() -> None:
    """Drop what tests would inherit: Ctrl-C being ignored, and proxies. Those of proxies set their own."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell starts what it runs in the background, and programs that tests interrupt would inherit.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell loudly that tests of PowerShell or Kerberos were skipped."""
    reports = terminalreporter.getreports("skipped")
    skipped = [r for r in reports if "powershell" in r.keywords]
    kerberos = [r for r in reports if "kerberos" in r.keywords]
    if kerberos and (lacks := missing()):
        text = f"{len(kerberos)} TESTS OF KERBEROS WERE SKIPPED: NO {lacks}"
        terminalreporter.write_sep("!", text, red=True, bold=True)
    if skipped and find_pwsh() is None:
        text = f"{len(skipped)} TESTS OF THE HOST SCRIPT WERE SKIPPED: NO POWERSHELL ENGINE (set SNAPSHOTD_PWSH)"
        terminalreporter.write_sep("!", text, red=True, bold=True)
