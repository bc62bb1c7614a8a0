/* SPDX-License-Identifier: Apache-2.0 */
/* What the owner and the readers of samples.db agree on beyond its SQL (samples.NNN.sql). */
#pragma once

#define SAMPLES_APPLICATION_ID 0x574c5331 /* "WLS1": PRAGMA application_id of a samples.db */
