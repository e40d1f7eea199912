"""A real KDC (MIT's, as Debian has it) with a realm of its own on loopback; or a skip that says what is missing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REALM = "SNAPSHOTD.TEST"
DEAD_REALM = "DEAD.TEST"
"""A realm whose KDC does not answer."""
_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_LIBRARIES = ("gssapi", "krb5")
_READY_S = 20.0
_LONG_AGO_S = 200_000


def missing() -> str:
    """Return what the tests of Kerberos lack, for people; empty: nothing."""
    programs = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    libraries = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    return ", ".join(
        [f"{name} (apt-get install krb5-kdc krb5-admin-server krb5-user)" for name in programs[:1]]
        + [f"{name} (pip install '.[kerberos]', with gcc and libkrb5-dev)" for name in libraries[:1]]
    )


class Kdc:
    """The KDC, and keys of its users.

    Args:
        directory: an empty one for all of it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        (directory / "krb5.conf").write_text(
            f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            " rdns = false\n dns_canonicalize_hostname = false\n udp_preference_limit = 1\n"
            f"[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{self._port}\n }}\n"
            f" {DEAD_REALM} = {{\n  kdc = 127.0.0.1:1\n }}\n[domain_realm]\n localhost = {REALM}\n"
        )
        (directory / "kdc.conf").write_text(
            f"[realms]\n {REALM} = {{\n  database_name = {directory}/principal\n  key_stash_file = {directory}/stash\n"
            f"  acl_file = {directory}/acl\n  kdc_listen = 127.0.0.1:{self._port}\n"
            f"  kdc_tcp_listen = 127.0.0.1:{self._port}\n }}\n"
        )
        self.environ = {
            "KRB5_CONFIG": str(directory / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(directory / "kdc.conf"),
            "KRB5CCNAME": str(directory / "nobodys"),
            "KRB5_KTNAME": f"FILE:{directory}/HTTP.keytab",
        }
        self._run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, principal: str, password: str = "") -> Path:
        """Add a principal; return a keytab with its key."""
        how = f"-pw {password}" if password else "-randkey"
        keytab = self._directory / f"{principal.partition('/')[0]}.keytab"
        self._admin(f"addprinc {how} +requires_preauth {principal}")
        # Without -norandkey, the password would be of no use any more.
        self._admin(f"ktadd -norandkey -k {keytab} {principal}")
        keytab.chmod(0o600)
        return keytab

    def remove(self, principal: str) -> None:
        """Remove a principal and its keytab."""
        self._admin(f"delprinc -force {principal}")
        (self._directory / f"{principal.partition('/')[0]}.keytab").unlink()

    def tickets(self, principal: str, keytab: Path, *, expired: bool = False) -> Path:
        """Return a ticket cache of a principal, filled by its keytab."""
        cache = self._directory / f"cache-{expired}"
        self._run("kinit", "-k", "-t", str(keytab), "-c", str(cache), principal)
        if expired:
            # Of an extra that may not be there.
            krb5 = importlib.import_module("krb5")
            context = krb5.init_context()
            content = cache.read_bytes()
            # The first one is no ticket: it holds a setting of the cache.
            times = next(cred.times for cred in krb5.cc_resolve(context, str(cache).encode()) if cred.times.endtime)
            was = (times.authtime, times.starttime, times.endtime)
            assert struct.pack(">III", *was) in content
            ended = struct.pack(">III", *(at - _LONG_AGO_S for at in was))
            cache.write_bytes(content.replace(struct.pack(">III", *was), ended))
        cache.chmod(0o600)
        return cache

    def start(self) -> None:
        """Start it, and wait until it listens."""
        program = shutil.which("krb5kdc", path=_PATH)
        assert program is not None
        with (self._directory / "kdc.log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-n", "-r", REALM], env={**os.environ, **self.environ}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, (self._directory / "kdc.log").read_text()
                assert self._process.poll() is None, (self._directory / "kdc.log").read_text()
            else:
                return

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _admin(self, query: str) -> None:
        self._run("kadmin.local", "-r", REALM, "-q", query)

    def _run(self, program: str, *arguments: str) -> None:
        found = shutil.which(program, path=_PATH)
        assert found is not None
        done = subprocess.run(
            [found, *arguments], env={**os.environ, **self.environ}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def kdc(directory: Path) -> Iterator[Kdc]:
    """Start a KDC, or skip the test."""
    if lacks := missing():
        pytest.skip(f"no Kerberos: {lacks}")
    made = Kdc(directory)
    made.start()
    try:
        yield made
    finally:
        made.stop()
