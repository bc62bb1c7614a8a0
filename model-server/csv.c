/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/csv.h"

#include <errno.h>
#include <string.h>

#include "common/buf.h"
#include "common/file.h"
#include "common/num.h"

struct csv {
        char *path;      /* owned */
        struct buf text; /* the cells, NUL-terminated in place */
        char **cells;    /* owned; the header's first */
        size_t n_cells, room, n_columns;
};

void csv_free(struct csv *c)
{
        if (!c)
                return;
        buf_done(&c->text);
        free(c->path);
        free(c->cells);
        free(c);
}

static int add_cell(struct csv *c, char *cell, struct err *e)
{
        if (c->n_cells == c->room) {
                size_t room = 2 * c->room + 1024;
                char **more = reallocarray(c->cells, room, sizeof(*more));

                if (!more)
                        return err_set(e, -ENOMEM, "out of memory");
                c->cells = more;
                c->room = room;
        }
        c->cells[c->n_cells++] = cell;
        return 0;
}

/* The cell at p, whose quotes are taken off; *ret_end is the separator behind it. */
static char *take_cell(char *p, char **ret_end)
{
        char *to = p, *from = p + 1, *cell = p;

        if (*p != '"') {
                *ret_end = p + strcspn(p, ",\r\n");
                return cell;
        }
        while (*from && (from[0] != '"' || from[1] == '"')) {
                from += from[0] == '"';
                *to++ = *from++;
        }
        *ret_end = *from ? from + 1 : NULL;
        *to = '\0';
        return cell;
}

/* One line's cells; *p moves behind its end. */
static int read_line(struct csv *c, char **p, size_t *ret_n, struct err *e)
{
        for (*ret_n = 1;; (*ret_n)++) {
                char *end = NULL, *cell = take_cell(*p, &end), separator;
                int r;

                if (!end)
                        return err_set(e, -EBADMSG, "a quote does not end");
                if (*ret_n > CSV_COLUMNS_MAX)
                        return err_set(e, -E2BIG, "more than %d columns", CSV_COLUMNS_MAX);
                r = add_cell(c, cell, e);
                if (r < 0)
                        return r;
                separator = *end;
                *end = '\0';
                *p = end + (separator != '\0');
                if (separator == '\r' && **p == '\n')
                        ++*p;
                if (separator != ',')
                        return 0;
        }
}

static int read_lines(struct csv *c, struct err *e)
{
        char *p = c->text.data;

        for (size_t line = 1; *p; line++) {
                size_t n = 0;
                int r = read_line(c, &p, &n, e);

                if (r == 0 && line == 1)
                        c->n_columns = n;
                if (r == 0 && n != c->n_columns)
                        r = err_set(e, -EBADMSG, "%zu cells, but the header has %zu", n, c->n_columns);
                if (r == 0 && line > CSV_ROWS_MAX)
                        r = err_set(e, -E2BIG, "more than %zu rows", CSV_ROWS_MAX);
                if (r < 0)
                        return err_prefix(e, r, "%.150s:%zu", c->path, line);
        }
        return 0;
}

int csv_read(const char *path, struct csv **ret, struct err *e)
{
        CLEANUP(csv_freep) struct csv *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return err_set(e, -ENOMEM, "out of memory");
        c->path = strdup(path);
        if (!c->path)
                return err_set(e, -ENOMEM, "out of memory");
        buf_init(&c->text, CSV_FILE_MAX);
        r = file_read(path, &c->text, e);
        if (r < 0)
                return r;
        if (c->text.size == 0)
                return err_set(e, -EBADMSG, "'%.150s' is empty", path);
        if (strlen(c->text.data) != c->text.size)
                return err_set(e, -EBADMSG, "'%.150s' is no text", path);
        r = read_lines(c, e);
        if (r == 0)
                *ret = TAKE(c);
        return r;
}

size_t csv_rows(const struct csv *c)
{
        return c->n_cells / c->n_columns - 1;
}

size_t csv_columns(const struct csv *c)
{
        return c->n_columns;
}

const char *csv_header(const struct csv *c, size_t column)
{
        return c->cells[column];
}

int csv_find(const struct csv *c, const char *header)
{
        for (size_t i = 0; i < c->n_columns; i++)
                if (!strcmp(c->cells[i], header))
                        return (int)i;
        return -1;
}

const char *csv_cell(const struct csv *c, size_t row, size_t column)
{
        return c->cells[(row + 1) * c->n_columns + column];
}

int csv_number(const struct csv *c, size_t row, size_t column, double *ret, struct err *e)
{
        const char *cell = csv_cell(c, row, column);

        if (num_parse_double(cell, ret) < 0)
                return err_set(e, -EBADMSG, "%.150s:%zu: '%.40s' in column '%.60s' is not a finite number",
                               c->path, row + 2, cell, csv_header(c, column));
        return 0;
}
