/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Persistent bitmaps: which parts of the disk were written since some moment. They live in memory
 * while they change: the file says "in use" then, so that a crash leaves bitmaps that nobody trusts
 * rather than wrong ones. What is stored goes to new places and is put in force by the header, with
 * the old directory and tables let go after; so on disk there is always a whole set of bitmaps.
 */
#include "drivers/qcow2/qcow2.h"

#include <inttypes.h>

#include "base/json.h"

#define ENTRY_BYTES    24
#define TABLE_MAX      (UINT32_C(1) << 27) /* entries; QEMU's bound, as the next two */
#define STORED_MAX     (512 * MiB)         /* of one bitmap */
#define NAME_MAX_BYTES 1023
#define LOADED_MAX     (512 * MiB) /* of all bitmaps together in memory: beyond that they are given up */
#define TABLE_RESERVED UINT64_C(0xff000000000001fe)

enum { IN_USE = 1, AUTO = 2, KNOWN_FLAGS = 7 };

/* ---- sizes ---- */

static uint64_t bits_of(const struct qcow2_bitmap *b, uint64_t disk_bytes)
{
    return div_up(disk_bytes, UINT64_C(1) << b->granularity_bits);
}

static uint64_t bytes_of(const struct qcow2_bitmap *b, uint64_t disk_bytes)
{
    return div_up(bits_of(b, disk_bytes), 8);
}

static uint32_t table_entries_of(const struct qcow2 *q, const struct qcow2_bitmap *b)
{
    return (uint32_t)MAX(div_up(bytes_of(b, q->h.size), q->cluster_bytes), UINT64_C(1));
}

static uint64_t directory_entry_bytes(const struct qcow2_bitmap *b)
{
    return round_up(ENTRY_BYTES + strlen(b->name), 8);
}

/* ---- the list in memory ---- */

static void free_bitmap(struct qcow2_bitmap *b)
{
    free(b->name);
    free(b->bits);
}

void qcow2_free_bitmaps(struct qcow2 *q)
{
    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        free_bitmap(&q->bitmap[i]);
    }
    free(TAKE_PTR(q->bitmap));
    q->bitmaps_read = 0;
}

static struct qcow2_bitmap *find(const struct qcow2 *q, const char *name)
{
    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        if (strcmp(q->bitmap[i].name, name) == 0) {
            return &q->bitmap[i];
        }
    }
    return NULL;
}

/* The strings become the list's. */
static int append(struct qcow2 *q, struct qcow2_bitmap b)
{
    struct qcow2_bitmap *more = realloc(q->bitmap, (q->bitmaps_read + 1) * sizeof(*more));

    if (!more) {
        free_bitmap(&b);
        return -ENOMEM;
    }
    q->bitmap = more;
    q->bitmap[q->bitmaps_read++] = b;
    return 0;
}

/* ---- reading the directory ---- */

static int check_entry(const struct qcow2 *q, const struct qcow2_bitmap_entry *e)
{
    struct qcow2_bitmap b = {.granularity_bits = e->granularity_bits};
    bool bad = layout_check(&qcow2_bitmap_layout, e, 3, q->cluster_bytes, NULL) < 0 ||
               e->table_entries == 0 || e->table_entries > TABLE_MAX || e->table_offset == 0 ||
               (e->flags & ~(uint32_t)KNOWN_FLAGS) || e->extra_bytes ||
               (uint64_t)e->table_entries << q->cluster_bits > STORED_MAX;

    /* one that is in use may have another size */
    return bad || (!(e->flags & IN_USE) && e->table_entries != table_entries_of(q, &b)) ? -EINVAL : 0;
}

static int take_entry(struct qcow2 *q, const uint8_t *p, uint64_t room, uint64_t *ret_bytes)
{
    struct qcow2_bitmap_entry e;

    if (room < ENTRY_BYTES) {
        return -EINVAL;
    }
    layout_parse(&qcow2_bitmap_layout, p, ENTRY_BYTES, 3, &e);
    int r = check_entry(q, &e);
    if (r < 0 || round_up(ENTRY_BYTES + (uint64_t)e.name_bytes, 8) > room) {
        return -EINVAL;
    }
    struct qcow2_bitmap b = {.name = strndup((const char *)p + ENTRY_BYTES, e.name_bytes),
                             .table_offset = e.table_offset,
                             .table_entries = e.table_entries,
                             .granularity_bits = e.granularity_bits,
                             .enabled = e.flags & AUTO,
                             .inconsistent = e.flags & IN_USE};
    if (!b.name || find(q, b.name)) {
        r = b.name ? -EINVAL : -ENOMEM;
        free_bitmap(&b);
        return r;
    }
    *ret_bytes = round_up(ENTRY_BYTES + (uint64_t)e.name_bytes, 8);
    return append(q, b);
}

static co_fn int read_directory(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = q->bitmaps.directory_bytes, at = 0, part = 0;
    uint8_t *directory = buf_get(bytes);
    int r = directory ? qcow2_read_meta(n, q->bitmaps.directory_offset, directory, bytes) : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < q->bitmaps.bitmaps; i++) {
        r = take_entry(q, directory + at, bytes - at, &part);
        at += part;
    }
    if (r == 0 && at != bytes) {
        r = -EINVAL;
    }
    buf_put(directory, bytes);
    return r;
}

int qcow2_load_bitmaps(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    if (!q->has_bitmaps || !(q->h.autoclear & QCOW2_BITMAPS)) {
        return 0; /* somebody who does not know them has written */
    }
    int r = read_directory(n);
    if (r < 0) {
        qcow2_free_bitmaps(q);
        return n->read_only ? 0 : err_set_errno(err, r, "Could not read the bitmap directory");
    }
    return 0;
}

/* ---- the bits ---- */

static void clear_tail(const struct qcow2_bitmap *b, uint64_t disk_bytes)
{
    uint64_t bits = bits_of(b, disk_bytes);

    if (bits % 8) {
        b->bits[bits / 8] &= (uint8_t)((1u << bits % 8) - 1);
    }
}

static co_fn int read_piece(struct node *n, uint64_t entry, uint8_t *bits, uint64_t bytes)
{
    const struct qcow2 *q = qcow2_of(n);
    uint64_t host = entry & QCOW2_OFFSET_MASK;

    if ((entry & TABLE_RESERVED) || (host && (entry & 1)) || qcow2_in_cluster(q, host)) {
        return -EINVAL;
    }
    if (host) {
        return qcow2_read_meta(n, host, bits, bytes);
    }
    memset(bits, entry & 1 ? 0xff : 0, bytes);
    return 0;
}

static co_fn int read_bits(struct node *n, const struct qcow2_bitmap *b, uint8_t *bits)
{
    const struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = bytes_of(b, q->h.size);
    AUTO_FREE uint64_t *table = NULL;
    int r = b->table_offset ? qcow2_read_table(n, b->table_offset, b->table_entries, &table) : 0;

    for (uint64_t i = 0; r == 0 && table && i < b->table_entries && i << q->cluster_bits < bytes; i++) {
        uint64_t at = i << q->cluster_bits;
        r = read_piece(n, table[i], bits + at, MIN(q->cluster_bytes, bytes - at));
    }
    return r;
}

/* Bring the bits into memory. */
static co_fn int load(struct node *n, struct qcow2_bitmap *b)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = bytes_of(b, q->h.size);

    if (b->bits) {
        return 0;
    }
    if (b->inconsistent) {
        return -EINVAL;
    }
    if (bytes > LOADED_MAX - q->bitmaps_loaded) {
        return -ENOMEM;
    }
    uint8_t *bits = calloc(1, bytes + 1);
    int r = bits ? read_bits(n, b, bits) : -ENOMEM;
    if (r < 0) {
        free(bits);
        return r;
    }
    b->bits = bits;
    b->bits_max = bits_of(b, q->h.size);
    q->bitmaps_loaded += bytes;
    clear_tail(b, q->h.size);
    return 0;
}

static void set_range(struct qcow2_bitmap *b, uint64_t offset, uint64_t bytes)
{
    uint64_t first = offset >> b->granularity_bits;
    uint64_t last = MIN((offset + bytes - 1) >> b->granularity_bits, b->bits_max - 1);

    for (uint64_t i = first; i <= last;) {
        if (i % 8 == 0 && last - i >= 8) {
            b->bits[i / 8] = 0xff;
            i += 8;
        } else {
            b->bits[i / 8] |= (uint8_t)(1u << i % 8);
            i++;
        }
    }
}

void qcow2_mark_written(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
    for (uint32_t i = 0; bytes && i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        if (b->in_use && b->enabled && b->bits_max) {
            set_range(b, offset, bytes);
        }
    }
}

/* ---- storing ---- */

static co_fn void free_table(struct node *n, uint64_t host, const uint64_t *table, uint32_t entries,
                             bool undo)
{
    struct qcow2 *q = qcow2_of(n);

    for (uint32_t i = 0; i < entries; i++) {
        uint64_t at = table[i] & QCOW2_OFFSET_MASK;
        if (at && undo) {
            qcow2_release(n, at, q->cluster_bytes);
        } else if (at && !qcow2_in_cluster(q, at)) {
            qcow2_free(n, at, q->cluster_bytes, QCOW2_FREE_OTHER, true);
        }
    }
    if (host && undo) {
        qcow2_release(n, host, (uint64_t)entries * 8);
    } else if (host) {
        qcow2_free(n, host, (uint64_t)entries * 8, QCOW2_FREE_OTHER, true);
    }
}

static co_fn int write_piece(struct node *n, const uint8_t *bits, uint64_t bytes, uint8_t *cluster,
                             uint64_t *ret_entry)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t host = 0;

    *ret_entry = 0;
    if (buffer_is_zero(bits, bytes)) {
        return 0;
    }
    memset(cluster, 0, q->cluster_bytes);
    memcpy(cluster, bits, bytes);
    int r = qcow2_alloc_clusters(n, 1, &host);
    if (r < 0) {
        return r;
    }
    *ret_entry = host;
    return qcow2_write_meta(n, 0, host, cluster, q->cluster_bytes);
}

static co_fn int write_pieces(struct node *n, const struct qcow2_bitmap *b, uint64_t *table, uint32_t entries)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = bytes_of(b, q->h.size);
    uint8_t *cluster = buf_get(q->cluster_bytes);
    int r = cluster ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < entries; i++) {
        uint64_t at = (uint64_t)i << q->cluster_bits;
        r = write_piece(n, b->bits + at, MIN(q->cluster_bytes, bytes - at), cluster, &table[i]);
    }
    buf_put(cluster, q->cluster_bytes);
    return r;
}

/* Bits and table at new places; b->new_offset names the table. */
static co_fn int store_bits(struct node *n, struct qcow2_bitmap *b)
{
    struct qcow2 *q = qcow2_of(n);
    uint32_t entries = table_entries_of(q, b);
    AUTO_FREE uint64_t *table = calloc(entries, 8);
    uint64_t host = 0;

    if ((uint64_t)entries << q->cluster_bits > STORED_MAX || entries > TABLE_MAX) {
        return -EFBIG;
    }
    int r = table ? write_pieces(n, b, table, entries) : -ENOMEM;
    r = r < 0 ? r : qcow2_alloc_clusters(n, div_up((uint64_t)entries * 8, q->cluster_bytes), &host);
    r = r < 0 ? r : qcow2_write_table(n, 0, host, table, entries);
    if (r < 0) {
        if (table) {
            free_table(n, host, table, entries, true);
        }
        return r;
    }
    b->new_offset = host;
    b->new_entries = entries;
    return 0;
}

static void render_entry(const struct qcow2_bitmap *b, bool resting, uint8_t *p)
{
    bool in_use = b->inconsistent || (b->in_use && !resting);
    struct qcow2_bitmap_entry e = {
        .table_offset = b->new_offset ? b->new_offset : b->table_offset,
        .table_entries = b->new_offset ? b->new_entries : b->table_entries,
        .flags = (in_use ? (uint32_t)IN_USE : 0) | (b->enabled ? (uint32_t)AUTO : 0),
        .type = 1,
        .granularity_bits = b->granularity_bits,
        .name_bytes = (uint16_t)strlen(b->name),
    };

    layout_write(&qcow2_bitmap_layout, &e, 3, p, ENTRY_BYTES);
    memcpy(p + ENTRY_BYTES, b->name, e.name_bytes);
}

/* At a new place; everything that it names is settled with it. */
static co_fn int store_directory(struct node *n, bool resting, struct qcow2_bitmaps_ext *ret)
{
    struct qcow2 *q = qcow2_of(n);
    uint64_t bytes = 0, at = 0, host = 0;

    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        bytes += directory_entry_bytes(&q->bitmap[i]);
    }
    *ret = (struct qcow2_bitmaps_ext){q->bitmaps_read, bytes, 0};
    if (bytes == 0) {
        return qcow2_settle(n);
    }
    AUTO_FREE uint8_t *directory = calloc(1, bytes);
    for (uint32_t i = 0; directory && i < q->bitmaps_read; i++) {
        render_entry(&q->bitmap[i], resting, directory + at);
        at += directory_entry_bytes(&q->bitmap[i]);
    }
    int r = directory ? qcow2_alloc_clusters(n, div_up(bytes, q->cluster_bytes), &host) : -ENOMEM;
    if (r < 0) {
        return r;
    }
    r = qcow2_write_meta(n, 0, host, directory, bytes);
    r = r < 0 ? r : qcow2_settle(n);
    if (r < 0) {
        qcow2_release(n, host, bytes);
        return r;
    }
    ret->directory_offset = host;
    return 0;
}

/* The header names another directory, or none. */
static co_fn int switch_directory(struct node *n, const struct qcow2_bitmaps_ext *to)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmaps_ext before = q->bitmaps;
    bool had = q->has_bitmaps;
    uint64_t autoclear = q->h.autoclear;

    q->bitmaps = *to;
    q->has_bitmaps = to->bitmaps > 0;
    q->h.autoclear = to->bitmaps ? autoclear | QCOW2_BITMAPS : autoclear & ~(uint64_t)QCOW2_BITMAPS;
    int r = qcow2_write_header(n);
    if (r < 0) {
        q->bitmaps = before;
        q->has_bitmaps = had;
        q->h.autoclear = autoclear;
        return r;
    }
    if (had && before.directory_offset && (autoclear & QCOW2_BITMAPS)) {
        qcow2_free(n, before.directory_offset, before.directory_bytes, QCOW2_FREE_OTHER, true);
    }
    return 0;
}

static co_fn void forget_table(struct node *n, uint64_t offset, uint32_t entries)
{
    AUTO_FREE uint64_t *table = NULL;

    if (offset && qcow2_read_table(n, offset, entries, &table) == 0) {
        free_table(n, offset, table, entries, false);
    }
}

/* What is in memory becomes what is in the file. @resting: nothing changes any more, or not before the
 * next change is announced: none is in use. Lock held. */
static co_fn int store(struct node *n, bool resting)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmaps_ext to = {0};
    int r = 0;

    q->written = true; /* metadata is to be settled */
    for (uint32_t i = 0; r == 0 && i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        bool newer = b->changed || (b->in_use && resting);
        if (b->table_offset == 0 || (newer && !b->inconsistent && b->bits)) {
            r = store_bits(n, b);
        }
    }
    r = r < 0 ? r : store_directory(n, resting, &to);
    r = r < 0 ? r : switch_directory(n, &to);
    for (uint32_t i = 0; i < q->bitmaps_read; i++) { /* on failure the new tables leak */
        struct qcow2_bitmap *b = &q->bitmap[i];
        if (r == 0 && b->new_offset) {
            forget_table(n, b->table_offset, b->table_entries);
            b->table_offset = b->new_offset;
            b->table_entries = b->new_entries;
            b->changed = false;
        }
        b->new_offset = 0;
        b->in_use = b->in_use && !(r == 0 && resting);
    }
    if (r == 0) {
        q->bitmaps_changed = false;
    }
    return r;
}

/* The file says that the bitmaps with @entering are in use from now on; or nothing has changed. */
static co_fn int store_entering(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    int r = store(n, false);

    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        b->in_use = b->in_use && (r == 0 || !b->entering);
        b->entering = false;
    }
    return r;
}

static void enter(struct qcow2_bitmap *b)
{
    b->entering = !b->in_use;
    b->in_use = true;
}

/* ---- guest data changes ---- */

int qcow2_bitmaps_begin(struct node *n)
{
    struct qcow2 *q = qcow2_of(n);
    bool any = q->bitmaps_changed;

    if ((q->h.autoclear & QCOW2_BITMAPS) && q->bitmaps_read == 0) {
        q->h.autoclear &= ~(uint64_t)QCOW2_BITMAPS; /* we cannot keep them true */
        return qcow2_write_header_field(n, "autoclear_features");
    }
    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        if (b->enabled && !b->inconsistent && !b->in_use) {
            int r = load(n, b);
            if (r < 0) { /* nobody is to trust it from now on */
                b->inconsistent = true;
            }
            enter(b);
            any = true;
        }
    }
    return any ? store_entering(n) : 0;
}

int qcow2_bitmaps_end(struct node *n)
{
    const struct qcow2 *q = qcow2_of(n);
    bool any = q->bitmaps_changed;

    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        any = any || (q->bitmap[i].in_use && !q->bitmap[i].inconsistent);
    }
    return any ? store(n, true) : 0;
}

/* ---- the size changes ---- */

int qcow2_bitmaps_may_resize(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    if (q->has_bitmaps && (q->h.autoclear & QCOW2_BITMAPS) && q->bitmaps_read == 0) {
        return err_set(err, -ENOTSUP, "Can't resize an image which has persistent bitmaps");
    }
    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        int r = b->inconsistent ? -EINVAL : load(n, b);
        if (r < 0) {
            return err_set(err, r, "Bitmap '%s' is inconsistent and cannot be used", b->name);
        }
        enter(b); /* its size in the file is about to be wrong */
    }
    return q->bitmaps_read ? store_entering(n) : 0;
}

int qcow2_bitmaps_resize(struct node *n, uint64_t before)
{
    struct qcow2 *q = qcow2_of(n);

    for (uint32_t i = 0; i < q->bitmaps_read; i++) {
        struct qcow2_bitmap *b = &q->bitmap[i];
        uint64_t old = bytes_of(b, before), bytes = bytes_of(b, q->h.size);
        uint8_t *more = realloc(b->bits, bytes + 1);
        if (!more) { /* it stays in use in the file */
            b->inconsistent = true;
            continue;
        }
        memset(more + MIN(old, bytes), 0, bytes + 1 - MIN(old, bytes));
        b->bits = more;
        b->bits_max = bits_of(b, q->h.size);
        q->bitmaps_loaded += bytes - old;
        clear_tail(b, q->h.size);
        b->changed = true;
    }
    return 0;
}

/* ---- what users do with them ---- */

static int find_or_tell(const struct node *n, const char *name, struct qcow2_bitmap **ret, struct err *err)
{
    *ret = find(n->state, name);
    return *ret ? 0 : err_set(err, -ENOENT, "Dirty bitmap '%s' not found", name);
}

static co_fn int find_usable(struct node *n, const char *name, struct qcow2_bitmap **ret, struct err *err)
{
    int r = find_or_tell(n, name, ret, err);

    if (r == 0 && (*ret)->inconsistent) {
        r = err_set(err, -EINVAL, "Bitmap '%s' is inconsistent and cannot be used", name);
    }
    if (r == 0) {
        r = load(n, *ret);
        r = r < 0 ? err_set_errno(err, r, "Could not read bitmap '%s'", name) : 0;
    }
    return r;
}

static bool bitmap_supported(const struct node *n)
{
    const struct qcow2 *q = n->state;

    return q->h.version >= 3;
}

static uint64_t default_granularity(const struct qcow2 *q)
{
    return MIN(MAX(q->cluster_bytes, 4 * KiB), 64 * KiB); /* as QEMU's */
}

static int check_new(const struct node *n, const char *name, uint64_t granularity, struct err *err)
{
    const struct qcow2 *q = n->state;

    if (name[0] == '\0') {
        return err_set(err, -EINVAL, "Bitmap name cannot be empty");
    }
    if (!is_pow2(granularity) || granularity < 512 || granularity > UINT64_C(1) << 31) {
        return err_set(err, -EINVAL, "Granularity must be power of 2 and at least 512");
    }
    if (strlen(name) > NAME_MAX_BYTES) {
        return err_set(err, -EINVAL, "Bitmap name too long");
    }
    if (find(q, name)) {
        return err_set(err, -EEXIST, "Bitmap already exists: %s", name);
    }
    struct qcow2_bitmap b = {.granularity_bits = (uint8_t)__builtin_ctzll(granularity)};
    const char *why = !bitmap_supported(n)       ? "Cannot store dirty bitmaps in qcow2 v2 files"
                      : q->bitmaps_read >= 65535 ? "Maximum number of persistent bitmaps is already reached"
                      : bytes_of(&b, q->h.size) > LOADED_MAX - q->bitmaps_loaded
                          ? "Too much space will be occupied by the bitmap"
                          : NULL;
    return why ? err_set(err, -EINVAL, "Can't make bitmap '%s' persistent in '%s': %s", name, node_name(n),
                         why)
               : 0;
}

static co_fn int add_locked(struct node *n, const char *name, uint64_t granularity, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    granularity = granularity ? granularity : default_granularity(q);
    int r = check_new(n, name, granularity, err);
    if (r < 0) {
        return r;
    }
    struct qcow2_bitmap b = {.name = strdup(name),
                             .granularity_bits = (uint8_t)__builtin_ctzll(granularity),
                             .enabled = true,
                             .changed = true};
    uint64_t bytes = bytes_of(&b, q->h.size);
    b.bits = calloc(1, bytes + 1);
    b.bits_max = bits_of(&b, q->h.size);
    if (!b.name || !b.bits) {
        free_bitmap(&b);
        return err_set(err, -ENOMEM, "no memory for a bitmap");
    }
    r = append(q, b);
    if (r == 0) {
        q->bitmaps_loaded += bytes;
        q->bitmaps_changed = true;
        q->began = false; /* the next write begins anew, with this one */
    }
    return r < 0 ? err_set(err, r, "no memory for a bitmap") : 0;
}

static co_fn int remove_locked(struct node *n, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmap *b;
    int r = find_or_tell(n, name, &b, err);

    if (r < 0) {
        return r;
    }
    struct qcow2_bitmap gone = *b;
    size_t behind = (q->bitmaps_read - (size_t)(b - q->bitmap) - 1) * sizeof(*b);
    memmove(b, b + 1, behind);
    q->bitmaps_read--;
    r = store(n, !q->began);
    if (r < 0) { /* it may be there still */
        memmove(b + 1, b, behind);
        *b = gone;
        q->bitmaps_read++;
        return err_set_errno(err, r, "Failed to remove the bitmap");
    }
    q->bitmaps_loaded -= gone.bits ? bytes_of(&gone, q->h.size) : 0;
    forget_table(n, gone.table_offset, gone.table_entries);
    free_bitmap(&gone);
    return 0;
}

static co_fn int clear_locked(struct node *n, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmap *b;
    int r = find_usable(n, name, &b, err);

    if (r == 0) {
        memset(b->bits, 0, bytes_of(b, q->h.size));
        b->changed = q->bitmaps_changed = true;
    }
    return r;
}

static co_fn int enable_locked(struct node *n, const char *name, bool enable, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmap *b;
    int r = find_usable(n, name, &b, err);

    if (r == 0) {
        b->enabled = enable;
        q->bitmaps_changed = true;
        q->began = false;
    }
    return r;
}

static co_fn int get_locked(struct node *n, const char *name, struct bitmap_view *ret, struct err *err)
{
    const struct qcow2 *q = n->state;
    struct qcow2_bitmap *b;
    int r = find_usable(n, name, &b, err);

    if (r == 0) {
        *ret = (struct bitmap_view){b->bits, bits_of(b, q->h.size), UINT64_C(1) << b->granularity_bits,
                                    q->h.size};
    }
    return r;
}

static co_fn int merge_locked(struct node *n, const char *name, const struct bitmap_view *src,
                              struct err *err)
{
    struct qcow2 *q = qcow2_of(n);
    struct qcow2_bitmap *b;
    int r = find_usable(n, name, &b, err);

    if (r < 0) {
        return r;
    }
    if (src->disk_bytes != q->h.size) {
        return err_set(err, -EINVAL,
                       "Bitmaps are of different sizes (destination size is %" PRIu64
                       ", source size is %" PRIu64 ") and can't be merged",
                       q->h.size, src->disk_bytes);
    }
    for (uint64_t i = 0; i < src->bits; i++) {
        if (src->data[i / 8] == 0) {
            i |= 7;
        } else if (src->data[i / 8] >> i % 8 & 1) {
            uint64_t at = i * src->granularity;
            set_range(b, at, MIN(src->granularity, q->h.size - at));
        }
    }
    b->changed = q->bitmaps_changed = true;
    return 0;
}

/* ---- the same for everybody: one after the other, and not while writes begin ---- */

static co_fn int bitmap_add(struct node *n, const char *name, uint64_t granularity, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = add_locked(n, name, granularity, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_remove(struct node *n, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = remove_locked(n, name, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_clear(struct node *n, const char *name, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = clear_locked(n, name, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_enable(struct node *n, const char *name, bool enable, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = enable_locked(n, name, enable, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_get(struct node *n, const char *name, struct bitmap_view *ret, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = get_locked(n, name, ret, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_merge(struct node *n, const char *name, const struct bitmap_view *src,
                              struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = merge_locked(n, name, src, err);
    co_mutex_unlock(&q->lock);
    return r;
}

static co_fn int bitmap_store(struct node *n, struct err *err)
{
    struct qcow2 *q = qcow2_of(n);

    co_mutex_lock(&q->lock);
    int r = q->bitmaps_changed ? store(n, !q->began) : 0;
    r = r < 0 ? r : qcow2_settle(n);
    co_mutex_unlock(&q->lock);
    return r < 0 ? err_set_errno(err, r, "Could not store the bitmaps") : 0;
}

/* ---- list ---- */

static co_fn json_t *bitmap_list(struct node *n)
{
    const struct qcow2 *q = n->state;
    json_t *list = json_array();

    for (uint32_t i = 0; list && i < q->bitmaps_read; i++) {
        const struct qcow2_bitmap *b = &q->bitmap[i];
        json_t *flags = json_array(), *name = json_string(b->name);
        if (b->inconsistent || b->in_use) {
            json_array_append_new(flags, json_string("in-use"));
        }
        if (b->enabled) {
            json_array_append_new(flags, json_string("auto"));
        }
        json_array_append_new(list, json_pack("{s:o, s:o, s:I}", "flags", flags, "name",
                                              name ? name : json_string("?"), "granularity",
                                              (json_int_t)1 << b->granularity_bits));
    }
    return list;
}

const struct bitmap_ops qcow2_bitmap_ops = {
    .supported = bitmap_supported,
    .list = bitmap_list,
    .add = bitmap_add,
    .remove = bitmap_remove,
    .clear = bitmap_clear,
    .enable = bitmap_enable,
    .get = bitmap_get,
    .merge = bitmap_merge,
    .store = bitmap_store,
};
