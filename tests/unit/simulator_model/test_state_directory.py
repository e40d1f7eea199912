"""What outlives the process: SIGKILL at any moment, files that are missing or broken, an inventory that is none."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snapshotd.simulator.model import open_host
from snapshotd.simulator.model.disks import DiskFiles
from tests.unit.simulator_model.hosts import (
    DB,
    WEB,
    Script,
    host_at,
    no_file_is_left_over,
    of,
    settings,
    settled,
    truth,
)

_WORK = """
import random, sys
from pathlib import Path
from tests.unit.simulator_model.hosts import DB, Script, host_at, of
chance, script = random.Random(int(sys.argv[2])), Script()
with host_at(Path(sys.argv[1]), merge=1) as host:
    print("ready", flush=True)
    while True:
        there = [c["id"] for c in of(host, DB)["checkpoints"]]
        act = chance.choice(["take", "take", "apply", "remove", "remove"])
        if act == "take" and len(there) < 10:
            host.checkpoint_vm(script, DB, "c")
        elif act == "apply" and there:
            host.restore_snapshot(script, chance.choice(there))
        elif there:
            host.remove_snapshot(script, chance.choice(there))
        host.write_disk(DB, "SCSI:0:1", str(chance.randrange(4)), str(chance.random()))
"""


@pytest.mark.kill
@pytest.mark.slow
def test_after_sigkill_at_any_moment_state_and_truth_agree(tmp_path: Path) -> None:
    with host_at(tmp_path):
        pass
    lines: list[dict[str, Any]] = []
    for seed in range(6):
        arguments = [sys.executable, "-c", _WORK, str(tmp_path), str(seed)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                process.wait(random.Random(seed).uniform(0.05, 0.3))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        with host_at(tmp_path) as host:
            no_file_is_left_over(settled(host, DB), host)
            vm = of(host, DB)
        lines = truth(tmp_path)
        assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
        made = {line["checkpoint"] for line in lines if line["effect"] == "checkpoint_made"}
        removed = {line["checkpoint"] for line in lines if line["effect"] == "checkpoint_removed"}
        assert {c["id"] for c in vm["checkpoints"]} == made - removed
        numbers = [line["vm_n"] for line in lines if line["vm"] == DB]
        assert numbers == list(range(1, len(numbers) + 1))
    assert len(lines) > 50


def test_an_effect_that_the_truth_had_not_got_yet_is_made_good(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.checkpoint_vm(Script(), WEB, "c")
    whole = (tmp_path / "truth.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    for end in ("", lines[-1][:20]):  # killed before the last line, and in the middle of it
        (tmp_path / "truth.jsonl").write_text("".join(lines[:-1]) + end)
        with host_at(tmp_path):
            pass
        assert (tmp_path / "truth.jsonl").read_text() == whole


@pytest.mark.parametrize("branches", [1, 2])
def test_a_merge_cut_off_before_its_file_was_gone_is_ended(
    tmp_path: Path, branches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_at(tmp_path, merge=60_000) as host:
        first = host.checkpoint_vm(Script(), DB, "first")
        host.write_disk(DB, "SCSI:0:0", "1", "one")
        second = host.checkpoint_vm(Script(), DB, "second")
        for _ in range(branches - 1):
            host.restore_snapshot(Script(), second)
            host.checkpoint_vm(Script(), DB, "branch")
            host.restore_snapshot(Script(), second)
        host.remove_snapshot(Script(), first)
        before = host.read_disk(DB, "SCSI:0:0")
    aside, dissolve = tmp_path / "aside", DiskFiles.dissolve

    def keep_what_a_sigkill_would_leave(disks: DiskFiles, path: str) -> None:
        if not aside.exists():
            shutil.copytree(tmp_path / "state", aside)
        dissolve(disks, path)

    with monkeypatch.context() as patch:
        patch.setattr(DiskFiles, "dissolve", keep_what_a_sigkill_would_leave)
        with host_at(tmp_path) as host:
            files = settled(host, DB)["files"]
    shutil.rmtree(tmp_path / "state")
    aside.rename(tmp_path / "state")
    with host_at(tmp_path) as host:
        no_file_is_left_over(settled(host, DB), host)
        assert host.read_disk(DB, "SCSI:0:0") == before
        assert of(host, DB)["files"] == files


def test_a_host_that_is_there_needs_no_inventory_and_may_be_named_by_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host_at(tmp_path) as host:
        host.checkpoint_vm(Script(), WEB, "c")
        before = host.state()
    (tmp_path / "inventory.json").unlink()
    monkeypatch.chdir(tmp_path)
    with open_host(settings(Path())) as host:
        assert host.state() == before


def test_a_host_that_was_killed_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    with host_at(tmp_path):
        pass
    state = tmp_path / "state"
    (state / "state.json").unlink()
    (state / "machines" / f"{DB}.json").unlink()
    (state / "disks" / WEB / "half.avhdx.new").write_text("{")
    with host_at(tmp_path) as host:
        assert [vm.name for vm in host.vms()] == ["db01", "web01"]
    assert list(state.rglob("*.new")) == []


def test_a_missing_state_file_never_costs_vms_with_a_history(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.checkpoint_vm(Script(), WEB, "c")
    (tmp_path / "state" / "state.json").unlink()
    with pytest.raises(ValueError, match=r"state\.json is missing"), host_at(tmp_path):
        pass


@pytest.mark.parametrize("what", ["state.json", f"machines/{WEB}.json", f"disks/{WEB}/web01-11111111-0.vhdx"])
@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"checkpoints": []}'])
def test_a_file_of_the_state_that_is_missing_or_broken_is_named(tmp_path: Path, what: str, content: str | None) -> None:
    with host_at(tmp_path) as host:
        host.checkpoint_vm(Script(), WEB, "c")
    file = tmp_path / "state" / what
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(ValueError, match=file.name), host_at(tmp_path):
        pass


def test_a_missing_leaf_is_named_with_its_vm(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        host.checkpoint_vm(Script(), WEB, "c")
        leaf = Path(of(host, WEB)["disks"]["SCSI:0:0"]["chain"][0])
    leaf.unlink()
    with pytest.raises(ValueError, match=f"{leaf.name} is missing: it is the disk SCSI:0:0 of VM web01"):
        open_host(settings(tmp_path)).__enter__()


_VM: dict[str, Any] = {"id": WEB, "name": "web01", "disks": []}


@pytest.mark.parametrize(
    ("inventory", "told"),
    [
        ([], "it is no object"),
        ({}, "vms is no list: None"),
        ({"vms": [], "vm": 1}, "unknown: vm"),
        ({"host": "x", "vms": []}, "host is no object: 'x'"),
        ({"host": {"name": ""}, "vms": []}, "host.name '' is no name"),
        ({"vms": [1]}, "vms[0] is no object: 1"),
        ({"vms": [{**_VM, "colour": "red"}]}, "vms[0]: unknown: colour"),
        ({"vms": [{**_VM, "id": "web"}]}, "vms[0].id 'web' is no GUID"),
        ({"vms": [_VM, {**_VM, "name": "x"}]}, f"two VMs have the id {WEB}"),
        ({"vms": [{**_VM, "name": 7}]}, "vms[0].name 7 is no name"),
        ({"vms": [{**_VM, "state": "On"}]}, "vms[0].state 'On' is none of Running"),
        ({"vms": [{**_VM, "cpu_count": "two"}]}, "vms[0].cpu_count 'two' is no whole number"),
        ({"vms": [{**_VM, "memory_bytes": -1}]}, "vms[0].memory_bytes -1 is no whole number"),
        ({"vms": [{**_VM, "vss": "yes"}]}, "vms[0].vss 'yes' is neither"),
        ({"vms": [{**_VM, "automatic_checkpoints": 1}]}, "vms[0].automatic_checkpoints 1 is neither"),
        ({"vms": [{**_VM, "checkpoint_type": "Some"}]}, "vms[0].checkpoint_type 'Some' is none of"),
        ({"vms": [{**_VM, "blockers": ["TAPE"]}]}, "vms[0].blockers 'TAPE' is none of"),
        ({"vms": [{**_VM, "disks": [{"location": "C"}]}]}, "vms[0].disks[0].location 'C' is not like SCSI:0:0"),
        ({"vms": [{**_VM, "disks": [{"location": "IDE:0:0"}] * 2}]}, "vms[0].disks[1].location 'IDE:0:0' is taken"),
        ({"vms": [{**_VM, "disks": [{"location": "IDE:0:0", "size_bytes": 0}]}]}, "vms[0].disks[0].size_bytes 0"),
        ({"vms": [{**_VM, "disks": [{"location": "IDE:0:0", "image": "no"}]}]}, "disks[0].image 'no' is no image"),
        ({"vms": [{**_VM, "disks": [{"location": "IDE:0:0", "image": []}]}]}, "disks[0].image [] is no image"),
        ({"images": {}, "vms": []}, "images is no list"),
        ({"images": [{"name": "../x"}], "vms": []}, "images[0].name '../x' is no name of a file"),
        ({"images": [{"name": "x"}, {"name": "X"}], "vms": []}, "images[1].name 'X' is taken already"),
        ({"images": [{"name": "x", "parent": "x"}], "vms": []}, "images[0].parent 'x' is no image before this one"),
        ({"images": [{"name": "x", "parent": None}], "vms": []}, "images[0].parent None is no image before this one"),
        ({"images": [{"name": "x", "blocks": {"1": 2}}], "vms": []}, "images[0].blocks {'1': 2} are not all texts"),
    ],
)
def test_an_inventory_that_makes_no_sense_is_refused_by_file_field_and_value(
    tmp_path: Path, inventory: object, told: str
) -> None:
    (tmp_path / "inventory.json").write_text(json.dumps(inventory))
    with pytest.raises(ValueError, match=r"inventory\.json is no inventory") as refused, open_host(settings(tmp_path)):
        pass
    assert told in str(refused.value)


@pytest.mark.parametrize(("name", "value"), [("merging", 1), ("merge", -1), ("merge", True)])
def test_a_duration_that_makes_no_sense_is_refused_by_name_and_value(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name), open_host(settings(tmp_path, **{name: value})):
        pass
    with host_at(tmp_path) as host, pytest.raises(ValueError, match=name):
        host.durations(**{name: value})


def test_vms_whose_ids_begin_alike_have_disks_of_their_own(tmp_path: Path) -> None:
    ids = [f"aaaaaaaa-0000-4000-8000-00000000000{n}" for n in (1, 2)]
    vms = [{"id": i, "name": "twin", "state": "Off", "disks": [{"location": "SCSI:0:0"}]} for i in ids]
    with host_at(tmp_path, {"host": {"name": "hv01"}, "vms": vms}) as host:
        host.write_disk(ids[0], "SCSI:0:0", "0", "mine")
        assert host.read_disk(ids[0], "SCSI:0:0")["blocks"] == {"0": "mine"}
        assert host.read_disk(ids[1], "SCSI:0:0")["blocks"] == {}
