/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-updater: request -> examine in a sandbox -> confirm -> install -> notify, for each model in turn
 * (update.c). */
#include "config/cli.h"
#include "updater/history.h"
#include "updater/manage.h"
#include "updater/mirror.h"
#include "updater/options.h"
#include "updater/status.h"
#include "updater/update.h"

int main(int argc, char **argv)
{
        static const struct command commands[] = {
                { "update", "", 0, 0, "fetch, verify and install the models, and tell the estimator",
                  update_run },
                { "status", "", 0, 0, "what is installed, how old it is and whether the estimator serves it",
                  status_run },
                { "verify", "[SLOT]", 0, 1, "check files, signature and answers of what is installed",
                  verify_run },
                { "rollback", "[SLOT]", 0, 1,
                  "go back to the model before; it is not left for the same one again", rollback_run },
                { "pin", "[SLOT [ID]]", 0, 2, "keep the current model whatever the server has", pin_run },
                { "unpin", "[SLOT]", 0, 1, "follow the server again", unpin_run },
                { "mirror", "DIR", 1, 1,
                  "make or refresh a directory that any web server can offer to updaters", mirror_run },
                { "history", "", 0, 0, "what was installed, refused and rolled back, and why", history_run },
                { 0 },
        };
        static const char *const doctor[] = { "status", NULL };
        static const struct program program = {
                .name = "wattloop-updater",
                .summary = "keeps the estimator's models up to date",
                .config_default = "/etc/wattloop/updater.yaml",
                .commands = commands,
                .options = options_table,
                .options_size = sizeof(struct options),
                .check = options_check,
                .doctor = doctor,
        };

        return program_main(&program, argc, argv);
}
