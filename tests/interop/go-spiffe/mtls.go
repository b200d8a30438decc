package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
)

func serve(ctx context.Context, client spiffeid.ID) {
	mode := spiffetls.MTLSServer(tlsconfig.AuthorizeID(client))
	listener := must(spiffetls.ListenWithMode(ctx, "tcp", "127.0.0.1:0", mode))
	fmt.Println("listening on", listener.Addr())
	for {
		connection := must(listener.Accept())
		if err := answer(connection); err != nil {
			fmt.Fprintln(os.Stderr, "refused:", err)
		}
		connection.Close()
	}
}

// answer reads a greeting, and returns it to whom the certificate names.
func answer(connection net.Conn) error {
	greeting, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return err
	}
	id, err := spiffetls.PeerIDFromConn(connection)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(connection, "%.*s %s\n", len(greeting)-1, greeting, id)
	return err
}

func dial(ctx context.Context, address string, server spiffeid.ID) {
	connection, err := spiffetls.Dial(ctx, "tcp", address, tlsconfig.AuthorizeID(server))
	check(err == nil, "%v", err)
	defer connection.Close()
	_, err = fmt.Fprintln(connection, "hello")
	check(err == nil, "%v", err)
	// With TLS 1.3 the server's refusal comes after the client's handshake is done.
	told, err := io.ReadAll(connection)
	check(err == nil, "%v", err)
	fmt.Print(string(told))
}
