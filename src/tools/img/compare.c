/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * img compare: are two images the same for a guest? Workers take pieces from the front; each reads
 * both sides at once and compares, so that the copies of one piece run beside the comparison of
 * another. What both sides call zero is not read. The first difference by offset is the answer,
 * whichever worker finds one first.
 */
#include "base/json.h"
#include "tools/img/img.h"

#define PIECE_BYTES (512 * KiB)
#define CHECK_BYTES (256 * KiB) /* compared at once: stays in the L2 cache */
#define WORKERS     8
#define SKIP_BYTES  (1 * GiB) /* a range nobody reads, at once: shows progress */

/* Exit statuses, as qemu-img's. */
enum { SAME = 0, DIFFERENT = 1, OPEN_FAILED = 2, STATUS_FAILED = 3, READ_FAILED = 4 };

enum finding { NOTHING, CONTENT, STATUS_MISMATCH, STATUS_ERROR, READ_ERROR };

struct side {
    const char *name;
    struct node *node;
    uint64_t size;
    uint64_t known_end; /* extent is valid up to here */
    struct extent extent;
};

struct compare {
    struct img *img;
    struct side sides[2];
    uint64_t end;    /* of the longer one */
    uint64_t common; /* bytes that both have */
    struct img_progress progress;
    struct co_mutex pick;
    uint64_t next;
    /* What was found at the lowest offset so far. */
    enum finding finding;
    uint64_t found_at;
    int error;
    const char *error_name;
};

struct piece {
    uint64_t offset, bytes;
    bool read[2]; /* else this side is zero there */
};

static void found(struct compare *c, enum finding what, uint64_t at, int error, const char *name)
{
    if (c->finding == NOTHING || at < c->found_at) {
        c->finding = what;
        c->found_at = at;
        c->error = error;
        c->error_name = name;
    }
}

/* ---- taking a piece ---- */

static bool same_status(const struct extent *a, const struct extent *b)
{
    return a->zero == b->zero && a->data == b->data && a->allocated == b->allocated;
}

static co_fn int ask(const struct compare *c, const struct side *s, uint64_t offset, struct extent *e)
{
    return c->img->a.strict ? node_status(s->node, offset, s->size - offset, e)
                            : node_status_bulk(s->node, offset, s->size - offset, e);
}

/* Neighbours of the same kind are one: clusters that lie out of order come one by one, and a request for
 * each costs more than its data. */
static co_fn void join_neighbours(const struct compare *c, struct side *s, uint64_t end)
{
    struct extent next;

    while (s->known_end < end && ask(c, s, s->known_end, &next) == 0 && same_status(&s->extent, &next)) {
        s->known_end += next.bytes;
    }
}

/* Make what is known of a side cover @offset. Past its end a side is zero. */
static co_fn int learn(struct compare *c, struct side *s, uint64_t offset)
{
    if (offset < s->known_end) {
        return 0;
    }
    if (offset >= s->size) {
        s->known_end = c->end;
        s->extent = (struct extent){.bytes = c->end - offset, .zero = true};
        return 0;
    }
    int r = ask(c, s, offset, &s->extent);
    if (r < 0) {
        found(c, STATUS_ERROR, offset, r, s->name);
        return r;
    }
    assert(s->extent.bytes > 0);
    s->known_end = offset + s->extent.bytes;
    join_neighbours(c, s, MIN(round_down(offset, PIECE_BYTES) + PIECE_BYTES, s->size));
    return 0;
}

static co_fn bool take_locked(struct compare *c, struct piece *ret)
{
    struct side *a = &c->sides[0], *b = &c->sides[1];

    if (c->finding != NOTHING || c->next >= c->end || learn(c, a, c->next) < 0 || learn(c, b, c->next) < 0) {
        return false;
    }
    if (c->img->a.strict && !same_status(&a->extent, &b->extent)) {
        found(c, STATUS_MISMATCH, c->next, 0, NULL);
        return false;
    }
    bool skip = a->extent.zero && b->extent.zero;
    uint64_t unit = skip ? SKIP_BYTES : PIECE_BYTES;
    uint64_t end = MIN(MIN(a->known_end, b->known_end), round_down(c->next, unit) + unit);
    *ret =
        (struct piece){.offset = c->next, .bytes = end - c->next, .read = {!a->extent.zero, !b->extent.zero}};
    c->next = end;
    return true;
}

static co_fn bool take_piece(struct compare *c, struct piece *ret)
{
    co_mutex_lock(&c->pick);
    bool taken = take_locked(c, ret);
    co_mutex_unlock(&c->pick);
    return taken;
}

/* ---- comparing ---- */

struct reader {
    struct node *node;
    void *buf;
    uint64_t offset, bytes;
};

static co_fn int read_side(void *arg)
{
    struct reader *r = arg;
    struct iovec iov = {r->buf, r->bytes};
    struct req read = {
        .op = REQ_READ, .flags = REQ_BULK, .offset = r->offset, .bytes = r->bytes, .iov = &iov, .niov = 1};
    return node_io(r->node, &read);
}

/* Offset of the first sector with a difference, or @bytes. One side alone is compared with zeroes. */
static uint64_t first_difference(const struct piece *p, char *const bufs[2])
{
    for (uint64_t at = 0; at < p->bytes; at += CHECK_BYTES) {
        uint64_t len = MIN(p->bytes - at, CHECK_BYTES);
        bool both = p->read[0] && p->read[1];
        const char *one = p->read[0] ? bufs[0] : bufs[1];
        if (both ? memcmp(bufs[0] + at, bufs[1] + at, len) == 0 : buffer_is_zero(one + at, len)) {
            continue;
        }
        for (uint64_t s = at;; s += SECTOR_SIZE) {
            uint64_t n = MIN(p->bytes - s, (uint64_t)SECTOR_SIZE);
            if (both ? memcmp(bufs[0] + s, bufs[1] + s, n) != 0 : !buffer_is_zero(one + s, n)) {
                return s;
            }
        }
    }
    return p->bytes;
}

static co_fn void compare_piece(struct compare *c, const struct piece *p, char *const bufs[2])
{
    struct reader readers[2];
    struct co_task tasks[2];
    struct co_group group;

    if (!p->read[0] && !p->read[1]) {
        return;
    }
    co_group_init(&group);
    for (int i = 0; i < 2; i++) {
        readers[i] = (struct reader){c->sides[i].node, bufs[i], p->offset, p->bytes};
        tasks[i].result = 0;
        if (p->read[i]) {
            co_group_start(&group, &tasks[i], read_side, &readers[i]);
        }
    }
    co_group_wait(&group);
    for (int i = 0; i < 2; i++) {
        if (p->read[i] && tasks[i].result < 0) {
            found(c, READ_ERROR, p->offset, tasks[i].result, c->sides[i].name);
            return;
        }
    }
    uint64_t at = first_difference(p, bufs);
    if (at < p->bytes) {
        found(c, CONTENT, p->offset + at, 0, NULL);
    }
}

static co_fn int worker(void *arg)
{
    struct compare *c = arg;
    struct piece p;
    char *bufs[2] = {buf_get(PIECE_BYTES), buf_get(PIECE_BYTES)};

    if (bufs[0] == NULL || bufs[1] == NULL) {
        found(c, READ_ERROR, c->next, -ENOMEM, c->sides[0].name);
    }
    while (c->finding == NOTHING && take_piece(c, &p)) {
        compare_piece(c, &p, bufs);
        img_progress_add(&c->progress, p.bytes);
    }
    buf_put(bufs[0], PIECE_BYTES);
    buf_put(bufs[1], PIECE_BYTES);
    return 0;
}

static co_fn void compare_all(struct compare *c)
{
    struct co_task tasks[WORKERS];
    struct co_group group;

    co_mutex_init(&c->pick);
    co_group_init(&group);
    for (int i = 0; i < WORKERS; i++) {
        co_group_start(&group, &tasks[i], worker, c);
    }
    co_group_wait(&group);
}

/* ---- the answer ---- */

static void say(const struct compare *c, const char *fmt, ...) PRINTF(2, 3);

static void say(const struct compare *c, const char *fmt, ...)
{
    va_list ap;

    if (c->img->a.quiet || c->img->a.json) {
        return;
    }
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
}

static int answer_json(const struct compare *c, const char *reason)
{
    if (!c->img->a.quiet) {
        AUTO_JSON json_t *j =
            json_pack("{s:b, s:b}", "identical", reason == NULL, "same-size", c->end == c->common);
        if (reason) {
            json_object_set_new(j, "reason", json_string(reason));
        }
        if (reason && c->finding != NOTHING) {
            json_object_set_new(j, "offset", json_integer((json_int_t)c->found_at));
        }
        img_print_json(j);
    }
    return reason ? DIFFERENT : SAME;
}

static int answer(const struct compare *c)
{
    if (c->img->a.json && c->finding <= STATUS_MISMATCH) {
        return answer_json(c, c->finding == CONTENT           ? "content"
                              : c->finding == STATUS_MISMATCH ? "block-status"
                                                              : NULL);
    }
    switch (c->finding) {
    case NOTHING:
        say(c, "Images are identical.\n");
        return SAME;
    case CONTENT:
        say(c, "Content mismatch at offset %" PRIu64 "!\n", c->found_at);
        return DIFFERENT;
    case STATUS_MISMATCH:
        say(c, "Strict mode: Offset %" PRIu64 " block status mismatch!\n", c->found_at);
        return DIFFERENT;
    case STATUS_ERROR:
        img_error(c->img, "Sector allocation test failed for %s", c->error_name);
        return STATUS_FAILED;
    case READ_ERROR:
    default:
        img_error(c->img, "Error while reading offset %" PRIu64 " of %s: %s", c->found_at, c->error_name,
                  err_name(c->error));
        return READ_FAILED;
    }
}

static co_fn int open_sides(struct compare *c)
{
    struct img *img = c->img;
    const char *const formats[2] = {img->a.format, img->a.format2};
    unsigned flags;

    if (img_cache_flags(img, img->a.src_cache ? img->a.src_cache : "writeback", "source cache option",
                        &flags) < 0) {
        return -EINVAL;
    }
    for (int i = 0; i < 2; i++) {
        struct side *s = &c->sides[i];
        s->name = img->argv[i];
        int r = img_open(img, s->name, formats[i], img->a.image_opts, flags, &s->node);
        if (r < 0) {
            return r;
        }
        s->size = node_size(s->node);
    }
    c->end = MAX(c->sides[0].size, c->sides[1].size);
    c->common = MIN(c->sides[0].size, c->sides[1].size);
    return 0;
}

static co_fn int compare(struct compare *c)
{
    if (open_sides(c) < 0) {
        return OPEN_FAILED;
    }
    if (c->img->a.strict && c->end != c->common) {
        say(c, "Strict mode: Image size mismatch!\n");
        return c->img->a.json ? answer_json(c, "size") : DIFFERENT;
    }
    img_progress_start(&c->progress, c->img->a.progress && !c->img->a.quiet, c->end, 2);
    compare_all(c);
    img_progress_end(&c->progress, c->finding == NOTHING);
    bool failed = c->finding == STATUS_ERROR || c->finding == READ_ERROR;
    int status = failed ? answer(c) : 0;
    if (c->end != c->common && (c->finding == NOTHING || failed || c->found_at >= c->common)) {
        say(c, "Warning: Image size mismatch!\n");
    }
    return failed ? status : answer(c);
}

static co_fn int run(struct img *img)
{
    struct compare c = {.img = img};
    int status = compare(&c);

    node_unref(c.sides[0].node);
    node_unref(c.sides[1].node);
    return status;
}

static const struct img_arg args[] = {
    {'f', "a-format", IMG_ARG_STRING, IMG_FIELD(format), "FORMAT",
     "format of the first image (default: probed)"},
    {'F', "b-format", IMG_ARG_STRING, IMG_FIELD(format2), "FORMAT",
     "format of the second image (default: probed)"},
    {'s', "strict", IMG_ARG_FLAG, IMG_FIELD(strict), NULL, "sizes and allocation must be the same too"},
    IMG_ARG_OUTPUT_FORMAT,
    IMG_ARG_PROGRESS,
    IMG_ARG_QUIET,
    IMG_ARG_SRC_CACHE,
    IMG_ARG_SHARE,
    IMG_ARG_IMAGE_OPTS,
    IMG_ARG_COMMON,
    {0},
};

const struct img_command img_compare = {
    .name = "compare",
    .synopsis = "IMAGE1 IMAGE2",
    .summary = "Compare the contents of two images",
    .args = args,
    .error_status = OPEN_FAILED,
    .min_operands = 2,
    .max_operands = 2,
    .operands_wrong = "Expecting two image file names",
    .run = run,
};
