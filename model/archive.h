/* SPDX-License-Identifier: Apache-2.0 */
/* What archive.c and zip.c share: how an archive in memory is filled. */
#pragma once

#include "model/model.h"

/* Plain visible names only, so that an entry can become a file of a directory without a second thought; each
 * once. -EBADMSG; -E2BIG: too many. */
int archive_check_name(const struct model_archive *archive, const char *name, struct err *e);
size_t archive_unpacked_size(const struct model_archive *archive);
/* Takes the bytes of `data`; the name has been checked. */
int archive_add_entry(struct model_archive *archive, const char *name, struct buf *data, struct err *e);
