/* The pages of an lmdb file (data format 1, of LMDB 0.9), for lmdbfile.pyx. lmdb maps the file and
 * follows what stands in it; this reads it with pread(2), and believes nothing before it has looked.
 * Runs without the GIL.
 *
 *     page    pgno 8, pad 2, flags 2, then lower 2 and upper 2, or the count of an overflow 4 = 16
 *     meta    page | magic 4, version 4, address 8, map size 8, free tree 48, main tree 48,
 *             last page 8, transaction 8; pages 0 and 1; the one with the later transaction holds
 *     tree    pad 4 (of the free tree: bytes of a page), flags 2, depth 2, then 8 each: branch pages,
 *             leaf pages, overflow pages, entries, root
 *     node    at a u16 offset each, from byte 16 of the page on: low 2, high 2, flags 2, key bytes 2,
 *             key, data; of a branch the child's number is in low, high and flags, of a leaf the
 *             data's length in low and high; with BIG the data is the number of an overflow page
 *
 * Integers are as the machine has them. A free tree maps a transaction (8 bytes) to the pages that
 * it let go of: a count, and numbers that fall.
 */
#ifndef PREDASTORE_LMDBFILE_H
#define PREDASTORE_LMDBFILE_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"

enum {
    PLF_PAGE_HEADER = 16, PLF_TREE = 48, PLF_NODE_HEADER = 8, PLF_CRC = 4,
    PLF_AT_FREE = PLF_PAGE_HEADER + 24,
    PLF_AT_MAIN = PLF_AT_FREE + PLF_TREE,
    PLF_AT_LAST = PLF_AT_MAIN + PLF_TREE,
    PLF_AT_TRANSACTION = PLF_AT_LAST + 8,
    PLF_META = PLF_AT_TRANSACTION + 8,
    PLF_PAGE_MIN = 512, PLF_PAGE_MAX = 32768, PLF_DEPTH_MAX = 32, PLF_TREES_MAX = 65536,
};
_Static_assert(PLF_META == 152, "a meta page's content has 136 bytes");
enum { PLF_BRANCH = 1, PLF_LEAF = 2, PLF_OVERFLOW = 4, PLF_META_PAGE = 8, PLF_DIRTY = 0x10 };
enum { PLF_BIG = 1, PLF_SUBTREE = 2 };
enum { PLF_INTEGER_KEY = 8, PLF_ONE_FILE = 0x4000 }; /* of the free tree: MDB_NOSUBDIR is kept there */
enum { PLF_MAGIC = 0xBEEFC0DE, PLF_VERSION = 1 };
#define PLF_NONE UINT64_MAX /* the root of an empty tree */

enum { PLF_OF_FREE, PLF_OF_MAIN, PLF_OF_TABLE };

struct plf_tree {
    uint32_t pad;
    uint16_t flags, depth;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};
_Static_assert(sizeof(struct plf_tree) == PLF_TREE, "as it stands in the file");

struct plf_page {
    uint64_t number;
    uint16_t pad, flags;
    union {
        struct { uint16_t lower, upper; };
        uint32_t count;
    };
};
_Static_assert(sizeof(struct plf_page) == PLF_PAGE_HEADER, "as it stands in the file");

struct plf_node { uint16_t low, high, flags, key_bytes; };
_Static_assert(sizeof(struct plf_node) == PLF_NODE_HEADER, "as it stands in the file");

struct plf_key { size_t bytes; int is_set; uint8_t *data; };

struct plf {
    int fd, error; /* errno of a read that failed */
    int with_crcs;
    const char *wrong; /* NULL: nothing so far */
    uint64_t at;       /* the page that is wrong */
    uint64_t pages;    /* whole ones in the file */
    uint64_t last, free_beyond, entries;
    size_t page_bytes;
    uint8_t *seen;  /* a bit for each page */
    uint8_t *stack; /* a page for each level */
    uint8_t *big;   /* the content of an overflow */
    size_t big_bytes;
    struct plf_tree free_tree, main_tree, *tables;
    size_t table_count;
    /* Of the tree that is walked: what it is, what was counted, the last key, the least next one. */
    int kind;
    struct plf_tree counted;
    struct plf_key previous, least;
};

static int plf_is(struct plf *w, uint64_t page, const char *what) {
    if (w->wrong == NULL) w->wrong = what, w->at = page;
    return -1;
}

static int plf_read(struct plf *w, uint64_t page, uint8_t *to, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        off_t at = (off_t)(page * w->page_bytes + done);
        ssize_t some = pread(w->fd, to + done, bytes - done, at);
        if (some < 0 && errno == EINTR) continue;
        if (some < 0) return w->error = errno, plf_is(w, page, "can not be read");
        if (some == 0) return plf_is(w, page, "is beyond the end of the file, which was cut short");
        done += (size_t)some;
    }
    return 0;
}

/* Each page belongs to one thing. */
static int plf_take(struct plf *w, uint64_t first, uint64_t count) {
    if (first < 2 || first > w->last || count > w->last - first + 1)
        return plf_is(w, first, "is none of the file's");
    for (uint64_t page = first; page < first + count; page++) {
        if (page >= w->pages)
            return plf_is(w, page, "is beyond the end of the file, which was cut short");
        if (w->seen[page >> 3] & (1u << (page & 7))) return plf_is(w, page, "is used twice");
        w->seen[page >> 3] |= (uint8_t)(1u << (page & 7));
    }
    return 0;
}

static int plf_compare(const struct plf *w, const uint8_t *a, size_t a_bytes,
                       const struct plf_key *b) {
    if (w->kind == PLF_OF_FREE) {
        uint64_t left, right;
        memcpy(&left, a, 8), memcpy(&right, b->data, 8);
        return left < right ? -1 : left > right;
    }
    int order = memcmp(a, b->data, a_bytes < b->bytes ? a_bytes : b->bytes);
    return order ? order : a_bytes < b->bytes ? -1 : a_bytes > b->bytes;
}

static void plf_keep(struct plf_key *key, const uint8_t *data, size_t bytes) {
    memcpy(key->data, data, bytes);
    key->bytes = bytes, key->is_set = 1;
}

/* The pages that a transaction let go of: nobody else has them. */
static int plf_freed(struct plf *w, uint64_t page, const uint8_t *data, size_t bytes) {
    uint64_t count, number, before = UINT64_MAX;
    if (bytes < 8) return plf_is(w, page, "has a list of free pages without a length");
    memcpy(&count, data, 8);
    if (count > bytes / 8 - 1) return plf_is(w, page, "has a list of free pages that is too long");
    for (uint64_t n = 1; n <= count; n++, before = number) {
        memcpy(&number, data + 8 * n, 8);
        if (number >= before) return plf_is(w, page, "has free pages out of order");
        if (number >= w->pages && number <= w->last) w->free_beyond++; /* never written */
        else if (plf_take(w, number, 1)) return -1;
    }
    return 0;
}

/* An entry of a leaf, its value in memory. */
static int plf_entry(struct plf *w, uint64_t page, const uint8_t *key, size_t key_bytes,
                     const uint8_t *data, size_t bytes) {
    if (w->kind == PLF_OF_FREE) return plf_freed(w, page, data, bytes);
    w->entries++;
    if (!w->with_crcs) return 0;
    if (bytes < PLF_CRC) return plf_is(w, page, "has an entry without a CRC");
    const uint8_t *end = data + bytes - PLF_CRC;
    uint32_t stored = end[0] | end[1] << 8 | end[2] << 16 | (uint32_t)end[3] << 24;
    uint32_t crc = predastore_crc32c(0, key, key_bytes);
    if (predastore_crc32c(crc, data, bytes - PLF_CRC) != stored)
        return plf_is(w, page, "has an entry whose CRC does not match");
    return 0;
}

static int plf_subtree(struct plf *w, uint64_t page, const uint8_t *data, size_t bytes) {
    if (bytes != PLF_TREE) return plf_is(w, page, "has a table without a tree");
    if (w->table_count == PLF_TREES_MAX) return plf_is(w, page, "has too many tables");
    if ((w->table_count & (w->table_count + 1)) == 0) { /* room for 1, 3, 7, 15 ... */
        size_t room = 2 * w->table_count + 1;
        void *larger = realloc(w->tables, room * sizeof *w->tables);
        if (larger == NULL) return w->error = ENOMEM, plf_is(w, page, "can not be read");
        w->tables = larger;
    }
    memcpy(&w->tables[w->table_count++], data, PLF_TREE);
    return 0;
}

/* The value of a leaf's node, which may lie in pages of its own. */
static int plf_value(struct plf *w, uint64_t page, const struct plf_node *node, const uint8_t *key,
                     const uint8_t *data) {
    size_t bytes = (size_t)node->low | (size_t)node->high << 16;
    if (w->kind == PLF_OF_MAIN && node->flags == PLF_SUBTREE)
        return plf_subtree(w, page, data, bytes);
    if (node->flags == 0) return plf_entry(w, page, key, node->key_bytes, data, bytes);
    if (node->flags != PLF_BIG) return plf_is(w, page, "has an entry of an unknown kind");
    struct plf_page header;
    uint64_t first, needed = (PLF_PAGE_HEADER - 1 + (uint64_t)bytes) / w->page_bytes + 1;
    memcpy(&first, data, 8);
    if (plf_take(w, first, needed)) return -1;
    if (plf_read(w, first, (uint8_t *)&header, sizeof header)) return -1;
    if (header.number != first || (header.flags & ~PLF_DIRTY) != PLF_OVERFLOW ||
        header.count < needed)
        return plf_is(w, first, "is no beginning of a long value");
    if (header.count > needed && plf_take(w, first + needed, header.count - needed)) return -1;
    w->counted.overflow_pages += header.count;
    if (w->kind != PLF_OF_FREE && !w->with_crcs) return w->entries++, 0;
    size_t room = PLF_PAGE_HEADER + bytes;
    if (w->big_bytes < room) {
        uint8_t *larger = realloc(w->big, room);
        if (larger == NULL) return w->error = ENOMEM, plf_is(w, first, "can not be read");
        w->big = larger, w->big_bytes = room;
    }
    if (plf_read(w, first, w->big, room)) return -1;
    return plf_entry(w, first, key, node->key_bytes, w->big + PLF_PAGE_HEADER, bytes);
}

/* Where node `n` of a page lies, and that all of it does; its bytes, 0 if it is wrong. */
static size_t plf_node(const struct plf *w, const uint8_t *page, size_t n,
                       const struct plf_page *header, struct plf_node *node, const uint8_t **key) {
    uint16_t offset;
    memcpy(&offset, page + PLF_PAGE_HEADER + 2 * n, 2);
    if (offset < header->upper || offset & 1) return 0;
    if (offset + (size_t)PLF_NODE_HEADER > w->page_bytes) return 0;
    memcpy(node, page + offset, sizeof *node);
    *key = page + offset + PLF_NODE_HEADER;
    size_t bytes = PLF_NODE_HEADER + (size_t)node->key_bytes, value = 0;
    if (header->flags & PLF_LEAF) {
        value = (size_t)node->low | (size_t)node->high << 16;
        if (node->flags & PLF_BIG) value = 8;
        if (node->key_bytes == 0) return 0;
    }
    if (w->kind == PLF_OF_FREE && node->key_bytes != 8 && node->key_bytes != 0) return 0;
    bytes += value;
    return bytes > w->page_bytes - offset ? 0 : (bytes + 1) & ~(size_t)1;
}

static int plf_key_follows(struct plf *w, uint64_t page, const uint8_t *key, size_t bytes) {
    if (w->previous.is_set && plf_compare(w, key, bytes, &w->previous) <= 0)
        return plf_is(w, page, "has keys out of order");
    if (w->least.is_set && plf_compare(w, key, bytes, &w->least) < 0)
        return plf_is(w, page, "has a key that belongs before it");
    w->least.is_set = 0;
    plf_keep(&w->previous, key, bytes);
    return 0;
}

/* A page of the tree, and all below it; `left`: levels below this one. */
static int plf_visit(struct plf *w, uint64_t number, size_t left) {
    uint8_t *page = w->stack + left * w->page_bytes;
    struct plf_page header;
    if (plf_take(w, number, 1) || plf_read(w, number, page, w->page_bytes)) return -1;
    memcpy(&header, page, sizeof header);
    if (header.number != number) return plf_is(w, number, "has the number of another");
    if ((header.flags & ~PLF_DIRTY) != (left ? PLF_BRANCH : PLF_LEAF))
        return plf_is(w, number, "is of another kind");
    size_t lower = header.lower, upper = header.upper, used = 0;
    if (lower < PLF_PAGE_HEADER + 2 || lower & 1 || lower > upper || upper > w->page_bytes)
        return plf_is(w, number, "has no room for what it says that it has");
    for (size_t n = 0; n < (lower - PLF_PAGE_HEADER) / 2; n++) {
        struct plf_node node;
        const uint8_t *key;
        size_t bytes = plf_node(w, page, n, &header, &node, &key);
        if (bytes == 0) return plf_is(w, number, "has an entry that is not within it");
        used += bytes;
        if (left) {
            if (n > 0) { /* the first one's key is never looked at */
                if (w->kind == PLF_OF_FREE && node.key_bytes != 8)
                    return plf_is(w, number, "has an entry that is not within it");
                if (w->previous.is_set && plf_compare(w, key, node.key_bytes, &w->previous) <= 0)
                    return plf_is(w, number, "has keys out of order");
                plf_keep(&w->least, key, node.key_bytes);
            }
            uint64_t child = (uint64_t)node.low | (uint64_t)node.high << 16 |
                             (uint64_t)node.flags << 32;
            if (plf_visit(w, child, left - 1)) return -1;
        } else {
            if (plf_key_follows(w, number, key, node.key_bytes)) return -1;
            if (plf_value(w, number, &node, key, key + node.key_bytes)) return -1;
            w->counted.entries++;
        }
    }
    if (used != w->page_bytes - upper) return plf_is(w, number, "has entries that overlap, or gaps");
    left ? w->counted.branch_pages++ : w->counted.leaf_pages++;
    return 0;
}

static int plf_walk(struct plf *w, const struct plf_tree *tree, int kind) {
    w->kind = kind;
    w->previous.is_set = w->least.is_set = 0;
    memset(&w->counted, 0, sizeof w->counted);
    uint64_t root = tree->root == PLF_NONE ? 0 : tree->root;
    int flags = kind == PLF_OF_FREE ? PLF_INTEGER_KEY | PLF_ONE_FILE : 0;
    if (tree->flags & ~flags || (kind == PLF_OF_FREE ? !(tree->flags & PLF_INTEGER_KEY) : tree->pad))
        return plf_is(w, root, "is the root of a tree of an unknown kind");
    if (tree->depth > PLF_DEPTH_MAX || (tree->depth == 0) != (tree->root == PLF_NONE))
        return plf_is(w, root, "is the root of a tree without a depth");
    if (tree->depth && plf_visit(w, tree->root, tree->depth - 1u)) return -1;
    if (w->counted.entries != tree->entries || w->counted.branch_pages != tree->branch_pages ||
        w->counted.leaf_pages != tree->leaf_pages ||
        w->counted.overflow_pages != tree->overflow_pages)
        return plf_is(w, root, "is the root of a tree that has more or less than it says");
    return 0;
}

/* The newest of the two meta pages. */
static int plf_metas(struct plf *w, uint64_t file_bytes) {
    uint8_t raw[2][PLF_META];
    uint64_t transaction[2];
    w->page_bytes = PLF_PAGE_MIN; /* until it is known */
    for (int n = 0; n < 2; n++) {
        struct plf_page header;
        struct plf_tree tree;
        uint32_t magic, version;
        if (plf_read(w, (uint64_t)n, raw[n], PLF_META)) return -1;
        memcpy(&header, raw[n], sizeof header);
        memcpy(&magic, raw[n] + PLF_PAGE_HEADER, 4);
        memcpy(&version, raw[n] + PLF_PAGE_HEADER + 4, 4);
        memcpy(&tree, raw[n] + PLF_AT_FREE, sizeof tree);
        memcpy(&transaction[n], raw[n] + PLF_AT_TRANSACTION, 8);
        if (!(header.flags & PLF_META_PAGE) || header.number != (uint64_t)n || magic != PLF_MAGIC)
            return plf_is(w, (uint64_t)n, "is no first page of such a file");
        if (version != PLF_VERSION) return plf_is(w, (uint64_t)n, "is of another version");
        size_t size = tree.pad;
        if (size < PLF_PAGE_MIN || size > PLF_PAGE_MAX || size & (size - 1) ||
            (n && size != w->page_bytes))
            return plf_is(w, (uint64_t)n, "has pages of an impossible size");
        w->page_bytes = size;
    }
    const uint8_t *newest = raw[transaction[0] < transaction[1]];
    memcpy(&w->free_tree, newest + PLF_AT_FREE, PLF_TREE);
    memcpy(&w->main_tree, newest + PLF_AT_MAIN, PLF_TREE);
    memcpy(&w->last, newest + PLF_AT_LAST, 8);
    w->pages = file_bytes / w->page_bytes;
    if (w->pages < 2 || w->last < 1 || w->last > UINT64_MAX / w->page_bytes - 1)
        return plf_is(w, 0, "says that the file has an impossible length");
    return 0;
}

/* So that the walk, which goes to and fro, finds the pages in memory. */
static void plf_read_ahead(struct plf *w) {
    enum { CHUNK = 1 << 20 };
    uint8_t *chunk = malloc(CHUNK);
    uint64_t end = w->last < w->pages ? (w->last + 1) * w->page_bytes : w->pages * w->page_bytes;
    for (uint64_t at = 0; chunk != NULL && at < end; at += CHUNK)
        if (pread(w->fd, chunk, CHUNK, (off_t)at) <= 0) break;
    free(chunk);
}

/* Looks at every page that the newest commit of the file has. 0, or -1 with `wrong` and `at`, and
 * `error` where the system refused. */
static int plf_check(struct plf *w, int fd, uint64_t file_bytes, int with_crcs) {
    memset(w, 0, sizeof *w);
    w->fd = fd, w->with_crcs = with_crcs;
    if (plf_metas(w, file_bytes)) return -1;
    plf_read_ahead(w);
    w->seen = calloc(w->pages / 8 + 1, 1);
    w->stack = malloc(PLF_DEPTH_MAX * w->page_bytes);
    w->previous.data = malloc(w->page_bytes), w->least.data = malloc(w->page_bytes);
    if (!w->seen || !w->stack || !w->previous.data || !w->least.data)
        return w->error = ENOMEM, plf_is(w, 0, "can not be read");
    if (plf_walk(w, &w->main_tree, PLF_OF_MAIN)) return -1;
    for (size_t n = 0; n < w->table_count; n++)
        if (plf_walk(w, &w->tables[n], PLF_OF_TABLE)) return -1;
    if (plf_walk(w, &w->free_tree, PLF_OF_FREE)) return -1;
    if (w->last >= w->pages && w->free_beyond != w->last + 1 - w->pages)
        return plf_is(w, w->pages, "is beyond the end of the file, which was cut short");
    return 0;
}

static void plf_free(struct plf *w) {
    free(w->seen), free(w->stack), free(w->big), free(w->tables);
    free(w->previous.data), free(w->least.data);
}

#endif
