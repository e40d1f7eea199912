#!/usr/bin/env bash
# Installs what some tests need besides Python, if this machine lets us: root on Debian or the like. Whatever is missing
# is no failure: the tests that need it are skipped, and say so.
set -uo pipefail

readonly PACKAGES=(
    prometheus # promtool, which checks the alert rules
    # A real KDC, and what the Python bindings of Kerberos are built with.
    krb5-kdc krb5-admin-server krb5-user libkrb5-dev gcc
)

if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
    echo "Not installed, since this needs root and apt-get: ${PACKAGES[*]}. Tests that need them are skipped."
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
missing=()
for package in "${PACKAGES[@]}"; do
    dpkg-query --show --showformat '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [[ ${#missing[@]} -gt 0 ]]; then
    timeout 60 apt-get update -qq
    timeout 180 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        echo "Could not be installed: ${missing[*]}. Tests that need them are skipped."
fi
exit 0
