/* Bodies of benchmark objects: the same ones as benchmarks/payload.py makes, byte for byte.
 *
 * A body is a sequence of pieces of PIECE_BYTES (the last one shorter), each a view of one pool at
 * a place that depends on the object's number and on the piece. So a body of any size costs no
 * memory and no copy. Of large bodies there are LARGE_BODIES different ones, so that their
 * SHA-256 is known before the clock starts.
 */
#ifndef BODY_H
#define BODY_H

#include <stddef.h>
#include <stdint.h>

enum { PIECE_BYTES = 1 << 20, SPREAD_BYTES = 4 << 20, LARGE_BODIES = 16 };

void body_setup(void);

/* Which body object `number` has: two objects of a size with one identity are alike. */
uint64_t body_identity(uint64_t number, uint64_t size);

/* The bytes from `at` on, as many as lie together there; their count goes to `*count`. */
const uint8_t *body_at(uint64_t number, uint64_t size, uint64_t at, size_t *count);

/* Whether `data` is what the body has from `at` on. */
int body_has(uint64_t number, uint64_t size, uint64_t at, const uint8_t *data, size_t count);

/* SHA-256 of the body, in hexadecimal and with a NUL. */
void body_digest(uint64_t number, uint64_t size, char hex[65]);

#endif
