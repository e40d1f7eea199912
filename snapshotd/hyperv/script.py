"""The host script as it goes to a host: a bootstrap on the command line, the script as the first line of stdin.

Both are constant for a release. No parameter ever becomes text of a script.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from snapshotd.hyperv.session import KeptScript

_EXECUTABLE: Final = "powershell.exe"
_LONGEST_COMMAND_LINE: Final = 8191
"""Characters, of Windows (documented)."""


@cache
def script_sha256() -> str:
    """Return the digest of the host script, in lower-case hex."""
    return hashlib.sha256(_read("host.ps1")).hexdigest()


@cache
def kept_script() -> KeptScript:
    """Return how the kept process is started."""
    bootstrap = _without_comments(_read("bootstrap.ps1").decode()).replace("@SHA256@", script_sha256())
    # -OutputFormat Text: else stderr is CLIXML (source read).
    arguments = (
        "-NoProfile",
        "-NonInteractive",
        "-OutputFormat",
        "Text",
        "-EncodedCommand",
        base64.b64encode(bootstrap.encode("utf-16-le")).decode(),
    )
    kept = KeptScript(
        executable=_EXECUTABLE,
        arguments=arguments,
        first_line=base64.b64encode(_read("host.ps1")),
        ready=f"READY {script_sha256()}".encode(),
    )
    assert len(command_line(kept)) <= _LONGEST_COMMAND_LINE
    return kept


def command_line(kept: KeptScript) -> str:
    """Return the command line of a kept process, as the host sees it."""
    return " ".join([kept.executable, *kept.arguments])


def _read(name: str) -> bytes:
    return files("snapshotd.hyperv").joinpath(name).read_bytes()


def _without_comments(text: str) -> str:
    """Leave out lines of comment and indentation: the command line has little room."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))
