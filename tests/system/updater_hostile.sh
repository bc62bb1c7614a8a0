#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every lie that a server, a network, a disk or a clock can tell the updater: refused in its own words, and the model
# that was there is still served. The table is in updater_hostile.py.
set -u
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
dir=$(tmpdir)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -keyout "$dir/tls.key" -out "$dir/tls.pem" \
        -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -keyout "$dir/other.key" -out "$dir/other.pem" \
        -subj /CN=models.example -addext subjectAltName=DNS:models.example 2>/dev/null
python3 "$here/updater_hostile.py" "$B" "$dir"
