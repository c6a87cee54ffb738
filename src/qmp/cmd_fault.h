/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two dialects of fault rules share: ours, and that of the 2014 patch. */
#ifndef QMP_CMD_FAULT_H
#define QMP_CMD_FAULT_H

#include "block/driver.h"
#include "drivers/fault/fault.h"
#include "qmp/commands.h"

/* The fault node at or below @n; NULL with the call's error set, also if @n is NULL. */
struct node *qmp_fault_below(struct qmp_call *call, struct node *n);
/* Make the change; its node may be NULL, the call's error being set already. */
json_t *qmp_fault_change(struct qmp_call *call, struct fault_change *change);
json_t *qmp_fault_info(const struct qmp_server *s, const struct node *n);

#endif
