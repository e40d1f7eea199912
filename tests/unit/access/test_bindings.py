"""roles.toml: who is granted what, which files are refused, and that a change is taken up."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshotd.access.bindings import Place, RolesInvalid, follow_roles, read_bindings
from snapshotd.access.identity import Identity
from snapshotd.access.roles import Role
from snapshotd.domain.ids import HostId, VmId

VM = "6a3d52ae-7a24-4c5e-8f0b-4d6a1f2b3c4d"
ALICE = Identity("oidc:alice", frozenset({"oidc:ops"}))
SEES = {Role.VIEWER}
AT = {
    "account": Place(vm_id=VmId("other"), account="acme", host_id=HostId("hv09")),
    "host": Place(vm_id=VmId("other"), account="other", host_id=HostId("hv01")),
    "vm": Place(vm_id=VmId(VM), account="other", host_id=HostId("hv09")),
    "none": Place(vm_id=VmId("other"), account="other", host_id=HostId("hv09")),
    "nobody's": Place(vm_id=VmId("other"), account="", host_id=HostId("hv09")),
}


def roles(path: Path, text: str) -> Path:
    """Write a file of roles."""
    path.write_text(text, encoding="utf-8")
    return path


def binding(rest: str = "", who: str = 'subjects = ["oidc:alice"]', role: str = "viewer") -> str:
    """Return a binding's text."""
    return f'[[binding]]\nrole = "{role}"\n{who}\n{rest}\n'


@pytest.mark.parametrize(
    ("scope", "holds"),
    [
        ("", set(AT)),
        ('account = "acme"', {"account"}),
        ('host = "hv01"', {"host"}),
        (f'vm = "{VM.upper()}"', {"vm"}),
    ],
)
def test_a_binding_is_on_its_part_and_nothing_else(tmp_path: Path, scope: str, holds: set[str]) -> None:
    granted = read_bindings(roles(tmp_path / "r", binding(scope))).of(ALICE)
    assert {name for name, place in AT.items() if granted.at(place, SEES)} == holds
    assert granted.everywhere(SEES) == (not scope)
    assert granted.somewhere(SEES)
    assert not granted.somewhere({Role.ADMIN})


@pytest.mark.parametrize(
    ("who", "granted"),
    [
        ('subjects = ["oidc:alice"]', True),
        ('groups = ["oidc:ops"]', True),
        ('subjects = ["token:alice", "oidc:ALICE", "oidc:alic"]', False),
        ('groups = ["oidc:alice"]', False),
        ('subjects = ["oidc:ops"]', False),
    ],
)
def test_only_whom_it_names_has_a_binding(tmp_path: Path, who: str, granted: object) -> None:
    assert read_bindings(roles(tmp_path / "r", binding(who=who))).of(ALICE).somewhere(SEES) == granted


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("role = 1", "it holds role. Write"),
        ('[barred]\nsubjects = "token:a"', r"\[barred\] must hold subjects"),
        ("[barred]\nsubjects = []\ngroups = []", r"\[barred\] must hold subjects"),
        ('[barred]\nsubjects = ["ex1"]', r"\[barred\] names 'ex1' without the way it signs in"),
        (
            '[barred]\nsubjects = ["Executor:ex1"]',
            r"\[barred\] .* no way 'Executor' to sign in; there are certificate, exec",
        ),
        ('[barred]\nsubjects = ["executor: ex1"]', r"\[barred\] names 'executor: ex1', which nobody can be called"),
        (f"a = {'[' * 5000}", "is not TOML: maximum recursion"),
        ("[[binding]", "is not TOML"),
        (binding(role="root"), r"binding 1 has the role 'root'; there are admin, auditor, delegate, executor"),
        (binding(who="subjects = []"), "binding 1 is for nobody"),
        (binding(who='subjects = "oidc:alice"'), "binding 1 is for nobody"),
        (binding(who='subjects = ["alice"]'), "'alice' without the way it signs in"),
        (binding(who='subjects = ["token:*"]'), "names 'token:\\*', which nobody can be called. .* no patterns"),
        (binding(who='subjects = ["oidc:ann\\u200b"]'), "which nobody can be called"),
        (binding(who='groups = ["token:ops"]'), "no way 'token' to sign in; there are oidc, unix"),
        (binding('account = "acme"', role="delegate"), "the role delegate, which is never on one account"),
        (binding('account = "acme"', role="executor"), "the role executor, which is never on one account"),
        (binding() + binding('account = "a"\nhost = "hv01"'), "binding 2 is on account, host: name one"),
        (binding('account = ""'), "binding 1 is on account"),
        (binding('account = "acme "'), "binding 1 is on account: .* without blanks around it"),
        (binding('host = "HV 1"'), "no host's id"),
        (binding('vm = "web01"'), "not Hyper-V's id of one"),
        (binding('acount = "acme"'), "binding 1 has acount; there are account"),
    ],
)
def test_a_file_that_could_mean_something_else_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(RolesInvalid, match=problem):
        read_bindings(roles(tmp_path / "r", text))


def test_a_change_is_taken_up_and_an_invalid_one_leaves_the_last_valid_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = roles(tmp_path / "r", binding())
    file = follow_roles(path)
    assert file.now().of(ALICE).somewhere(SEES)
    roles(path, binding(role="nonsense"))
    assert file.now().of(ALICE).somewhere(SEES)
    assert file.now().of(ALICE).somewhere(SEES)
    assert caplog.text.count(f"{path} stays in force as it was: Cannot use {path}: binding 1") == 1
    roles(tmp_path / "new", binding(role="operator")).replace(path)
    assert not file.now().of(ALICE).somewhere(SEES)
    assert file.now().of(ALICE).somewhere({Role.OPERATOR})
    path.unlink()
    assert file.now().of(ALICE).somewhere({Role.OPERATOR})


def test_whoever_is_barred_may_do_nothing_whatever_is_granted(tmp_path: Path) -> None:
    path = roles(tmp_path / "r", binding())
    assert read_bindings(path).of(ALICE).somewhere(SEES)
    barred = read_bindings(roles(path, binding() + '[barred]\nsubjects = ["oidc:alice", "executor:ex1"]'))
    assert barred.of(ALICE).bindings == ()
    assert barred.of(Identity("oidc:bob", frozenset({"oidc:ops"}))).bindings == ()
    assert "executor:ex1" in barred.barred
