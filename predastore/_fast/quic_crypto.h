/* Protection of 1-RTT packets (RFC 9001): keys from traffic secrets, header protection of a batch
 * in one call, key updates. Contexts are kept; only the nonce is set for each packet. */
#ifndef PREDASTORE_QUIC_CRYPTO_H
#define PREDASTORE_QUIC_CRYPTO_H

#include <openssl/hmac.h>

#include "quic_aead.h"

enum { PQ_SECRET_MAX = 48, PQ_MASK = 5 };

/* Of one direction and one key phase. */
struct pq_key {
    struct pq_aead aead;
    uint8_t secret[PQ_SECRET_MAX];
    uint8_t iv[12];
};

/* What both directions and all phases share. */
struct pq_suite {
    int cipher, version, sealing;
    size_t secret_bytes, key_bytes;
    EVP_CIPHER_CTX *header;
};

/* HKDF-Expand-Label (RFC 8446, 7.1) with no context, for outputs of at most one hash. */
static int pq_expand(const struct pq_suite *suite, const uint8_t *secret, const char *label,
                     uint8_t *out, size_t n) {
    uint8_t info[64], block[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    size_t length = strlen(label), at = 0;
    const EVP_MD *hash = suite->secret_bytes == 48 ? EVP_sha384() : EVP_sha256();
    info[at++] = (uint8_t)(n >> 8);
    info[at++] = (uint8_t)n;
    info[at++] = (uint8_t)(6 + length);
    memcpy(info + at, "tls13 ", 6);
    memcpy(info + at + 6, label, length);
    at += 6 + length;
    info[at++] = 0;
    info[at++] = 1; /* the first block */
    if (HMAC(hash, secret, (int)suite->secret_bytes, info, at, block, &size) == NULL) return 0;
    memcpy(out, block, n);
    return 1;
}

static void pq_key_free(struct pq_key *key) {
    pq_aead_free(&key->aead);
    OPENSSL_cleanse(key, sizeof *key);
}

/* The key of a secret that is in `key->secret`; there was none before. */
static int pq_key_setup(const struct pq_suite *suite, struct pq_key *key) {
    uint8_t bytes[32];
    int second = suite->version == 2;
    int good =
        pq_expand(suite, key->secret, second ? "quicv2 key" : "quic key", bytes,
                  suite->key_bytes) &&
        pq_expand(suite, key->secret, second ? "quicv2 iv" : "quic iv", key->iv, 12) &&
        pq_aead_setup(&key->aead, suite->cipher, suite->sealing, bytes, key->iv);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return good;
}

/* The key of the phase after `key` (RFC 9001, 6.1). */
static int pq_key_next(const struct pq_suite *suite, const struct pq_key *key,
                       struct pq_key *next) {
    return pq_expand(suite, key->secret, suite->version == 2 ? "quicv2 ku" : "quic ku",
                     next->secret, suite->secret_bytes) &&
           pq_key_setup(suite, next);
}

static int pq_suite_setup(struct pq_suite *suite, int cipher, int version, int sealing,
                          const uint8_t *secret) {
    uint8_t bytes[32];
    suite->cipher = cipher;
    suite->version = version;
    suite->sealing = sealing;
    suite->secret_bytes = cipher == PQ_AES_256_GCM ? 48 : 32;
    suite->key_bytes = cipher == PQ_AES_128_GCM ? 16 : 32;
    const EVP_CIPHER *kind = cipher == PQ_AES_128_GCM   ? EVP_aes_128_ecb()
                             : cipher == PQ_AES_256_GCM ? EVP_aes_256_ecb()
                                                        : EVP_chacha20();
    suite->header = EVP_CIPHER_CTX_new();
    return suite->header != NULL &&
           pq_expand(suite, secret, version == 2 ? "quicv2 hp" : "quic hp", bytes,
                     suite->key_bytes) &&
           EVP_EncryptInit_ex(suite->header, kind, NULL, bytes, NULL) == 1 &&
           EVP_CIPHER_CTX_set_padding(suite->header, 0) == 1;
}

/* The header masks of `n` packets, 16 bytes apart, in place of their samples. */
static int pq_masks(struct pq_suite *suite, uint8_t *samples, size_t n) {
    int size = 0;
    if (suite->cipher != PQ_CHACHA20_POLY1305)
        return EVP_EncryptUpdate(suite->header, samples, &size, samples,
                                 (int)(n * PQ_SAMPLE)) == 1;
    static const uint8_t zeros[PQ_MASK];
    for (size_t i = 0; i < n; i++) {
        uint8_t *sample = samples + i * PQ_SAMPLE, mask[PQ_MASK];
        if (EVP_EncryptInit_ex(suite->header, NULL, NULL, NULL, sample) != 1 ||
            EVP_EncryptUpdate(suite->header, mask, &size, zeros, PQ_MASK) != 1)
            return 0;
        memcpy(sample, mask, PQ_MASK);
    }
    return 1;
}

static void pq_nonce(const struct pq_key *key, uint64_t number, uint8_t nonce[12]) {
    memcpy(nonce, key->iv, 12);
    for (int i = 0; i < 8; i++) nonce[11 - i] ^= (uint8_t)(number >> (8 * i));
}

/* Encrypts a packet's text to the place behind its header, the tag after it. */
static int pq_seal(struct pq_key *key, uint64_t number, uint8_t *packet, size_t header_bytes,
                   const struct pq_text *text) {
    uint8_t nonce[12];
    pq_nonce(key, number, nonce);
    return pq_aead_seal(&key->aead, nonce, packet, header_bytes, text, packet + header_bytes);
}

/* Decrypts `n` bytes (with their tag) from `text` to `out`; 0 if they are not authentic. */
static int pq_open(struct pq_key *key, uint64_t number, const uint8_t *header, size_t header_bytes,
                   const uint8_t *text, size_t n, uint8_t *out) {
    uint8_t nonce[12];
    if (n < PQ_TAG) return 0;
    pq_nonce(key, number, nonce);
    return pq_aead_open(&key->aead, nonce, header, header_bytes, text, n - PQ_TAG, out);
}

#endif
