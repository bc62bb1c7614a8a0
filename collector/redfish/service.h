/* SPDX-License-Identifier: Apache-2.0 */
/* A Redfish service (DMTF DSP0266): finds where a machine's power is told, and reads it. */
#pragma once

#include <stdbool.h>
#include "common/err.h"

struct service_options {
        const char *url;         /* "https://bmc.example", or that of a chassis */
        const char *credentials; /* file with one line "user:password"; "" none */
        const char *ca_file;     /* further trust anchors; "" none */
        bool verify_tls;
        long timeout_ms; /* of one request */
};

struct service;

/* Reads the credentials; speaks to nobody yet. */
int service_open(const struct service_options *options, struct service **ret, struct err *e);
/* Watts of the machine. -EACCES: credentials refused; -ENODATA: it tells no power; -EPROTO: TLS, or not
 * Redfish; -ETIMEDOUT and other errors of the network. */
int service_read_watts(struct service *service, double *ret_watts, struct err *e);
void service_close(struct service *service);
CLEANUP_DEFINE(struct service *, service_close);
