/* One-time keys for programs in C, by the command `claviger psk`. */

#ifndef CLAVIGER_PSK_H
#define CLAVIGER_PSK_H

#include <stddef.h>

struct claviger_psk {
    char identity[26];     /* what goes over the wire */
    unsigned char key[32]; /* the secret, for one connection */
    char client[2049];     /* the SPIFFE ID of whoever dials */
    char purpose[129];     /* what for */
};

/* Gets a key for one connection to the SPIFFE ID `peer`. Returns 0, or -1 if there is none. */
int claviger_psk_issue(struct claviger_psk *psk, const char *peer, const char *purpose);

/* Spends the key that a client named by the `length` bytes at `identity`. Returns 0, or -1 if there is none:
   then nobody may come in. The policy has to permit `redeem_psk_by_identity`. */
int claviger_psk_redeem(struct claviger_psk *psk, const void *identity, size_t length);

#endif
