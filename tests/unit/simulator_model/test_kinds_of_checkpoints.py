"""Which checkpoints have memory, which cannot be made, and what they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snapshotd.simulator.hypervisor import HyperVError
from tests.unit.simulator_model.hosts import DB, INVENTORY, WEB, Script, bring, decisive, host_at, of


@pytest.mark.parametrize(
    ("state", "checkpoint_type", "vss", "has_memory"),
    [
        ("Running", "Standard", True, True),
        ("Running", "Production", True, False),
        ("Running", "ProductionOnly", True, False),
        ("Running", "Production", False, True),
        ("Running", "ProductionOnly", False, None),
        ("Paused", "Standard", True, True),
        ("Saved", "Standard", True, True),
        ("Off", "Standard", True, False),
        ("Off", "Production", False, False),
        ("Off", "ProductionOnly", False, False),
    ],
)
def test_a_checkpoint_has_memory_as_its_type_and_the_guest_make_it(
    tmp_path: Path, state: str, checkpoint_type: str, *, vss: bool, has_memory: bool | None
) -> None:
    with host_at(tmp_path) as host:
        bring(host, state)
        host.set_checkpoint_type(Script(), WEB, checkpoint_type)
        host.set_guest(WEB, vss=vss)
        if has_memory is None:
            with pytest.raises(HyperVError) as failed:
                host.checkpoint_vm(Script(), WEB, "c")
            assert failed.value.error_id == "OperationFailed"
            assert of(host, WEB)["checkpoints"] == []
            return
        made = host.checkpoint_vm(Script(), WEB, "c")
        view = host.vm(WEB)
        assert view is not None
        assert [(c.checkpoint_id, c.name, c.has_memory) for c in view.checkpoints] == [(made, "c", has_memory)]
        assert (view.state, view.parent_snapshot_id) == (state, made)


def test_checkpoints_that_are_disabled_are_refused_in_the_words_observed(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.set_checkpoint_type(Script(), WEB, "Disabled")
        with pytest.raises(HyperVError) as refused:
            host.checkpoint_vm(Script(), WEB, "c")
        assert str(refused.value) == "Checkpoint operation failed. Checkpoints have been disabled for 'web01'."
        assert refused.value.fully_qualified == "OperationFailed,Microsoft.HyperV.PowerShell.Commands.CheckpointVM"


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("", False),
        ("x", True),
        ("x" * 99, True),
        ("x" * 100, False),
        ("ü" * 99, True),
        ("🚀" * 49 + "x", True),
        ("🚀" * 50, False),
        ("\ud83d" * 99, True),
        ("\ud83d" * 100, False),
    ],
)
def test_a_name_has_1_to_99_code_units_of_utf_16(tmp_path: Path, name: str, *, good: bool) -> None:
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB, "before")
        if good:
            host.rename_snapshot(Script(), made, name)
            assert host.checkpoint_vm(Script(), WEB, name)
            return
        for call in (
            lambda: host.rename_snapshot(Script(), made, name),
            lambda: host.checkpoint_vm(Script(), WEB, name),
        ):
            with pytest.raises(HyperVError) as refused:
                call()
            assert refused.value.error_id == "InvalidParameter"
        assert [c["name"] for c in of(host, WEB)["checkpoints"]] == ["before"]


@pytest.mark.slow
def test_the_51st_checkpoint_is_refused(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        for n in range(50):
            host.checkpoint_vm(Script(), WEB, f"c{n}")
        with pytest.raises(HyperVError) as refused:
            host.checkpoint_vm(Script(), WEB, "one too many")
        assert refused.value.error_id == "OperationFailed"
        assert len(of(host, WEB)["checkpoints"]) == 50


def test_what_cannot_be_checkpointed_shows_and_is_refused(tmp_path: Path) -> None:
    vms: list[dict[str, Any]] = [
        {**INVENTORY["vms"][0], "blockers": ["PASS_THROUGH_DISK", "FIBRE_CHANNEL"]},
        {**INVENTORY["vms"][1], "blockers": ["SHARED_DISK", "REPLICA"]},
    ]
    with host_at(tmp_path, {"vms": vms}) as host:
        web, db = host.vm(WEB), host.vm(DB)
        assert web is not None
        assert db is not None
        assert [d.path == "" for d in web.drives if d.pass_through] == [True]
        assert (web.replica, db.replica, web.blockers) == (False, True, ("PASS_THROUGH_DISK", "FIBRE_CHANNEL"))
        assert all(d.shared for d in db.drives)
        with pytest.raises(HyperVError) as refused:
            host.checkpoint_vm(Script(), WEB, "c")
        assert refused.value.error_id == "OperationFailed"
    assert decisive(tmp_path) == []


def test_a_restore_brings_back_the_checkpoint_type_of_that_moment(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.set_checkpoint_type(Script(), WEB, "ProductionOnly")
        made = host.checkpoint_vm(Script(), WEB, "c")
        host.set_checkpoint_type(Script(), WEB, "Production")
        host.restore_snapshot(Script(), made)
        assert of(host, WEB)["checkpoint_type"] == "ProductionOnly"


def test_what_is_not_there_is_object_not_found_and_ids_know_no_case(tmp_path: Path) -> None:
    nobody = "99999999-2222-3333-4444-555555555501"
    with host_at(tmp_path) as host:
        made = host.checkpoint_vm(Script(), WEB.upper(), "c")
        host.rename_snapshot(Script(), made.upper(), "renamed")
        assert [c["name"] for c in of(host, WEB)["checkpoints"]] == ["renamed"]
        assert host.vm(nobody) is None
        for call in (
            lambda: host.checkpoint_vm(Script(), nobody, "c"),
            lambda: host.start_vm(Script(), nobody),
            lambda: host.set_checkpoint_type(Script(), nobody, "Standard"),
            lambda: host.restore_snapshot(Script(), nobody),
            lambda: host.remove_snapshot(Script(), nobody),
            lambda: host.rename_snapshot(Script(), nobody, "c"),
        ):
            with pytest.raises(HyperVError) as missing:
                call()
            assert missing.value.error_id == "ObjectNotFound"
