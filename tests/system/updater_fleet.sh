#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a fleet asks of the updater beyond one server and one estimator: mirrors, upstream's layouts, proxies and
# certificates, reports, and a comparison with the model that serves on what the machine did last.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -keyout "$dir/tls.key" -out "$dir/tls.pem" \
        -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 2>/dev/null
python3 "$(dirname "$0")/updater_fleet.py" "$B" "$dir"
