/* The AEAD of one key: AES-GCM by Intel's Multi-Buffer Crypto for IPsec where setup.py found that
 * library and the CPU has AES instructions, else everything by libcrypto, as ChaCha20-Poly1305
 * always is. For a packet of 1,400 bytes libcrypto takes three times as long, of which half is the
 * way into it. A key belongs to one thread at a time; the library's manager is only read. */
#ifndef PREDASTORE_QUIC_AEAD_H
#define PREDASTORE_QUIC_AEAD_H

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "quic_wire.h"

#ifdef PREDASTORE_IPSEC_MB
#include <intel-ipsec-mb.h>
#include <pthread.h>
#endif

enum { PQ_AES_128_GCM, PQ_AES_256_GCM, PQ_CHACHA20_POLY1305 };

/* One of `evp` and `gcm` is there. */
struct pq_aead {
    EVP_CIPHER_CTX *evp;
    struct gcm_key_data *gcm;
    int wide; /* a key of 256 bits, for `gcm` */
};

/* What is to be encrypted: `n` bytes, and a tail that lies somewhere else, if any. */
struct pq_text {
    const uint8_t *at, *tail;
    size_t n, tail_n;
};

static int pq_gcm_off; /* keys that are set up from now on are libcrypto's, for tests */

#ifdef PREDASTORE_IPSEC_MB

static IMB_MGR *pq_gcm_manager; /* of the process, never given back; NULL if it is of no use */
static pthread_once_t pq_gcm_once = PTHREAD_ONCE_INIT;

/* Chooses what suits the CPU. Without AES instructions the library would look into tables, whose
 * cache lines tell of the key. It tests itself: 12 ms. */
static void pq_gcm_start(void) {
    IMB_ARCH kind = IMB_ARCH_NONE;
    IMB_MGR *manager = alloc_mb_mgr(0);
    if (manager == NULL) return;
    init_mb_mgr_auto(manager, &kind);
    if (imb_get_errno(manager) == 0 && kind >= IMB_ARCH_SSE &&
        (manager->features & IMB_FEATURE_AESNI) && (manager->features & IMB_FEATURE_PCLMULQDQ))
        pq_gcm_manager = manager;
    else
        free_mb_mgr(manager);
}

static int pq_gcm_usable(void) {
    if (pq_gcm_off) return 0;
    pthread_once(&pq_gcm_once, pq_gcm_start);
    return pq_gcm_manager != NULL;
}

/* NULL if there is no memory. */
static struct gcm_key_data *pq_gcm_new(const uint8_t *key, int wide) {
    struct gcm_key_data *made = aligned_alloc(64, (sizeof *made + 63) & ~(size_t)63);
    if (made == NULL) return NULL;
    memset(made, 0, sizeof *made);
    if (wide)
        IMB_AES256_GCM_PRE(pq_gcm_manager, key, made);
    else
        IMB_AES128_GCM_PRE(pq_gcm_manager, key, made);
    return made;
}

static void pq_gcm_free(struct gcm_key_data *key) {
    if (key == NULL) return;
    OPENSSL_cleanse(key, sizeof *key);
    free(key);
}

static void pq_gcm_seal(const struct pq_aead *a, const uint8_t nonce[12], const uint8_t *header,
                        size_t header_bytes, const struct pq_text *t, uint8_t *out) {
    struct gcm_context_data state;
    size_t n = t->n + t->tail_n;
    if (t->tail_n && a->wide) {
        IMB_AES256_GCM_INIT(pq_gcm_manager, a->gcm, &state, nonce, header, header_bytes);
        IMB_AES256_GCM_ENC_UPDATE(pq_gcm_manager, a->gcm, &state, out, t->at, t->n);
        IMB_AES256_GCM_ENC_UPDATE(pq_gcm_manager, a->gcm, &state, out + t->n, t->tail, t->tail_n);
        IMB_AES256_GCM_ENC_FINALIZE(pq_gcm_manager, a->gcm, &state, out + n, PQ_TAG);
    } else if (t->tail_n) {
        IMB_AES128_GCM_INIT(pq_gcm_manager, a->gcm, &state, nonce, header, header_bytes);
        IMB_AES128_GCM_ENC_UPDATE(pq_gcm_manager, a->gcm, &state, out, t->at, t->n);
        IMB_AES128_GCM_ENC_UPDATE(pq_gcm_manager, a->gcm, &state, out + t->n, t->tail, t->tail_n);
        IMB_AES128_GCM_ENC_FINALIZE(pq_gcm_manager, a->gcm, &state, out + n, PQ_TAG);
    } else if (a->wide) {
        IMB_AES256_GCM_ENC(pq_gcm_manager, a->gcm, &state, out, t->at, n, nonce, header,
                           header_bytes, out + n, PQ_TAG);
    } else {
        IMB_AES128_GCM_ENC(pq_gcm_manager, a->gcm, &state, out, t->at, n, nonce, header,
                           header_bytes, out + n, PQ_TAG);
    }
}

static int pq_gcm_open(const struct pq_aead *a, const uint8_t nonce[12], const uint8_t *header,
                       size_t header_bytes, const uint8_t *text, size_t n, uint8_t *out) {
    struct gcm_context_data state;
    uint8_t tag[PQ_TAG], came[PQ_TAG];
    memcpy(came, text + n, PQ_TAG);
    if (a->wide)
        IMB_AES256_GCM_DEC(pq_gcm_manager, a->gcm, &state, out, text, n, nonce, header,
                           header_bytes, tag, PQ_TAG);
    else
        IMB_AES128_GCM_DEC(pq_gcm_manager, a->gcm, &state, out, text, n, nonce, header,
                           header_bytes, tag, PQ_TAG);
    return CRYPTO_memcmp(tag, came, PQ_TAG) == 0;
}

#else

static int pq_gcm_usable(void) { return 0; }
static struct gcm_key_data *pq_gcm_new(const uint8_t *key, int wide) { return NULL; }
static void pq_gcm_free(struct gcm_key_data *key) {}
static void pq_gcm_seal(const struct pq_aead *a, const uint8_t nonce[12], const uint8_t *header,
                        size_t header_bytes, const struct pq_text *t, uint8_t *out) {}
static int pq_gcm_open(const struct pq_aead *a, const uint8_t nonce[12], const uint8_t *header,
                       size_t header_bytes, const uint8_t *text, size_t n, uint8_t *out) {
    return 0;
}

#endif

static void pq_aead_free(struct pq_aead *a) {
    EVP_CIPHER_CTX_free(a->evp);
    pq_gcm_free(a->gcm);
    memset(a, 0, sizeof *a);
}

/* `a` is all zeros, and stays so when this fails: 0. */
static int pq_aead_setup(struct pq_aead *a, int cipher, int sealing, const uint8_t *key,
                         const uint8_t iv[12]) {
    const EVP_CIPHER *kind = cipher == PQ_AES_128_GCM   ? EVP_aes_128_gcm()
                             : cipher == PQ_AES_256_GCM ? EVP_aes_256_gcm()
                                                        : EVP_chacha20_poly1305();
    if (cipher != PQ_CHACHA20_POLY1305 && pq_gcm_usable()) {
        a->wide = cipher == PQ_AES_256_GCM;
        a->gcm = pq_gcm_new(key, a->wide);
        return a->gcm != NULL;
    }
    a->evp = EVP_CIPHER_CTX_new();
    if (a->evp != NULL && EVP_CipherInit_ex(a->evp, kind, NULL, key, iv, sealing) == 1) return 1;
    pq_aead_free(a);
    return 0;
}

/* Encrypts a text to `out`, where it may lie already but for its tail; the tag comes after it. */
static int pq_aead_seal(struct pq_aead *a, const uint8_t nonce[12], const uint8_t *header,
                        size_t header_bytes, const struct pq_text *t, uint8_t *out) {
    int size = 0;
    uint8_t *end = out + t->n + t->tail_n;
    if (a->gcm != NULL) {
        pq_gcm_seal(a, nonce, header, header_bytes, t, out);
        return 1;
    }
    return EVP_EncryptInit_ex(a->evp, NULL, NULL, NULL, nonce) == 1 &&
           EVP_EncryptUpdate(a->evp, NULL, &size, header, (int)header_bytes) == 1 &&
           EVP_EncryptUpdate(a->evp, out, &size, t->at, (int)t->n) == 1 &&
           (!t->tail_n ||
            EVP_EncryptUpdate(a->evp, out + t->n, &size, t->tail, (int)t->tail_n) == 1) &&
           EVP_EncryptFinal_ex(a->evp, end, &size) == 1 &&
           EVP_CIPHER_CTX_ctrl(a->evp, EVP_CTRL_AEAD_GET_TAG, PQ_TAG, end) == 1;
}

/* Decrypts `n` bytes, which their tag follows, from `text` to `out`, which may be the same; 0 if
 * they are not authentic: then `out` means nothing. */
static int pq_aead_open(struct pq_aead *a, const uint8_t nonce[12], const uint8_t *header,
                        size_t header_bytes, const uint8_t *text, size_t n, uint8_t *out) {
    uint8_t tag[PQ_TAG], rest[PQ_TAG];
    int size = 0;
    if (a->gcm != NULL) return pq_gcm_open(a, nonce, header, header_bytes, text, n, out);
    memcpy(tag, text + n, PQ_TAG);
    return EVP_DecryptInit_ex(a->evp, NULL, NULL, NULL, nonce) == 1 &&
           EVP_DecryptUpdate(a->evp, NULL, &size, header, (int)header_bytes) == 1 &&
           EVP_DecryptUpdate(a->evp, out, &size, text, (int)n) == 1 &&
           EVP_CIPHER_CTX_ctrl(a->evp, EVP_CTRL_AEAD_SET_TAG, PQ_TAG, tag) == 1 &&
           EVP_DecryptFinal_ex(a->evp, rest, &size) == 1;
}

#endif
