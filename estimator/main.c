/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-estimator: power requests in, watts out. */
#include "config/cli.h"
#include "estimator/inspect.h"
#include "estimator/options.h"
#include "estimator/predict.h"
#include "estimator/server.h"

static int run_serve(const void *options, int argc, char **argv)
{
        (void)argc;
        (void)argv;
        return server_run(options);
}

static int run_predict(const void *options, int argc, char **argv)
{
        (void)argc;
        return predict_run(options, argv[0], STDIN_FILENO, stdout);
}

static int run_inspect(const void *options, int argc, char **argv)
{
        const struct options *o = options;

        (void)argc;
        return inspect_run(argv[0], o->json, stdout);
}

static const struct command commands[] = {
        { "serve", "", 0, 0, "answer power requests on a unix socket with the models of the store",
          run_serve },
        { "predict", "ARCHIVE|WEIGHT.json|DIR", 1, 1,
          "answer the power requests on standard input, one per line, with one model", run_predict },
        { "inspect", "ARCHIVE|WEIGHT.json|DIR", 1, 1,
          "print what is in a model: kind, features, components, errors, and the classes of its pickles",
          run_inspect },
        { 0 },
};

int main(int argc, char **argv)
{
        static const struct program program = {
                .name = "wattloop-estimator",
                .summary = "estimates power from activity with trained models",
                .config_default = "/etc/wattloop/estimator.yaml",
                .commands = commands,
                .options = options_table,
                .options_size = sizeof(struct options),
                .check = options_check,
        };

        return program_main(&program, argc, argv);
}
