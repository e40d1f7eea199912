"""The host script as it goes to a host: a bootstrap on the command line, the script as the first line of stdin.

Both are constant for a release. No parameter ever becomes part of a script's text.
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
"""Characters that cmd takes; WinRS starts commands through it (documented)."""


@cache
def kept_script() -> KeptScript:
    """Return how to start the kept process of this release."""
    return kept(_read("host.ps1"))


def script_sha256() -> str:
    """Return the SHA-256 of this release's host script, in lower-case hex."""
    return kept_script().ready.decode().removeprefix("READY ")


def kept(script: bytes) -> KeptScript:
    """Return how to start a kept process. Its bootstrap runs the given script and no other."""
    digest = hashlib.sha256(script).hexdigest()
    bootstrap = _without_comments(_read("bootstrap.ps1").decode()).replace("@SHA256@", digest)
    # Without -OutputFormat Text, stderr is CLIXML (source read).
    arguments = (
        *("-NoProfile", "-NonInteractive", "-OutputFormat", "Text", "-EncodedCommand"),
        base64.b64encode(bootstrap.encode("utf-16-le")).decode(),
    )
    result = KeptScript(
        executable=_EXECUTABLE,
        arguments=arguments,
        first_line=base64.b64encode(script),
        ready=f"READY {digest}".encode(),
    )
    assert len(command_line(result)) <= _LONGEST_COMMAND_LINE, "the bootstrap outgrew the command line"
    return result


def command_line(started: KeptScript) -> str:
    """Return the command line of a kept process, as the host gets it."""
    return " ".join([started.executable, *started.arguments])


def _read(name: str) -> bytes:
    return files("snapshotd.hyperv").joinpath(name).read_bytes()


def _without_comments(text: str) -> str:
    """Return a script without comment lines and indentation: the command line has little room."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))
