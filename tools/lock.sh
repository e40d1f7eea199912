#!/usr/bin/env bash
# Writes requirements/*.txt from pyproject.toml: exact versions, with the hashes of every file of each release.
# The resolver gets an environment of its own (build/lock) and reads no settings of the machine's, so that no address of
# an index gets into the files.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VERSION=0.13.9
if [[ "$(build/lock/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$VERSION" ]]; then
    "${PYTHON:-python3}" -m venv build/lock
    build/lock/bin/pip install -qq "uv==$VERSION"
fi

# Where the machine names certificates for pip, they hold here too.
if [[ -n "${PIP_CERT:-}" ]]; then
    export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"
fi

compile() {
    build/lock/bin/uv pip compile --quiet --no-config \
        --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links "$@"
}

compile pyproject.toml --output-file requirements/runtime.txt
# Tested with the very versions that run.
compile pyproject.toml --group dev --constraints requirements/runtime.txt --output-file requirements/dev.txt
# With the extras that need no compiler: a file of the release, beside the first.
compile pyproject.toml --extra traces --constraints requirements/dev.txt --output-file requirements/extras.txt
# With what is built where it is installed: only where there is a compiler, and the libraries of Kerberos.
compile pyproject.toml --group dev --extra kerberos --constraints requirements/dev.txt --output-file requirements/kerberos.txt
# Of the benchmark's peer alone, in an environment of its own.
compile requirements/dbos.in --output-file requirements/dbos.txt
# Of `make profile` alone, likewise.
compile requirements/py-spy.in --output-file requirements/py-spy.txt
