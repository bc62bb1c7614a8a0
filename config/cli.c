/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the command line twice: first everything is sorted into built-in switches, options and words, so that
 * misuse shows before anything happens; then defaults, file and options are applied in this order. */
#include "config/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include "common/log.h"
#include "config/doctor.h"
#include "config/value.h"

#define CLI_MAX_OPTIONS 256 /* on one command line */
#define CLI_MAX_WORDS   256

struct cli {
        const struct program *program;
        struct {
                const struct option *option;
                const char *value;
        } given[CLI_MAX_OPTIONS];
        size_t n_given;
        char *words[CLI_MAX_WORDS + 1]; /* the subcommand and its arguments */
        int n_words;
        const char *config;
        enum log_level log_level;
        bool check_config, show_config, version, help;
        bool json; /* of doctor, where the program has no such option */
};

static const char *const level_names[] = { "error", "warning", "info", "debug", NULL };

static PRINTF(2, 3) int misuse(const struct cli *c, const char *fmt, ...)
{
        const char *name = c->program->name;
        char words[256];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(words, sizeof(words), fmt, ap);
        va_end(ap);
        (void)fprintf(stderr, "%s: %s; see '%s --help'\n", name, words, name);
        return -EINVAL;
}

/* "sampling.interval_ms" is --sampling-interval-ms */
static void switch_name(const struct option *o, char ret[OPTION_KEY_MAX + 2])
{
        int n = snprintf(ret, OPTION_KEY_MAX + 2, "%s%s", *o->key == '-' ? "" : "--", o->key);

        for (int i = 0; i < n && ret[i]; i++)
                if (ret[i] == '.' || ret[i] == '_')
                        ret[i] = '-';
}

static const struct option *find_switch(const struct option *table, const char *name)
{
        char known[OPTION_KEY_MAX + 2];

        for (; table->key; table++) {
                switch_name(table, known);
                if (strcmp(known, name) == 0)
                        return table;
        }
        return NULL;
}

/* Compares in the form of the table's keys: no key contains a dash, so the spelling of the separators is
 * lost. */
static int unknown_switch(const struct cli *c, const char *name)
{
        char known[OPTION_KEY_MAX + 2], near[OPTION_KEY_MAX] = "";
        struct option one[2] = { { 0 }, { 0 } };

        for (const struct option *o = c->program->options; o->key && !*near; o++) {
                switch_name(o, known);
                one[0].key = known;
                option_suggest(one, name, near);
        }
        if (*near)
                return misuse(c, "unknown option '%.60s' (did you mean '%s'?)", name, near);
        return misuse(c, "unknown option '%.60s'", name);
}

static int set_level(struct cli *c, const char *value)
{
        for (int i = 0; level_names[i]; i++)
                if (strcmp(level_names[i], value) == 0) {
                        c->log_level = (enum log_level)i;
                        return 0;
                }
        return misuse(c, "--log-level takes error, warning, info or debug, not '%.60s'", value);
}

/* A switch that every program has: 1 it was one, 0 it was not. `name` has no "=value" any more. */
static int take_flag(struct cli *c, const char *name, const char *value)
{
        const struct {
                const char *name;
                bool *flag;
        } flags[] = {
                { "--check-config", &c->check_config },
                { "--show-config", &c->show_config },
                { "--version", &c->version },
                { "--help", &c->help },
                { "-h", &c->help },
                { find_switch(c->program->options, "--json") ? "" : "--json", &c->json },
        };

        for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
                if (strcmp(flags[i].name, name) != 0)
                        continue;
                if (value)
                        return misuse(c, "%s takes no value", name);
                *flags[i].flag = true;
                return 1;
        }
        return 0;
}

static int take_value(struct cli *c, const char *name, const struct option *o, const char *value)
{
        if (strcmp(name, "--config") == 0) {
                c->config = value;
                return 0;
        }
        if (strcmp(name, "--log-level") == 0)
                return set_level(c, value);
        if (c->n_given == CLI_MAX_OPTIONS)
                return misuse(c, "more than %d options", CLI_MAX_OPTIONS);
        c->given[c->n_given].option = o;
        c->given[c->n_given++].value = value;
        return 0;
}

/* One switch at argv[i], perhaps with its value behind it. Returns how many arguments it took. */
static int take_switch(struct cli *c, int argc, char **argv, int i)
{
        size_t n = strcspn(argv[i], "=");
        const char *value = argv[i][n] ? argv[i] + n + 1 : NULL;
        CLEANUP(freep) char *name = strndup(argv[i], n);
        const struct option *o;
        bool builtin;
        int r;

        if (!name)
                return log_error(-ENOMEM, "out of memory");
        r = take_flag(c, name, value);
        if (r != 0)
                return r;
        builtin = strcmp(name, "--config") == 0 || strcmp(name, "--log-level") == 0;
        o = find_switch(c->program->options, name);
        if (!builtin && !o)
                return unknown_switch(c, name);

        if (value) {
                r = take_value(c, name, o, value);
                return r < 0 ? r : 1;
        }
        if (!builtin && o->type == OPTION_BOOL &&
            (i + 1 == argc || (strcmp(argv[i + 1], "true") != 0 && strcmp(argv[i + 1], "false") != 0))) {
                r = take_value(c, name, o, "true");
                return r < 0 ? r : 1;
        }
        if (i + 1 == argc)
                return misuse(c, "%s needs a value", name);
        r = take_value(c, name, o, argv[i + 1]);
        return r < 0 ? r : 2;
}

static int read_arguments(struct cli *c, int argc, char **argv)
{
        bool only_words = false;

        for (int i = 1; i < argc;) {
                bool dash = argv[i][0] == '-' && argv[i][1] != '\0';

                if (!only_words && strcmp(argv[i], "--") == 0) {
                        only_words = true;
                        i++;
                } else if (!only_words && dash) {
                        int r = take_switch(c, argc, argv, i);

                        if (r < 0)
                                return r;
                        i += r;
                } else if (c->n_words == CLI_MAX_WORDS) {
                        return misuse(c, "more than %d arguments", CLI_MAX_WORDS);
                } else {
                        c->words[c->n_words++] = argv[i++];
                }
        }
        return 0;
}

static int find_command(const struct cli *c, const struct command **ret)
{
        const struct command *command = c->program->commands;
        int n = c->n_words - 1;

        if (c->n_words == 0)
                return misuse(c, "a subcommand is missing");
        while (command->name && strcmp(command->name, c->words[0]) != 0)
                command++;
        if (!command->name)
                return misuse(c, "unknown subcommand '%.60s'", c->words[0]);
        if (n < command->min_args)
                return misuse(c, "'%s' needs %s", command->name, command->args);
        if (n > command->max_args && command->max_args == 0)
                return misuse(c, "'%s' takes no arguments, but there is '%.60s'", command->name, c->words[1]);
        if (n > command->max_args)
                return misuse(c, "'%s' takes only %s", command->name, command->args);
        *ret = command;
        return 0;
}

/* Defaults, then the file, then the command line. *ret_file is NULL when there was no file to read. */
static int load_options(const struct cli *c, void *options, const char **ret_file, struct err *e)
{
        const struct program *p = c->program;
        const char *file = c->config ? c->config : p->config_default;
        char where[OPTION_KEY_MAX + 2];
        int r;

        r = options_set_defaults(p->options, options, e);
        if (r < 0)
                return r;
        r = file ? options_load_yaml(p->options, file, options, e) : -ENOENT;
        *ret_file = r == 0 ? file : NULL;
        if (r < 0 && (r != -ENOENT || c->config)) /* only the default file may be absent */
                return r;
        for (size_t i = 0; i < c->n_given; i++) {
                const struct option *o = c->given[i].option;

                switch_name(o, where);
                r = options_set(p->options, o->key, c->given[i].value, where, options, e);
                if (r < 0)
                        return r;
        }
        return p->check ? p->check(options, e) : 0;
}

static void print_help(const struct program *p)
{
        char name[OPTION_KEY_MAX + 2];

        (void)printf("%s %s: %s\n\nUsage: %s [OPTIONS] SUBCOMMAND [ARGUMENTS]\n\nSubcommands:\n", p->name,
                     WATTLOOP_VERSION, p->summary, p->name);
        for (const struct command *c = p->commands; c->name; c++)
                (void)printf("  %s%s%s\n        %s\n", c->name, *c->args ? " " : "", c->args, c->help);
        (void)printf("  doctor [--json]\n        print a report for a bug ticket, without secrets\n");
        (void)printf("\nOptions:\n"
                     "  --config FILE\n        configuration file (default: %s, when it is there)\n"
                     "  --check-config\n        check the configuration and exit\n"
                     "  --show-config\n        print the configuration in effect as YAML and exit\n"
                     "  --log-level LEVEL\n        error, warning, info (default) or debug\n"
                     "  --version\n        print the version and exit\n"
                     "  --help\n        print this text and exit\n",
                     p->config_default ? p->config_default : "none");
        if (p->options->key)
                (void)printf("\nSettings, also keys of the configuration file ('--a-b' is 'b' below 'a'):\n");
        for (const struct option *o = p->options; o->key; o++) {
                switch_name(o, name);
                (void)printf("  %s %s\n        %s (default: %s)\n", name, option_placeholder(o->type),
                             o->help, o->fallback && *o->fallback ? o->fallback : "none");
        }
}

static int check_config(const struct cli *c, const char *file)
{
        if (file)
                (void)printf("%s: OK\n", file);
        else if (c->program->config_default)
                (void)printf("%s: OK, the defaults are used: there is no '%s'\n", c->program->name,
                             c->program->config_default);
        else
                (void)printf("%s: OK, the defaults are used\n", c->program->name);
        return EXIT_DONE;
}

/* What a message quotes may be a secret in the wrong place: paths and the names of options stay. */
static void mask_quoted(const struct option *table, const char *text, char *ret, size_t size)
{
        size_t used = 0;

        while (*text && used + 1 < size) {
                const char *end = *text == '\'' ? strchr(text + 1, '\'') : NULL;
                bool keep = text[1] == '/';

                for (const struct option *o = table; end && !keep && o->key; o++)
                        keep = strlen(o->key) == (size_t)(end - text - 1) &&
                               strncmp(o->key, text + 1, (size_t)(end - text - 1)) == 0;
                if (!end || keep) {
                        ret[used++] = *text++;
                        continue;
                }
                used += (size_t)snprintf(ret + used, size - used, "'***'");
                used = used < size ? used : size - 1;
                text = end + 1;
        }
        ret[used] = '\0';
}

static void free_switches(char **switches)
{
        for (char **s = switches; s && *s; s++)
                free(*s);
        free(switches);
}

/* The command line once more, without the subcommand and its --json. */
static char **collect_switches(const struct cli *c)
{
        char **switches = calloc(c->n_given + 2, sizeof(*switches)), name[OPTION_KEY_MAX + 2];
        size_t n = 0;

        if (!switches)
                return NULL;
        if (c->config && asprintf(&switches[n], "--config=%s", c->config) >= 0)
                n++;
        for (size_t i = 0; i < c->n_given; i++) {
                switch_name(c->given[i].option, name);
                if (strcmp(name, "--json") != 0 &&
                    asprintf(&switches[n], "%s=%s", name, c->given[i].value) >= 0)
                        n++;
        }
        switches[n] = NULL;
        return switches;
}

static bool has_json(const struct cli *c)
{
        const struct option *its = find_switch(c->program->options, "--json");

        for (size_t i = 0; i < c->n_given; i++)
                if (c->given[i].option == its && strcmp(c->given[i].value, "false") != 0)
                        return true;
        return c->json;
}

/* Works whatever is wrong: then with the defaults, and says so. */
static int doctor(const struct cli *c, void *options)
{
        const struct program *p = c->program;
        struct doctor d = { .program = p, .options = options, .json = has_json(c) };
        CLEANUP(freep) void *defaults = calloc(1, p->options_size > 0 ? p->options_size : 1);
        char problem[sizeof(((struct err *)0)->text)] = "";
        char **switches;
        struct err e = { "" };
        int r;

        if (c->n_words > 1)
                return misuse(c, "'doctor' takes no arguments, but there is '%.60s'", c->words[1]);
        switches = collect_switches(c);
        r = defaults && switches ? options_set_defaults(p->options, defaults, &e) : -ENOMEM;
        if (r == 0 && load_options(c, options, &d.file, &e) < 0) {
                mask_quoted(p->options, e.text, problem, sizeof(problem));
                d.problem = problem;
                options_done(p->options, options);
                memset(options, 0, p->options_size);
                r = options_set_defaults(p->options, options, &e);
        }
        d.defaults = defaults;
        d.switches = switches;
        r = r < 0 ? log_error(EXIT_FAILED, "out of memory") : doctor_run(&d);
        free_switches(switches);
        if (defaults)
                options_done(p->options, defaults);
        return r;
}

static int load_and_run(struct cli *c, void *options)
{
        const struct command *command = NULL;
        const char *file = NULL;
        struct err e = { 0 };
        int r;

        if (!c->check_config && !c->show_config && c->n_words && strcmp(c->words[0], "doctor") == 0) {
                r = doctor(c, options);
                return r < 0 ? EXIT_MISUSE : r;
        }
        if (c->json)
                return misuse(c, "--json is of 'doctor' alone") < 0 ? EXIT_MISUSE : EXIT_FAILED;
        if (!c->check_config && !c->show_config && find_command(c, &command) < 0)
                return EXIT_MISUSE;
        r = load_options(c, options, &file, &e);
        if (r < 0)
                return log_error(r == -ENOMEM ? EXIT_FAILED : EXIT_MISUSE, "%s", e.text);
        if (c->check_config)
                return check_config(c, file);
        if (c->show_config) {
                options_print(c->program->options, options, stdout);
                return EXIT_DONE;
        }
        log_debug("configuration: %s", file ? file : "defaults");
        r = command->run(options, c->n_words - 1, c->words + 1);
        return r < 0 ? EXIT_FAILED : r;
}

/* Output that did not arrive (a full disk, a closed pipe) is a failure even when all else went well. */
static int finish(int status)
{
        if (fflush(stdout) == 0 && !ferror(stdout))
                return status;
        return log_error(status == EXIT_DONE ? EXIT_FAILED : status, "cannot write to standard output");
}

int program_main(const struct program *program, int argc, char **argv)
{
        struct cli c = { .program = program, .log_level = LOG_LEVEL_INFO };
        CLEANUP(freep) void *options = NULL;
        int status;

        log_init(program->name, LOG_LEVEL_INFO);
        if (read_arguments(&c, argc, argv) < 0)
                return EXIT_MISUSE;
        log_set_level(c.log_level);
        if (c.version) {
                (void)printf("%s %s\n", program->name, WATTLOOP_VERSION);
                return finish(EXIT_DONE);
        }
        if (c.help) {
                print_help(program);
                return finish(EXIT_DONE);
        }
        options = calloc(1, program->options_size > 0 ? program->options_size : 1);
        if (!options)
                return log_error(EXIT_FAILED, "out of memory");
        status = load_and_run(&c, options);
        options_done(program->options, options);
        return finish(status);
}
