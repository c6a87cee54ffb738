/* SPDX-License-Identifier: BSD-2-Clause */
/* `blkproof serve` and write caches: putting them in front of images, and where power cuts are reported. */
#include "base/json.h"
#include "block/driver.h"
#include "drivers/wcache/wcache.h"
#include "tools/serve.h"

int serve_add_cache(json_t **options, const struct image *im, struct err *err)
{
    json_t *above = NULL;
    int r = im->write_cache ? json_from_keyvals(im->write_cache, NULL, &above, err) : 0;

    if (r < 0) {
        return err_prefix(err, "--write-cache: ");
    }
    if (above) {
        json_object_set_new(above, "driver", json_string("write-cache"));
        json_object_set_new(above, "file", *options);
        *options = above;
    }
    return 0;
}

int serve_set_power_report(struct serve *s, struct err *err)
{
    struct node *n;
    bool any = false;
    int r = 0;

    if (!s->power_report) {
        return 0;
    }
    list_for_each (n, &s->graph.nodes, link) {
        if (r == 0 && wcache_is(n)) {
            r = wcache_report_to(n, s->power_report, err);
            any = true;
        }
    }
    return any ? r : err_set(err, -EINVAL, "--power-report needs a write cache: no image has one");
}
