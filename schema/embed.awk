# SPDX-License-Identifier: Apache-2.0
# Numbered migrations as C strings: one array element per file, in the order given.
function quote(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); return "\"" s "\\n\"" }
BEGIN { printf "/* generated from schema/%s.*.sql */\n#pragma once\nstatic const char *const %s_migrations[] = {\n", name, name }
FNR == 1 && NR > 1 { print "," }
{ print quote($0) }
END { print "\n};" }
