/* One HTTP/1.1 answer, as it comes in: a head, and a body of a known length or in chunks. */
#ifndef ANSWER_H
#define ANSWER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { HEAD_BYTES_MAX = 16 << 10, KEPT_BYTES = 512 };

enum answer_state { HEAD, BODY, CHUNK_HEAD, CHUNK, CHUNK_END, TRAILER, DONE, BROKEN };

struct answer {
    enum answer_state state;
    int status, closes;      /* `closes`: the peer will end the connection */
    int64_t announced_bytes; /* Content-Length; -1: chunked */
    uint64_t body_bytes;     /* that came */
    const char *why;         /* of BROKEN */
    uint64_t left;           /* of the body, or of this chunk */
    int bodiless;            /* to a HEAD */
    size_t line_bytes, kept_bytes;
    char line[HEAD_BYTES_MAX + 1];
    char kept[KEPT_BYTES + 1]; /* how the body begins */
};

typedef void sink(void *context, const uint8_t *data, size_t count);

void answer_begin(struct answer *answer, int bodiless);

/* Takes what came; gives pieces of the body to `to`. How many bytes it took: fewer than `count`
 * only at the end, DONE or BROKEN. */
size_t answer_feed(struct answer *answer, const uint8_t *data, size_t count, sink *to,
                   void *context);

#endif
