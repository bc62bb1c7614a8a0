#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every program's report for a bug ticket: complete where things work, made also where nothing does, and without a secret
# wherever one was put.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
secrets=(hunter2-url q5ery-secret header-s3cret tok3n-of-file passw0rd-of-file k3y-of-file argument-s3cret typo-s3cret)
leaks() { # FILE...: those that show up
        for secret in "${secrets[@]}"; do grep -lF -- "$secret" "$@"; done
}

printf 'tok3n-of-file\n' >"$dir/token"
printf 'passw0rd-of-file\n' >"$dir/password"
printf 'n1 tok3n-of-file\n' >"$dir/tokens"
printf 'untrusted comment: x\nk3y-of-file\n' >"$dir/key"
python3 -c 'import sqlite3,sys; d = sqlite3.connect(sys.argv[1]); d.execute("CREATE TABLE t (a)"); d.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200); d.commit()' "$dir/damaged.db"
printf 'garbage%.0s' $(seq 400) | dd of="$dir/damaged.db" bs=1 seek=20480 conv=notrunc status=none
cat >"$dir/trainer-client.yaml" <<END
store: { path: $dir/damaged.db }
server:
  url: "http://user:hunter2-url@127.0.0.1:1/path?key=q5ery-secret"
  token_file: $dir/token
  password_file: $dir/password
  user: someone
  headers: ["Authorization: Bearer header-s3cret"]
END
printf 'auth: { token_file: %s }\nsigning: { key_file: %s }\ndatabase: { path: %s }\n' "$dir/tokens" "$dir/key" "$dir/damaged.db" >"$dir/model-server.yaml"
printf 'server: { url: "http://127.0.0.1:1", token_file: %s }\nstore: { path: %s }\n' "$dir/token" "$dir/no/store" >"$dir/updater.yaml"
printf 'store: { path: %s }\nredfish: { url: "https://127.0.0.1:1", credentials: %s }\n' "$dir/damaged.db" "$dir/password" >"$dir/collector.yaml"
printf 'socket: { path: %s }\n' "$dir/none.sock" >"$dir/estimator.yaml"
echo 'pasword: typo-s3cret' >"$dir/typo.yaml"

for program in collector trainer-client model-server updater estimator; do
        report=$dir/$program.report
        "$BIN/wattloop-$program" doctor --config "$dir/$program.yaml" >"$report" 2>&1
        check "wattloop-$program doctor reports" test $? = 0
        check_has "its version" "$(head -n 1 "$report")" "program: wattloop-$program 0."
        check "the kernel, BTF, cgroups and capabilities" test "$(grep -cE '^  (kernel|btf|cgroup|lockdown|capabilities): ' "$report")" = 5
        check "as JSON, too" jq -e '.machine.kernel and .configuration.settings and .paths' \
                <<<"$("$BIN/wattloop-$program" doctor --json --config "$dir/$program.yaml" 2>/dev/null)"
        "$BIN/wattloop-$program" doctor --config "$dir/typo.yaml" >"$report.typo" 2>&1
        check "a configuration that cannot be read is told, and no end" grep -q "problem: .*typo.yaml:1" "$report.typo"
        "$BIN/wattloop-$program" doctor --config "$dir/not-there.yaml" >"$report.none" 2>&1
        check_has "so is one that is not there" "$(cat "$report.none")" "No such file"
done
"$BIN/wattloop-trainer-client" doctor --config "$dir/trainer-client.yaml" --server-headers 'X-Key: argument-s3cret' >"$dir/argument.report" 2>&1
check "no secret is in any of them" test -z "$(leaks "$dir"/*.report*)"
check "this test finds those that are" test -n "$(leaks "$dir/token" "$dir/key")"
report=$(cat "$dir/trainer-client.report")
check_has "a URL is told without its password and query" "$report" 'server.url: "http://***@127.0.0.1:1/path?***"'
check_has "and what answers there" "$report" 'server.url: Connection refused'
check_has "that there are headers is told" "$report" 'server.headers: ***'
check_has "a database that is damaged" "$report" 'integrity: damaged'
check_has "and what the program says of it" "$report" "result: exit 1"
check_has "where secrets are, and who may read them" "$report" "path: $dir/token"

if [ "$(id -u)" = 0 ] && setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$BIN/wattloop-collector"; then
        chmod 700 "$dir"
        setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --inh-caps=-all "$BIN/wattloop-collector" doctor >"$dir/nobody" 2>&1
        check "without any privilege it works" test $? = 0
        check_has "and says so" "$(cat "$dir/nobody")" "capabilities: 0000000000000000"
else
        skip "without any privilege it works" "needs root, and a build that others can read"
fi
check_exit 2 "--json is the doctor's in programs without it" "$BIN/wattloop-model-server" serve --json
check_exit 2 "it takes no arguments" "$BIN/wattloop-estimator" doctor now
