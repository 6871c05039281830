/* AWS Signature Version 4 in the headers of a request, at a few SHA-256 blocks for each.
 *
 * The signing key is derived once a day, its two HMAC states are kept, and the date is written
 * once a second: what is left are two hashes of some hundred bytes and the two ends of an HMAC.
 */
#ifndef SIGN_H
#define SIGN_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define OPENSSL_SUPPRESS_DEPRECATED /* EVP costs more than these hashes themselves */
#include <openssl/sha.h>

struct signer {
    const char *key_id, *secret, *region, *host;
    time_t second;
    char date[17], day[9];
    SHA256_CTX inner, outer; /* HMAC with the day's signing key, before its first byte */
};

/* `path` and `query` as they are sent: percent-encoded, the query sorted. Not given: NULL, and a
 * negative `content_bytes`. `payload`: the body's SHA-256 in hexadecimal, or UNSIGNED-PAYLOAD. */
struct request {
    const char *method, *path, *query, *payload, *copy_source, *range;
    int64_t content_bytes;
};

void signer_setup(struct signer *signer);

/* Writes the whole head, up to the empty line. Its length; 0: it does not fit into `room`. */
size_t sign_head(struct signer *signer, const struct request *request, char *out, size_t room);

#endif
