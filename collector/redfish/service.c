/* SPDX-License-Identifier: Apache-2.0 */
/* The way to the watts: /redfish/v1/Systems → the first system → its chassis (Links.Chassis) → Power, where
 * PowerControl[0].PowerConsumedWatts is, or EnvironmentMetrics, where newer services have PowerWatts.Reading.
 * The way is kept until it leads nowhere. */
#include "collector/redfish/service.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sodium.h>
#include <string.h>
#include "common/file.h"
#include "common/http.h"
#include "common/json.h"

#define URL_MAX         1024
#define CREDENTIALS_MAX 512
#define REPLY_MAX       ((size_t)1 << 20)
#define WATTS_MAX       1e6

struct service {
        struct service_options options;
        struct http *http;
        char authorization[CREDENTIALS_MAX * 2]; /* a header; "" none */
        char base[URL_MAX];                      /* scheme and host */
        char chassis[URL_MAX];                   /* path; "" not found yet */
        bool given;                              /* the chassis is part of the url */
};

void service_close(struct service *s)
{
        if (!s)
                return;
        http_free(s->http);
        sodium_memzero(s, sizeof(*s));
        free(s);
}

static int read_credentials(struct service *s, struct err *e)
{
        char text[CREDENTIALS_MAX], encoded[CREDENTIALS_MAX * 3 / 2];
        const char *path = s->options.credentials;
        int n = file_read_small(AT_FDCWD, path, text, sizeof(text));

        if (n < 0)
                return err_set(e, n, "cannot read the credentials '%s': %s", path, strerror(-n));
        if (!strchr(text, ':') || strlen(text) != (size_t)n)
                return err_set(e, -EINVAL, "'%s' is not one line 'user:password'", path);
        (void)sodium_bin2base64(encoded, sizeof(encoded), (const unsigned char *)text, (size_t)n,
                                sodium_base64_VARIANT_ORIGINAL);
        (void)snprintf(s->authorization, sizeof(s->authorization), "Authorization: Basic %s", encoded);
        sodium_memzero(text, sizeof(text));
        sodium_memzero(encoded, sizeof(encoded));
        return 0;
}

/* "https://host:port" and, when there is more, the path of a chassis. */
static int split_url(struct service *s, struct err *e)
{
        const char *url = s->options.url, *host = strstr(url, "://"), *path;
        size_t size;

        if (!host || strlen(url) >= URL_MAX)
                return err_set(e, -EINVAL, "'%.100s' is not a URL", url);
        path = strchr(host + 3, '/');
        size = path ? (size_t)(path - url) : strlen(url);
        (void)snprintf(s->base, sizeof(s->base), "%.*s", (int)size, url);
        if (path && path[1]) {
                (void)snprintf(s->chassis, sizeof(s->chassis), "%s", path);
                s->given = true;
        }
        return 0;
}

int service_open(const struct service_options *options, struct service **ret, struct err *e)
{
        CLEANUP(service_closep) struct service *s = NULL;
        int r;

        if (sodium_init() < 0)
                return err_set(e, -EIO, "cannot start libsodium");
        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->options = *options;
        r = split_url(s, e);
        if (r == 0 && *options->credentials)
                r = read_credentials(s, e);
        if (r == 0)
                r = http_new("wattloop-collector", &s->http, e);
        if (r < 0)
                return r;
        *ret = TAKE(s);
        return 0;
}

/* GETs a resource. -ENOENT: 404. */
static int get(struct service *s, const char *path, json_t **ret, struct err *e)
{
        const char *headers[] = { "Accept: application/json", "OData-Version: 4.0",
                                  *s->authorization ? s->authorization : NULL, NULL };
        struct http_response response;
        char url[2 * URL_MAX];
        struct http_request request = { .method = "GET",
                                        .url = url,
                                        .headers = headers,
                                        .timeout_ms = s->options.timeout_ms,
                                        .max_response = REPLY_MAX,
                                        .ca_file = *s->options.ca_file ? s->options.ca_file : NULL,
                                        .insecure = !s->options.verify_tls };
        int r;

        (void)snprintf(url, sizeof(url), "%s%s", s->base, path);
        r = http_exchange(s->http, &request, &response, e);
        if (r < 0)
                return r;
        if (response.status == 200)
                r = json_parse(response.body.data, response.body.size, path, ret, e);
        else if (response.status == 401 || response.status == 403)
                r = err_set(e, -EACCES, "'%s' refuses the credentials (%ld)", url, response.status);
        else
                r = err_set(e, response.status == 404 ? -ENOENT : -EPROTO, "'%s' answers %ld", url,
                            response.status);
        http_response_done(&response);
        return r;
}

/* The "@odata.id" of a reference; NULL when it is no path of this service. */
static const char *path_of(const json_t *reference)
{
        const char *path = json_string_value(json_object_get(reference, "@odata.id"));

        return path && *path == '/' && strlen(path) < URL_MAX && !strpbrk(path, " \t\r\n?#") ? path : NULL;
}

/* Finds the chassis of the first system; where a system names none, the chassis has the system's own name. */
static int find_chassis(struct service *s, struct err *e)
{
        CLEANUP(json_decrefp) json_t *systems = NULL;
        CLEANUP(json_decrefp) json_t *system = NULL;
        const char *path, *chassis;
        int r = get(s, "/redfish/v1/Systems", &systems, e);

        if (r < 0)
                return r;
        path = path_of(json_array_get(json_object_get(systems, "Members"), 0));
        if (!path)
                return err_set(e, -EPROTO, "'%s/redfish/v1/Systems' has no members", s->base);
        r = get(s, path, &system, e);
        if (r < 0)
                return r;
        chassis = path_of(json_array_get(json_object_get(json_object_get(system, "Links"), "Chassis"), 0));
        if (chassis)
                (void)snprintf(s->chassis, sizeof(s->chassis), "%s", chassis);
        else
                (void)snprintf(s->chassis, sizeof(s->chassis), "/redfish/v1/Chassis/%.900s",
                               strrchr(path, '/') + 1);
        return 0;
}

/* One resource of the chassis; `find` picks the number out of it. -ENODATA: it is not there. */
static int read_resource(struct service *s, const char *name, const json_t *(*find)(const json_t *),
                         double *ret_watts, struct err *e)
{
        CLEANUP(json_decrefp) json_t *resource = NULL;
        char path[URL_MAX + 64];
        const json_t *number;
        double watts;
        int r;

        (void)snprintf(path, sizeof(path), "%s/%s", s->chassis, name);
        r = get(s, path, &resource, e);
        if (r == -ENOENT)
                return -ENODATA;
        if (r < 0)
                return r;
        number = find(resource);
        if (!json_is_number(number))
                return err_set(e, -ENODATA, "'%s%s' tells no watts", s->base, path);
        watts = json_number_value(number);
        if (!isfinite(watts) || watts <= 0 || watts > WATTS_MAX)
                return err_set(e, -ENODATA, "'%s%s' tells %g W", s->base, path, watts);
        *ret_watts = watts;
        return 0;
}

static const json_t *in_power(const json_t *power)
{
        return json_object_get(json_array_get(json_object_get(power, "PowerControl"), 0),
                               "PowerConsumedWatts");
}

static const json_t *in_metrics(const json_t *metrics)
{
        return json_object_get(json_object_get(metrics, "PowerWatts"), "Reading");
}

int service_read_watts(struct service *s, double *ret_watts, struct err *e)
{
        int r = 0;

        if (!*s->chassis)
                r = find_chassis(s, e);
        if (r < 0)
                return r;
        r = read_resource(s, "Power", in_power, ret_watts, e);
        if (r == -ENODATA)
                r = read_resource(s, "EnvironmentMetrics", in_metrics, ret_watts, e);
        if (r == -ENODATA && !s->given)
                s->chassis[0] = '\0'; /* look for it again */
        return r;
}
