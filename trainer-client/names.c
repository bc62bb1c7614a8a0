/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/names.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include "common/buf.h"
#include "common/file.h"

#define MAX_FILE   4096
#define HASH_BYTES 16

int names_policy_load(const struct names_options *options, struct names_policy *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf text;
        int r;

        buf_init(&text, MAX_FILE);
        *ret = (struct names_policy){ .form = (enum names_form)options->form };
        if (ret->form != NAMES_HASH || !*options->key_file)
                return 0;
        r = file_read(options->key_file, &text, e);
        if (r < 0)
                return err_prefix(e, r, "upload.names_key_file");
        ret->key_size = strcspn(text.data ? text.data : "", "\r\n");
        if (ret->key_size < NAMES_KEY_MIN || ret->key_size > NAMES_KEY_MAX)
                return err_set(e, -EINVAL, "the first line of '%s' must be a key of %d to %d bytes, not %zu",
                               options->key_file, NAMES_KEY_MIN, NAMES_KEY_MAX, ret->key_size);
        memcpy(ret->key, text.data, ret->key_size);
        return 0;
}

char *names_apply(const struct names_policy *policy, const char *name)
{
        unsigned char hash[HASH_BYTES];
        char hex[2 * HASH_BYTES + 1];

        if (policy->form == NAMES_NONE)
                return strdup("");
        if (policy->form == NAMES_FULL || !*name)
                return strdup(name);
        (void)crypto_generichash(hash, sizeof(hash), (const unsigned char *)name, strlen(name), policy->key,
                                 policy->key_size); /* the sizes are within its limits */
        return strdup(sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash)));
}
