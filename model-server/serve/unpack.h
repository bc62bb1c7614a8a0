/* SPDX-License-Identifier: Apache-2.0 */
/* A pipeline that lies in models.path as a zip, as Kepler publishes them, is unpacked into a directory of its
 * name beside it: aside first, then renamed. A directory that was not made so is never touched. */
#pragma once

#define UNPACK_ENTRIES_MAX 200000
#define UNPACK_BYTES_MAX   ((unsigned long long)4 << 30)
#define UNPACK_NOTE        ".from-zip" /* in the directory: size and time of the zip it was made of */

/* All that are new or have changed; what cannot be unpacked is said and left out. `own` is never made. */
void unpack_pipelines(const char *models_path, const char *own);
