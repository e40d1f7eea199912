"""The settings about exports: how each is read, and which do not go together. A part of settings.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from snapshotd.domain import host_path

POLICIES: Final = ("NEVER", "ON_STOP", "ON_SNAPSHOT")


def export_policy(value: object) -> str:
    """Return a policy by its name. Raises ValueError."""
    if not isinstance(value, str) or value.upper() not in POLICIES:
        raise ValueError("must be NEVER, ON_STOP or ON_SNAPSHOT")
    return value.upper()


def root_folder(value: object) -> str:
    """Return a folder on the hosts; empty: none is named. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004  (the settings' own kind of error)
    if value and (problem := host_path.folder_problem(value)):
        raise ValueError(problem.removesuffix("."))
    return value


def contradiction(values: Mapping[str, object], sources: Mapping[str, str]) -> str:
    """Return why settings of exports do not go together; empty: they do.

    Args:
        values: all settings by name.
        sources: where each is from.
    """
    policy, directory, release = (values[f"export.{name}"] for name in ("policy", "directory", "release"))
    source = sources["export.policy"]
    if policy != "NEVER" and not directory:
        return (
            f"Cannot use export.policy = {policy} from {source} without export.directory. "
            "Name a folder that the hosts see."
        )
    if release and policy != "ON_STOP":
        return (
            f"Cannot use export.release from {sources['export.release']} with export.policy = {policy} ({source}): "
            "a VM is released after its stop. Set export.policy to ON_STOP, or export.release to false."
        )
    return ""
