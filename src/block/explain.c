/* SPDX-License-Identifier: BSD-2-Clause */
/* Which node below did on purpose what a verifier saw. */

#include "block/driver.h"

bool node_explain(const struct node *n, const struct blame *b, struct explanation *ret)
{
    while (n) {
        if (n->drv->explain && n->drv->explain(n, b, ret)) {
            return true;
        }
        n = n->drv->kind == DRIVER_FILTER && n->nchildren > 0 ? node_below(n) : NULL;
    }
    return false;
}
