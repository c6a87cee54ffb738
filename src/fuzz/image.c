/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An image in memory: each file is one reservation of addresses, of which only the pages in use are touched;
 * they are known by a bitmap, so that the next image begins with zeroes for what this one wrote, and files
 * get holes for the rest. Parts and checksums are plain arrays of fixed size: building allocates nothing.
 */
#include <sys/mman.h>

#include "fuzz/internal.h"

static void *reserve(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static bool init_file(struct fuzz_file *f, uint64_t room)
{
    uint64_t pages = div_up(room, FUZZ_PAGE);

    f->room = room;
    f->bytes = f->own = reserve(room);
    f->used = calloc(div_up(pages, 64), sizeof(*f->used));
    f->taken = calloc(div_up(room / SECTOR_SIZE, 64), sizeof(*f->taken));
    return f->bytes && f->used && f->taken;
}

struct fuzz_image *fuzz_image_new(uint64_t limit)
{
    struct fuzz_image *img = calloc(1, sizeof(*img));

    assert(limit <= FUZZ_LIMIT_MAX);
    if (!img) {
        return NULL;
    }
    bool good = true;
    for (unsigned i = 0; i < FUZZ_FILES_MAX; i++) {
        good = init_file(&img->file[i], round_up(limit, FUZZ_PAGE)) && good;
    }
    img->part = calloc(FUZZ_PARTS_MAX, sizeof(*img->part));
    img->mutation = calloc(FUZZ_MUTATIONS_MAX, sizeof(*img->mutation));
    if (!good || !img->part || !img->mutation) {
        fuzz_image_free(img);
        return NULL;
    }
    return img;
}

static void forget_foreign(struct fuzz_file *f)
{
    if (f->foreign_bytes) {
        munmap(f->bytes, f->foreign_bytes);
        f->bytes = f->own;
        f->foreign_bytes = 0;
    }
}

void fuzz_image_free(struct fuzz_image *img)
{
    if (!img) {
        return;
    }
    for (unsigned i = 0; i < FUZZ_FILES_MAX; i++) {
        struct fuzz_file *f = &img->file[i];
        forget_foreign(f);
        if (f->own) {
            munmap(f->own, f->room);
        }
        free(f->used);
        free(f->taken);
    }
    free(img->part);
    free(img->mutation);
    free(img->undo);
    free(img->old);
    fuzz_guest_finish(&img->guest);
    free(img);
}

/* ---- used pages ---- */

uint64_t fuzz_pages(const struct fuzz_file *f)
{
    return div_up(MIN(f->size, f->foreign_bytes ? f->foreign_bytes : f->used_end * FUZZ_PAGE), FUZZ_PAGE);
}

bool fuzz_page_used(const struct fuzz_file *f, uint64_t page)
{
    return f->foreign_bytes || (page < f->used_end && (f->used[page / 64] >> page % 64 & 1));
}

uint64_t fuzz_page_next(const struct fuzz_file *f, uint64_t page, uint64_t end)
{
    while (page < end && !fuzz_page_used(f, page)) {
        uint64_t bits = f->used[page / 64] >> page % 64;
        page = bits ? page + (unsigned)__builtin_ctzll(bits) : round_up(page + 1, 64);
    }
    return MIN(page, end);
}

static void use_pages(struct fuzz_file *f, uint64_t offset, uint64_t bytes)
{
    uint64_t end = div_up(offset + bytes, FUZZ_PAGE);

    for (uint64_t page = offset / FUZZ_PAGE; page < end; page++) {
        f->used[page / 64] |= UINT64_C(1) << page % 64;
    }
    f->used_end = MAX(f->used_end, end);
}

static void clear_file(struct fuzz_file *f)
{
    forget_foreign(f);
    for (uint64_t word = 0; word < div_up(f->used_end, 64); word++) {
        for (uint64_t bits = f->used[word]; bits; bits &= bits - 1) {
            uint64_t page = word * 64 + (unsigned)__builtin_ctzll(bits);
            memset(f->bytes + page * FUZZ_PAGE, 0, FUZZ_PAGE);
        }
        f->used[word] = 0;
    }
    f->used_end = 0;
    f->size = f->valid_size = 0;
    f->label[0] = f->name[0] = '\0';
    memset(f->taken, 0, f->taken_words * sizeof(*f->taken));
    f->taken_words = 0;
}

void fuzz_image_clear(struct fuzz_image *img)
{
    for (unsigned i = 0; i < img->files; i++) {
        clear_file(&img->file[i]);
    }
    img->files = 0;
    img->cur = img->depth = 0;
    img->parts = 1; /* part 0 is nothing */
    img->sums = img->knobs = img->mutations = 0;
    img->recipe = NULL;
    img->recipe_settings = 0;
    img->undos = img->old_bytes = 0;
    img->failed = 0;
    img->guest.count = 0;
    img->guest.lost = false;
}

uint8_t *fuzz_file_bytes(struct fuzz_file *f, uint64_t offset, uint64_t bytes)
{
    uint64_t room = f->foreign_bytes ? f->foreign_bytes : f->room;

    if (bytes > room || offset > room - bytes) {
        return NULL;
    }
    if (!f->foreign_bytes) {
        use_pages(f, offset, bytes);
    }
    f->size = MAX(f->size, offset + bytes);
    return f->bytes + offset;
}

/* ---- what build functions see ---- */

uint64_t fuzz_limit(const struct fuzz_image *img)
{
    return MIN(img->config->limit, img->file[img->cur].room);
}

uint8_t *fuzz_at(struct fuzz_image *img, uint64_t offset, uint64_t bytes)
{
    uint8_t *p = fuzz_file_bytes(&img->file[img->cur], offset, bytes);

    assert(p);
    return p;
}

const uint8_t *fuzz_look(const struct fuzz_image *img, uint64_t offset, uint64_t bytes)
{
    const struct fuzz_file *f = &img->file[img->cur];

    uint64_t have = MIN(f->size, f->foreign_bytes ? f->foreign_bytes : f->room);

    return bytes <= have && offset <= have - bytes ? f->bytes + offset : NULL;
}

void fuzz_set_size(struct fuzz_image *img, uint64_t size)
{
    assert(size <= img->file[img->cur].room);
    img->file[img->cur].size = size;
}

uint64_t fuzz_size(const struct fuzz_image *img)
{
    return img->file[img->cur].size;
}

/* ---- parts ---- */

/* Bits of one element, or of the part itself. */
static uint64_t stride_bits(const struct fuzz_part *p)
{
    return p->stride_bits ? p->stride_bits : p->layout ? p->layout->bytes * UINT64_C(8) : 8;
}

int fuzz_place(struct fuzz_image *img, const struct fuzz_part *given)
{
    if (img->parts >= FUZZ_PARTS_MAX) {
        return 0;
    }
    int id = img->parts++;
    struct fuzz_part *p = &img->part[id];
    *p = *given;
    p->file = img->cur;
    p->stride_bits = (uint32_t)stride_bits(p);
    p->count = p->element ? p->count : 1;
    p->used = p->used && p->used < p->count ? p->used : p->count;
    p->bytes = p->bytes ? p->bytes : div_up((uint64_t)p->count * p->stride_bits, 8);
    p->align = p->align ? p->align : SECTOR_SIZE;
    p->unit = p->unit ? p->unit : 1;
    p->weight = p->weight ? p->weight : 10;
    p->version = p->version ? p->version : UINT8_MAX;
    return id;
}

int fuzz_place_bytes(struct fuzz_image *img, const char *name, int index, uint64_t offset, uint64_t bytes)
{
    return fuzz_place(img, &(struct fuzz_part){.name = name,
                                               .many = index >= 0,
                                               .index = index >= 0 ? (uint32_t)index : 0,
                                               .offset = offset,
                                               .bytes = bytes,
                                               .weight = 3});
}

const struct fuzz_part *fuzz_part_of(const struct fuzz_image *img, int part)
{
    return &img->part[part];
}

uint64_t fuzz_offset_of(const struct fuzz_image *img, int part)
{
    return img->part[part].offset;
}

int fuzz_find(const struct fuzz_image *img, const char *name, int index)
{
    for (int i = 1; i < img->parts; i++) {
        const struct fuzz_part *p = &img->part[i];
        if (p->file == img->cur && strcmp(p->name, name) == 0 &&
            (p->many ? index >= 0 && p->index == (uint32_t)index : index < 0)) {
            return i;
        }
    }
    return 0;
}

uint64_t fuzz_element_at(const struct fuzz_part *p, uint32_t element)
{
    return p->offset + (uint64_t)element * p->stride_bits / 8;
}

/* Elements of less than a byte have one field, and no mask of their own. */
static struct field packed(const struct fuzz_part *p, uint32_t element, const struct field *f)
{
    struct field one = *f;
    unsigned bits = p->stride_bits, at = element * bits % 8;

    one.shift = (uint8_t)(p->msb_first ? 8 - bits - at : at);
    one.mask = (uint64_t)((1u << bits) - 1) << one.shift;
    return one;
}

bool fuzz_field_there(const struct fuzz_part *p, const struct field *f)
{
    return f->kind != FIELD_BYTES && f->width <= 8 && is_pow2(f->width) && f->since <= p->version &&
           (p->stride_bits < 8 || f->offset + f->width <= MAX(p->stride_bits / 8, p->element ? 0 : p->bytes));
}

uint64_t fuzz_value(const struct fuzz_image *img, int part, uint32_t element, const struct field *field)
{
    const struct fuzz_part *p = &img->part[part];
    const struct fuzz_file *f = &img->file[p->file];
    uint64_t at = fuzz_element_at(p, element);
    uint64_t room = f->foreign_bytes ? f->foreign_bytes : f->room;

    if (at + field->offset + field->width > room) {
        return 0;
    }
    if (p->stride_bits < 8) {
        struct field one = packed(p, element, field);
        return field_get(&one, f->bytes + at);
    }
    return field_get(field, f->bytes + at);
}

void fuzz_value_put(const struct fuzz_part *p, uint32_t element, const struct field *field, uint8_t *bytes,
                    uint64_t value)
{
    if (p->stride_bits < 8) {
        struct field one = packed(p, element, field);
        field_put(&one, bytes, value);
    } else {
        field_put(field, bytes, value);
    }
}

void fuzz_put(struct fuzz_image *img, int part, uint32_t element, const char *field, uint64_t value)
{
    const struct fuzz_part *p = &img->part[part];
    const struct field *f = part ? layout_field(p->layout, field) : NULL;

    assert(part == 0 || f);
    if (f) {
        uint8_t *bytes = fuzz_file_bytes(&img->file[p->file], fuzz_element_at(p, element),
                                         MAX(f->offset + f->width, p->stride_bits / 8));
        assert(bytes);
        fuzz_value_put(p, element, f, bytes, value);
    }
}

uint64_t fuzz_get(const struct fuzz_image *img, int part, uint32_t element, const char *field)
{
    const struct field *f = part ? layout_field(img->part[part].layout, field) : NULL;

    return f ? fuzz_value(img, part, element, f) : 0;
}

/* ---- checksums ---- */

void fuzz_sum(struct fuzz_image *img, uint64_t at, uint32_t width, uint64_t from, uint64_t bytes,
              fuzz_sum_fn *fn)
{
    struct fuzz_checksum s = {
        .file = img->cur, .at = at, .width = width, .from = from, .bytes = bytes, .fn = fn};

    assert(img->sums < FUZZ_SUMS_MAX);
    fuzz_at(img, at, width);
    img->sum[img->sums++] = s;
    fuzz_sum_make(img, &s);
}

void fuzz_sum_make(struct fuzz_image *img, const struct fuzz_checksum *s)
{
    struct fuzz_file *f = &img->file[s->file];

    memset(f->bytes + s->at, 0, s->width);
    s->fn(f->bytes + s->from, s->bytes, f->bytes + s->at);
}

/* ---- hash: of our own, so that it is the same everywhere and needs no library ---- */

#define HASH_LANES 4
#define HASH_PRIME UINT64_C(0x9e3779b185ebca87)

static uint64_t mix_word(uint64_t h, uint64_t v)
{
    return rng_rotl((h ^ v) * HASH_PRIME, 29);
}

static uint64_t mix_text(uint64_t h, const char *s)
{
    while (*s) {
        h = mix_word(h, (uint8_t)*s++);
    }
    return h;
}

/* A page, in lanes that a CPU can work on at once. */
static uint64_t mix_page(uint64_t h, const uint8_t *p)
{
    uint64_t lane[HASH_LANES] = {h, 1, 2, 3};

    for (size_t i = 0; i < FUZZ_PAGE; i += 8 * HASH_LANES) {
        for (size_t k = 0; k < HASH_LANES; k++) {
            lane[k] = mix_word(lane[k], get_le64(p + i + 8 * k));
        }
    }
    return mix_word(mix_word(mix_word(lane[0], lane[1]), lane[2]), lane[3]);
}

/* The file ends within the page. */
static uint64_t mix_last(uint64_t h, const uint8_t *p, uint64_t len)
{
    uint8_t page[FUZZ_PAGE] = {0};

    memcpy(page, p, len);
    return mix_page(h, page);
}

static uint64_t hash_file(uint64_t h, const struct fuzz_file *f)
{
    uint64_t pages = fuzz_pages(f);

    for (uint64_t page = 0; page < pages; page++) {
        page = fuzz_page_next(f, page, pages);
        if (page == pages) {
            break;
        }
        uint64_t len = MIN(FUZZ_PAGE, f->size - page * FUZZ_PAGE);
        const uint8_t *p = f->bytes + page * FUZZ_PAGE;
        if (!buffer_is_zero(p, len)) {
            h = mix_word(h, page);
            h = len < FUZZ_PAGE ? mix_last(h, p, len) : mix_page(h, p);
        }
    }
    return h;
}

uint64_t fuzz_image_hash(const struct fuzz_image *img)
{
    uint64_t h = 0;

    for (unsigned i = 0; i < img->files; i++) {
        h = mix_text(mix_word(h, img->file[i].size), img->file[i].name);
        h = hash_file(h, &img->file[i]);
    }
    return h;
}
