/* SPDX-License-Identifier: Apache-2.0 */
/* CPU time that no living process shows: /proc forgets the dead, but the kernel's counter of a cgroup does
 * not. Where that counter is exact (a cgroup without children; the whole machine under v1 cpuacct) the
 * difference is added to the row. Sums are compared, not deltas, and what turns out to be a living process's
 * is taken back, so that reading the two at different moments evens out. Limit: a process that is moved is
 * charged where it is found, its former cgroup's counter claims that time too. */
#pragma once

#include "collector/features.h"

struct reconcile;
int reconcile_new(struct cgroup_table *cgroups, struct reconcile **ret);
void reconcile_free(struct reconcile *r);
CLEANUP_DEFINE(struct reconcile *, reconcile_free);

/* A process was met in this cgroup: follow it from now on. Cheap when it is known. */
void reconcile_track(struct reconcile *r, uint64_t cgroup_id);
/* End of a pass. `set` NULL: this pass is the base. */
void reconcile_apply(struct reconcile *r, struct usage_set *set);
