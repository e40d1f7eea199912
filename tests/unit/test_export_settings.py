"""The settings of exports: what is refused, with what to write instead."""

from __future__ import annotations

import pytest

from snapshotd.domain.export import ExportPolicy
from snapshotd.from_settings import policy_of
from snapshotd.settings import SettingsInvalid, load


def test_policy_directory_and_release_are_read() -> None:
    told = {"export.policy": "on_stop", "export.directory": "\\\\nas\\exports", "export.release": "true"}
    policy = policy_of(load(None, {}, told))
    assert (policy.export_policy, policy.export_directory) == (ExportPolicy.ON_STOP, "\\\\nas\\exports")
    assert policy.export_release


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"export.policy": "ALWAYS"}, "must be NEVER, ON_STOP or ON_SNAPSHOT"),
        ({"export.policy": "ON_STOP"}, "without export.directory"),
        ({"export.directory": "exports"}, "Cannot use export.directory = 'exports' from --export-directory"),
        ({"export.release": "true"}, "a VM is released after its stop"),
        (
            {"export.release": "true", "export.policy": "ON_SNAPSHOT", "export.directory": "D:\\Exports"},
            "Set export.policy to ON_STOP, or export.release to false",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(told: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsInvalid, match=problem):
        load(None, {}, told)
