/* SPDX-License-Identifier: Apache-2.0 */
/* "Is there anything new?" over plain http, without libcurl: loading it and its thirty libraries is most of
 * what such a question costs. Sends one conditional GET and reads the head of the answer. */
#pragma once

#include "common/http.h"

/* 1: answered, by a status that needs no body (304, 429, 503); release as after http_exchange(). 0: not
 * a conditional GET over plain http without proxy and password, or another answer: http_exchange() asks again
 * and has the words for what is wrong. -ETIMEDOUT: connected, but there is no answer. */
int http_probe(const char *user_agent, const struct http_request *request, struct http_response *ret,
               struct err *e);
