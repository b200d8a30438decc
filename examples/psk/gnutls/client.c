/* client PEER PURPOSE HOST PORT
 *
 * How does a program that uses GnuTLS open a connection that a one-time key authenticates? Sends the first
 * line of its standard input, and prints the first answer.
 *
 *     cc -o client client.c ../claviger_psk.c -lgnutls
 */

#define _POSIX_C_SOURCE 200809L

#include <gnutls/gnutls.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../claviger_psk.h"

/* TLS 1.3 by a key and Diffie-Hellman, suites of SHA-256, and nothing by certificates. */
static const char priority[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK:"
                               "-CIPHER-ALL:+AES-128-GCM:+CHACHA20-POLY1305";

static void die(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, gnutls_strerror(error));
    exit(EXIT_FAILURE);
}

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int connection;

    if (getaddrinfo(host, port, &hints, &found) != 0)
        return -1;
    connection = socket(found->ai_family, found->ai_socktype, 0);
    if (connection >= 0 && connect(connection, found->ai_addr, found->ai_addrlen) != 0) {
        close(connection);
        connection = -1;
    }
    freeaddrinfo(found);
    return connection;
}

static gnutls_session_t shake_hands(struct claviger_psk *psk, int connection)
{
    gnutls_datum_t key = {psk->key, sizeof psk->key};
    gnutls_psk_client_credentials_t credentials;
    gnutls_session_t session;
    int error;

    /* There are no credentials for certificates, so a server that shows one is refused. */
    if ((error = gnutls_psk_allocate_client_credentials(&credentials)) < 0 ||
        (error = gnutls_psk_set_client_credentials(credentials, psk->identity, &key, GNUTLS_PSK_KEY_RAW)) < 0 ||
        (error = gnutls_init(&session, GNUTLS_CLIENT)) < 0 ||
        (error = gnutls_priority_set_direct(session, priority, NULL)) < 0 ||
        (error = gnutls_credentials_set(session, GNUTLS_CRD_PSK, credentials)) < 0)
        die("cannot set GnuTLS up", error);
    gnutls_transport_set_int(session, connection);
    gnutls_handshake_set_timeout(session, 10000);
    do
        error = gnutls_handshake(session);
    while (error < 0 && !gnutls_error_is_fatal(error));
    if (error == GNUTLS_E_FATAL_ALERT_RECEIVED)
        fprintf(stderr, "alert [%d]\n", gnutls_alert_get(session));
    if (error < 0)
        die("refused", error);
    /* What authenticated the server is the key. */
    if (gnutls_auth_get_type(session) != GNUTLS_CRD_PSK)
        die("the server did not use the key", GNUTLS_E_INSUFFICIENT_CREDENTIALS);
    return session;
}

int main(int count, char **arguments)
{
    struct claviger_psk psk;
    gnutls_session_t session;
    char line[1024];
    ssize_t length;
    int connection;

    if (count != 5) {
        fprintf(stderr, "client PEER PURPOSE HOST PORT\n");
        return EXIT_FAILURE;
    }
    if (claviger_psk_issue(&psk, arguments[1], arguments[2]) != 0) {
        fprintf(stderr, "no key\n");
        return EXIT_FAILURE;
    }
    connection = dial(arguments[3], arguments[4]);
    if (connection < 0) {
        perror("cannot connect");
        return EXIT_FAILURE;
    }
    session = shake_hands(&psk, connection);
    gnutls_memset(&psk, 0, sizeof psk);

    if (fgets(line, sizeof line, stdin) != NULL)
        gnutls_record_send(session, line, strlen(line));
    length = gnutls_record_recv(session, line, sizeof line);
    if (length <= 0)
        die("the connection was cut", (int)length);
    fwrite(line, 1, (size_t)length, stdout);
    gnutls_bye(session, GNUTLS_SHUT_WR);
    return EXIT_SUCCESS;
}
