"""snapshotctl against a running service: output, exit codes, names, and what a repetition does."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.command_line import Ctl
from tests.e2e.system import System, until


@pytest.fixture(scope="module")
def ctl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ctl]:
    with System(tmp_path_factory.mktemp("system"), ("web01", "db01", "slow01")) as running:
        yield Ctl(running)


@pytest.mark.slow
def test_a_snapshot_is_taken_shown_reverted_to_and_deleted_by_name(ctl: Ctl) -> None:
    assert ctl("snapshot", "create", "web01", "--name", "one", "--wait").code == 0
    assert ctl("snapshot", "create", "web01", "--name", "two", "--memory", "--wait").code == 0
    tree = json.loads(ctl("snapshot", "tree", "web01", "-o", "json").out)
    truth = ctl.system.truth_of(ctl.system.ids["web01"])
    own = {n["id"]: n["snapshot"]["checkpoint_id"] for n in tree["nodes"]}
    assert {own[n["id"]]: own.get(n["parent"], "") for n in tree["nodes"]} == {
        c["id"]: c["parent"] for c in truth["checkpoints"]
    }
    assert own[tree["current_node"]] == truth["current"]
    plan = ctl("snapshot", "revert", "web01", "one", "--dry-run")
    assert plan.out.startswith("Would revert to snapshot one on web01:\n")
    assert "Nothing was done." in plan.out
    assert ctl.system.truth_of(ctl.system.ids["web01"])["current"] == truth["current"]
    waited = ctl("snapshot", "revert", "web01", "one", "--wait")
    assert (waited.code, "SUCCEEDED" in waited.err) == (0, True)
    assert ctl("snapshot", "delete", "web01", "two", "--wait").code == 0
    assert [line.split()[0] for line in ctl("snapshot", "list", "web01").out.splitlines()] == ["SNAPSHOT", "one"]
    assert "REMOVED" in ctl("snapshot", "list", "web01", "--deleted").out


@pytest.mark.slow
def test_what_tables_show_is_enough_to_name_things_by(ctl: Ctl) -> None:
    assert ctl("snapshot", "create", "db01", "--name", "first", "--wait").code == 0
    assert ctl("snapshot", "create", "db01", "--name", "second", "--wait").code == 0
    (vm,) = [line.split()[-1] for line in ctl("vm", "list").out.splitlines() if line.startswith("db01 ")]
    assert (len(vm), ctl.system.ids["db01"].startswith(vm)) == (8, True)
    ids = {line.split()[0]: line.split()[-1] for line in ctl("snapshot", "list", vm).out.splitlines()}
    assert len(ids["second"]) == 8
    assert "second" in ctl("snapshot", "show", vm, ids["second"][:6]).out
    for word, name in (("current", "second"), ("parent", "first"), ("latest", "second")):
        assert json.loads(ctl("snapshot", "show", "db01", word, "-o", "json").out)["display_name"] == name
    assert ctl("snapshot", "revert", vm, "parent", "--wait").code == 0
    last = json.loads(ctl("operation", "show", "--last", "-o", "json").out)
    assert (last["metadata"]["kind"], last["metadata"]["actor"]) == ("REVERT_TO_SNAPSHOT", "ann")
    (tag,) = [line.split()[0] for line in ctl("operation", "list", "--limit", "1").out.splitlines()[1:]]
    assert last["name"].endswith(f"-{tag}")
    assert json.loads(ctl("operation", "show", tag[:7], "-o", "json").out)["name"] == last["name"]
    assert ctl("operation", "wait", "--vm", "db01").out == "No operation is active on db01.\n"
    assert ctl("snapshot", "delete", vm, ids["second"], "--wait").code == 0
    assert ctl("snapshot", "delete", vm, "current", "--wait").code == 0
    assert ctl("vm", "start", vm, "--wait").code == 0


@pytest.mark.slow
def test_several_snapshots_are_deleted_by_one_command_which_says_what_is_left(ctl: Ctl) -> None:
    for name in ("p", "q", "r"):
        assert ctl("snapshot", "create", "db01", "--name", name, "--wait").code == 0
    plan = ctl("snapshot", "delete", "db01", "q", "--with-descendants", "--dry-run").out
    assert "Would delete snapshot q and all below it on db01:\n  1. remove     r: " in plan
    assert "Gone:    r, q\n" in plan
    ctl.system.host.control("fail", cmdlet="Remove-VMSnapshot", error_id="OperationFailed", message="No.", count=1)
    failed = ctl("snapshot", "delete-all", "db01", "--wait")
    assert failed.code == 1
    assert "Cannot delete 1 of 3 snapshots of VM db01. r: No. (" in failed.err
    assert " Deleted: q, p. " in failed.err
    assert "[SNAPSHOTS_NOT_DELETED]" in failed.err
    assert [c["name"].partition(" ")[0] for c in ctl.system.truth_of(ctl.system.ids["db01"])["checkpoints"]] == ["r"]
    assert ctl("snapshot", "delete", "db01", "r", "--only-descendants").code == 3
    done = ctl("snapshot", "delete", "db01", "r", "--with-descendants", "--wait")
    assert (done.code, "Deleted: r (" in done.out) == (0, True)
    assert ctl.system.truth_of(ctl.system.ids["db01"])["checkpoints"] == []
    assert "Deleted: none." in ctl("snapshot", "delete-all", "db01", "--wait").out


@pytest.mark.slow
def test_the_command_at_the_end_of_a_plan_does_just_that_or_nothing(ctl: Ctl) -> None:
    vm = ctl.system.ids["db01"]
    assert ctl("snapshot", "create", "db01", "--name", "base", "--wait").code == 0
    plan = ctl("snapshot", "delete", "db01", "base", "--dry-run").out
    *command, etag = shlex.split(plan.splitlines()[-1].removeprefix("To do just this: snapshotctl "))
    assert ctl("snapshot", "create", "db01", "--name", "later", "--wait").code == 0
    changed = ctl(*command, etag)
    assert (changed.code, "[PLAN_CHANGED]" in changed.err, len(ctl.system.truth_of(vm)["checkpoints"])) == (3, True, 2)
    assert ctl("snapshot", "delete", "db01", "later", "--wait").code == 0
    assert ctl(*command, etag, "--wait").code == 0
    assert ctl.system.truth_of(vm)["checkpoints"] == []


@pytest.mark.slow
def test_exit_codes_tell_refusals_apart(ctl: Ctl) -> None:
    assert ctl("snapshot", "frobnicate").code == 2
    off = ctl("vm", "stop", "db01", "--turn-off", "--wait")
    assert off.code == 0, off
    memory = ctl("snapshot", "create", "db01", "--memory")
    assert (memory.code, "[MEMORY_NEEDS_RUNNING_VM]" in memory.err) == (3, True)
    assert ctl("vm", "show", "nobody").code == 4
    assert ctl("snapshot", "show", "db01", "nothing").code == 4
    nobody_there = ctl("vm", "list", server="127.0.0.1:1")
    assert (nobody_there.code, "snapshotd serve" in nobody_there.err) == (6, True)


@pytest.mark.slow
def test_waiting_ends_with_the_operation_or_with_the_time(ctl: Ctl) -> None:
    ctl.system.host.control("durations", checkpoint=600_000)
    started = json.loads(ctl("snapshot", "create", "slow01", "--name", "slow", "-o", "json").out)
    busy = ctl("snapshot", "create", "slow01", "--name", "other")
    assert (busy.code, started["name"] in busy.err) == (5, True)
    late = ctl("operation", "wait", started["name"], "--for", "0.5")
    assert (late.code, "operation wait" in late.err) == (7, True)
    ctl.system.host.control("durations", checkpoint=0)
    assert ctl("operation", "wait", started["name"]).code == 0
    ctl.system.host.control("fail", cmdlet="Checkpoint-VM", error_id="OperationFailed", message="No room.", count=9)
    failed = ctl("snapshot", "create", "slow01", "--name", "broken", "--wait")
    told = "No room. (OperationFailed,Microsoft.HyperV.PowerShell.Commands.CheckpointVM) [HOST_ERROR]"
    assert (failed.code, told in failed.err) == (1, True)
    ctl.system.host.control("fail", cmdlet="Checkpoint-VM", error_id="OperationFailed", count=0)


@pytest.mark.slow
def test_a_cancelled_create_leaves_nothing_on_the_host(ctl: Ctl) -> None:
    vm_id = ctl.system.ids["slow01"]
    before = ctl.system.truth_of(vm_id)["checkpoints"]
    ctl.system.host.control("durations", checkpoint=600_000)
    started = json.loads(ctl("snapshot", "create", "slow01", "--name", "unwanted", "-o", "json").out)
    until(lambda: ctl.system.truth_of(vm_id)["job"] == "CreatingSnapshot")
    assert ctl("operation", "cancel", started["name"]).code == 0
    ctl.system.host.control("durations", checkpoint=0)
    waited = ctl("operation", "wait", started["name"])
    assert (waited.code, "[CANCELLED]" in waited.err) == (1, True)
    assert ctl.system.truth_of(vm_id)["checkpoints"] == before
    assert ctl("operation", "cancel", started["name"]).code == 3


@pytest.mark.slow
def test_waiting_outlasts_a_restart_of_the_daemon(ctl: Ctl) -> None:
    vm_id = ctl.system.ids["slow01"]
    ctl.system.host.control("durations", checkpoint=600_000)
    with ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(ctl, "snapshot", "create", "slow01", "--name", "long", "--wait")
        for end in (ctl.system.daemon.stop, ctl.system.daemon.kill):
            until(lambda: ctl.system.truth_of(vm_id)["job"] == "CreatingSnapshot")
            end()
            ctl.system.daemon.start()
        ctl.system.host.control("durations", checkpoint=0)
        said = waiting.result()
    assert (said.code, "no answer from" in said.err, "succeeded" in said.out) == (0, True, True), said
    assert said.err.startswith("Waiting for operations/")


@pytest.mark.slow
def test_a_repeated_request_id_is_answered_with_the_first_operation(ctl: Ctl) -> None:
    request_id = str(uuid.uuid4())
    command = ("snapshot", "create", "web01", "--name", "once", "--request-id", request_id, "-o", "json")
    first, second = json.loads(ctl(*command).out), json.loads(ctl(*command).out)
    assert first["name"] == second["name"]
    assert ctl("operation", "wait", first["name"]).code == 0


@pytest.mark.slow
def test_a_delete_can_be_repeated_by_name_when_the_snapshot_is_gone(ctl: Ctl) -> None:
    assert ctl("snapshot", "create", "web01", "--name", "brief", "--wait").code == 0
    command = ("snapshot", "delete", "web01", "brief", "--request-id", str(uuid.uuid4()), "-o", "json")
    first = json.loads(ctl(*command).out)
    assert ctl("operation", "wait", first["name"]).code == 0
    assert json.loads(ctl(*command).out)["name"] == first["name"]
    assert ctl("snapshot", "delete", "web01", "brief").code == 4


@pytest.mark.slow
def test_the_audit_trail_and_the_status_are_shown(ctl: Ctl) -> None:
    trail = json.loads(ctl("audit", "list", "--vm", "web01", "--actor", "ann", "-o", "json").out)
    assert {e["actor"] for e in trail["events"]} == {"ann"}
    assert "OperationRequested" in {e["type"] for e in trail["events"]}
    newest = json.loads(ctl("audit", "list", "--reverse", "--limit", "3", "-o", "json").out)["events"]
    assert [int(e["position"]) for e in newest] == sorted((int(e["position"]) for e in newest), reverse=True)
    assert "FOLLOWING" in ctl("status").out
    until(lambda: "REACHABLE" in ctl("host", "list").out)
    assert "web01" in ctl("host", "discover", "hv01").out
    assert "3 VMs compared, 0 differences." in ctl("host", "sync", "hv01").out


@pytest.mark.slow
def test_a_host_is_reached_by_what_was_updated_last(ctl: Ctl) -> None:
    def why() -> str:
        wait: dict[str, str] = json.loads(ctl("host", "show", "hv01", "-o", "json").out).get("wait", {})
        return wait.get("reason", "")

    known = json.loads(ctl("host", "show", "hv01", "-o", "json").out)
    assert ctl("host", "update", "hv01", "--credential", "nobody").code == 0
    until(lambda: why() == "CREDENTIAL_MISSING")
    assert ctl("host", "update", "hv01", "--credential", known["credential"], "--port", "1").code == 0
    until(lambda: why() == "HOST_UNREACHABLE")
    started = json.loads(ctl("snapshot", "create", "web01", "--name", "waits", "-o", "json").out)
    assert ctl("host", "update", "hv01", "--port", str(known["port"])).code == 0
    assert ctl("operation", "wait", started["name"]).code == 0
    assert why() == ""
    updates = json.loads(ctl("audit", "list", "--type", "HostUpdated", "-o", "json").out)["events"]
    assert [(e["data"]["from_port"], e["data"]["to_port"]) for e in updates[1:]] == [
        (known["port"], 1),
        (1, known["port"]),
    ]
    assert ctl("snapshot", "delete", "web01", "waits", "--wait").code == 0


@pytest.mark.slow
def test_an_unregistering_can_be_repeated_by_name(ctl: Ctl) -> None:
    command = ("vm", "unregister", "db01", "--request-id", str(uuid.uuid4()))
    first, second = ctl(*command), ctl(*command)
    assert (first.code, second) == (0, first)
    assert ctl("vm", "unregister", "db01").code == 4


@pytest.mark.slow
def test_names_of_vms_ignore_case_as_hyper_v_does(ctl: Ctl) -> None:
    ctl("vm", "unregister", "db01")
    registered = json.loads(ctl("vm", "register", "hv01", "Db01", "-o", "json").out)
    assert (registered["uid"], registered["display_name"]) == (ctl.system.ids["db01"], "db01")
    assert json.loads(ctl("vm", "show", "DB01", "-o", "json").out)["uid"] == registered["uid"]
    assert ctl("vm", "register", "hv01", "Db02").code == 4


@pytest.mark.slow
def test_a_host_without_an_executor_is_not_reached_and_says_why(ctl: Ctl) -> None:
    assert ctl("host", "add", "hv02", "127.0.0.1", "--credential", "hyperv").code == 0
    # The executor serves hv01 only.
    (line,) = [line for line in ctl("status").out.splitlines() if line.startswith("hv02")]
    assert line.split() == ["hv02", "no", "NO_EXECUTOR"]
    assert "in lower case" in ctl("host", "show", "HV01").err


@pytest.mark.slow
def test_a_host_is_removed_with_all_its_vms_or_not_at_all(ctl: Ctl) -> None:
    ctl.system.host.control("durations", checkpoint=600_000)
    started = json.loads(ctl("snapshot", "create", "web01", "--name", "last", "-o", "json").out)
    refused = ctl("host", "remove", "hv01", "--unregister")
    assert (refused.code, started["name"] in refused.err) == (5, True)
    there = ctl("vm", "list", "--host", "hv01", "-o", "name").out.splitlines()
    assert len(there) == 3
    ctl.system.host.control("durations", checkpoint=0)
    assert ctl("operation", "wait", "--vm", "web01").code == 0
    assert ctl("host", "remove", "hv01").code == 3
    assert ctl("host", "remove", "hv01", "--unregister").code == 0
    assert ctl("vm", "list").out == "(none)\n"
    gone = json.loads(ctl("audit", "list", "--type", "VmUnregistered", "--reverse", "--limit", "3", "-o", "json").out)
    assert sorted(event["subject"] for event in gone["events"]) == sorted(there)
