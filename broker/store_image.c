/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of a damaged database with its WAL in it, for broker/store_recover.c.
 *
 * A single flipped bit is found and turned back: in a page by trying all of them, in a frame of the
 * WAL by SQLite's checksum, which is linear, where it leaves no choice. A frame that cannot be
 * mended costs nothing when a later one has the same page; else the page is left damaged, as one of
 * the file would be. */
#include "broker/store_image.h"

#include "broker/store_priv.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FRAME = STORE_WAL_FRAME + STORE_PAGE_BYTES,
    STEPS = 1 + STORE_PAGE_BYTES / 8, /* of a frame's checksum: its page and size, then the page */
    MEND_PAGES = 128,                 /* tried at most, a fifth of a second each */
    CANDIDATES = 64,
    SUSPECTS = 256,
    VERSIONS_AT = 18, /* 2: WAL, 1: rollback journal */
    RESERVED_AT = 20,
    PAGES_AT = 28
};

typedef struct image {
    const store_image_files *files;
    store_image_report *report;
    int out;
    bool has_sums;
    uint32_t pages, tried;
    hr_buffer wal;
    uint32_t *frame_of; /* page -> frame of the newest commit that holds it, from 1; 0: none */
    uint32_t frame_pages;
    uint8_t *is_broken;                                         /* by frame */
    uint32_t suspect[SUSPECTS], suspect_at[SUSPECTS], suspects; /* pages that a frame may be of */
} image;

static uint32_t get_u32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* ---- files ---- */

/* The whole of a file. false: it is there and cannot be read. */
static bool load(const char *path, hr_buffer *out) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT;
    }
    ssize_t got = 1;
    while (got > 0) {
        got = read(fd, hr_buffer_room(out, 1 << 20), 1 << 20);
        out->size += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    return got == 0;
}

static void load_mark(const image *im, store_wal_mark *out) {
    hr_buffer bytes = {0};
    load(im->files->mark, &bytes);
    hr_wal_read_mark(hr_slice_of(bytes.bytes, bytes.size), out);
    hr_buffer_fini(&bytes);
}

static bool put_page(const image *im, uint32_t page, const uint8_t *bytes) {
    off_t at = (off_t)(page - 1) * STORE_PAGE_BYTES;
    return pwrite(im->out, bytes, STORE_PAGE_BYTES, at) == STORE_PAGE_BYTES;
}

/* ---- pages ---- */

static bool mend_page(uint32_t page, uint8_t *bytes) {
    for (uint32_t bit = 0; bit < STORE_PAGE_BYTES * 8; bit++) {
        uint8_t mask = (uint8_t)(1u << bit % 8);
        bytes[bit / 8] ^= mask;
        if (hr_page_is_whole(page, bytes, STORE_PAGE_BYTES)) {
            return true;
        }
        bytes[bit / 8] ^= mask;
    }
    return false;
}

/* A page of the file, mended if it can be. */
static void look_at_page(image *im, uint32_t page, uint8_t *bytes) {
    if (!im->has_sums || hr_page_is_whole(page, bytes, STORE_PAGE_BYTES)) {
        return;
    }
    if (page <= im->frame_pages && im->frame_of[page] != 0) {
        return; /* the WAL has a newer one */
    }
    if (im->tried < MEND_PAGES) {
        im->tried++;
        if (mend_page(page, bytes)) {
            im->report->mended_pages++;
            return;
        }
    }
    im->report->damaged_pages++;
    if (im->report->damaged_page == 0) {
        im->report->damaged_page = page;
    }
}

/* ---- the WAL ---- */

static void sum_frame(const store_wal_head *head, const uint8_t *frame, const uint32_t before[2],
                      uint32_t out[2]) {
    out[0] = before[0];
    out[1] = before[1];
    hr_wal_sum(head->big, frame, 8, out);
    hr_wal_sum(head->big, frame + STORE_WAL_FRAME, STORE_PAGE_BYTES, out);
}

/* Where byte i of what the checksum covers stands in the frame. */
static uint8_t *covered(uint8_t *frame, size_t i) {
    return i < 8 ? frame + i : frame + STORE_WAL_FRAME + (i - 8);
}

/* One bit that would make the frame right. */
typedef struct candidate {
    size_t byte; /* of what is covered */
    uint8_t mask;
} candidate;

/* A change d of the first word of a step changes the sum after it by (d, d), of the second by
 * (0, d); each step behind maps (a, b) to (a + b, a + 2b). High bits leave traces that are alike:
 * there may be many. Returns how many, of which at most CANDIDATES are listed, the last first. */
static size_t find_bits(const store_wal_head *head, uint8_t *frame, const uint32_t before[2],
                        const uint32_t said[2], candidate *out) {
    uint32_t sum[2];
    size_t count = 0;
    sum_frame(head, frame, before, sum);
    uint32_t off[2] = {said[0] - sum[0], said[1] - sum[1]};
    uint32_t trace[2][2] = {{1, 1}, {0, 1}};
    for (size_t step = STEPS; step-- > 0;) {
        for (size_t word = 0; word < 2; word++) {
            for (unsigned bit = 0; bit < 32; bit++) {
                unsigned at = bit / 8;
                size_t byte = step * 8 + word * 4 + (head->big ? 3 - at : at);
                uint8_t mask = (uint8_t)(1u << bit % 8);
                uint32_t change = 1u << bit;
                change = (*covered(frame, byte) & mask) == 0 ? change : 0u - change;
                if (trace[word][0] * change == off[0] && trace[word][1] * change == off[1]) {
                    out[count < CANDIDATES ? count : CANDIDATES - 1] = (candidate){byte, mask};
                    count++;
                }
            }
            uint32_t first = trace[word][0];
            trace[word][0] += trace[word][1];
            trace[word][1] = first + 2 * trace[word][1];
        }
    }
    return count;
}

static uint8_t *frame_at(const image *im, uint32_t number) {
    HR_ASSERT(im->wal.bytes != NULL);
    return im->wal.bytes + STORE_WAL_HEAD + (size_t)(number - 1) * FRAME;
}

static unsigned bits_between(const uint32_t a[2], const uint32_t b[2]) {
    return (unsigned)(__builtin_popcount(a[0] ^ b[0]) + __builtin_popcount(a[1] ^ b[1]));
}

typedef enum frame_fate { FRAME_GOOD, FRAME_MENDED, FRAME_BROKEN, FRAME_FOREIGN } frame_fate;

/* Does the frame behind go on from this sum? */
static bool is_followed(const store_wal_head *head, const uint8_t *next, const uint32_t sum[2]) {
    store_wal_frame frame;
    uint32_t after[2];
    if (next == NULL) {
        return false;
    }
    hr_wal_read_frame(next, &frame);
    sum_frame(head, next, sum, after);
    return after[0] == frame.sum[0] && after[1] == frame.sum[1];
}

/* The bit that makes the head right and lets the first frame go on from it. */
static bool mend_head(const image *im, store_wal_head *head) {
    uint8_t *bytes = im->wal.bytes;
    const uint8_t *first = im->wal.size >= STORE_WAL_HEAD + FRAME ? frame_at(im, 1) : NULL;
    for (uint32_t bit = 0; bit < STORE_WAL_HEAD * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        hr_wal_read_head(bytes, head);
        if (head->is_whole && is_followed(head, first, head->sum)) {
            return true;
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    hr_wal_read_head(bytes, head);
    return false;
}

/* The page that it says it is may be what is wrong. */
static void suspect(image *im, uint32_t number, const store_wal_frame *frame, const candidate *bits,
                    size_t count) {
    for (size_t i = 0; i < count && i < CANDIDATES; i++) {
        if (bits[i].byte < 4 && im->suspects < SUSPECTS) {
            uint32_t other = frame->page ^ (uint32_t)bits[i].mask << (24 - 8 * bits[i].byte);
            im->suspect[im->suspects] = other;
            im->suspect_at[im->suspects++] = number;
        }
    }
}

/* What a frame is behind the sum before; that becomes its own. */
static frame_fate look_at_frame(image *im, const store_wal_head *head, uint32_t number,
                                uint32_t all, uint32_t before[2]) {
    uint8_t *bytes = frame_at(im, number);
    const uint8_t *next = number < all ? frame_at(im, number + 1) : NULL;
    store_wal_frame frame;
    uint32_t sum[2];
    candidate bits[CANDIDATES];
    hr_wal_read_frame(bytes, &frame);
    sum_frame(head, bytes, before, sum);
    unsigned salt_bits = bits_between(frame.salt, head->salt);
    unsigned sum_bits = bits_between(sum, frame.sum);
    if (sum_bits == 0 || (sum_bits == 1 && salt_bits == 0 && is_followed(head, next, sum))) {
        memcpy(before, sum, sizeof sum); /* the bit was in a salt, or in the sum itself */
        return sum_bits == 0 && salt_bits == 0 ? FRAME_GOOD : FRAME_MENDED;
    }
    if (salt_bits != 0) {
        return FRAME_FOREIGN;
    }
    size_t count = find_bits(head, bytes, before, frame.sum, bits);
    memcpy(before, frame.sum, sizeof frame.sum);
    if (count == 1 && (sum_bits != 1 || next != NULL)) {
        *covered(bytes, bits[0].byte) ^= bits[0].mask;
        return FRAME_MENDED;
    }
    suspect(im, number, &frame, bits, count);
    return FRAME_BROKEN;
}

/* Notes in frame_of which frame holds the newest of each page. */
static void keep_commit(image *im, uint32_t first, uint32_t last) {
    for (uint32_t i = first; i <= last; i++) {
        store_wal_frame frame;
        hr_wal_read_frame(frame_at(im, i), &frame);
        if (frame.page == 0 || frame.page > STORE_IMAGE_PAGES) {
            continue; /* broken: nobody knows of which page it is */
        }
        if (frame.page > im->frame_pages) {
            size_t more = frame.page + frame.page / 2;
            im->frame_of = hr_realloc(im->frame_of, (more + 1) * sizeof *im->frame_of);
            memset(im->frame_of + im->frame_pages + 1, 0,
                   (more - im->frame_pages) * sizeof *im->frame_of);
            im->frame_pages = (uint32_t)more;
        }
        im->frame_of[frame.page] = i;
        if (im->is_broken[i] == 0) { /* a broken end does not say how many pages there are */
            im->pages = frame.page > im->pages ? frame.page : im->pages;
            im->pages = frame.pages != 0 ? frame.pages : im->pages;
        }
    }
}

static uint32_t last_commit(const image *im, const store_wal_head *head, uint32_t all) {
    uint32_t last = 0;
    for (uint32_t i = 1; i <= all; i++) {
        store_wal_frame frame;
        hr_wal_read_frame(frame_at(im, i), &frame);
        if (bits_between(frame.salt, head->salt) > 1) {
            break;
        }
        last = frame.pages != 0 ? i : last;
    }
    return last;
}

static uint32_t count_broken(const image *im, uint32_t first, uint32_t last) {
    uint32_t count = 0;
    for (uint32_t i = first; i <= last; i++) {
        count += im->is_broken[i];
    }
    return count;
}

/* Finds the commits that can be taken. */
static void read_wal(image *im) {
    store_image_report *report = im->report;
    store_wal_head head;
    uint32_t commit = 0, all = (uint32_t)((im->wal.size - STORE_WAL_HEAD) / FRAME);
    hr_wal_read_head(im->wal.bytes, &head);
    if (!head.is_whole) {
        report->mended_frames += mend_head(im, &head) ? 1 : 0;
        if (!head.is_whole && all > 0) { /* its frames still say whose they are */
            store_wal_frame first;
            hr_wal_read_frame(im->wal.bytes + STORE_WAL_HEAD, &first);
            memcpy(head.salt, first.salt, sizeof first.salt);
            report->broken_at = 1;
        }
    }
    store_wal_mark mark;
    load_mark(im, &mark);
    bool is_marked =
        mark.frames > 0 && mark.salt[0] == head.salt[0] && mark.salt[1] == head.salt[1];
    if (is_marked && mark.is_moved) { /* the file has all of it, and newer than a part of it */
        report->is_moved = true;
        return;
    }
    uint32_t before[2] = {head.sum[0], head.sum[1]}, broken = 0;
    im->is_broken = hr_alloc((size_t)all + 1);
    for (uint32_t i = 1; i <= all; i++) {
        store_wal_frame frame;
        frame_fate fate = look_at_frame(im, &head, i, all, before);
        hr_wal_read_frame(frame_at(im, i), &frame);
        if (fate == FRAME_FOREIGN) {
            break;
        }
        bool is_sane = frame.page != 0 && frame.page <= STORE_IMAGE_PAGES;
        bool is_marks_end = is_marked && i == mark.frames; /* of a commit, broken or not */
        im->is_broken[i] = fate == FRAME_BROKEN || !is_sane;
        if (im->is_broken[i]) {
            broken = broken == 0 ? i : broken;
            if (is_marked && i > mark.frames) {
                break; /* torn, and nobody was told of it */
            }
        }
        report->mended_frames += fate == FRAME_MENDED ? 1 : 0;
        if (!is_marks_end && (im->is_broken[i] || frame.pages == 0)) {
            continue;
        }
        if (!is_marked && broken > commit && i == last_commit(im, &head, all)) {
            break; /* the last one, and torn */
        }
        report->broken_frames += count_broken(im, commit + 1, i);
        keep_commit(im, commit + 1, i);
        commit = i;
    }
    report->broken_at = broken == 0 ? 0 : (uint64_t)STORE_WAL_HEAD + (uint64_t)(broken - 1) * FRAME;
    report->missing_frames = is_marked && mark.frames > commit ? mark.frames - commit : 0;
}

/* ---- the image ---- */

static bool copy_pages(image *im, int in, uint32_t file_pages) {
    uint8_t *bytes = hr_alloc(STORE_PAGE_BYTES);
    bool is_fine = true;
    for (uint32_t page = 1; is_fine && page <= im->pages; page++) {
        uint32_t frame = page <= im->frame_pages ? im->frame_of[page] : 0;
        memset(bytes, 0, STORE_PAGE_BYTES);
        if (frame != 0) {
            memcpy(bytes, frame_at(im, frame) + STORE_WAL_FRAME, STORE_PAGE_BYTES);
        } else if (page <= file_pages) {
            ssize_t got = pread(in, bytes, STORE_PAGE_BYTES, (off_t)(page - 1) * STORE_PAGE_BYTES);
            is_fine = got >= 0;
            look_at_page(im, page, bytes);
        } else {
            im->report->missing_pages++;
        }
        bool is_whole = frame != 0
                            ? im->is_broken[frame] == 0
                            : !im->has_sums || hr_page_is_whole(page, bytes, STORE_PAGE_BYTES);
        for (uint32_t i = 0; i < im->suspects; i++) { /* a newer one may be lost */
            is_whole = is_whole && (im->suspect[i] != page || im->suspect_at[i] < frame);
        }
        if (!is_whole && frame != 0) {
            im->report->damaged_pages++;
            im->report->damaged_page =
                im->report->damaged_page == 0 ? page : im->report->damaged_page;
        }
        if (page == 1) { /* no WAL beside it, and as many pages as there are */
            bytes[VERSIONS_AT] = bytes[VERSIONS_AT + 1] = 1;
        }
        if (im->has_sums) {
            hr_page_sign(page, bytes, STORE_PAGE_BYTES);
            bytes[STORE_PAGE_BYTES - 1] ^= is_whole ? 0 : 0xff; /* it shall not be trusted */
        }
        is_fine = is_fine && put_page(im, page, bytes);
    }
    hr_free(bytes);
    return is_fine;
}

/* The file's first page as the WAL has it, if it is whole there. */
static const uint8_t *newest_first(image *im) {
    uint32_t frame = im->frame_pages > 0 ? im->frame_of[1] : 0;
    return frame == 0 || im->is_broken[frame] != 0 ? NULL : frame_at(im, frame) + STORE_WAL_FRAME;
}

static hr_code make(image *im, hr_error *err) {
    const store_image_files *files = im->files;
    uint8_t *first = hr_alloc(STORE_PAGE_BYTES);
    struct stat found = {0};
    int in = open(files->database, O_RDONLY | O_CLOEXEC);
    if (in >= 0 && fstat(in, &found) == 0 &&
        pread(in, first, STORE_PAGE_BYTES, 0) >= PAGES_AT + 4) {
        im->has_sums = hr_page_has_sums(first, STORE_PAGE_BYTES);
        im->pages = get_u32(first + PAGES_AT);
    }
    if (!load(files->wal, &im->wal)) {
        im->wal.size = 0;
        im->report->is_wal_unread = true;
    }
    if (im->wal.size >= STORE_WAL_HEAD) {
        read_wal(im);
    } else {
        store_wal_mark mark;
        load_mark(im, &mark);
        im->report->missing_frames = mark.is_moved ? 0 : mark.frames;
    }
    uint32_t file_pages = (uint32_t)((found.st_size + STORE_PAGE_BYTES - 1) / STORE_PAGE_BYTES);
    const uint8_t *newest = newest_first(im);
    if (newest != NULL) { /* SQLite reads nothing of a file that is shorter than this says */
        uint32_t pages = get_u32(newest + PAGES_AT);
        im->pages = pages > im->pages ? pages : im->pages;
        im->has_sums = newest[RESERVED_AT] == STORE_PAGE_SUM;
    }
    bool is_sane = im->pages > 0 && im->pages <= STORE_IMAGE_PAGES;
    im->pages = is_sane && im->pages <= file_pages + im->wal.size / FRAME + STORE_IMAGE_SLACK
                    ? im->pages
                    : file_pages;
    hr_code code = HR_OK;
    if (im->pages == 0) {
        code = hr_fail(err, HR_E_STORE_CORRUPT, 0,
                       "'%s' is empty or missing, and its WAL has no "
                       "commit that could be read: nothing can be saved",
                       files->database);
    } else if (!copy_pages(im, in, file_pages)) {
        code = hr_fail(err, HR_E_STORE_IO, errno, "copy '%s' to '%s': %s", files->database,
                       files->out, strerror(errno));
    }
    if (in >= 0) {
        close(in);
    }
    hr_free(first);
    return code;
}

hr_code hr_store_image(const store_image_files *files, store_image_report *out_report,
                       hr_error *err) {
    image im = {.files = files, .report = out_report};
    *out_report = (store_image_report){0};
    im.out = open(files->out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (im.out < 0) {
        return hr_fail(err, HR_E_STORE_IO, errno, "make '%s': %s", files->out, strerror(errno));
    }
    hr_code code = make(&im, err);
    close(im.out);
    hr_buffer_fini(&im.wal);
    hr_free(im.frame_of);
    hr_free(im.is_broken);
    return code;
}
