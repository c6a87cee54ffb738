/* SPDX-License-Identifier: BSD-2-Clause */
/* The command scrub: every verifier of the image compares its two sides from end to end. */
#include <unistd.h>

#include "base/size.h"
#include "block/driver.h"
#include "drivers/verify/verify.h"
#include "tools/io/io.h"

static bool show_progress(void *opaque, uint64_t done_bytes, uint64_t total_bytes)
{
    const bool *show = opaque;

    if (*show) {
        fprintf(stderr, "    (%.2f/100%%)\r",
                100.0 * (double)done_bytes / (double)MAX(total_bytes, UINT64_C(1)));
    }
    return true;
}

static co_fn int scrub_one(struct node *n, bool progress, bool quiet)
{
    struct verify_scrub_result result = {0};
    char compared[SIZE_TEXT_MAX], skipped[SIZE_TEXT_MAX];

    fflush(stdout);
    int r = verify_scrub(n, show_progress, &progress, &result);
    if (progress) {
        fputc('\n', stderr);
    }
    if (r < 0 && result.mismatches == 0) {
        printf("scrub failed: %s\n", err_name(r));
    } else if (r < 0 || !quiet) {
        printf("scrub: %s compared, %s skipped as holes on both sides, %llu mismatches\n",
               size_text(result.compared_bytes, compared), size_text(result.skipped_bytes, skipped),
               (unsigned long long)result.mismatches);
    }
    return r;
}

IO_COMMAND(io_cmd_scrub)
{
    bool progress = false, quiet = false, found = false;
    struct node *n;
    int c, status = 0;

    while ((c = getopt(argc, argv, "pq")) != -1) {
        if (c == '?') {
            return io_usage(cmd);
        }
        progress |= c == 'p';
        quiet |= c == 'q';
    }
    if (optind != argc) {
        return io_usage(cmd);
    }
    list_for_each (n, &io->graph.nodes, link) {
        if (verify_is(n)) {
            int r = scrub_one(n, progress, quiet);
            status = status < 0 ? status : r;
            found = true;
        }
    }
    if (!found) {
        puts("scrub: there is no verifier (blkverify) in this image");
        return -EINVAL;
    }
    return status;
}
