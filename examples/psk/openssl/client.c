/* client PEER PURPOSE HOST:PORT
 *
 * How does a program that uses OpenSSL open a connection that a one-time key authenticates? Sends the first
 * line of its standard input, and prints the first answer.
 *
 *     cc -o client client.c ../claviger_psk.c -lssl -lcrypto
 */

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../claviger_psk.h"

static struct claviger_psk psk;

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    ERR_print_errors_fp(stderr);
    exit(EXIT_FAILURE);
}

/* The key as OpenSSL takes it: a session of TLS 1.3 with a suite of SHA-256. */
static int use_session(SSL *ssl, const EVP_MD *md, const unsigned char **identity, size_t *length,
                       SSL_SESSION **session)
{
    static const unsigned char TLS_AES_128_GCM_SHA256[] = {0x13, 0x01};

    (void)md; /* Only suites of SHA-256 are offered. */
    *session = SSL_SESSION_new();
    if (*session == NULL ||
        !SSL_SESSION_set1_master_key(*session, psk.key, sizeof psk.key) ||
        !SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, TLS_AES_128_GCM_SHA256)) ||
        !SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION)) {
        SSL_SESSION_free(*session);
        *session = NULL;
        return 0;
    }
    *identity = (const unsigned char *)psk.identity;
    *length = strlen(psk.identity);
    return 1;
}

static SSL_CTX *configure(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    /* A server that ignores the key and shows a certificate is refused, whoever signed it: a certificate is
       to be verified, and nobody is trusted. Do not call SSL_CTX_set_default_verify_paths. */
    if (context == NULL || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"))
        die("cannot set OpenSSL up");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_psk_use_session_callback(context, use_session);
    return context;
}

int main(int count, char **arguments)
{
    SSL_CTX *context = configure();
    SSL *ssl = SSL_new(context);
    char line[1024];
    BIO *connection;
    int length;

    if (count != 4)
        die("client PEER PURPOSE HOST:PORT");
    if (claviger_psk_issue(&psk, arguments[1], arguments[2]) != 0)
        die("no key");

    connection = BIO_new_connect(arguments[3]);
    if (ssl == NULL || connection == NULL || BIO_do_connect(connection) != 1)
        die("cannot connect");
    SSL_set_bio(ssl, connection, connection);
    if (SSL_connect(ssl) != 1)
        die("refused");
    OPENSSL_cleanse(&psk, sizeof psk);
    /* What authenticated the server is the key. */
    if (!SSL_session_reused(ssl))
        die("the server did not use the key");

    if (fgets(line, sizeof line, stdin) != NULL && SSL_write(ssl, line, (int)strlen(line)) <= 0)
        die("cannot send");
    length = SSL_read(ssl, line, sizeof line);
    if (length <= 0)
        die("the connection was cut");
    fwrite(line, 1, (size_t)length, stdout);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    SSL_CTX_free(context);
    return EXIT_SUCCESS;
}
