"""What guests see, through checkpoints, reverts, removals and merges, against an oracle that knows no files."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from snapshotd.simulator.hypervisor import VhdView
from tests.unit.simulator_model.hosts import DB, WEB, Script, host_at, no_file_is_left_over, of, settled, truth
from tests.unit.simulator_model.oracle import Oracle


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.slow
def test_a_long_random_walk_never_changes_what_anybody_sees(tmp_path: Path, seed: int) -> None:
    chance, script = random.Random(seed), Script()
    oracle = Oracle(["SCSI:0:0", "SCSI:0:1"])
    with host_at(tmp_path) as host:
        for step in range(120):
            act = chance.choice(["write", "write", "write", "take", "take", "apply", "remove", "remove"])
            if act == "write":
                location, block = chance.choice(["SCSI:0:0", "SCSI:0:1"]), str(chance.randrange(5))
                host.write_disk(DB, location, block, f"written in {step}")
                oracle.now[location][block] = f"written in {step}"
            elif act == "take" and len(oracle.checkpoints) < 12:
                oracle.take(host.checkpoint_vm(script, DB, f"c{step}"))
            elif act == "apply" and oracle.checkpoints:
                target = chance.choice(sorted(oracle.checkpoints))
                host.restore_snapshot(script, target)
                oracle.apply(target)
            elif act == "remove" and oracle.checkpoints:
                target = chance.choice(sorted(oracle.checkpoints))
                host.remove_snapshot(script, target)
                oracle.remove(target)
            oracle.compare(of(host, DB))
            if step % 10 == 0:
                no_file_is_left_over(settled(host, DB), host)
                oracle.compare(of(host, DB))
        no_file_is_left_over(settled(host, DB), host)
    with host_at(tmp_path) as again:
        oracle.compare(of(again, DB))
    numbers = [line["n"] for line in truth(tmp_path)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("seed", range(3))
def test_vms_over_one_image_change_nothing_of_it_and_nothing_of_one_another(tmp_path: Path, seed: int) -> None:
    chance, script = random.Random(seed), Script()
    disks = [{"location": "SCSI:0:0", "image": "patched"}, {"location": "SCSI:0:1"}]
    inventory = {
        "images": [
            {"name": "golden", "size_bytes": 4096, "blocks": {"0": "os", "1": "old"}},
            {"name": "patched", "parent": "golden", "blocks": {"1": "new"}},
        ],
        "vms": [
            {"id": vm, "name": name, "state": "Off", "disks": disks} for vm, name in ((WEB, "web01"), (DB, "db01"))
        ],
    }
    with host_at(tmp_path, inventory) as host:
        golden, patched = (tmp_path / "state" / "disks" / "images" / f"{n}.vhdx" for n in ("golden", "patched"))
        before = golden.read_bytes(), patched.read_bytes()
        oracles = {vm: Oracle(["SCSI:0:0", "SCSI:0:1"]) for vm in (WEB, DB)}
        for oracle in oracles.values():
            oracle.now["SCSI:0:0"] = {"0": "os", "1": "new"}
        for step in range(40):
            vm = chance.choice([WEB, DB])
            oracle = oracles[vm]
            act = chance.choice(["write", "take", "apply", "remove"])
            if act == "write":
                host.write_disk(vm, "SCSI:0:0", str(step % 3), f"{step}")
                oracle.now["SCSI:0:0"][str(step % 3)] = f"{step}"
            elif act == "take":
                oracle.take(host.checkpoint_vm(script, vm, f"c{step}"))
            elif oracle.checkpoints:
                target = chance.choice(sorted(oracle.checkpoints))
                if act == "apply":
                    host.restore_snapshot(script, target)
                    oracle.apply(target)
                else:
                    host.remove_snapshot(script, target)
                    oracle.remove(target)
        for vm, oracle in oracles.items():
            no_file_is_left_over(settled(host, vm), host)
            oracle.compare(of(host, vm))
            assert of(host, vm)["disks"]["SCSI:0:0"]["chain"][-2:] == [str(patched), str(golden)]
            below = host.vhd(str(golden))
            assert below is not None
            assert host.vhd(str(patched)) == VhdView(
                path=str(patched),
                parent_path=str(golden),
                file_bytes=patched.stat().st_size,
                size_bytes=4096,
                minimum_bytes=4096,
                identifier=below.identifier,
                vhd_type="Differencing",
            )
        assert (golden.read_bytes(), patched.read_bytes()) == before
    with host_at(tmp_path) as again:
        for vm, oracle in oracles.items():
            oracle.compare(of(again, vm))


def test_a_stray_goes_between_a_vms_own_files_and_its_image(tmp_path: Path) -> None:
    inventory = {
        "images": [{"name": "golden"}],
        "vms": [{"id": WEB, "name": "web01", "disks": [{"location": "SCSI:0:0", "image": "golden"}]}],
    }
    with host_at(tmp_path, inventory) as host:
        own, golden = of(host, WEB)["disks"]["SCSI:0:0"]["chain"]
        stray = str(host.stray_file("web01", "SCSI:0:0")["file"])
        assert of(host, WEB)["disks"]["SCSI:0:0"]["chain"] == [own, stray, golden]
        assert Path(stray).parent == Path(own).parent
        made = host.checkpoint_vm(Script(), WEB, "c")
        host.remove_snapshot(Script(), made)
        assert settled(host, WEB)["disks"]["SCSI:0:0"]["chain"] == [own, stray, golden]


def test_a_removed_checkpoints_only_child_takes_over_its_file(tmp_path: Path) -> None:
    script = Script()
    with host_at(tmp_path) as host:
        (base,) = [d.path for d in host.vms()[1].drives]
        made = host.checkpoint_vm(script, WEB, "one")
        host.write_disk(WEB, "SCSI:0:0", "1", "after")
        host.remove_snapshot(script, made)
        vm = settled(host, WEB)
        assert vm["disks"]["SCSI:0:0"]["chain"] == [base]
        assert host.read_disk(WEB, "SCSI:0:0")["blocks"] == {"1": "after"}


def test_a_branch_point_keeps_its_file_until_one_child_is_left(tmp_path: Path) -> None:
    script = Script()
    with host_at(tmp_path) as host:
        root = host.checkpoint_vm(script, DB, "root")
        left = host.checkpoint_vm(script, DB, "left")
        host.restore_snapshot(script, root)
        host.checkpoint_vm(script, DB, "right")
        before = settled(host, DB)["files"]
        host.remove_snapshot(script, root)
        assert settled(host, DB)["files"] == before
        host.remove_snapshot(script, left)
        vm = settled(host, DB)
        assert len(vm["files"]) == len(before) - 4  # of each disk: left's leaf is gone, and the branch point with it
        no_file_is_left_over(vm, host)


def test_memory_comes_back_with_a_checkpoint_that_has_it(tmp_path: Path) -> None:
    script = Script()
    with host_at(tmp_path) as host:
        memory = of(host, WEB)["memory"]
        host.set_checkpoint_type(script, WEB, "Standard")
        made = host.checkpoint_vm(script, WEB, "memory")
        host.stop_vm(script, WEB, turn_off=True)
        host.start_vm(script, WEB)
        assert of(host, WEB)["memory"] != memory
        host.restore_snapshot(script, made)
        assert (of(host, WEB)["memory"], of(host, WEB)["state"]) == (memory, "Running")


@pytest.mark.parametrize(
    ("state", "checkpoint_type", "after"),
    [
        ("Running", "Standard", "Running"),
        ("Running", "Production", "Off"),
        ("Paused", "Standard", "Saved"),
        ("Off", "Standard", "Saved"),
        ("Off", "Production", "Off"),
    ],
)
def test_a_restore_ends_in_the_power_that_the_documentation_names(
    tmp_path: Path, state: str, checkpoint_type: str, after: str
) -> None:
    script = Script()
    with host_at(tmp_path) as host:
        host.set_checkpoint_type(script, WEB, checkpoint_type)
        made = host.checkpoint_vm(script, WEB, "taken while it ran")
        if state == "Paused":
            host.suspend_vm(script, WEB)
        elif state == "Off":
            host.stop_vm(script, WEB, turn_off=True)
        host.restore_snapshot(script, made)
        assert of(host, WEB)["state"] == after


def test_a_restore_takes_the_old_leaf_away_and_leaves_nothing_to_merge(tmp_path: Path) -> None:
    with host_at(tmp_path, merge=60_000) as host:
        made = host.checkpoint_vm(Script(), WEB, "c")
        before = of(host, WEB)
        host.restore_snapshot(Script(), made)
        after = of(host, WEB)
        assert (len(after["files"]), after["merging"]) == (len(before["files"]), False)
        assert after["disks"]["SCSI:0:0"]["chain"][0] not in before["files"]


def test_a_merge_goes_on_after_the_process_was_killed(tmp_path: Path) -> None:
    script = Script()
    with host_at(tmp_path, merge=60_000) as host:
        made = host.checkpoint_vm(script, WEB, "one")
        host.remove_snapshot(script, made)
        view = host.vm(WEB)
        assert view is not None
        assert view.secondary_status == ("MergingDisks",)
    with host_at(tmp_path) as again:
        no_file_is_left_over(settled(again, WEB), again)
