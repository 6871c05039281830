#include "body.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t pool[PIECE_BYTES + SPREAD_BYTES];
static const char seed[] = "predastore benchmarks"; /* as in payload.py */

void body_setup(void) {
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (hash == NULL || !EVP_DigestInit_ex(hash, EVP_shake128(), NULL) ||
        !EVP_DigestUpdate(hash, seed, sizeof seed - 1) ||
        !EVP_DigestFinalXOF(hash, pool, sizeof pool)) {
        fputs("loadgen: no SHAKE128\n", stderr);
        exit(2);
    }
    EVP_MD_CTX_free(hash);
}

uint64_t body_identity(uint64_t number, uint64_t size) {
    return size < PIECE_BYTES ? number : number % LARGE_BODIES;
}

const uint8_t *body_at(uint64_t number, uint64_t size, uint64_t at, size_t *count) {
    uint64_t piece = at / PIECE_BYTES, within = at % PIECE_BYTES;
    uint64_t left = size - at, together = PIECE_BYTES - within;
    uint64_t place = body_identity(number, size) * 65003 + piece * 1000003;
    *count = left < together ? left : together;
    return pool + place % SPREAD_BYTES + within;
}

int body_has(uint64_t number, uint64_t size, uint64_t at, const uint8_t *data, size_t count) {
    if (at + count > size) return 0;
    while (count > 0) {
        size_t together;
        const uint8_t *wanted = body_at(number, size, at, &together);
        if (together > count) together = count;
        if (memcmp(wanted, data, together) != 0) return 0;
        at += together;
        data += together;
        count -= together;
    }
    return 1;
}

void body_digest(uint64_t number, uint64_t size, char hex[65]) {
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    unsigned char digest[32];
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    for (uint64_t at = 0; at < size;) {
        size_t together;
        const uint8_t *data = body_at(number, size, at, &together);
        EVP_DigestUpdate(hash, data, together);
        at += together;
    }
    EVP_DigestFinal_ex(hash, digest, NULL);
    EVP_MD_CTX_free(hash);
    for (int i = 0; i < 32; i++) sprintf(hex + 2 * i, "%02x", digest[i]);
}
