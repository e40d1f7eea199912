"""`snapshotd doctor`: looks at what is here, and says what is wrong and what to do. Changes nothing.

A check is a function of CHECKS. It yields findings; what it cannot look at is a finding, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from snapshotd.settings import Settings, SettingsInvalid
from snapshotd.upkeep import file_checks, install_checks, rights_checks, service_checks, storage_checks
from snapshotd.upkeep.findings import Check, Finding, Ground, Level, error, ok

CHECKS: Final[tuple[Check, ...]] = (
    install_checks.libraries,
    rights_checks.rights,
    storage_checks.directory,
    storage_checks.disk,
    storage_checks.log,
    storage_checks.whole_log,
    file_checks.certificates,
    file_checks.tokens,
    file_checks.tables,
    file_checks.credentials,
    service_checks.service,
)
"""All checks, in the order of their findings."""
_OF_SERVICE: Final = (storage_checks.directory, storage_checks.disk, storage_checks.log, storage_checks.whole_log)
"""Those of what an executor does not have."""
_BELOW: Final = "\n" + 9 * " "
"""Begins a further line of a finding, so that none of its text looks like a finding of its own."""


def examine(load: Callable[[], Settings], ground_of: Callable[[Settings], Ground]) -> Iterator[Finding]:
    """Yield all findings. Settings that cannot be used are the only one."""
    try:
        settings = load()
    except SettingsInvalid as problem:
        yield error("settings", str(problem))
        return
    given = sorted(set(settings.sources.values()) - {"default"})
    yield ok("settings", f"They are valid; from {', '.join(given) or 'the defaults alone'}.")
    ground = ground_of(settings)
    for check in CHECKS:
        if ground.serves or check not in _OF_SERVICE:
            try:
                yield from check(ground)
            except OSError as problem:
                told = f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem)
                yield error(check.__name__.replace("_", " "), f"Cannot look: {told}. Run this as root.")


def worst(findings: Iterable[Finding]) -> int:
    """Return the exit code: 1 with an error, else 0."""
    return int(any(finding.level is Level.ERROR for finding in findings))


def as_text(finding: Finding) -> str:
    """Return a finding for people: one line, and below it, indented, the lines to write, if the text has any."""
    text = _BELOW.join(finding.text.splitlines())
    return f"{finding.level.value:<8} {finding.subject}: {text}\n"


def as_json(findings: Iterable[Finding]) -> str:
    """Return findings for programs: a list of objects."""
    rows = [{"level": one.level.value, "subject": one.subject, "text": one.text} for one in findings]
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
