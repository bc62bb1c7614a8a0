/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-trainer-client: recorded intervals leave the node. */
#include "common/db.h"
#include "config/cli.h"
#include "trainer-client/audit.h"
#include "trainer-client/export.h"
#include "trainer-client/import.h"
#include "trainer-client/options.h"
#include "trainer-client/push.h"
#include "trainer-client/status.h"

int main(int argc, char **argv)
{
        static const struct command commands[] = {
                { "push", "", 0, 0, "send the intervals that were not acknowledged yet", push_run },
                { "status", "", 0, 0, "how far the destinations have acknowledged", status_run },
                { "audit", "", 0, 0, "compare what was recorded with what the destinations hold", audit_run },
                { "export", "", 0, 0, "write recorded intervals to standard output", export_run },
                { "import", "DIRECTORY", 1, 1, "verify bundles and forward them to the destinations",
                  import_run },
                { "keygen", "FILE", 1, 1, "make a key pair to sign bundles: FILE and FILE.pub", keygen_run },
                { 0 },
        };
        static const char *const doctor[] = { "status", NULL };
        static const struct program program = {
                .name = "wattloop-trainer-client",
                .summary = "delivers recorded samples to the model server and other destinations",
                .config_default = "/etc/wattloop/trainer-client.yaml",
                .commands = commands,
                .options = options_table,
                .options_size = sizeof(struct options),
                .check = options_check,
                .doctor = doctor,
                .check_database = db_check,
        };

        return program_main(&program, argc, argv);
}
