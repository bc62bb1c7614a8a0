/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/kubelet/pods.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include "common/file.h"
#include "common/http.h"
#include "common/json.h"

#define URL_MAX      1024
#define TOKEN_MAX    16384
#define REPLY_MAX    ((size_t)64 << 20)
#define UID_MAX      63
#define POD_NAME_MAX 253 /* of a pod: a DNS subdomain; a container's and a namespace's are labels */
#define LABEL_MAX    63
#define ID_SIZE      64

struct pods {
        struct pods_options options;
        struct http *http;
        char url[URL_MAX];
        char authorization[TOKEN_MAX + 32];
};

void pods_close(struct pods *p)
{
        if (!p)
                return;
        http_free(p->http);
        sodium_memzero(p->authorization, sizeof(p->authorization));
        free(p);
}

int pods_open(const struct pods_options *options, struct pods **ret, struct err *e)
{
        CLEANUP(pods_closep) struct pods *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return err_set(e, -ENOMEM, "out of memory");
        p->options = *options;
        if (snprintf(p->url, sizeof(p->url), "%s/pods", options->url) >= URL_MAX)
                return err_set(e, -EINVAL, "the url is too long");
        r = http_new("wattloop-collector", &p->http, e);
        if (r < 0)
                return r;
        *ret = TAKE(p);
        return 0;
}

static int read_token(struct pods *p, struct err *e)
{
        static const char scheme[] = "Authorization: Bearer ";
        const char *path = p->options.token_file;
        int n;

        memcpy(p->authorization, scheme, sizeof(scheme));
        n = file_read_small(AT_FDCWD, path, p->authorization + sizeof(scheme) - 1, TOKEN_MAX);
        if (n < 0)
                return err_set(e, n, "cannot read the token '%s': %s", path, strerror(-n));
        if (n == 0 || strpbrk(p->authorization, "\r\n") ||
            strlen(p->authorization) != sizeof(scheme) - 1 + (size_t)n)
                return err_set(e, -EINVAL, "'%s' is not one line with a token", path);
        return 0;
}

/* ---- what is in the list ---- */

/* A word of the line: without blanks, within its length. */
static const char *word(const json_t *object, const char *key, size_t max)
{
        const char *s = json_string_value(json_object_get(object, key));

        if (!s || !*s || strlen(s) > max)
                return NULL;
        for (const char *p = s; *p; p++)
                if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
                        return NULL;
        return s;
}

/* "containerd://<64 hex digits>" */
static const char *id_of(const json_t *status)
{
        const char *s = json_string_value(json_object_get(status, "containerID")),
                   *id = s ? strstr(s, "://") : NULL;

        if (!id || strlen(id + 3) != ID_SIZE || strspn(id + 3, "0123456789abcdef") != ID_SIZE)
                return NULL;
        return id + 3;
}

static void write_pod(const json_t *pod, struct buf *out)
{
        static const char *const kinds[] = { "containerStatuses", "initContainerStatuses",
                                             "ephemeralContainerStatuses" };
        const json_t *metadata = json_object_get(pod, "metadata"), *status;
        const char *uid = word(metadata, "uid", UID_MAX), *name = word(metadata, "name", POD_NAME_MAX),
                   *space = word(metadata, "namespace", LABEL_MAX), *container, *id;
        size_t i;

        if (!uid || !name || !space)
                return;
        (void)buf_printf(out, "pod %s %s %s\n", uid, space, name); /* failure is sticky in the buffer */
        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
                json_array_foreach (json_object_get(json_object_get(pod, "status"), kinds[k]), i, status) {
                        container = word(status, "name", LABEL_MAX);
                        id = id_of(status);
                        if (container && id)
                                (void)buf_printf(out, "container %s %s %s %s %s\n", id, uid, space, name,
                                                 container);
                }
}

void pods_write(const json_t *list, struct buf *out)
{
        const json_t *pod;
        size_t i;

        json_array_foreach (json_object_get(list, "items"), i, pod) {
                write_pod(pod, out);
        }
}

static int read_list(const struct pods *p, const struct http_response *response, struct buf *out,
                     struct err *e)
{
        CLEANUP(json_decrefp) json_t *list = NULL;
        int r;

        if (response->status == 401 || response->status == 403)
                return err_set(e, -EACCES, "'%s' refuses the token (%ld)", p->url, response->status);
        if (response->status != 200)
                return err_set(e, -EPROTO, "'%s' answers %ld", p->url, response->status);
        r = json_parse(response->body.data, response->body.size, p->url, &list, e);
        if (r < 0)
                return r;
        if (!json_is_array(json_object_get(list, "items")) && !json_is_null(json_object_get(list, "items")))
                return err_set(e, -EPROTO, "'%s' answers no list of pods", p->url);
        pods_write(list, out);
        return out->failed ? err_set(e, -EFBIG, "'%s' lists more pods than fit", p->url) : 0;
}

int pods_read(struct pods *p, struct buf *out, struct err *e)
{
        const char *headers[] = { "Accept: application/json",
                                  *p->options.token_file ? p->authorization : NULL, NULL };
        const struct http_request request = { .method = "GET",
                                              .url = p->url,
                                              .headers = headers,
                                              .timeout_ms = p->options.timeout_ms,
                                              .max_response = REPLY_MAX,
                                              .ca_file = *p->options.ca_file ? p->options.ca_file : NULL,
                                              .insecure = !p->options.verify_tls };
        struct http_response response;
        int r = 0;

        if (*p->options.token_file)
                r = read_token(p, e);
        if (r == 0)
                r = http_exchange(p->http, &request, &response, e);
        if (r < 0)
                return r;
        r = read_list(p, &response, out, e);
        http_response_done(&response);
        return r;
}
