/* Memory of a connection's streams: chunks of bytes, and the pool that the large ones come from. */
#ifndef PREDASTORE_QUIC_MEMORY_H
#define PREDASTORE_QUIC_MEMORY_H

#include "quic_conn.h"

enum {
    PQ_CHUNK = 1 << 15,   /* bytes of a chunk that is kept; what is written is cut up so */
    PQ_POOL_CHUNKS = 128  /* kept by a thread. The allocator would give their pages back to the
                             kernel after each burst, and take them, cleared, for the next */
};

static __thread struct pq_chunk *pq_pool;
static __thread uint32_t pq_pool_count;

static struct pq_chunk *pq_chunk_new(struct pq_conn *c, uint64_t offset, size_t length) {
    struct pq_chunk *chunk = pq_pool;
    size_t room = length > PQ_CHUNK / 2 && length <= PQ_CHUNK ? PQ_CHUNK : length;
    if (room == PQ_CHUNK && chunk != NULL) {
        pq_pool = chunk->next;
        pq_pool_count--;
    } else if ((chunk = malloc(sizeof *chunk + room)) == NULL) {
        return NULL;
    }
    chunk->next = NULL;
    chunk->offset = offset;
    chunk->length = length;
    chunk->pooled = room == PQ_CHUNK;
    chunk->at = chunk->data;
    chunk->owner = NULL;
    c->memory += sizeof *chunk + length;
    return chunk;
}

/* Bytes that somebody else has, and keeps until the owner of this is released. */
static struct pq_chunk *pq_chunk_lent(struct pq_conn *c, uint64_t offset, const uint8_t *data,
                                      size_t length, void *owner) {
    struct pq_chunk *chunk = malloc(sizeof *chunk);
    if (chunk == NULL) return NULL;
    *chunk = (struct pq_chunk){NULL, offset, length, data, owner, 0};
    c->memory += sizeof *chunk + length;
    return chunk;
}

static void pq_chunk_free(struct pq_conn *c, struct pq_chunk *chunk) {
    c->memory -= sizeof *chunk + chunk->length;
    if (chunk->owner != NULL) {
        chunk->next = c->released;
        c->released = chunk;
        return;
    }
    if (!chunk->pooled || pq_pool_count == PQ_POOL_CHUNKS) {
        free(chunk);
        return;
    }
    chunk->next = pq_pool;
    pq_pool = chunk;
    pq_pool_count++;
}

static void pq_chunks_free(struct pq_conn *c, struct pq_chunk **first) {
    while (*first != NULL) {
        struct pq_chunk *chunk = *first;
        *first = chunk->next;
        pq_chunk_free(c, chunk);
    }
}

/* The owner of a lent chunk that is of no use any more, one after the other; NULL: no more. */
static void *pq_released(struct pq_conn *c) {
    struct pq_chunk *chunk = c->released;
    if (chunk == NULL) return NULL;
    void *owner = chunk->owner;
    c->released = chunk->next;
    free(chunk);
    return owner;
}

#endif
