/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/token_command.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sodium.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "config/cli.h"
#include "model-server/options.h"
#include "model-server/bearers.h"

#define SECRET_BYTES      32 /* 256 bits, so that a fast hash is enough to hide it */
#define SECRET_HEX        (2 * SECRET_BYTES + 1)
#define FINGERPRINT_BYTES 8 /* of the hash: how people name a token that has been issued */
#define FINGERPRINT_HEX   (2 * FINGERPRINT_BYTES + 1)
#define TOKEN_FILE_MODE   0640 /* at most; a new one 0600 */
#define ISSUED_MAX        64

/* The file in work, and under lock for as long. */
struct edit {
        const char *path;
        int lock;
        bool is_new;
        struct buf old, text; /* as it was, and as it shall be */
};

struct selection {
        bool fleet;
        char **words; /* node ids and fingerprints */
        int n;
        size_t hits[TOKEN_WORDS_MAX + 1]; /* by word; the fleet's behind them */
};

static void edit_done(struct edit *edit)
{
        closep(&edit->lock);
        if (edit->text.data)
                sodium_memzero(edit->text.data, edit->text.size);
        if (edit->old.data)
                sodium_memzero(edit->old.data, edit->old.size);
        buf_done(&edit->text);
        buf_done(&edit->old);
}

/* One at a time: the directory is locked, since the file itself is replaced. */
static int lock_directory(struct edit *edit, struct err *e)
{
        char path[PATH_MAX];

        if (snprintf(path, sizeof(path), "%s", edit->path) >= (int)sizeof(path))
                return err_set(e, -ENAMETOOLONG, "'%.100s...' is too long", edit->path);
        edit->lock = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (edit->lock < 0 || flock(edit->lock, LOCK_EX) < 0)
                return err_sys(e, "cannot lock the directory of '%s'", edit->path);
        return 0;
}

static int edit_open(struct edit *edit, const struct options *o, bool may_be_new, struct err *e)
{
        int r;

        *edit = (struct edit){ .path = o->token_file, .lock = -1 };
        buf_init(&edit->old, TOKEN_FILE_MAX);
        buf_init(&edit->text, TOKEN_FILE_MAX);
        r = lock_directory(edit, e);
        if (r == 0)
                r = file_read(edit->path, &edit->old, e);
        edit->is_new = r == -ENOENT && may_be_new;
        return edit->is_new ? 0 : r;
}

static int edit_write(const struct edit *edit, const struct buf *text, struct err *e)
{
        mode_t mode = edit->is_new ? 0600 : TOKEN_FILE_MODE;

        if (text->failed)
                return err_set(e, text->failed, "'%s' would be larger than %zu bytes", edit->path,
                               TOKEN_FILE_MAX);
        return file_replace(edit->path, text->data ? text->data : "", text->size, mode, e);
}

/* Calls take() for each line of the old text; a positive answer keeps the line. */
static int edit_lines(struct edit *edit,
                      int (*take)(const struct token *token, const char *note, size_t note_size, void *arg),
                      void *arg, struct err *e)
{
        size_t number = 1;

        for (const char *line = edit->old.size ? edit->old.data : ""; *line; number++) {
                size_t size = strcspn(line, "\n");
                const char *note = "";
                struct token token;
                int r = bearer_parse(line, size, &token, &note, e);

                if (r < 0)
                        return err_prefix(e, r, "'%s' line %zu", edit->path, number);
                if (r == 0 || take(&token, note, *note ? (size_t)(line + size - note) : 0, arg)) {
                        (void)buf_append(&edit->text, line, size);
                        (void)buf_puts(&edit->text, "\n");
                }
                line += size + (line[size] != '\0');
        }
        return 0;
}

/* ---- issue ---- */

static bool is_node_id(const char *word)
{
        return *word && *word != '#' && *word != '-' && strlen(word) < TOKEN_NODE_MAX &&
               strncmp(word, "sha256:", 7) != 0 &&
               word[strspn(word, "0123456789abcdefghijklmnopqrstuvwxyz"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ._:-")] == '\0';
}

static int count_line(const struct token *token, const char *note, size_t note_size, void *arg)
{
        (void)token;
        (void)note;
        (void)note_size;
        ++*(size_t *)arg;
        return 1;
}

/* Appends its line, and returns the secret. */
static void issue_one(struct edit *edit, const char *node_id, char ret_secret[SECRET_HEX])
{
        unsigned char secret[SECRET_BYTES], hash[TOKEN_HASH_SIZE];
        char hex[2 * TOKEN_HASH_SIZE + 1], issued[ISSUED_MAX] = "";
        time_t now = (time_t)(clock_wall_ms() / 1000);
        struct tm tm;

        randombytes_buf(secret, sizeof(secret));
        (void)sodium_bin2hex(ret_secret, SECRET_HEX, secret, sizeof(secret));
        sodium_memzero(secret, sizeof(secret));
        (void)crypto_hash_sha256(hash, (const unsigned char *)ret_secret, SECRET_HEX - 1);
        (void)sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
        if (gmtime_r(&now, &tm))
                (void)strftime(issued, sizeof(issued), " issued %Y-%m-%dT%H:%M:%SZ", &tm);
        (void)buf_printf(&edit->text, "%s%ssha256:%s%s\n", node_id, *node_id ? " " : "", hex, issued);
}

/* The tokens are shown once the file holds them; should nobody see them, it holds them no more. */
static int show_secrets(const struct edit *edit, const struct buf *shown, struct err *e)
{
        int r = edit_write(edit, &edit->text, e);

        if (r < 0)
                return r;
        if (fwrite(shown->data, 1, shown->size, stdout) == shown->size && fflush(stdout) == 0)
                return 0;
        r = err_sys(e, "cannot write the token to standard output; nothing is issued");
        if (edit->is_new ? unlink(edit->path) < 0 : edit_write(edit, &edit->old, NULL) < 0)
                return err_prefix(e, r, "'%s' still holds a token that nobody knows", edit->path);
        return r;
}

static int issue(const struct options *o, int argc, char **argv, struct err *e)
{
        CLEANUP(edit_done) struct edit edit = { .lock = -1 };
        char secret[SECRET_HEX];
        size_t n = 0, more = (size_t)argc + o->fleet;
        struct buf shown;
        int r;

        for (int i = 0; i < argc; i++)
                if (!is_node_id(argv[i]))
                        return err_set(e, -EINVAL,
                                       "'%.60s' is no node id; 'wattloop-collector once' prints it", argv[i]);
        r = edit_open(&edit, o, true, e);
        if (r == 0)
                r = edit_lines(&edit, count_line, &n, e);
        if (r == 0 && n + more > TOKENS_MAX)
                r = err_set(e, -E2BIG, "'%s' would hold more than %d tokens", edit.path, TOKENS_MAX);
        if (r < 0)
                return r;
        buf_init(&shown, TOKEN_FILE_MAX);
        for (int i = 0; i < argc + o->fleet; i++) {
                issue_one(&edit, i < argc ? argv[i] : "", secret);
                (void)buf_printf(&shown, "%s%s%s\n", more > 1 && i < argc ? argv[i] : "",
                                 more > 1 && i < argc ? " " : "", secret);
        }
        sodium_memzero(secret, sizeof(secret));
        r = shown.failed ? err_set(e, shown.failed, "out of memory") : show_secrets(&edit, &shown, e);
        if (shown.data)
                sodium_memzero(shown.data, shown.size);
        buf_done(&shown);
        if (r == 0)
                log_info("%zu issued; '%s' holds the hash alone: keep what was printed", more, edit.path);
        return r;
}

/* ---- revoke ---- */

static void fingerprint_of(const struct token *token, char ret[FINGERPRINT_HEX])
{
        (void)sodium_bin2hex(ret, FINGERPRINT_HEX, token->hash, FINGERPRINT_BYTES);
}

/* 0 for those that go. */
static int keep(const struct token *token, const char *note, size_t note_size, void *arg)
{
        struct selection *s = arg;
        char fingerprint[FINGERPRINT_HEX];
        bool gone = s->fleet && !*token->node_id;

        (void)note;
        (void)note_size;
        s->hits[s->n] += gone;
        fingerprint_of(token, fingerprint);
        for (int i = 0; i < s->n; i++)
                if (*s->words[i] &&
                    (strcmp(s->words[i], fingerprint) == 0 || strcmp(s->words[i], token->node_id) == 0)) {
                        s->hits[i]++;
                        gone = true;
                }
        return !gone;
}

static int revoke_tokens(const struct options *o, int argc, char **argv, struct err *e)
{
        struct selection selection = { .fleet = o->fleet, .words = argv, .n = argc };
        CLEANUP(edit_done) struct edit edit = { .lock = -1 };
        size_t before = 0, after = 0;
        int r = edit_open(&edit, o, false, e);

        if (r == 0)
                r = edit_lines(&edit, count_line, &before, e);
        buf_clear(&edit.text);
        if (r == 0)
                r = edit_lines(&edit, keep, &selection, e);
        for (int i = 0; r == 0 && i < argc + o->fleet; i++)
                if (!selection.hits[i])
                        r = err_set(e, -ENOENT, "'%s' has no token of '%.128s'; nothing is revoked",
                                    edit.path, i < argc ? argv[i] : "--fleet");
        if (r == 0)
                r = edit_write(&edit, &edit.text, e);
        if (r < 0)
                return r;
        buf_clear(&edit.old);
        (void)buf_append(&edit.old, edit.text.data ? edit.text.data : "", edit.text.size);
        r = edit_lines(&edit, count_line, &after, e);
        (void)printf("%zu revoked, %zu left\n", before - after, after);
        return r;
}

/* ---- list ---- */

static int print_line(const struct token *token, const char *note, size_t note_size, void *arg)
{
        char fingerprint[FINGERPRINT_HEX];

        (void)arg;
        fingerprint_of(token, fingerprint);
        (void)printf("%s\t%s\t%s\t%.*s\n", fingerprint, *token->node_id ? token->node_id : "(fleet)",
                     token->hashed ? "hash" : "clear", (int)note_size, note);
        return 1;
}

static int list(const struct options *o, int argc, char **argv, struct err *e)
{
        CLEANUP(edit_done) struct edit edit = { .lock = -1 };
        int r = edit_open(&edit, o, false, e);

        (void)argc;
        (void)argv;
        return r < 0 ? r : edit_lines(&edit, print_line, NULL, e);
}

static const struct {
        const char *name, *args;
        bool names; /* takes node ids, or --fleet */
        int (*run)(const struct options *o, int argc, char **argv, struct err *e);
} acts[] = {
        { "issue", "NODE_ID...|--fleet", true, issue },
        { "revoke", "NODE_ID|FINGERPRINT...|--fleet", true, revoke_tokens },
        { "list", "", false, list },
};

int token_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        struct err e = { "" };
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(acts); i++) {
                if (strcmp(acts[i].name, argv[0]) != 0)
                        continue;
                if (acts[i].names != (argc > 1 || o->fleet)) {
                        (void)log_error(-EINVAL, "it is: token %s %s", acts[i].name, acts[i].args);
                        return EXIT_MISUSE;
                }
                if (!*o->token_file) {
                        (void)log_error(-EINVAL, "auth.token_file is not set; --auth-token-file FILE does");
                        return EXIT_MISUSE;
                }
                if (sodium_init() < 0)
                        return log_error(-EIO, "libsodium does not start");
                r = acts[i].run(o, argc - 1, argv + 1, &e);
                return r < 0 ? log_error(r, "%s", e.text) : EXIT_DONE;
        }
        (void)log_error(-EINVAL, "'token %.32s' is not known: token issue, revoke or list", argv[0]);
        return EXIT_MISUSE;
}
